//! Live data before a backlog: each offset arrives once all the same, whatever fails.

use proptest::prelude::*;

use super::super::engine::lane::Ahead;
use super::super::policy::core::Policy;
use super::super::policy::position::Position;
use super::cluster::{Cluster, Failure};
use super::{Clock, World};

/// Small, so that few records make many transactions.
const POLICY: Policy = Policy {
    stage_records: 3,
    records_max: 3,
    catch_up_records_max: 4,
    behind: 8,
    ..Policy::KAFKA
};

const AHEAD: Ahead = Ahead { at_open: 4, at_run: 12, ranges_max: 4 };

fn world() -> World {
    World { ahead: Some(AHEAD), ..World::new() }
}

fn append(world: &World, numbers: std::ops::Range<u64>) {
    for number in numbers {
        world.append(if number % 4 == 3 { "other" } else { "data" }, number);
    }
}

fn position(cluster: &Cluster, route: usize) -> Position {
    let state = cluster.state();
    state.positions.get(&route).map(|progress| progress.position.clone()).unwrap_or_default()
}

#[test]
fn live_records_overtake_a_backlog_and_the_ranges_meet() {
    let (world, cluster, clock) = (world(), Cluster::default(), Clock::default());
    append(&world, 0..40);
    let (mut engine, scores) = world.engine(POLICY, cluster.client());
    for _ in 0..20 {
        clock.run(&mut engine, 1);
    }
    append(&world, 40..44);
    let before = cluster.state().visible.len();
    assert!(before < 30, "{before}: the backlog is under way");
    while !cluster.state().visible.iter().any(|seen| seen.offset == 43) {
        clock.run(&mut engine, 1);
    }
    let seen = cluster.state().visible.len();
    assert!(seen < before + 16, "{seen}: live data waits for a transaction at most");
    assert_eq!(position(&cluster, 0).ranges().len(), 2);
    let status = scores.statuses(44).remove(0);
    assert_eq!(status.ranges.ranges().len(), 2, "{status:?}");
    assert!(status.lag < 40 && status.position < 40, "{status:?}");
    assert!(clock.run(&mut engine, 2_000));
    cluster.check(&world, "met");
    assert_eq!(scores.statuses(44).remove(0).lag, 0);
}

#[test]
fn a_restart_resumes_the_set_and_keeps_the_lowest_hole() {
    let (world, cluster, clock) = (world(), Cluster::default(), Clock::default());
    append(&world, 0..30);
    let (mut engine, _) = world.engine(POLICY, cluster.client());
    clock.run(&mut engine, 8);
    append(&world, 30..34);
    clock.run(&mut engine, 12);
    drop(engine);
    let held = position(&cluster, 0);
    assert_eq!(held.ranges().len(), 2, "{held:?}");
    append(&world, 34..60);
    let (mut engine, _) = world.engine(POLICY, cluster.client());
    clock.run(&mut engine, 10);
    let kept = world.log().kept["t.data"];
    assert!(kept >= held.next() && kept < 30, "{kept}, {held:?}");
    assert!(position(&cluster, 0).covers(&held));
    assert!(clock.run(&mut engine, 2_000));
    cluster.check(&world, "resumed");
}

#[test]
fn retention_in_a_hole_is_a_gap_of_that_hole_and_of_no_more() {
    let (world, cluster, clock) = (world(), Cluster::default(), Clock::default());
    append(&world, 0..30);
    let (mut engine, _) = world.engine(POLICY, cluster.client());
    clock.run(&mut engine, 8);
    append(&world, 30..34);
    clock.run(&mut engine, 12);
    drop(engine);
    let held = position(&cluster, 0);
    append(&world, 34..50);
    world.log().start = 42;
    let (mut engine, _) = world.engine(POLICY, cluster.client());
    assert!(clock.run(&mut engine, 2_000));
    let state = cluster.state();
    let mut told = held.clone();
    for gap in state.visible.iter().filter(|seen| seen.route == 0 && seen.gap.is_some()) {
        for offset in gap.offset..=gap.last {
            assert!(!told.contains(offset), "{offset} was there: {gap:?}");
            told.insert(offset, offset + 1);
        }
    }
    assert_eq!(told.next(), 42, "all that is missing is named");
}

#[test]
fn at_the_bound_no_new_range_is_begun() {
    let (world, cluster, clock) = (world(), Cluster::default(), Clock::default());
    let mut number = 0;
    for _ in 0..12 {
        append(&world, number..number + 20);
        let (mut engine, _) = world.engine(POLICY, cluster.client());
        clock.run(&mut engine, 3);
        append(&world, number + 20..number + 24);
        clock.run(&mut engine, 8);
        number += 24;
        for route in 0..2 {
            let ranges = position(&cluster, route).ranges().len();
            assert!(ranges <= AHEAD.ranges_max, "{ranges}");
        }
    }
    let (mut engine, _) = world.engine(POLICY, cluster.client());
    assert!(clock.run(&mut engine, 5_000));
    cluster.check(&world, "bounded");
}

#[test]
fn every_offset_arrives_once_whichever_request_fails_or_the_gateway_dies_in() {
    for (failure, dies) in
        [Failure::Before, Failure::After].into_iter().flat_map(|f| [(f, false), (f, true)])
    {
        for at in 1.. {
            let (world, cluster, clock) = (world(), Cluster::default(), Clock::default());
            append(&world, 0..30);
            cluster.plan(move |number| (number == at || (dies && number > at)).then_some(failure));
            let (mut engine, _) = world.engine(POLICY, cluster.client());
            clock.run(&mut engine, 12);
            append(&world, 30..40);
            let over = clock.run(&mut engine, 300) && cluster.state().requests < at;
            if dies {
                drop(engine);
                cluster.state().plan = None;
                engine = world.engine(POLICY, cluster.client()).0;
            }
            append(&world, 40..42);
            assert!(clock.run(&mut engine, 3_000));
            cluster.check(&world, &format!("{failure:?} at {at}, dies: {dies}"));
            if over {
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_offset_arrives_once_under_random_faults_crashes_and_orders(
        seed in any::<u64>(),
        lives in prop::collection::vec((1u64..40, 1u32..60, any::<bool>(), any::<bool>()), 1..8),
    ) {
        let (cluster, clock) = (Cluster::default(), Clock::default());
        let mut world = world();
        cluster.fail_at_random(seed);
        let mut number = 0;
        for (records, turns, is_log, marks_lost) in lives {
            world.ahead = (!is_log).then_some(AHEAD);
            if marks_lost {
                world.log().marks.clear();
            }
            let (mut engine, _) = world.engine(POLICY, cluster.client());
            append(&world, number..number + records / 2);
            clock.run(&mut engine, turns / 2);
            append(&world, number + records / 2..number + records);
            clock.run(&mut engine, turns);
            number += records;
        }
        cluster.state().plan = None;
        world.ahead = Some(AHEAD);
        append(&world, number..number + 4);
        let (mut engine, _) = world.engine(POLICY, cluster.client());
        prop_assert!(clock.run(&mut engine, 8_000));
        cluster.check(&world, "random");
    }
}
