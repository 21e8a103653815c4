//! A producer of transactions from its init to its first error.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer};

use super::native::{self, Item, Topic};
use super::watch::{Watch, Watched, lock};
use super::{INIT, POSITIONS, REQUEST, SETTLE, refusals, remedy};
use crate::forward::policy::dead::Refusal;
use crate::forward::upstream::{Fault, FaultKind, SendError};

/// Between two looks at what failed, while the brokers do not have all.
const LOOK: Duration = Duration::from_millis(10);
/// Between two looks at whether a full queue has room.
const LOOK_ROOM: Duration = Duration::from_millis(2);
/// What a producer tells is heard in so many pieces at a time.
const EVENTS: u32 = 16;

/// A producer and what it has under way. It is polled from here, by [`Session::serve`]: rdkafka's own
/// thread for that spins through the last millisecond of each tenth of a second.
pub(super) struct Session {
    /// By route; gone before the producer is.
    topics: Vec<Topic>,
    positions: Topic,
    producer: BaseProducer<Watch>,
    watched: Arc<Watched>,
    /// By route: true where the topic has as many partitions as the stream.
    pub(super) explicit: Vec<bool>,
    positions_partition: i32,
    /// Routes and offsets of the transaction's records, by their number in it.
    places: Vec<(usize, u64)>,
    /// The next open can find out whose right is missing.
    rights_are_told: bool,
    /// A right was missing.
    lacks_right: Cell<bool>,
}

impl Session {
    /// Of a producer that is past its init, with the topics by route; `partitions`: which topics have
    /// as many as their stream, and that of the positions.
    ///
    /// # Errors
    /// [`Fault`] where a topic cannot be one.
    pub(super) fn new<'a>(
        producer: BaseProducer<Watch>,
        watched: Arc<Watched>,
        topics: impl Iterator<Item = &'a str>,
        (explicit, positions_partition): (Vec<bool>, i32),
        rights_are_told: bool,
    ) -> Result<Self, Fault> {
        let topic = |name| Topic::new(producer.client(), name);
        Ok(Self {
            topics: topics.map(topic).collect::<Result<_, Fault>>()?,
            positions: topic(POSITIONS)?,
            producer,
            watched,
            explicit,
            positions_partition,
            places: Vec::new(),
            rights_are_told,
            lacks_right: Cell::new(false),
        })
    }

    /// True if something failed because a right on a topic is missing.
    pub(super) fn lacks_right(&self) -> bool {
        self.lacks_right.get()
    }

    pub(super) fn begin(&mut self) -> Result<(), Fault> {
        self.places.clear();
        let begun = self.producer.begin_transaction();
        begun.map_err(|problem| self.fault("a transaction cannot begin", &problem))
    }

    /// Hears what the producer has to tell: now and then, or it gathers.
    pub(super) fn serve(&self) {
        serve(&self.producer);
    }

    /// Sends the record at `offset` of `route`.
    pub(super) fn send(
        &mut self,
        route: usize,
        offset: u64,
        item: &Item<'_>,
    ) -> Result<(), SendError> {
        self.places.push((route, offset));
        // 0 stands for a position.
        self.put(&self.topics[route], item, self.places.len())
    }

    /// Sends where a route is.
    pub(super) fn send_position(&self, key: &[u8], value: &[u8]) -> Result<(), SendError> {
        let partition = Some(self.positions_partition);
        let item = Item { partition, key, value: Some(value), time_ms: None, headers: &[] };
        self.put(&self.positions, &item, 0)
    }

    fn put(&self, topic: &Topic, item: &Item<'_>, number: usize) -> Result<(), SendError> {
        let mut deadline = None;
        loop {
            match native::produce(self.producer.client(), topic, item, number) {
                Ok(()) => return Ok(()),
                Err(Code::QueueFull)
                    if Instant::now()
                        < *deadline.get_or_insert_with(|| Instant::now() + SETTLE) =>
                {
                    std::thread::sleep(LOOK_ROOM);
                    self.serve();
                }
                Err(Code::MessageSizeTooLarge) => return Err(SendError::TooLarge),
                Err(code) => {
                    let problem = KafkaError::MessageProduction(code);
                    return Err(SendError::Fault(self.fault("a record was not taken", &problem)));
                }
            }
        }
    }

    /// What was refused, once no more news of it comes.
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let mut known = 0;
        let failures = || lock(&self.watched.deliveries).failures;
        let has_any = !lock(&self.watched.deliveries).refused.is_empty();
        while has_any && failures() > known {
            known = failures();
            let quiet = Instant::now() + refusals::QUIET;
            while failures() <= known && self.under_way() && Instant::now() < quiet {
                std::thread::sleep(LOOK_ROOM);
                self.serve();
            }
        }
        let is_all_known = !self.under_way();
        refusals::suspects(&lock(&self.watched.deliveries).refused, &self.places, is_all_known)
    }

    /// True while the brokers do not have all that was sent.
    fn under_way(&self) -> bool {
        self.producer.in_flight_count() > 0
    }

    /// Commits what was sent since the begin.
    pub(super) fn commit(&self) -> Result<(), Fault> {
        self.acknowledged()?;
        let committed = self.producer.commit_transaction(SETTLE);
        committed.map_err(|problem| self.fault("a transaction was not confirmed", &problem))
    }

    /// Waits until the brokers have all that was sent. rdkafka's commit flushes first, and its flush
    /// sleeps 100 ms on a queue in which nothing comes; with nothing in flight it does not.
    fn acknowledged(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let is_done = native::flush(self.producer.client(), LOOK);
            self.serve();
            let failed = lock(&self.watched.deliveries).failed.clone();
            if let Some(problem) = failed {
                return Err(self.fault("a record was refused", &problem));
            }
            if is_done {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let missing = self.producer.in_flight_count();
                let timeout = KafkaError::Flush(Code::OperationTimedOut);
                return Err(
                    self.fault(&format!("{missing} records were not acknowledged"), &timeout)
                );
            }
        }
    }

    fn fault(&self, what: &str, problem: &KafkaError) -> Fault {
        let cause = self.cause(problem);
        // Why a connection failed is told beside.
        self.serve();
        let problem = cause.as_ref().unwrap_or(problem);
        let mut fault = self.watched.fault(what, problem);
        if remedy::is_right(problem.rdkafka_error_code().map(|code| code as i32)) {
            self.lacks_right.set(true);
            if self.rights_are_told {
                fault.kind = FaultKind::Retry;
            }
        }
        fault
    }

    /// What ended the transaction, where an error says only that it has ended. A begin asks for it,
    /// since whatever it finds, it commits nothing.
    fn cause(&self, problem: &KafkaError) -> Option<KafkaError> {
        match problem.rdkafka_error_code() {
            Some(Code::PurgeQueue | Code::PurgeInflight | Code::State) => {
                self.producer.begin_transaction().err()
            }
            _ => None,
        }
    }
}

fn serve(producer: &BaseProducer<Watch>) {
    for _ in 0..EVENTS {
        // One event at most.
        producer.poll(Duration::ZERO);
    }
}

/// Init on the same handle until it works: it may take the coordinator a while to settle what a
/// predecessor left.
///
/// # Errors
/// What the client says.
pub(super) fn init(producer: &BaseProducer<Watch>, watched: &Watched) -> Result<(), KafkaError> {
    let deadline = Instant::now() + INIT;
    loop {
        let done = producer.init_transactions(REQUEST);
        serve(producer);
        match done {
            Err(KafkaError::Transaction(problem))
                if problem.is_retriable() && Instant::now() < deadline && !watched.is_refused() =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            done => return done,
        }
    }
}
