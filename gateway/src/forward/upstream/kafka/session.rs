//! A producer of transactions from its init to its first error.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use super::watch::{Watch, Watched, lock};
use super::{INIT, REQUEST, SETTLE, refusals, remedy};
use crate::forward::policy::dead::Refusal;
use crate::forward::upstream::{Fault, FaultKind, SendError};

/// Between two looks at whether the brokers have all.
const LOOK: Duration = Duration::from_millis(1);

/// A producer and what it has under way.
pub(super) struct Session {
    producer: ThreadedProducer<Watch>,
    watched: Arc<Watched>,
    /// By route: true where the topic has as many partitions as the stream.
    pub(super) explicit: Vec<bool>,
    pub(super) positions_partition: i32,
    /// Routes and offsets of the transaction's records, by their number in it.
    places: Vec<(usize, u64)>,
    /// The next open can find out whose right is missing.
    rights_are_told: bool,
    /// A right was missing.
    lacks_right: Cell<bool>,
}

impl Session {
    /// Of a producer that is past its init.
    pub(super) fn new(
        producer: ThreadedProducer<Watch>,
        watched: Arc<Watched>,
        explicit: Vec<bool>,
        positions_partition: i32,
        rights_are_told: bool,
    ) -> Self {
        Self {
            producer,
            watched,
            explicit,
            positions_partition,
            places: Vec::new(),
            rights_are_told,
            lacks_right: Cell::new(false),
        }
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

    pub(super) fn send(
        &mut self,
        mut message: BaseRecord<'_, [u8], [u8], usize>,
    ) -> Result<(), SendError> {
        let mut deadline = None;
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back))
                    if Instant::now()
                        < *deadline.get_or_insert_with(|| Instant::now() + SETTLE) =>
                {
                    message = back;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err((KafkaError::MessageProduction(Code::MessageSizeTooLarge), _)) => {
                    return Err(SendError::TooLarge);
                }
                Err((problem, _)) => {
                    return Err(SendError::Fault(self.fault("a record was not taken", &problem)));
                }
            }
        }
    }

    /// The number that the delivery of the next record carries, which is the one at `offset` of
    /// `route`.
    pub(super) fn place(&mut self, route: usize, offset: u64) -> usize {
        self.places.push((route, offset));
        self.places.len()
    }

    /// What was refused, once no more news of it comes.
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let mut deliveries = lock(&self.watched.deliveries);
        let mut known = 0;
        while !deliveries.refused.is_empty() && deliveries.failures > known {
            known = deliveries.failures;
            let quiet = Instant::now() + refusals::QUIET;
            while deliveries.failures <= known && self.under_way() && Instant::now() < quiet {
                deliveries = self.watched.wait(deliveries, LOOK);
            }
        }
        refusals::suspects(&deliveries.refused, &self.places, !self.under_way())
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
    /// sleeps 100 ms on a queue that its own thread empties; with nothing in flight it does not.
    fn acknowledged(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + SETTLE;
        let mut deliveries = lock(&self.watched.deliveries);
        while self.under_way() && deliveries.failed.is_none() && Instant::now() < deadline {
            deliveries = self.watched.wait(deliveries, LOOK);
        }
        let failed = deliveries.failed.clone();
        drop(deliveries);
        let missing = self.producer.in_flight_count();
        match failed {
            Some(problem) => Err(self.fault("a record was refused", &problem)),
            None if missing > 0 => {
                let timeout = KafkaError::Flush(Code::OperationTimedOut);
                Err(self.fault(&format!("{missing} records were not acknowledged"), &timeout))
            }
            None => Ok(()),
        }
    }

    fn fault(&self, what: &str, problem: &KafkaError) -> Fault {
        let cause = self.cause(problem);
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

/// Init on the same handle until it works: it may take the coordinator a while to settle what a
/// predecessor left.
///
/// # Errors
/// What the client says.
pub(super) fn init(
    producer: &ThreadedProducer<Watch>,
    watched: &Watched,
) -> Result<(), KafkaError> {
    let deadline = Instant::now() + INIT;
    loop {
        match producer.init_transactions(REQUEST) {
            Err(KafkaError::Transaction(problem))
                if problem.is_retriable() && Instant::now() < deadline && !watched.is_refused() =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            done => return done,
        }
    }
}
