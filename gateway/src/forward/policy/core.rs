//! The policy: when to open, begin, send, commit, wait and give up. Pure: the shell tells what
//! waits and what happened, the core says what to do next.
//!
//! ```text
//!            Open               Begin               Commit
//!  Closed ---------> Idle ---------------> Sending ---------> Idle
//!    ^                |                       |
//!    +---- any fault: back off, then everything anew ----+        Fenced: Stopped, for good
//! ```
//!
//! Routes that the upstream bars at an open are left out; between two transactions it is asked about
//! them now and then, and opened anew once one of them may go.
//!
//! After any fault the upstream is dropped and opened again, which settles what was under way and
//! reads the position: nothing is assumed about a request whose answer did not come.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::forward::engine::batch::RECORDS_FULL;
use crate::forward::policy::pace::Pace;
use crate::forward::upstream::{Fault, FaultKind};

/// Sizes and times of transactions.
#[derive(Clone, Copy, Debug)]
pub(in crate::forward) struct Policy {
    /// There is one transaction in this time in the long run, so that what comes in meanwhile shares
    /// it; after a silence records go at once. See [`Pace`].
    pub(in crate::forward) gather_ms: u64,
    /// A transaction that has something and finds nothing more is held open this long since its
    /// begin. 0: it closes at once and never holds back readers of the cluster.
    pub(in crate::forward) open_ms: u64,
    /// A transaction closes at this many records...
    pub(in crate::forward) records_max: u32,
    /// ...or bytes.
    pub(in crate::forward) bytes_max: u64,
    /// While further behind than `behind`, these hold instead.
    pub(in crate::forward) catch_up_records_max: u32,
    /// See `catch_up_records_max`.
    pub(in crate::forward) catch_up_bytes_max: u64,
    /// Records of the journal not read yet from which a route counts as catching up.
    pub(in crate::forward) behind: u64,
    /// Records that are staged at a time.
    pub(in crate::forward) stage_records: usize,
    /// The upstream gives up a transaction that is open this long, and fences its producer.
    pub(in crate::forward) transaction_timeout_ms: u64,
}

impl Policy {
    /// For a cluster that serves transactions.
    pub(in crate::forward) const KAFKA: Self = Self {
        gather_ms: 1_000,
        open_ms: 0,
        records_max: 1_000,
        bytes_max: 512 << 10,
        catch_up_records_max: 30_000,
        catch_up_bytes_max: 8 << 20,
        behind: 2_000,
        stage_records: RECORDS_FULL,
        transaction_timeout_ms: 30_000,
    };

    /// For a cluster that gets a transaction once in `interval` in the long run.
    pub(in crate::forward) fn kafka(interval: Duration) -> Self {
        let gather_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        Self { gather_ms, ..Self::KAFKA }
    }

    /// For files: a transaction is a file a partition.
    pub(in crate::forward) const DIRECTORY: Self = Self {
        gather_ms: 0,
        open_ms: 10_000,
        records_max: 1_000_000,
        bytes_max: 16 << 20,
        catch_up_records_max: 1_000_000,
        catch_up_bytes_max: 16 << 20,
        behind: 2_000,
        stage_records: RECORDS_FULL,
        transaction_timeout_ms: u64::MAX,
    };
}

/// The first retry comes after about this long; each further one after twice as long...
const BACKOFF_MS: u64 = 100;
/// ...up to this.
const BACKOFF_MS_MAX: u64 = 15_000;
/// What only a human can change is tried again this often.
const REFUSED_RETRY_MS: u64 = 30_000;
/// On shutdown, what waits is still sent for this long.
const DRAIN_MS: u64 = 2_000;
/// A transaction that holds back more urgent records closes when it is this old.
const HURRY_MS: u64 = 50;
/// Between two looks at the journal while records gather, so that a busy journal does not wake the
/// forwarder at each commit.
const LOOK_MS: u64 = 20;

/// What waits to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::forward) struct Waiting {
    /// Records that are ready to be sent.
    pub(in crate::forward) staged: u32,
    /// The stage is full: reading on has to wait.
    pub(in crate::forward) full: bool,
    /// Records of the journal that have not been looked at, for the route that is furthest behind.
    pub(in crate::forward) unread: u64,
    /// Each stage is to be a transaction of its own, to find a record that is refused.
    pub(in crate::forward) probing: bool,
}

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Action {
    /// Connect, fence predecessors, read positions; then report [`Outcome::Opened`].
    Open,
    /// Begin a transaction.
    Begin,
    /// Send what is staged.
    Send,
    /// Write the positions into the transaction and commit it.
    Commit,
    /// Ask about the routes that are barred; then report [`Outcome::Looked`].
    Look,
    /// Nothing to do until `until_ms`, or until new records if `for_data`.
    Wait {
        /// A time of the core's clock; `u64::MAX`: no time.
        until_ms: u64,
        /// New records end the wait.
        for_data: bool,
    },
    /// The end: shut down, or stopped for good.
    Halt,
}

/// What happened.
#[derive(Clone, Debug)]
pub(in crate::forward) enum Outcome {
    /// The upstream is open.
    Opened,
    /// It is, and bars some routes.
    OpenedInPart,
    /// It was asked about these.
    Looked {
        /// One of them may go.
        is_cured: bool,
    },
    /// A transaction has begun.
    Begun,
    /// These were sent in it.
    Sent {
        /// Records.
        records: u32,
        /// Bytes of keys and values.
        bytes: u64,
        /// There are more urgent ones among them than were sent in it before.
        overtook: bool,
    },
    /// It is committed.
    Committed,
    /// Something failed; the shell has dropped the upstream.
    Failed(Fault),
    /// The same, and it is known what was refused: the next try is another.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { retry_ms: u64 },
    Idle,
    Sending(Sending),
    Stopped,
}

/// A transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sending {
    begun_ms: u64,
    records: u32,
    bytes: u64,
    /// Urgent records wait in it behind others.
    hurries: bool,
}

/// The policy's state.
#[derive(Debug)]
pub(in crate::forward) struct Core {
    policy: Policy,
    pace: Pace,
    state: State,
    failures: u32,
    jitter: u64,
    drain_until_ms: Option<u64>,
    /// When the upstream is asked about the routes that it bars.
    look_ms: Option<u64>,
}

impl Core {
    /// `seed` varies the jitter between gateways.
    pub(in crate::forward) fn new(policy: Policy, seed: u64) -> Self {
        let state = State::Closed { retry_ms: 0 };
        let pace = Pace::new(&policy);
        Self {
            policy,
            pace,
            state,
            failures: 0,
            jitter: seed | 1,
            drain_until_ms: None,
            look_ms: None,
        }
    }

    /// The gateway is shutting down: send what waits, for a short while, settle, halt.
    pub(in crate::forward) fn drain(&mut self, now_ms: u64) {
        self.drain_until_ms.get_or_insert(now_ms.saturating_add(DRAIN_MS));
    }

    /// True once the upstream answers.
    pub(in crate::forward) fn is_open(&self) -> bool {
        matches!(self.state, State::Idle | State::Sending(_))
    }

    /// True between two transactions.
    pub(in crate::forward) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// True once it will not try again on its own.
    pub(in crate::forward) fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// What to do now.
    pub(in crate::forward) fn next(&self, now_ms: u64, waiting: &Waiting) -> Action {
        match self.state {
            State::Stopped => Action::Halt,
            State::Closed { .. } if self.drain_until_ms.is_some() => Action::Halt,
            State::Closed { retry_ms } if now_ms < retry_ms => {
                Action::Wait { until_ms: retry_ms, for_data: false }
            }
            State::Closed { .. } => Action::Open,
            State::Idle => self.next_idle(now_ms, waiting),
            State::Sending(sending) => self.next_sending(now_ms, waiting, sending),
        }
    }

    fn next_idle(&self, now_ms: u64, waiting: &Waiting) -> Action {
        let over = self.drain_until_ms.is_some_and(|until_ms| now_ms >= until_ms);
        if over || (self.drain_until_ms.is_some() && waiting.staged == 0) {
            return Action::Halt;
        }
        let look_ms = self.look_ms.filter(|_| self.drain_until_ms.is_none()).unwrap_or(u64::MAX);
        if now_ms >= look_ms {
            return Action::Look;
        }
        if waiting.staged == 0 {
            return Action::Wait { until_ms: look_ms, for_data: true };
        }
        let due_ms = self.pace.due_ms();
        let enough = waiting.full || waiting.probing || waiting.staged >= self.policy.records_max;
        if enough || now_ms >= due_ms || self.drain_until_ms.is_some() {
            return Action::Begin;
        }
        Action::Wait { until_ms: due_ms.min(now_ms.saturating_add(LOOK_MS)), for_data: false }
    }

    fn next_sending(&self, now_ms: u64, waiting: &Waiting, sending: Sending) -> Action {
        let Sending { begun_ms, records, bytes, hurries } = sending;
        let policy = &self.policy;
        let (records_max, bytes_max) = if waiting.unread > policy.behind {
            (policy.catch_up_records_max, policy.catch_up_bytes_max)
        } else {
            (policy.records_max, policy.bytes_max)
        };
        let due_ms = begun_ms.saturating_add(policy.open_ms);
        // A file is no transaction that others wait for.
        let is_file = policy.open_ms > 0;
        let bytes_max = if is_file { bytes_max } else { bytes_max.min(self.pace.bytes_max()) };
        let hurried = hurries && !is_file && now_ms >= begun_ms.saturating_add(HURRY_MS);
        let over = self.drain_until_ms.is_some_and(|until_ms| now_ms >= until_ms);
        // A file that is held open closes at its time even while records keep coming; a
        // transaction that is not held closes when nothing more waits.
        let timed_out = is_file && now_ms >= due_ms;
        if records >= records_max
            || bytes >= bytes_max
            || timed_out
            || over
            || hurried
            || (waiting.probing && records > 0)
        {
            return Action::Commit;
        }
        if waiting.staged > 0 {
            return Action::Send;
        }
        if now_ms >= due_ms || self.drain_until_ms.is_some() {
            return Action::Commit;
        }
        Action::Wait { until_ms: due_ms, for_data: true }
    }

    /// Takes what happened.
    pub(in crate::forward) fn on(&mut self, now_ms: u64, outcome: &Outcome) {
        self.state = match (outcome, self.state) {
            (_, State::Stopped) => State::Stopped,
            (Outcome::Opened, _) => {
                self.look_ms = None;
                State::Idle
            }
            (Outcome::OpenedInPart | Outcome::Looked { is_cured: false }, _) => {
                self.look_ms = Some(now_ms.saturating_add(self.jittered(REFUSED_RETRY_MS)));
                State::Idle
            }
            (Outcome::Looked { is_cured: true }, _) => State::Closed { retry_ms: now_ms },
            (Outcome::Begun, _) => {
                self.pace.begun(now_ms);
                let begun_ms = now_ms;
                State::Sending(Sending { begun_ms, records: 0, bytes: 0, hurries: false })
            }
            (Outcome::Sent { records, bytes, overtook }, State::Sending(sending)) => {
                State::Sending(Sending {
                    records: sending.records.saturating_add(*records),
                    bytes: sending.bytes.saturating_add(*bytes),
                    hurries: sending.hurries || *overtook,
                    ..sending
                })
            }
            (Outcome::Sent { .. }, state) => state,
            (Outcome::Committed, state) => {
                self.failures = 0;
                if let State::Sending(Sending { begun_ms, records, bytes, .. }) = state {
                    self.pace.committed(now_ms.saturating_sub(begun_ms), records, bytes);
                }
                State::Idle
            }
            (Outcome::Failed(fault), state) => self.failed(now_ms, fault.kind, state),
            (Outcome::Refused, _) => {
                State::Closed { retry_ms: now_ms.saturating_add(self.jittered(BACKOFF_MS)) }
            }
        };
    }

    fn failed(&mut self, now_ms: u64, kind: FaultKind, state: State) -> State {
        // A producer that slept through its transaction's time is fenced by the cluster itself;
        // that is no rival, and a rival that took over meanwhile shows when the position is read.
        let slept = match state {
            State::Sending(Sending { begun_ms, bytes, .. }) => {
                self.pace.failed(bytes);
                now_ms.saturating_sub(begun_ms) >= self.policy.transaction_timeout_ms
            }
            _ => false,
        };
        let wait_ms = match kind {
            FaultKind::Fenced if !slept => return State::Stopped,
            FaultKind::Refused => self.jittered(REFUSED_RETRY_MS),
            FaultKind::Fenced | FaultKind::Retry => {
                let doubled = BACKOFF_MS << self.failures.min(16);
                self.failures = self.failures.saturating_add(1);
                self.jittered(doubled.min(BACKOFF_MS_MAX))
            }
        };
        State::Closed { retry_ms: now_ms.saturating_add(wait_ms) }
    }

    /// From half of `ms` up to all of it, so that gateways do not come back in step. xorshift64.
    fn jittered(&mut self, ms: u64) -> u64 {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        ms / 2 + self.jitter % (ms / 2 + 1)
    }
}
