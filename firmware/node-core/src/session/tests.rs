extern crate std;
use super::*;
use std::vec::Vec;

const VIEW: View = View { outbox: 0..0, has_gap: false, can_send: true };

fn session() -> Session {
    Session::new(SessionPolicy::default(), 42)
}

fn with_blocks(end: u64) -> View {
    View { outbox: 0..end, ..VIEW }
}

/// Takes steps until the session waits; blocks are sent as asked.
fn steps(session: &mut Session, now_ms: u64, view: &View) -> Vec<Step> {
    let mut taken = Vec::new();
    loop {
        let step = session.step(now_ms, view);
        taken.push(step);
        match step {
            Step::Wait { .. } | Step::Connect | Step::Disconnect => return taken,
            Step::Block { ticket, from } => session.block_sent(now_ms, ticket, from),
            _ => {}
        }
    }
}

fn tickets(steps: &[Step]) -> Vec<Ticket> {
    steps
        .iter()
        .filter_map(|step| match step {
            Step::Announce(ticket) | Step::Online(ticket) => Some(*ticket),
            Step::Block { ticket, .. } => Some(*ticket),
            _ => None,
        })
        .collect()
}

#[test]
fn the_wait_between_failures_doubles_up_to_its_bound_and_differs_by_seed() {
    let waits = |seed| {
        let mut session = Session::new(SessionPolicy::default(), seed);
        let mut now_ms = 0;
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(session.step(now_ms, &VIEW), Step::Connect);
            session.event(now_ms, Event::Disconnected);
            let Step::Wait { until_ms } = session.step(now_ms, &VIEW) else { panic!() };
            waits.push(until_ms - now_ms);
            now_ms = until_ms;
        }
        waits
    };
    for (failures, wait_ms) in waits(1).into_iter().enumerate() {
        let full_ms = (500 << failures.min(16)).min(15_000);
        assert!((full_ms / 2..=full_ms).contains(&wait_ms), "{failures}: {wait_ms}");
    }
    assert_ne!(waits(1), waits(1000));
}

#[test]
fn a_gateway_that_takes_all_but_the_blocks_is_asked_less_and_less_often() {
    let mut session = session();
    let mut now_ms = 0;
    let mut wait_ms = 0;
    for _ in 0..8 {
        assert_eq!(session.step(now_ms, &VIEW), Step::Connect);
        session.event(now_ms, Event::Connected);
        let sent = tickets(&steps(&mut session, now_ms, &with_blocks(9)));
        for ticket in &sent[..2] {
            session.event(now_ms, Event::Acknowledged(*ticket));
        }
        session.event(now_ms, Event::Disconnected);
        let Step::Wait { until_ms } = session.step(now_ms, &VIEW) else { panic!() };
        wait_ms = until_ms - now_ms;
        now_ms = until_ms;
    }
    assert!(wait_ms >= SessionPolicy::default().backoff_ms_max / 2, "{wait_ms}");
    session.step(now_ms, &VIEW);
    session.event(now_ms, Event::Connected);
    let sent = tickets(&steps(&mut session, now_ms, &with_blocks(9)));
    for ticket in sent {
        session.event(now_ms, Event::Acknowledged(ticket));
    }
    session.event(now_ms, Event::Disconnected);
    let Step::Wait { until_ms } = session.step(now_ms, &VIEW) else { panic!() };
    assert!(until_ms - now_ms <= SessionPolicy::default().backoff_ms_min);
}

#[test]
fn announce_presence_and_time_come_before_the_blocks_and_the_window_holds() {
    let mut session = session();
    session.step(0, &VIEW);
    session.event(0, Event::Connected);
    let taken = steps(&mut session, 0, &with_blocks(100));
    assert!(matches!(
        taken[..4],
        [Step::Announce(_), Step::Online(_), Step::AskTime { .. }, Step::Block { from: 0, .. }]
    ));
    assert_eq!(tickets(&taken).len(), SessionPolicy::default().window);
}

#[test]
fn only_a_run_of_acknowledgements_from_the_oldest_trims() {
    let mut session = session();
    session.step(0, &VIEW);
    session.event(0, Event::Connected);
    let all = tickets(&steps(&mut session, 0, &with_blocks(100)));
    let trims: Vec<_> = [5, 2, 0, 1, 3, 4, 4]
        .into_iter()
        .map(|index: usize| session.event(9, Event::Acknowledged(all[index])).trim)
        .collect();
    assert_eq!(trims, [None, None, None, Some(1), Some(2), Some(4), None]);
}

#[test]
fn a_link_that_acknowledges_nothing_is_given_up() {
    let mut session = session();
    session.step(0, &VIEW);
    session.event(0, Event::Connected);
    steps(&mut session, 0, &with_blocks(100));
    assert_eq!(steps(&mut session, 20_000, &with_blocks(100)).last(), Some(&Step::Disconnect));
    assert!(matches!(session.step(20_000, &VIEW), Step::Wait { .. }));
}

#[test]
fn acknowledgements_and_answers_of_an_earlier_connection_mean_nothing() {
    let mut session = session();
    session.step(0, &VIEW);
    session.event(0, Event::Connected);
    let taken = steps(&mut session, 0, &with_blocks(100));
    let Step::AskTime { nonce } = taken[2] else { panic!("{taken:?}") };
    session.event(10, Event::Disconnected);
    for ticket in tickets(&taken) {
        assert_eq!(session.event(20, Event::Acknowledged(ticket)), Effect::default());
    }
    let response = TimeResponse { nonce, uptime_ms: 0, unix_ms: 1_000_000 };
    session.event(20, Event::Time(response));
    assert_eq!(session.boot_unix_ms(), None);
}

#[test]
fn a_clock_that_drifts_little_is_left_alone() {
    let mut session = session();
    session.step(0, &VIEW);
    session.event(0, Event::Connected);
    let mut now_ms = 0;
    let mut ask = |session: &mut Session, boot_ms: u64| {
        now_ms += SessionPolicy::default().time_check_ms + 8;
        let taken = steps(session, now_ms, &VIEW);
        for ticket in tickets(&taken) {
            session.event(now_ms, Event::Acknowledged(ticket));
        }
        let asked = taken.iter().find_map(|step| match step {
            Step::AskTime { nonce } => Some(*nonce),
            _ => None,
        });
        let nonce = asked.expect("asks for the time");
        let unix_ms = boot_ms + now_ms + 4;
        let response = TimeResponse { nonce, uptime_ms: u64::MAX, unix_ms };
        session.event(now_ms + 8, Event::Time(response));
        session.boot_unix_ms()
    };
    assert_eq!(ask(&mut session, 1_000_000), Some(1_000_004));
    assert_eq!(ask(&mut session, 1_000_027), Some(1_000_004));
    assert_eq!(ask(&mut session, 1_000_028), Some(1_000_032));
    assert_eq!(ask(&mut session, 1_000_001), Some(1_000_032));
    assert_eq!(ask(&mut session, 1_000_000), Some(1_000_004));
}

#[test]
fn a_slow_answer_does_not_move_the_clock() {
    let mut session = session();
    session.step(0, &VIEW);
    for (at_ms, round_trip_ms, unix_ms) in [(0, 2, 1_000_001), (50_000, 900, 1_050_700)] {
        session.event(at_ms, Event::Connected);
        let taken = steps(&mut session, at_ms, &VIEW);
        let asked = taken.iter().find_map(|step| match step {
            Step::AskTime { nonce } => Some(*nonce),
            _ => None,
        });
        let nonce = asked.expect("asks for the time");
        let response = TimeResponse { nonce, uptime_ms: at_ms, unix_ms };
        session.event(at_ms + round_trip_ms, Event::Time(response));
        assert_eq!(session.boot_unix_ms(), Some(1_000_001));
        session.event(at_ms + 10_000, Event::Disconnected);
    }
}
