//! A cluster with transactions, fencing and positions, that fails before or after any request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::prelude::*;

use super::super::engine::batch::OutRecord;
use super::super::policy::core::Policy;
use super::super::policy::dead::{Cause, Refusal};
use super::super::policy::resume::RouteStart;
use super::super::status::RouteState;
use super::super::upstream::{Fault, Opening, Progress, SendError, Upstream};
use super::{Clock, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The request never arrives.
    Before,
    /// It is done, the answer is lost.
    After,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) route: usize,
    pub(super) partition: u16,
    pub(super) offset: u64,
    pub(super) last: u64,
    pub(super) gap: Option<&'static str>,
}

pub(super) type Plan = Box<dyn FnMut(u64) -> Option<Failure> + Send>;

#[derive(Default)]
pub(super) struct State {
    pub(super) visible: Vec<Seen>,
    pub(super) positions: BTreeMap<usize, Progress>,
    pub(super) open: Vec<Seen>,
    pub(super) transactions: Vec<usize>,
    pub(super) epoch: u64,
    pub(super) requests: u64,
    pub(super) plan: Option<Plan>,
    pub(super) size_max: Option<usize>,
    /// Records that are refused at the commit, with all others of the transaction.
    pub(super) bad: BTreeSet<(usize, u64)>,
    /// Routes whose topic may not be written.
    pub(super) forbidden: BTreeSet<usize>,
    /// How often it was asked about topics between opens.
    pub(super) looks: u64,
}

impl State {
    fn usable(&self, route: usize) -> Result<(), Fault> {
        if self.forbidden.contains(&route) {
            return Err(Fault::refused(format!("give the user a right on topic {route}")));
        }
        Ok(())
    }

    /// All of the transaction, if one of it is bad.
    fn refused(&self) -> Vec<Refusal> {
        let is_bad =
            |seen: &Seen| seen.gap.is_none() && self.bad.contains(&(seen.route, seen.offset));
        if !self.open.iter().any(is_bad) {
            return Vec::new();
        }
        let refusal = |seen: &Seen| Refusal {
            route: seen.route,
            offset: seen.offset,
            cause: Cause::Refused,
            reason: "bad".into(),
        };
        self.open.iter().map(refusal).collect()
    }
}

/// What stays while producers come and go.
#[derive(Clone, Default)]
pub(super) struct Cluster(Arc<Mutex<State>>);

impl Cluster {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with it")
    }

    pub(super) fn plan(&self, plan: impl FnMut(u64) -> Option<Failure> + Send + 'static) {
        self.state().plan = Some(Box::new(plan));
    }

    /// One request in twenty fails, before or after it takes effect.
    pub(super) fn fail_at_random(&self, seed: u64) {
        let mut dice = seed | 1;
        self.plan(move |_| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            match dice % 40 {
                0 => Some(Failure::Before),
                1 => Some(Failure::After),
                _ => None,
            }
        });
    }

    pub(super) fn client(&self) -> Client {
        Client { cluster: self.clone(), epoch: 0, refused: Vec::new() }
    }

    /// Each offset of both streams once, in order per partition where live data does not go first,
    /// and positions at the end.
    pub(super) fn check(&self, world: &World, case: &str) {
        let state = self.state();
        for (route, stream) in ["data", "other"].into_iter().enumerate() {
            let mut seen: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
            for record in state.visible.iter().filter(|seen| seen.route == route) {
                assert_eq!(record.gap, None, "{case}");
                seen.entry(record.partition).or_default().push(record.offset);
            }
            if world.ahead.is_some() {
                seen.values_mut().for_each(|offsets| offsets.sort_unstable());
            }
            let expected = world.expected(stream, 0);
            assert_eq!(seen, expected, "{case}, {stream}");
            if expected.is_empty() {
                continue;
            }
            let last = expected.values().filter_map(|offsets| offsets.last()).max();
            let position = &state.positions[&route].position;
            assert_eq!(position.end().checked_sub(1), last.copied(), "{case}, {stream}");
            let all = expected.values().flatten().all(|offset| position.contains(*offset));
            assert!(all, "{case}, {stream}: {position:?}");
        }
    }
}

pub(super) struct Client {
    cluster: Cluster,
    epoch: u64,
    refused: Vec<Refusal>,
}

impl Client {
    fn request<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, Fault> {
        let mut state = self.cluster.state();
        if self.epoch != state.epoch {
            return Err(Fault::fenced("a newer producer is there"));
        }
        state.requests += 1;
        let number = state.requests;
        match state.plan.as_mut().and_then(|plan| plan(number)) {
            Some(Failure::Before) => Err(Fault::retry("the request was lost")),
            Some(Failure::After) => {
                act(&mut state);
                Err(Fault::retry("the answer was lost"))
            }
            None => Ok(act(&mut state)),
        }
    }
}

impl Upstream for Client {
    fn open(&mut self) -> Result<Vec<Opening>, Fault> {
        {
            let mut state = self.cluster.state();
            state.epoch += 1;
            state.open.clear();
            self.epoch = state.epoch;
        }
        self.request(|state| {
            let start = |route| {
                let progress = state.positions.get(&route).cloned();
                let (position, witness) = progress.map(|p| (p.position, p.witness)).unzip();
                state.usable(route).map(|()| RouteStart::truth(position, witness.flatten()))
            };
            (0..2).map(start).collect()
        })
    }

    fn look(&mut self, barred: &[usize]) -> Vec<Result<(), Fault>> {
        let look = |state: &mut State| {
            state.looks += 1;
            barred.iter().map(|route| state.usable(*route)).collect()
        };
        self.request(look).unwrap_or_else(|fault| vec![Err(fault); barred.len()])
    }

    fn begin(&mut self) -> Result<(), Fault> {
        self.request(|state| assert!(state.open.is_empty(), "one transaction at a time"))
    }

    fn send(&mut self, route: usize, record: &OutRecord<'_>) -> Result<(), SendError> {
        let OutRecord { partition, offset, last, gap, value, .. } = *record;
        if self.cluster.state().size_max.is_some_and(|max| value.len() > max) {
            return Err(SendError::TooLarge);
        }
        self.request(|state| state.open.push(Seen { route, partition, offset, last, gap }))
            .map_err(SendError::Fault)
    }

    fn commit(&mut self, progress: &[Progress], _now_ms: i64) -> Result<(), Fault> {
        self.refused = self.cluster.state().refused();
        if !self.refused.is_empty() {
            return Err(Fault::refused("a batch was refused"));
        }
        let is_forbidden =
            |state: &State| state.open.iter().any(|seen| state.forbidden.contains(&seen.route));
        if is_forbidden(&self.cluster.state()) {
            return Err(Fault::retry("a right is missing"));
        }
        self.request(|state| {
            state.transactions.push(state.open.len());
            let mut open = std::mem::take(&mut state.open);
            state.visible.append(&mut open);
            for progress in progress {
                state.positions.insert(progress.route, progress.clone());
            }
        })
    }

    fn refusals(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.refused)
    }

    fn close(&mut self) {}
}

/// `count` records, most of them of `data`.
fn world_of(count: u64) -> World {
    let world = World::new();
    for number in 0..count {
        world.append(if number % 5 == 3 { "other" } else { "data" }, number);
    }
    world
}

#[test]
fn every_offset_arrives_once_whichever_request_fails() {
    for failure in [Failure::Before, Failure::After] {
        for at in 1.. {
            let world = world_of(30);
            let cluster = Cluster::default();
            cluster.plan(move |number| (number == at).then_some(failure));
            let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
            let clock = Clock::default();
            assert!(clock.run(&mut engine, 500));
            world.append("data", 30);
            assert!(clock.run(&mut engine, 500));
            cluster.check(&world, &format!("{failure:?} at {at}"));
            if cluster.state().requests < at {
                break;
            }
        }
    }
}

#[test]
fn every_offset_arrives_once_whichever_request_the_gateway_dies_in() {
    for failure in [Failure::Before, Failure::After] {
        for at in 1.. {
            let world = world_of(30);
            let cluster = Cluster::default();
            let clock = Clock::default();
            cluster.plan(move |number| (number >= at).then_some(failure));
            let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
            // It fails for good from there on, so it can do nothing but die.
            let over = cluster.state().requests < at && clock.run(&mut engine, 50);
            drop(engine);
            cluster.state().plan = None;
            world.append("other", 30);
            let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
            assert!(clock.run(&mut engine, 500));
            cluster.check(&world, &format!("{failure:?} at {at}"));
            if over {
                break;
            }
        }
    }
}

#[test]
fn a_second_forwarder_of_the_same_name_stops_the_first_for_good() {
    let world = world_of(10);
    let cluster = Cluster::default();
    let clock = Clock::default();
    let (mut first, scores) = world.engine(Policy::KAFKA, cluster.client());
    assert!(clock.run(&mut first, 500));
    let (mut second, _) = world.engine(Policy::KAFKA, cluster.client());
    assert!(clock.run(&mut second, 500));
    world.append("data", 10);
    assert!(clock.run(&mut first, 500));
    assert!(clock.run(&mut second, 500));
    cluster.check(&world, "the second goes on");
    let status = &scores.statuses(11)[0];
    assert_eq!(status.state, RouteState::Stopped);
    assert!(status.last_error.as_ref().is_some_and(|error| error.contains("newer producer")));
}

#[test]
fn a_backlog_goes_in_larger_transactions_than_live_data() {
    let world = world_of(12_000);
    let cluster = Cluster::default();
    let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
    let clock = Clock::default();
    assert!(clock.run(&mut engine, 2_000));
    cluster.check(&world, "backlog");
    let transactions = cluster.state().transactions.clone();
    assert!(transactions[0] >= 5_000, "{transactions:?}");
    assert!(transactions.len() <= 7, "{transactions:?}");
}

#[test]
fn an_alarm_overtakes_a_backlog_inside_its_transaction_and_does_not_starve_it() {
    let world = World::new();
    world.append_all("data", 6_000);
    let cluster = Cluster::default();
    let clock = Clock::default();
    let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
    clock.run(&mut engine, 4);
    let sent = cluster.state().open.len();
    assert!((500..2_000).contains(&sent), "a transaction is under way: {sent}");
    world.append_all("other", 6_000);
    assert!(clock.run(&mut engine, 2_000));
    cluster.check(&world, "alarms");
    let visible = &cluster.state().visible;
    let first = visible.iter().position(|seen| seen.route == 1).expect("it arrived");
    assert!(first <= sent + 500, "{first}");
    let alarms = visible.iter().filter(|seen| seen.route == 1).take(3_000).count();
    let between = visible[first..first + alarms].iter().filter(|seen| seen.route == 0).count();
    assert!((300..1_000).contains(&between), "an eighth is for the backlog: {between}");
}

#[test]
fn what_retention_took_travels_as_a_gap_and_a_new_route_starts_with_the_oldest() {
    let world = world_of(20);
    let cluster = Cluster::default();
    let clock = Clock::default();
    world.log().start = 4;
    let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
    assert!(clock.run(&mut engine, 500));
    assert_eq!(cluster.state().visible.iter().map(|seen| seen.offset).min(), Some(4));
    // While the cluster is away, retention passes what was not sent.
    cluster.plan(|_| Some(Failure::Before));
    for number in 20..40 {
        world.append("data", number);
    }
    assert!(!clock.run(&mut engine, 200), "it keeps trying");
    world.log().start = 30;
    cluster.state().plan = None;
    assert!(clock.run(&mut engine, 500));
    let state = cluster.state();
    let whole = state.visible.iter().filter(|seen| seen.gap.is_none());
    let taken: Vec<_> = whole.filter(|seen| (20..30).contains(&seen.offset)).collect();
    assert!(taken.is_empty(), "{taken:?}");
    let gaps: Vec<_> = state.visible.iter().filter(|seen| seen.gap.is_some()).collect();
    assert_eq!(gaps.len(), 2, "one for each route: {gaps:?}");
    for gap in gaps {
        assert_eq!((gap.gap, gap.partition, gap.last), (Some("retention"), 0, 29));
        assert!(gap.offset <= 20);
    }
}

#[test]
fn a_journal_that_ends_before_the_position_stops_the_route_even_when_it_has_grown_again() {
    let world = world_of(30);
    let cluster = Cluster::default();
    let clock = Clock::default();
    let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
    assert!(clock.run(&mut engine, 500));
    drop(engine);
    let before = cluster.state().visible.clone();
    world.log().records.truncate(10);
    let (mut engine, scores) = world.engine(Policy::KAFKA, cluster.client());
    assert!(!clock.run(&mut engine, 50), "it waits for nothing but its end");
    drop(engine);
    assert_eq!(scores.statuses(10)[0].state, RouteState::Stopped);
    for number in 0..60 {
        world.append("data", number);
    }
    let (mut engine, scores) = world.engine(Policy::KAFKA, cluster.client());
    assert!(!clock.run(&mut engine, 50));
    let status = scores.statuses(70).remove(0);
    assert_eq!(status.state, RouteState::Stopped);
    assert!(status.last_error.is_some_and(|error| error.contains("the journal was lost")));
    assert_eq!(cluster.state().visible, before, "no offset stands for two records");
}

#[test]
fn a_record_that_is_too_large_goes_as_a_gap_and_the_others_go_on() {
    let world = world_of(3);
    let cluster = Cluster::default();
    cluster.state().size_max = Some(100);
    let large = world.log().records[0].clone();
    let partition = large.partition;
    let envelope = super::Envelope::Publish(super::Publish {
        topic: "data/d0",
        client: "c",
        arrival_ms: 5,
        qos: 1,
        retain: false,
        packet_id: None,
        properties: &[],
        rejected: None,
        payload: &[b' '; 200],
    });
    let mut value = vec![0; 400];
    let used = envelope.encode(&mut value).expect("room").len();
    value.truncate(used);
    world.log().records.push(crate::journal::Record {
        offset: 3,
        partition,
        value: value.into(),
        ..large
    });
    world.append("data", 4);
    let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
    assert!(Clock::default().run(&mut engine, 500));
    let state = cluster.state();
    let gaps: Vec<_> =
        state.visible.iter().filter_map(|seen| Some((seen.offset, seen.gap?))).collect();
    assert_eq!(gaps, [(3, "too-large")]);
    assert_eq!(state.visible.len(), 5);
}

#[test]
fn on_shutdown_what_waits_is_sent_and_the_transaction_settled() {
    let world = world_of(10);
    let cluster = Cluster::default();
    let clock = Clock::default();
    let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
    assert!(clock.run(&mut engine, 500));
    world.append("data", 10);
    // Right after a commit the record would gather company for a second.
    engine.drain(super::Now { ms: clock.ms.get(), unix_ms: 0 });
    assert!(clock.run(&mut engine, 500));
    cluster.check(&world, "drained");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_offset_arrives_once_under_random_faults_and_crashes(
        seed in any::<u64>(),
        lives in prop::collection::vec((1u64..80, 1u32..60), 1..6),
    ) {
        let world = World::new();
        let cluster = Cluster::default();
        let clock = Clock::default();
        cluster.fail_at_random(seed);
        let mut number = 0;
        for (records, turns) in lives {
            let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
            for _ in 0..records {
                world.append(if number % 3 == 1 { "other" } else { "data" }, number);
                number += 1;
            }
            clock.run(&mut engine, turns);
        }
        cluster.state().plan = None;
        for stream in ["data", "other"] {
            world.append(stream, number);
            number += 1;
        }
        let (mut engine, _) = world.engine(Policy::KAFKA, cluster.client());
        prop_assert!(clock.run(&mut engine, 5_000));
        cluster.check(&world, "random");
    }
}
