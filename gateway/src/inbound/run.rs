//! The shell: a thread and a clock around a source.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tracing::error;

use super::flow::{Flow, News};
use super::identity;
use super::origin::{Fault, Item, Origin};
use super::positions::Positions;
use super::status::{InboundMetrics, InboundStatus, Score};
use crate::journal::{AppendError, Durable, Journal};
use crate::mqtt::unix_ms;
use crate::stream::{Incoming, Intake, IntakeError};

/// Bytes of records that are taken from the origin at a time.
const READ_BYTES: usize = 256 << 10;
/// The first retry comes after this; each further one after twice as long...
const BACKOFF: Duration = Duration::from_millis(250);
/// ...up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// Between two looks at whether the journal is read to its end.
const LOOK: Duration = Duration::from_millis(20);

/// What a source works with.
pub struct Surroundings {
    /// The way into the journal.
    pub intake: Intake,
    /// What the journal has of each source.
    pub positions: Positions,
    /// What is counted.
    pub metrics: InboundMetrics,
}

/// Carries records of one origin into the journal, each once.
pub struct Inbound {
    name: String,
    origin: Box<dyn Origin>,
    /// How long to wait where the origin has nothing.
    poll: Duration,
    intake: Intake,
    positions: Positions,
    score: Score,
    flow: Flow,
    state: State,
    failures: u32,
}

enum State {
    /// To be opened once the journal is read as far as `until`, or, where a commit has failed since,
    /// as far as it goes.
    Closed {
        until: u64,
        generation: u64,
    },
    Open,
}

enum Step {
    Again,
    /// Nothing to do for this long.
    Wait(Duration),
    /// The journal takes no more.
    End,
}

impl Inbound {
    pub(super) fn new(
        name: &str,
        origin: Box<dyn Origin>,
        poll: Duration,
        with: Surroundings,
    ) -> Self {
        let Surroundings { intake, positions, metrics } = with;
        let durable = intake.journal().durable();
        Self {
            name: name.to_owned(),
            origin,
            poll,
            intake,
            positions,
            score: Score::new(name, &metrics),
            flow: Flow::default(),
            state: State::Closed { until: durable.end, generation: durable.generation },
            failures: 0,
        }
    }

    /// Its status, now and later.
    pub fn status(&self) -> impl Fn() -> InboundStatus + Send + Sync + 'static {
        let score = self.score.clone();
        move || score.get()
    }

    /// Takes records in until `shutdown` is true or the journal is shut.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let (done, ended) = oneshot::channel();
        let name = self.name.clone();
        let runtime = Handle::current();
        let thread = std::thread::Builder::new().name(format!("in {name}")).spawn(move || {
            self.drive(&runtime, shutdown);
            // The receiver is gone where nobody waits any more.
            let _ = done.send(());
        });
        match thread {
            Ok(_) if ended.await.is_ok() => {}
            Ok(_) => error!(source = name, "the source broke down; restart the gateway"),
            Err(problem) => error!(source = name, %problem, "no thread for the source"),
        }
    }

    fn drive(mut self, runtime: &Handle, mut shutdown: watch::Receiver<bool>) {
        loop {
            // A sender that is gone cannot ask any more: that is the end too.
            if *shutdown.borrow() || shutdown.has_changed().is_err() {
                return;
            }
            let durable = self.intake.journal().durable();
            let wait = match self.turn(durable) {
                Step::Again => Duration::ZERO,
                Step::Wait(time) => time,
                Step::End => return,
            };
            let journal = self.intake.journal().clone();
            runtime.block_on(async {
                tokio::select! {
                    // Both outcomes are looked at above.
                    _ = shutdown.changed() => {}
                    () = pause(&journal, wait) => {}
                }
            });
        }
    }

    fn turn(&mut self, durable: Durable) -> Step {
        match self.flow.on(durable) {
            News::Settled(settled) => {
                for (source, next) in settled {
                    self.score.settled(&source, next);
                    if let Err(fault) = self.origin.settled(&source, next) {
                        return self.fail(&fault);
                    }
                }
            }
            News::Lost => self.close(durable),
        }
        if durable.closed {
            return Step::End;
        }
        match self.state {
            State::Closed { until, generation } => {
                if generation != durable.generation {
                    self.close(durable);
                    return Step::Again;
                }
                self.open(until)
            }
            State::Open if self.flow.is_full() => Step::Wait(LOOK),
            State::Open => self.take_in(),
        }
    }

    /// To be opened again from what is on disk.
    fn close(&mut self, durable: Durable) {
        self.state = State::Closed { until: durable.end, generation: durable.generation };
    }

    /// Opens the origin, when it is known what the journal has.
    fn open(&mut self, until: u64) -> Step {
        if !self.flow.is_empty() || self.positions.caught_up_to() < until {
            return Step::Wait(LOOK);
        }
        let positions = &self.positions;
        let opened = self.origin.open(&|source| positions.next(source));
        self.score.skipped(self.origin.skipped());
        match opened {
            Ok(()) => {
                self.state = State::Open;
                self.score.running();
                Step::Again
            }
            Err(fault) => self.fail(&fault),
        }
    }

    fn take_in(&mut self) -> Step {
        let items = match self.origin.read(READ_BYTES) {
            Ok(items) => items,
            Err(fault) => return self.fail(&fault),
        };
        self.score.skipped(self.origin.skipped());
        if items.is_empty() {
            self.score.running();
            if self.origin.is_current() {
                self.score.current();
            }
            return Step::Wait(self.poll);
        }
        for item in items {
            if let Err(fault) = self.append(item) {
                return self.fail(&fault);
            }
        }
        self.failures = 0;
        Step::Again
    }

    fn append(&mut self, item: Item) -> Result<(), Fault> {
        let Item { source, position, topic, payload, mut properties, retain, rejected } = item;
        identity::put(&mut properties, &source, position);
        let message = Incoming {
            client: "",
            topic: &topic,
            payload: &payload,
            qos: 1,
            retain,
            packet_id: None,
            properties: &properties,
            now_ms: unix_ms(),
            relayed: None,
        };
        let stored = match rejected {
            None => self.intake.publish(&message),
            Some(reason) => self.intake.refuse(&message, &reason),
        };
        match stored {
            Ok(accepted) => {
                self.flow.sent(source, position, accepted.ticket);
                self.score.sent();
                Ok(())
            }
            Err(IntakeError::Append(AppendError::TooLarge(bytes))) => Err(Fault::stopped(format!(
                "{source}: the record at position {position} has {bytes} bytes, more than the \
                 journal takes: take it away there; nothing behind it comes in before"
            ))),
            Err(problem) => Err(Fault::retry(problem.to_string())),
        }
    }

    fn fail(&mut self, fault: &Fault) -> Step {
        // What is on its way has to be on disk, and read, before it is known where to go on.
        let journal = self.intake.journal();
        let generation = journal.durable().generation;
        self.state = State::Closed { until: journal.end(), generation };
        self.score.failed(fault.is_final, &fault.message);
        let wait = match fault.is_final {
            true => self.origin.patience(),
            false => (BACKOFF * 2_u32.pow(self.failures.min(6))).min(BACKOFF_MAX),
        };
        self.failures = self.failures.saturating_add(1);
        Step::Wait(wait)
    }
}

/// Waits for `wait`, then until the journal takes more.
async fn pause(journal: &Journal, wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    journal.admit().await;
}
