use super::*;
use crate::forward::policy::pace::BURST;

fn waiting(staged: u32) -> Waiting {
    Waiting { staged, full: false, unread: 0, probing: false }
}

fn sent(records: u32, bytes: u64) -> Outcome {
    Outcome::Sent { records, bytes, overtook: false }
}

fn open(policy: Policy) -> Core {
    let mut core = Core::new(policy, 42);
    assert_eq!(core.next(0, &Waiting::default()), Action::Open);
    core.on(0, &Outcome::Opened);
    core
}

/// Sends and commits `records` at `now_ms`.
fn transact(core: &mut Core, now_ms: u64, records: u32) {
    assert_eq!(core.next(now_ms, &waiting(records)), Action::Begin);
    core.on(now_ms, &Outcome::Begun);
    assert_eq!(core.next(now_ms, &waiting(records)), Action::Send);
    core.on(now_ms, &sent(records, 1));
    assert_eq!(core.next(now_ms, &waiting(0)), Action::Commit);
    core.on(now_ms, &Outcome::Committed);
}

#[test]
fn records_after_silence_go_at_once_and_those_behind_them_gather() {
    let mut core = open(Policy::KAFKA);
    let idle = Action::Wait { until_ms: u64::MAX, for_data: true };
    assert_eq!(core.next(5_000, &waiting(0)), idle);
    for _ in 0..BURST {
        transact(&mut core, 5_000, 1);
    }
    let wait = Action::Wait { until_ms: 5_020, for_data: false };
    assert_eq!(core.next(5_000, &waiting(1)), wait);
    let wait = Action::Wait { until_ms: 5_500, for_data: false };
    assert_eq!(core.next(5_490, &waiting(300)), wait);
    transact(&mut core, 5_500, 300);
    // A full stage does not wait.
    let full = Waiting { full: true, ..waiting(500) };
    assert_eq!(core.next(5_501, &full), Action::Begin);
}

#[test]
fn a_transaction_of_a_backlog_closes_soon_once_something_urgent_is_in_it() {
    let mut core = open(Policy::KAFKA);
    core.on(0, &Outcome::Begun);
    let behind = Waiting { full: true, unread: 100_000, ..waiting(9) };
    core.on(10, &sent(500, 1));
    assert_eq!(core.next(10, &behind), Action::Send);
    core.on(20, &Outcome::Sent { records: 500, bytes: 1, overtook: true });
    assert_eq!(core.next(20, &behind), Action::Send);
    assert_eq!(core.next(HURRY_MS, &behind), Action::Commit);
}

#[test]
fn a_transaction_closes_at_its_size_and_a_backlog_makes_it_larger() {
    let mut core = open(Policy::KAFKA);
    core.on(0, &Outcome::Begun);
    core.on(0, &sent(1_000, 1));
    assert_eq!(core.next(0, &waiting(9)), Action::Commit);
    let behind = Waiting { unread: 100_000, ..waiting(9) };
    assert_eq!(core.next(0, &behind), Action::Send);
    core.on(0, &sent(1, 2 << 20));
    assert_eq!(core.next(0, &behind), Action::Commit);
}

#[test]
fn a_file_is_held_open_for_its_time_and_closes_then_even_while_records_come() {
    let mut core = open(Policy::DIRECTORY);
    core.on(100, &Outcome::Begun);
    core.on(100, &sent(1, 1));
    let hold = Action::Wait { until_ms: 10_100, for_data: true };
    assert_eq!(core.next(200, &waiting(0)), hold);
    assert_eq!(core.next(200, &waiting(1)), Action::Send);
    assert_eq!(core.next(10_100, &waiting(1)), Action::Commit);
}

#[test]
fn retries_come_later_and_later_up_to_a_bound_and_a_commit_ends_that() {
    let mut core = open(Policy::KAFKA);
    let wait_ms = |core: &mut Core| {
        core.on(0, &Outcome::Failed(Fault::retry("no")));
        match core.next(0, &waiting(1)) {
            Action::Wait { until_ms, for_data: false } => until_ms,
            other => panic!("{other:?}"),
        }
    };
    let waits: Vec<u64> = (0..40).map(|_| wait_ms(&mut core)).collect();
    for (index, wait_ms) in waits.iter().enumerate() {
        let most_ms = (BACKOFF_MS << index.min(16)).min(BACKOFF_MS_MAX);
        assert!((most_ms / 2..=most_ms).contains(wait_ms), "{index}: {wait_ms}");
    }
    let long: std::collections::BTreeSet<_> = waits[20..].iter().collect();
    assert!(long.len() > 10, "jitter spreads the retries: {long:?}");
    core.on(0, &Outcome::Opened);
    transact(&mut core, 0, 1);
    assert!(wait_ms(&mut core) <= BACKOFF_MS);
}

#[test]
fn a_fenced_forwarder_never_comes_back_unless_it_slept_through_its_own_transaction() {
    let fenced = Outcome::Failed(Fault::fenced("rival"));
    let mut core = open(Policy::KAFKA);
    core.on(0, &Outcome::Begun);
    core.on(40_000, &fenced);
    assert!(matches!(core.next(40_000, &waiting(1)), Action::Wait { .. }));
    core.on(41_000, &Outcome::Opened);
    core.on(41_000, &Outcome::Begun);
    core.on(41_010, &fenced);
    for now_ms in [41_010, u64::MAX] {
        assert_eq!(core.next(now_ms, &waiting(1)), Action::Halt);
    }
    core.on(50_000, &Outcome::Opened);
    assert!(core.is_stopped());
}

#[test]
fn what_a_human_has_to_cure_is_tried_again_at_leisure() {
    let mut core = open(Policy::KAFKA);
    core.on(0, &Outcome::Failed(Fault::refused("password")));
    let Action::Wait { until_ms, .. } = core.next(0, &waiting(1)) else {
        panic!("it waits");
    };
    assert!((REFUSED_RETRY_MS / 2..=REFUSED_RETRY_MS).contains(&until_ms));
    assert_eq!(core.next(until_ms, &waiting(1)), Action::Open);
}

#[test]
fn barred_routes_are_looked_at_at_leisure_and_one_that_may_go_opens_all_anew() {
    let mut core = Core::new(Policy::KAFKA, 42);
    core.on(0, &Outcome::OpenedInPart);
    transact(&mut core, 0, 1);
    let mut now_ms = 0;
    for _ in 0..5 {
        let Action::Wait { until_ms, for_data: true } = core.next(now_ms, &waiting(0)) else {
            panic!("it waits");
        };
        let wait_ms = until_ms - now_ms;
        assert!((REFUSED_RETRY_MS / 2..=REFUSED_RETRY_MS).contains(&wait_ms), "{wait_ms}");
        now_ms = until_ms;
        assert_eq!(core.next(now_ms, &waiting(1)), Action::Look);
        core.on(now_ms, &Outcome::Looked { is_cured: false });
        transact(&mut core, now_ms, 1);
    }
    core.on(now_ms, &Outcome::Looked { is_cured: true });
    assert_eq!(core.next(now_ms, &waiting(1)), Action::Open);
    core.on(now_ms, &Outcome::Opened);
    let idle = Action::Wait { until_ms: u64::MAX, for_data: true };
    assert_eq!(core.next(now_ms, &waiting(0)), idle);
}

#[test]
fn a_shutdown_sends_what_waits_but_not_for_ever() {
    let mut core = open(Policy::KAFKA);
    transact(&mut core, 0, 1);
    core.drain(10);
    transact(&mut core, 10, 5);
    assert_eq!(core.next(10, &waiting(0)), Action::Halt);
    core.on(20, &Outcome::Begun);
    assert_eq!(core.next(10 + DRAIN_MS, &waiting(5)), Action::Commit);
    core.on(10 + DRAIN_MS, &Outcome::Committed);
    assert_eq!(core.next(10 + DRAIN_MS, &waiting(5)), Action::Halt);
    let mut core = Core::new(Policy::KAFKA, 1);
    core.drain(0);
    assert_eq!(core.next(0, &waiting(5)), Action::Halt, "nothing to settle");
}
