//! A topic that cannot be used stops its route and no other, and the route goes on when it can be,
//! exactly once, whatever fails meanwhile.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::policy::core::Policy;
use super::super::status::{RouteState, RouteStatus};
use super::cluster::{Cluster, Failure};
use super::{Clock, World};

fn world() -> (World, Cluster) {
    (World::new(), Cluster::default())
}

fn append(world: &World, numbers: std::ops::Range<u64>) {
    for number in numbers {
        world.append(if number % 3 == 1 { "other" } else { "data" }, number);
    }
}

/// The offsets of a route, by partition.
fn seen(cluster: &Cluster, route: usize) -> BTreeMap<u16, Vec<u64>> {
    let mut seen: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    for record in cluster.state().visible.iter().filter(|seen| seen.route == route) {
        seen.entry(record.partition).or_default().push(record.offset);
    }
    seen
}

fn is_barred(status: &RouteStatus) -> bool {
    let says_why = status.last_error.as_ref().is_some_and(|error| error.contains("a right"));
    status.state == RouteState::Stopped && says_why
}

/// Two minutes go by, a record at a time.
fn two_minutes<U: super::Upstream>(clock: &Clock, engine: &mut super::Engine<U, World>) {
    let until_ms = clock.ms.get() + 120_000;
    while clock.ms.get() < until_ms {
        if clock.run(engine, 50) {
            clock.ms.set(clock.ms.get() + 5_000);
        }
    }
}

#[test]
fn a_forbidden_topic_stops_its_route_alone_and_opens_nothing_anew_until_it_is_cured() {
    let (world, cluster) = world();
    cluster.state().forbidden.insert(0);
    let clock = Clock::default();
    append(&world, 0..30);
    let (mut engine, scores) = world.engine(Policy::KAFKA, cluster.client());
    for round in 0..5 {
        two_minutes(&clock, &mut engine);
        append(&world, 30 + 10 * round..40 + 10 * round);
    }
    two_minutes(&clock, &mut engine);
    assert_eq!(seen(&cluster, 1), world.expected("other", 0));
    assert_eq!(seen(&cluster, 0), BTreeMap::new());
    let statuses = scores.statuses(80);
    assert!(is_barred(&statuses[0]), "{:?}", statuses[0]);
    assert_eq!((statuses[0].position, statuses[0].lag), (0, 80));
    assert_eq!((statuses[1].state, &statuses[1].last_error), (RouteState::Running, &None));
    assert_eq!(world.log().kept["t.data"], 0, "its records are held back");
    assert_eq!(cluster.state().epoch, 1, "the upstream was opened once");
    let looks = cluster.state().looks;
    assert!((20..=50).contains(&looks), "in 12 minutes: {looks}");
    cluster.state().forbidden.clear();
    two_minutes(&clock, &mut engine);
    cluster.check(&world, "cured");
    assert_eq!(cluster.state().epoch, 2);
    let status = scores.statuses(80).remove(0);
    assert_eq!((status.state, status.last_error), (RouteState::Running, None));
}

#[test]
fn a_right_that_is_taken_while_records_go_stops_only_the_route_that_needs_it() {
    let (world, cluster) = world();
    let clock = Clock::default();
    append(&world, 0..30);
    let (mut engine, scores) = world.engine(Policy::KAFKA, cluster.client());
    clock.run(&mut engine, 500);
    cluster.state().forbidden.insert(1);
    append(&world, 30..60);
    two_minutes(&clock, &mut engine);
    assert_eq!(seen(&cluster, 0), world.expected("data", 0));
    let statuses = scores.statuses(60);
    assert!(is_barred(&statuses[1]), "{:?}", statuses[1]);
    assert_eq!(statuses[1].retries, 1, "one transaction was lost");
    // Also over a restart, and with both.
    drop(engine);
    cluster.state().forbidden.insert(0);
    append(&world, 60..70);
    let (mut engine, scores) = world.engine(Policy::KAFKA, cluster.client());
    two_minutes(&clock, &mut engine);
    assert!(scores.statuses(70).iter().all(is_barred));
    cluster.state().forbidden.clear();
    two_minutes(&clock, &mut engine);
    cluster.check(&world, "cured");
}

#[test]
fn what_retention_takes_from_a_barred_route_is_told_by_a_gap_once_it_goes_on() {
    let (world, cluster) = world();
    cluster.state().forbidden.insert(0);
    let clock = Clock::default();
    append(&world, 0..30);
    let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
    two_minutes(&clock, &mut engine);
    world.log().start = 12;
    cluster.state().forbidden.clear();
    two_minutes(&clock, &mut engine);
    let state = cluster.state();
    let of_data: Vec<_> = state.visible.iter().filter(|seen| seen.route == 0).collect();
    assert_eq!((of_data[0].gap, of_data[0].offset, of_data[0].last), (Some("retention"), 0, 11));
    assert!(of_data[1..].iter().all(|seen| seen.gap.is_none() && seen.offset >= 12));
    let expected: usize = world.expected("data", 12).values().map(Vec::len).sum();
    assert_eq!(of_data.len() - 1, expected);
}

#[test]
fn a_barred_route_arrives_once_whichever_request_fails_or_the_gateway_dies_in() {
    for failure in [Failure::Before, Failure::After] {
        for dies in [false, true] {
            for at in 1.. {
                let (world, cluster) = world();
                let clock = Clock::default();
                let case = format!("{failure:?} at {at}, dies: {dies}");
                cluster
                    .plan(move |number| (number == at || (dies && number > at)).then_some(failure));
                append(&world, 0..12);
                let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
                clock.run(&mut engine, 60);
                cluster.state().forbidden.insert(0);
                append(&world, 12..24);
                for _ in 0..2 {
                    clock.run(&mut engine, 100);
                    clock.ms.set(clock.ms.get() + 40_000);
                }
                if !dies {
                    assert_eq!(seen(&cluster, 1), world.expected("other", 0), "{case}");
                }
                let over = cluster.state().requests < at;
                cluster.state().forbidden.clear();
                clock.run(&mut engine, 60);
                if dies {
                    drop(engine);
                    cluster.state().plan = None;
                    engine = world.engine(Policy::KAFKA, cluster.client()).0;
                }
                append(&world, 24..30);
                two_minutes(&clock, &mut engine);
                cluster.check(&world, &case);
                if over {
                    break;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_offset_arrives_once_while_rights_come_and_go(
        seed in any::<u64>(),
        lives in prop::collection::vec((1u64..40, 1u32..60, 0u8..4, any::<bool>()), 1..10),
    ) {
        let (world, cluster) = world();
        let clock = Clock::default();
        cluster.fail_at_random(seed);
        let mut number = 0;
        let mut engine = world.engine(Policy::KAFKA, cluster.client()).0;
        for (records, turns, forbidden, dies) in lives {
            cluster.state().forbidden =
                [0, 1].into_iter().filter(|route| forbidden & (1 << route) > 0).collect();
            append(&world, number..number + records);
            number += records;
            if dies {
                drop(engine);
                engine = world.engine(Policy::KAFKA, cluster.client()).0;
            }
            clock.run(&mut engine, turns);
            clock.ms.set(clock.ms.get() + 20_000);
        }
        cluster.state().plan = None;
        cluster.state().forbidden.clear();
        append(&world, number..number + 3);
        two_minutes(&clock, &mut engine);
        cluster.check(&world, "random");
    }
}
