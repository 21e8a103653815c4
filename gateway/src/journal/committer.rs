//! The thread that writes and syncs. It owns the log; nobody else writes.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use headwater_shared::envelope::{Envelope, Gap, GapCause, GapUnit};
use log_lite::Storage;
use tracing::{error, warn};

use super::tail::Commit;
use super::{Journal, NewRecord, Pending, Shared, lock};

/// After a commit failed for want of room, publishers may try again this much later.
const RETRY_AFTER: Duration = Duration::from_millis(200);

pub(super) fn spawn<S>(shared: Arc<Shared>, log: log_lite::Journal<S>) -> JoinHandle<()>
where
    S: Storage + Send + 'static,
    S::File: Send,
{
    std::thread::Builder::new()
        .name("journal".into())
        .spawn(move || {
            let mut committer = Committer { journal: Journal { shared }, log, segments: 0 };
            committer.run();
        })
        .expect("a thread can be started at start-up")
}

struct Committer<S: Storage> {
    journal: Journal,
    log: log_lite::Journal<S>,
    segments: u64,
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Append(#[from] log_lite::AppendError),
    #[error(transparent)]
    Commit(#[from] log_lite::JournalError),
}

impl Failure {
    /// The log has to be opened again before it can be trusted.
    fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Append(log_lite::AppendError::Poisoned | log_lite::AppendError::Exhausted)
                | Self::Commit(log_lite::JournalError::Poisoned { .. })
        )
    }
}

/// What one turn took from the pending records.
struct Taken {
    commit: Commit,
    closed: bool,
}

impl<S: Storage> Committer<S> {
    fn run(&mut self) {
        self.note();
        loop {
            let taken = self.take();
            if !taken.commit.records.is_empty() && !self.commit(taken.commit) {
                return;
            }
            if taken.closed {
                self.close("the gateway is shutting down");
                return;
            }
        }
    }

    /// Waits for records and takes all of them: the next batch gathers while this one is written.
    fn take(&self) -> Taken {
        let mut pending = lock(&self.journal.shared.pending);
        while pending.records.is_empty() && pending.closed.is_none() {
            pending = self
                .journal
                .shared
                .work
                .wait(pending)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let bytes = Bytes::from(std::mem::take(&mut pending.bytes));
        let records: Arc<[_]> = std::mem::take(&mut pending.records).into();
        let first = pending.first;
        pending.first += records.len() as u64;
        pending.committing = bytes.len();
        Taken { commit: Commit { first, bytes, records }, closed: pending.closed.is_some() }
    }

    /// False when the journal can go on no more.
    fn commit(&mut self, commit: Commit) -> bool {
        let result = self.write(&commit);
        let more = match result {
            Ok(()) => {
                let count = commit.records.len() as u64;
                lock(&self.journal.shared.tail).push(commit);
                let end = self.log.end();
                self.journal.shared.durable.send_modify(|durable| durable.end = end);
                self.note();
                let mut stats = lock(&self.journal.shared.stats);
                stats.commits += 1;
                stats.records += count;
                stats.failing = false;
                drop(stats);
                self.retain();
                true
            }
            Err(problem) => self.fail(&problem),
        };
        lock(&self.journal.shared.pending).committing = 0;
        self.journal.shared.room.notify_waiters();
        more
    }

    fn write(&mut self, commit: &Commit) -> Result<(), Failure> {
        for meta in commit.records.iter() {
            let key = &commit.bytes[meta.start..meta.value_start];
            let value = &commit.bytes[meta.value_start..meta.end];
            self.log.append(meta.partition, meta.time_ms, key, value)?;
        }
        self.log.commit()?;
        debug_assert_eq!(self.log.end(), commit.end(), "offsets were promised at append");
        Ok(())
    }

    /// Nobody is acknowledged: all that waited is dropped and its senders send again.
    fn fail(&mut self, problem: &Failure) -> bool {
        error!(%problem, "commit failed; nothing of it was acknowledged");
        self.log.discard();
        let end = self.log.end();
        let generation = {
            let mut pending = lock(&self.journal.shared.pending);
            let generation = pending.generation + 1;
            *pending =
                Pending { first: end, generation, closed: pending.closed, ..Pending::default() };
            generation
        };
        let mut stats = lock(&self.journal.shared.stats);
        stats.last_error = Some(problem.to_string());
        stats.failing = true;
        stats.counters = *self.log.stats();
        drop(stats);
        self.journal.shared.durable.send_modify(|durable| durable.generation = generation);
        if problem.is_final() {
            self.close("the disk failed; the gateway has to be restarted");
            return false;
        }
        std::thread::sleep(RETRY_AFTER);
        true
    }

    fn close(&self, why: &'static str) {
        lock(&self.journal.shared.pending).closed = Some(why);
        self.journal.shared.durable.send_modify(|durable| durable.closed = true);
        self.journal.shared.room.notify_waiters();
    }

    /// Retention runs when a segment was added, never while records wait for nothing.
    fn retain(&mut self) {
        let segments = self.log.stats().segments_created;
        if segments == self.segments {
            return;
        }
        self.segments = segments;
        let keep = lock(&self.journal.shared.keep).values().copied().min();
        self.log.set_keep(keep.unwrap_or(u64::MAX));
        match self.log.enforce_retention(jiff::Timestamp::now().as_millisecond()) {
            Ok(dropped) => {
                for range in dropped.iter().filter(|range| range.past_keep) {
                    self.note_gap(range);
                }
            }
            Err(problem) => warn!(%problem, "retention could not delete the oldest segment"),
        }
        self.note();
    }

    /// What was deleted before every reader that keeps had it becomes a gap record in each
    /// partition that lost something.
    fn note_gap(&self, range: &log_lite::Dropped) {
        warn!(range.first, range.end, "retention deleted records that were not forwarded yet");
        for (partition, count) in &range.counts {
            lock(&self.journal.shared.stats).dropped_past_keep += count;
            let envelope = Envelope::Gap(Gap {
                cause: GapCause::Retention,
                source: "",
                unit: GapUnit::Offsets,
                first: range.first,
                last: range.end.saturating_sub(1),
                count: Some(*count),
                boot_epoch: 0,
            });
            let record = NewRecord {
                partition: *partition,
                time_ms: jiff::Timestamp::now().as_millisecond(),
                key: "",
                envelope: &envelope,
            };
            if let Err(problem) = self.journal.append(&record) {
                warn!(%problem, "a gap record was not stored");
            }
        }
    }

    fn note(&self) {
        let mut stats = lock(&self.journal.shared.stats);
        stats.start = self.log.start();
        stats.counters = *self.log.stats();
        stats.bytes = self.log.size();
    }
}
