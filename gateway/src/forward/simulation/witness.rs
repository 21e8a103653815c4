//! Data directories that were restored, copied, or run twice: nothing is doubled, nothing is
//! skipped, and somebody is told.

use super::super::policy::core::Policy;
use super::super::status::{RouteState, Scores};
use super::cluster::{Cluster, Failure, Seen};
use super::{Clock, World};

/// One life of a gateway: it starts, `during` happens, it works as long as there is something to do
/// and dies without a word.
fn live(world: &World, cluster: &Cluster, during: impl FnOnce()) -> Scores {
    let (mut engine, scores) = world.engine(Policy::KAFKA, cluster.client());
    during();
    Clock::default().run(&mut engine, 300);
    scores
}

fn append(world: &World, count: u64, device: u64) {
    for _ in 0..count {
        world.append("data", device);
    }
}

fn sent(cluster: &Cluster) -> Vec<Seen> {
    cluster.state().visible.clone()
}

fn is_stopped(scores: &Scores, why: &str) -> bool {
    let status = scores.statuses(0).remove(0);
    let told = status.last_error.as_ref().is_some_and(|error| error.contains(why));
    assert!(status.state != RouteState::Stopped || told, "{status:?}");
    status.state == RouteState::Stopped
}

const GAVE: &str = "this journal gave it those below";
const FOREIGN: &str = "is not the one that the upstream has";

/// 30 records are forwarded; a backup has the first 20.
fn restored() -> (World, Cluster) {
    let (world, cluster) = (World::new(), Cluster::default());
    append(&world, 20, 1);
    live(&world, &cluster, || {});
    let backup = world.copy();
    append(&world, 10, 2);
    live(&world, &cluster, || {});
    assert_eq!(sent(&cluster).len(), 30);
    (backup, cluster)
}

#[test]
fn a_backup_that_outgrows_the_position_before_its_first_contact_is_noticed() {
    let (backup, cluster) = restored();
    let before = sent(&cluster);
    let scores = live(&backup, &cluster, || append(&backup, 40, 3));
    assert!(is_stopped(&scores, GAVE));
    assert_eq!(sent(&cluster), before);
    let scores = live(&backup, &cluster, || {});
    assert!(is_stopped(&scores, "this journal"), "it stays so");
    assert_eq!(sent(&cluster), before);
}

#[test]
fn a_backup_is_noticed_also_when_the_gateway_started_often_without_contact() {
    let (backup, cluster) = restored();
    let before = sent(&cluster);
    cluster.plan(|_| Some(Failure::Before));
    for _ in 0..3 {
        live(&backup, &cluster, || append(&backup, 15, 3));
    }
    cluster.state().plan = None;
    assert!(is_stopped(&live(&backup, &cluster, || {}), GAVE));
    assert_eq!(sent(&cluster), before);
}

#[test]
fn a_backup_whose_catalog_says_nothing_is_noticed_by_the_witness() {
    let (backup, cluster) = restored();
    let before = sent(&cluster);
    append(&backup, 40, 3);
    backup.log().marks.clear();
    for why in [FOREIGN, "this journal gave it"] {
        assert!(is_stopped(&live(&backup, &cluster, || {}), why));
        assert_eq!(sent(&cluster), before);
    }
}

#[test]
fn a_backup_that_has_sent_nothing_since_goes_on() {
    let (world, cluster) = (World::new(), Cluster::default());
    append(&world, 20, 1);
    live(&world, &cluster, || {});
    let backup = world.copy();
    assert!(!is_stopped(&live(&backup, &cluster, || append(&backup, 10, 2)), GAVE));
    cluster.check(&backup, "restored");
}

#[test]
fn a_copy_that_starts_while_the_original_goes_on_stops_and_the_original_can_return() {
    let (world, cluster) = (World::new(), Cluster::default());
    append(&world, 20, 1);
    live(&world, &cluster, || {});
    let copy = world.copy();
    append(&world, 10, 2);
    live(&world, &cluster, || {});
    assert!(is_stopped(&live(&copy, &cluster, || append(&copy, 30, 3)), GAVE));
    assert!(!is_stopped(&live(&world, &cluster, || append(&world, 5, 4)), GAVE));
    cluster.check(&world, "the original");
}

#[test]
fn the_original_stops_when_a_copy_has_forwarded_in_its_place() {
    // Also where the copy's journal ends where the original's does, or before, or behind.
    for own in [5, 10, 40] {
        let (world, cluster) = (World::new(), Cluster::default());
        append(&world, 20, 1);
        live(&world, &cluster, || {});
        let copy = world.copy();
        live(&copy, &cluster, || append(&copy, 10, 3));
        let before = sent(&cluster);
        assert_eq!(before.len(), 30);
        // While the copy runs, the original takes records in and cannot reach the cluster.
        cluster.plan(|_| Some(Failure::Before));
        live(&world, &cluster, || append(&world, own, 2));
        cluster.state().plan = None;
        let scores = live(&world, &cluster, || {});
        let status = scores.statuses(0).remove(0);
        assert_eq!(status.state, RouteState::Stopped, "{own}: {status:?}");
        assert_eq!(sent(&cluster), before, "{own}");
        assert!(!is_stopped(&live(&copy, &cluster, || append(&copy, 5, 3)), GAVE));
        cluster.check(&copy, "the copy goes on");
    }
}

#[test]
fn a_copy_of_a_route_that_is_rarely_sent_skips_nothing_of_the_original() {
    let (world, cluster) = (World::new(), Cluster::default());
    append(&world, 20, 1);
    live(&world, &cluster, || {});
    let copy = world.copy();
    // The copy sees only what is not the route's; the original then has records there.
    live(&copy, &cluster, || {
        copy.append("mqtt", 1);
        copy.append("mqtt", 1);
    });
    live(&world, &cluster, || append(&world, 10, 2));
    cluster.check(&world, "the original");
}

#[test]
fn a_crash_between_commit_and_mark_and_retention_past_the_witness_costs_nothing_but_the_gap() {
    let (world, cluster) = (World::new(), Cluster::default());
    append(&world, 20, 1);
    let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
    let marks = world.log().marks.clone();
    Clock::default().run(&mut engine, 300);
    drop(engine);
    world.log().marks = marks;
    append(&world, 20, 2);
    world.log().start = 25;
    live(&world, &cluster, || {});
    let seen = sent(&cluster);
    let gaps: Vec<_> = seen.iter().filter(|seen| seen.gap.is_some()).collect();
    let gap = gaps.iter().find(|gap| gap.route == 0).expect("of the route");
    assert_eq!((gap.offset, gap.last, gap.gap), (20, 24, Some("retention")));
    let whole: Vec<u64> =
        seen.iter().filter(|seen| seen.gap.is_none()).map(|seen| seen.offset).collect();
    assert_eq!(whole, (0..20).chain(25..40).collect::<Vec<_>>());
}
