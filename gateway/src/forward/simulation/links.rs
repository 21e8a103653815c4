//! Metered links, pauses and begins: what waits is told, and each offset arrives once all the same.

use super::super::policy::core::Policy;
use super::super::status::{RouteState, RouteStatus, Scores};
use super::cluster::{Cluster, Failure};
use super::{Clock, World};
use crate::config::{LinkConfig, QuietHours, RouteFrom};

const HOUR_MS: u64 = 3_600_000;

fn world(link: LinkConfig) -> World {
    let world = World { link, ..World::new() };
    append(&world, 0..400);
    world
}

fn append(world: &World, numbers: std::ops::Range<u64>) {
    for number in numbers {
        world.append(if number % 4 == 3 { "other" } else { "data" }, number);
    }
}

fn status(scores: &Scores, route: usize) -> RouteStatus {
    scores.statuses(0).remove(route)
}

fn arrived(cluster: &Cluster, route: usize) -> usize {
    cluster.state().visible.iter().filter(|seen| seen.route == route).count()
}

#[test]
fn in_quiet_hours_only_urgent_routes_send_and_the_others_say_until_when() {
    let hours = QuietHours::parse("00:00-06:00").expect("hours");
    let world = world(LinkConfig { quiet_hours: vec![hours], ..LinkConfig::default() });
    let (cluster, clock) = (Cluster::default(), Clock::default());
    let (mut engine, scores) = world.engine(Policy::KAFKA, cluster.client());
    assert!(clock.run(&mut engine, 100));
    assert_eq!((arrived(&cluster, 0), arrived(&cluster, 1)), (0, 100));
    let held = status(&scores, 0);
    assert_eq!(held.state, RouteState::Held);
    assert_eq!(held.last_error.as_deref(), Some("quiet hours until 06:00 UTC"));
    assert_eq!(status(&scores, 1).state, RouteState::Running);
    clock.ms.set(6 * HOUR_MS);
    assert!(clock.run(&mut engine, 100));
    cluster.check(&world, "the day");
    let running = status(&scores, 0);
    assert_eq!((running.state, running.last_error), (RouteState::Running, None));
}

#[test]
fn a_spent_budget_holds_over_restarts_until_midnight() {
    let world = world(LinkConfig { daily_budget: Some(9_000), ..LinkConfig::default() });
    let policy = Policy { stage_records: 10, ..Policy::KAFKA };
    let (cluster, clock) = (Cluster::default(), Clock::default());
    for _ in 0..3 {
        let (mut engine, scores) = world.engine(policy, cluster.client());
        clock.run(&mut engine, 300);
        engine.drain(super::Now { ms: clock.ms.get(), unix_ms: clock.unix_ms() });
        clock.run(&mut engine, 50);
        // What is urgent passes, and counts.
        assert_eq!(arrived(&cluster, 1), 100);
        assert!(arrived(&cluster, 0) < 100, "{}", arrived(&cluster, 0));
        let held = status(&scores, 0);
        assert_eq!(held.state, RouteState::Held);
        assert!(held.last_error.is_some_and(|why| why.contains("anew at 00:00 UTC")));
    }
    let mut days = 0;
    while arrived(&cluster, 0) < 300 {
        clock.ms.set(clock.ms.get() + 24 * HOUR_MS);
        let (mut engine, _) = world.engine(policy, cluster.client());
        clock.run(&mut engine, 300);
        days += 1;
        assert!(days < 20);
    }
    assert!(days >= 2, "{days}");
    cluster.check(&world, "some days later");
}

#[test]
fn a_rate_spreads_a_backlog_evenly() {
    let world = world(LinkConfig { max_rate: Some(1_000), ..LinkConfig::default() });
    let (cluster, clock) = (Cluster::default(), Clock::default());
    let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
    let mut seconds = Vec::new();
    let mut before = 0;
    while cluster.state().visible.len() < 400 {
        let until_ms = clock.ms.get() + 5_000;
        while clock.ms.get() < until_ms && !clock.run(&mut engine, 1) {}
        clock.ms.set(clock.ms.get().max(until_ms));
        let now = cluster.state().visible.len();
        seconds.push(now - before);
        before = now;
    }
    // A record costs about 100 bytes, a position 250.
    assert!((8..=20).contains(&seconds.len()), "{seconds:?}");
    assert!(seconds.iter().all(|count| *count <= 60), "{seconds:?}");
    cluster.check(&world, "spread");
}

#[test]
fn a_paused_route_waits_while_the_other_goes_on_and_loses_nothing() {
    for at in 0..12 {
        let world = world(LinkConfig::default());
        let policy = Policy { stage_records: 7, records_max: 20, ..Policy::KAFKA };
        let (cluster, clock) = (Cluster::default(), Clock::default());
        let (mut engine, scores) = world.engine(policy, cluster.client());
        clock.run(&mut engine, at);
        engine.pause(&[true, false]);
        assert!(clock.run(&mut engine, 1_000));
        assert_eq!(arrived(&cluster, 1), 100);
        let sent = arrived(&cluster, 0);
        assert!(sent < 300);
        let paused = status(&scores, 0);
        assert_eq!(paused.state, RouteState::Paused);
        assert!(paused.last_error.is_some_and(|why| why.contains("resume")));
        append(&world, 400..420);
        clock.run(&mut engine, 100);
        assert_eq!(arrived(&cluster, 0), sent);
        engine.pause(&[false, false]);
        assert!(clock.run(&mut engine, 1_000));
        cluster.check(&world, &format!("paused at {at}"));
        assert_eq!(status(&scores, 0).last_error, None);
    }
}

#[test]
fn where_a_route_begins_is_fixed_before_its_first_commit() {
    let world = World { from: RouteFrom::Latest, ..world(LinkConfig::default()) };
    let (cluster, clock) = (Cluster::default(), Clock::default());
    cluster.plan(|_| Some(Failure::Before));
    for life in 0..3 {
        let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
        append(&world, 400 + life * 10..410 + life * 10);
        clock.run(&mut engine, 20);
    }
    cluster.state().plan = None;
    let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
    assert!(clock.run(&mut engine, 100));
    let mut seen: Vec<u64> = cluster.state().visible.iter().map(|seen| seen.offset).collect();
    seen.sort_unstable();
    assert_eq!(seen, (400..430).collect::<Vec<_>>());
}
