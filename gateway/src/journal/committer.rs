//! The thread that writes and syncs. It owns the log; nobody else writes.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headwater_shared::envelope::{Envelope, Gap, GapCause, GapUnit};
use log_lite::{DropCause, Storage, WhenFull};
use tracing::{error, info, warn};

use super::blocked::{BRIM_BYTES, Blocked};
use super::pending::{Arena, Fullness, Pending};
use super::tail::Commit;
use super::{Journal, NewRecord, Shared, lock};

/// After a commit failed for want of room, publishers may try again this much later.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Retention by age looks at the clock this often, or sixteen times in `max_age`.
const RETAIN_EVERY: Duration = Duration::from_secs(30);
const RETAIN_EVERY_MIN: Duration = Duration::from_millis(100);

pub(super) fn spawn<S>(shared: Arc<Shared>, log: log_lite::Journal<S>) -> JoinHandle<()>
where
    S: Storage + Send + 'static,
    S::File: Send,
{
    std::thread::Builder::new()
        .name("journal".into())
        .spawn(move || {
            let age = log.options().max_age_ms.map(|age_ms| Duration::from_millis(age_ms / 16));
            let retain_every = age.unwrap_or(RETAIN_EVERY).clamp(RETAIN_EVERY_MIN, RETAIN_EVERY);
            let mut committer = Committer {
                journal: Journal { shared },
                log,
                arena: Arena::default(),
                segments: 0,
                retained: Instant::now(),
                retain_every,
            };
            committer.run();
        })
        .expect("a thread can be started at start-up")
}

struct Committer<S: Storage> {
    journal: Journal,
    log: log_lite::Journal<S>,
    /// Empty between two commits; the next one takes its place.
    arena: Arena,
    /// Segments that were made when retention ran last, and when that was.
    segments: u64,
    retained: Instant,
    retain_every: Duration,
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
    /// Retention is to be looked at though nothing was committed.
    look: bool,
}

impl<S: Storage> Committer<S> {
    fn run(&mut self) {
        self.note();
        loop {
            let taken = self.take();
            if !taken.commit.records.is_empty() && !self.commit(taken.commit) {
                return;
            }
            if taken.look || self.is_time() {
                self.retain();
            }
            if taken.closed {
                self.close("the gateway is shutting down");
                return;
            }
        }
    }

    /// Waits for records and takes all of them: the next batch gathers while this one is written.
    fn take(&mut self) -> Taken {
        let mut pending = lock(&self.journal.shared.pending);
        while pending.arena.count() == 0
            && pending.closed.is_none()
            && !pending.look
            && !self.is_time()
        {
            let wait = self.retain_every.saturating_sub(self.retained.elapsed());
            pending = self
                .journal
                .shared
                .work
                .wait_timeout(pending, wait)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
        let look = std::mem::take(&mut pending.look);
        let first = pending.swap(&mut self.arena);
        let closed = pending.closed.is_some();
        drop(pending);
        let commit = self.arena.commit(first);
        self.arena.clear();
        Taken { commit, closed, look }
    }

    fn is_time(&self) -> bool {
        self.retained.elapsed() >= self.retain_every
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
                self.look_after_commit();
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
            let key = &commit.bytes[meta.key()];
            let value = &commit.bytes[meta.value()];
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
            *pending = Pending {
                first: end,
                generation,
                closed: pending.closed,
                fullness: pending.fullness,
                look: pending.look,
                readers_missing: pending.readers_missing,
                ..Pending::default()
            };
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

    /// Retention runs when a segment was added or the log is full.
    fn look_after_commit(&mut self) {
        let added = self.log.stats().segments_created != self.segments;
        if added || (self.blocks() && self.room() == 0) {
            self.retain();
        } else if self.blocks() {
            self.say_fullness(None);
        }
    }

    fn blocks(&self) -> bool {
        self.log.options().when_full == WhenFull::Block
    }

    fn room(&mut self) -> u64 {
        let furthest = self.furthest();
        self.log.set_keep(furthest.map_or(u64::MAX, |furthest| furthest.position));
        self.log.room()
    }

    /// The reader that is furthest behind.
    fn furthest(&self) -> Option<Blocked> {
        let keep = lock(&self.journal.shared.keep);
        let furthest = keep.iter().min_by_key(|(_, position)| **position)?;
        Some(Blocked { reader: furthest.0.clone(), position: *furthest.1 })
    }

    fn retain(&mut self) {
        self.retained = Instant::now();
        if lock(&self.journal.shared.pending).readers_missing {
            return;
        }
        self.segments = self.log.stats().segments_created;
        let furthest = self.furthest();
        self.log.set_keep(furthest.as_ref().map_or(u64::MAX, |furthest| furthest.position));
        match self.log.enforce_retention(jiff::Timestamp::now().as_millisecond()) {
            Ok(dropped) => {
                for range in dropped.iter().filter(|range| range.past_keep) {
                    self.note_gap(range);
                }
            }
            Err(problem) => warn!(%problem, "retention could not delete the oldest segment"),
        }
        if self.blocks() {
            self.say_fullness(furthest.filter(|_| self.log.room() == 0));
        }
        self.note();
    }

    /// Lets publishers go on, or says whom they wait for.
    fn say_fullness(&self, blocked: Option<Blocked>) {
        let beyond =
            self.log.size().saturating_sub(self.log.options().max_size.unwrap_or(u64::MAX));
        let fullness = match &blocked {
            None => Fullness::Room,
            Some(_) if beyond < BRIM_BYTES => Fullness::Full,
            Some(_) => Fullness::Brim,
        };
        let shared = &self.journal.shared;
        let before = std::mem::replace(&mut lock(&shared.pending).fullness, fullness);
        match &blocked {
            Some(blocked) if before == Fullness::Room => {
                lock(&shared.stats).blocks += 1;
                warn!("{blocked}");
            }
            None if before != Fullness::Room => {
                info!("the log has room again; publishers go on");
                shared.room.notify_waiters();
            }
            _ => {}
        }
        shared.blocked.send_if_modified(|said| {
            let changed = *said != blocked;
            *said = blocked;
            changed
        });
    }

    /// What was deleted before every reader that keeps had it becomes a gap record in each
    /// partition that lost something.
    fn note_gap(&self, range: &log_lite::Dropped) {
        let (first, end, cause) = (range.first, range.end, range.cause);
        warn!(first, end, ?cause, "retention deleted records that were not forwarded yet");
        for (partition, count) in &range.counts {
            lock(&self.journal.shared.stats).dropped_past_keep += count;
            let envelope = retention_gap(range, *count);
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

/// The gap record of a partition that lost `count` records with this range.
pub(crate) fn retention_gap(range: &log_lite::Dropped, count: u64) -> Envelope<'static> {
    let cause = match range.cause {
        DropCause::Size => GapCause::Retention,
        DropCause::Age => GapCause::Expired,
    };
    Envelope::Gap(Gap {
        cause,
        source: "",
        unit: GapUnit::Offsets,
        first: range.first,
        last: range.end.saturating_sub(1),
        count: Some(count),
        boot_epoch: 0,
    })
}
