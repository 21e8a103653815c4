//! Retention by size and by age: whole segments, oldest first.
//!
//! The age of a segment is the time since it was last written, by the clock of the machine: a
//! record's own time comes from a device, whose wrong clock must neither keep nor kill a segment.

use std::collections::BTreeMap;
use std::io;

use crate::batch::BatchKind;
use crate::error::JournalError;
use crate::journal::{Active, Journal};
use crate::record::Records;
use crate::segment::{self, HEAD_LEN};
use crate::storage::{SegmentEntry, SegmentFile, Storage};
use crate::summary::Summary;
use crate::walk::{Met, Walk};

/// 2020-01-01 in ms since 1970. A clock before this was never set, and what it said is no age.
pub(crate) const CLOCK_SET_MS: i64 = 1_577_836_800_000;
/// The newest segment is sealed after this part of `max_age_ms`, so that slow logs age too.
const ROLLS_AN_AGE: u64 = 8;

/// What retention does with records at or above the keep position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Deletes them where nothing else is left to delete, and says so.
    #[default]
    DropOldest,
    /// Never deletes them, whatever size and age say. The owner looks at [`Journal::room`] before
    /// it appends, and waits for its readers.
    Block,
}

/// Why retention deleted a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropCause {
    /// The log was larger than `max_size`.
    Size,
    /// The segment was last written longer ago than `max_age_ms`.
    Age,
}

/// A segment that retention deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// First offset that is gone.
    pub first: u64,
    /// The offset after the last that is gone.
    pub end: u64,
    /// Why.
    pub cause: DropCause,
    /// Whether records at or above the keep position are among them: the owner records a gap.
    pub past_keep: bool,
    /// How many records at or above the keep position each partition lost; what was damaged
    /// already is not counted.
    pub counts: BTreeMap<u16, u64>,
}

/// What a journal knows of the time.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Since when the active segment is one.
    pub(crate) active_since_ms: Option<i64>,
    /// Base of the oldest segment that was written since the time was last told.
    pub(crate) written_from: Option<u64>,
}

impl Clock {
    pub(crate) fn at_open<F: SegmentFile>(
        active: Option<&Active<F>>,
        newest: Option<&SegmentEntry>,
    ) -> Self {
        let made = active.and_then(|active| active.file.created_ms());
        let active_since_ms = made.or(newest.map(|newest| newest.modified_ms));
        Self { active_since_ms, written_from: None }
    }
}

impl<S: Storage> Journal<S> {
    /// Says how far everyone has read. Retention prefers what is below; what it does at or above
    /// is [`crate::JournalOptions::when_full`]. Until called, nothing is kept.
    pub fn set_keep(&mut self, position: u64) {
        self.keep = position;
    }

    /// Bytes that can be committed before the log is larger than `max_size` though all was deleted
    /// that lies below the keep position; `u64::MAX` without a `max_size`. For an owner that would
    /// rather stop than drop: at 0 it calls [`Journal::enforce_retention`] whenever a reader has
    /// moved on, and appends again when there is room.
    pub fn room(&self) -> u64 {
        let Some(max) = self.options.max_size else { return u64::MAX };
        let kept = self.segments.iter().enumerate().filter(|(at, _)| !self.can_go(*at));
        let kept: u64 = kept.map(|(_, segment)| segment.bytes).sum();
        let zeros = self.active.as_ref().map_or(0, |active| active.len - active.pos);
        (max + zeros).saturating_sub(kept)
    }

    /// Whether the segment at this place is sealed and below the keep position.
    fn can_go(&self, at: usize) -> bool {
        match self.segments.get(at + 1) {
            Some(next) => next.base <= self.keep,
            None => self.active.is_none() && self.end <= self.keep,
        }
    }

    /// Deletes the oldest segments until the log is no larger than `max_size` and none was last
    /// written longer than `max_age_ms` before `now_ms` (ms since 1970). The newest segment stays,
    /// or, where it is too old, an empty one behind it. Call it after commits, and now and then where
    /// `max_age_ms` is set.
    ///
    /// # Errors
    /// What the disk says; the log is whole, and the next call goes on.
    pub fn enforce_retention(&mut self, now_ms: i64) -> Result<Vec<Dropped>, JournalError> {
        let mut dropped = Vec::new();
        if let Some(error) = self.deferred.take() {
            return Err(error);
        }
        self.note_time(now_ms);
        self.seal_by_age_or_need(now_ms);
        match self.drop_all(now_ms, &mut dropped) {
            Err(error) if dropped.is_empty() => return Err(error),
            // What was dropped has to reach the owner, so the error waits for the next call.
            Err(error) => self.deferred = Some(error),
            Ok(()) => {}
        }
        Ok(dropped)
    }

    fn drop_all(&mut self, now_ms: i64, dropped: &mut Vec<Dropped>) -> Result<(), JournalError> {
        while let Some(cause) = self.cause_to_drop(now_ms) {
            self.drop_oldest(cause, dropped)?;
        }
        if self.newest_is_too_old(now_ms) {
            self.roll(now_ms)?;
            self.drop_oldest(DropCause::Age, dropped)?;
        }
        Ok(())
    }

    /// Whether only the newest segment is left, has records, and should not be kept either.
    fn newest_is_too_old(&self, now_ms: i64) -> bool {
        let (Some(max), Some(newest)) = (self.options.max_age_ms, self.segments.back()) else {
            return false;
        };
        let may_go = self.options.when_full == WhenFull::DropOldest || self.end <= self.keep;
        let alone = self.segments.len() == 1 && self.end > newest.base && !self.poisoned;
        alone && may_go && is_older(newest.modified_ms, max, now_ms)
    }

    /// Gives the segments that were written since the last call their time, and those of a clock
    /// that was not set.
    fn note_time(&mut self, now_ms: i64) {
        let from = self.clock.written_from.take().unwrap_or(u64::MAX);
        for segment in &mut self.segments {
            if segment.base >= from || segment.modified_ms < CLOCK_SET_MS {
                segment.modified_ms = now_ms;
            }
        }
        let since = self.clock.active_since_ms.get_or_insert(now_ms);
        if *since < CLOCK_SET_MS {
            *since = now_ms;
        }
    }

    fn seal_by_age_or_need(&mut self, now_ms: i64) {
        let Some(active) = &self.active else { return };
        if active.pos <= HEAD_LEN as u64 {
            return;
        }
        let since = self.clock.active_since_ms.unwrap_or(now_ms);
        let age = self.options.max_age_ms.map(|max| max / ROLLS_AN_AGE);
        let old = age.is_some_and(|age| is_older(since, age, now_ms));
        // Read to its end, the newest segment can make room for the next.
        let needed = self.keep >= self.end && self.room() == 0;
        if old || needed {
            self.seal();
        }
    }

    fn cause_to_drop(&self, now_ms: i64) -> Option<DropCause> {
        let (oldest, next) = (self.segments.front()?, self.segments.get(1)?);
        if self.options.when_full == WhenFull::Block && next.base > self.keep {
            return None;
        }
        let old = |age| is_older(oldest.modified_ms, age, now_ms);
        if self.options.max_size.is_some_and(|max| self.size() > max) {
            Some(DropCause::Size)
        } else if self.options.max_age_ms.is_some_and(old) {
            Some(DropCause::Age)
        } else {
            None
        }
    }

    fn drop_oldest(
        &mut self,
        cause: DropCause,
        dropped: &mut Vec<Dropped>,
    ) -> Result<(), JournalError> {
        let oldest = self.segments[0];
        let end = self.segments[1].base;
        let failed = |action| move |source| JournalError::io(action, Some(oldest.base), source);
        self.remove_merged().map_err(failed("delete"))?;
        let past_keep = end > self.keep;
        let counts = if past_keep {
            self.count_from(oldest.base, self.keep).map_err(failed("read"))?
        } else {
            BTreeMap::new()
        };
        self.storage.remove(oldest.base).map_err(failed("delete"))?;
        self.segments.pop_front();
        self.counters.segments_deleted += 1;
        dropped.push(Dropped { first: oldest.base, end, cause, past_keep, counts });
        // Synced one by one, so that no crash leaves a hole before an older segment.
        self.counters.dir_syncs += 1;
        self.storage.sync_dir().map_err(failed("delete"))
    }

    fn count_from(&self, base: u64, from: u64) -> io::Result<BTreeMap<u16, u64>> {
        let mut counts = BTreeMap::new();
        let file = self.storage.open(base, false)?;
        let Ok(head) = segment::read_head(&file, base)? else { return Ok(counts) };
        if from <= base
            && let Some(summary) = Summary::load(&self.storage, &file, &head.chunk)
            && let Some(partitions) = summary.partitions
        {
            return Ok(partitions);
        }
        let mut walk = Walk::new(&head);
        loop {
            match walk.next(&file, &|_| false, false)? {
                Met::Batch(batch) => {
                    let lost = match batch.header.kind {
                        BatchKind::Spread | BatchKind::Sparse => {
                            let records = Records::new(batch.header, walk.body(&file, &batch)?);
                            records.filter(|record| record.offset >= from).count() as u64
                        }
                        _ => batch.header.end().saturating_sub(from.max(batch.header.offset)),
                    };
                    if lost > 0 {
                        *counts.entry(batch.header.partition).or_default() += lost;
                    }
                }
                Met::Hole(_) | Met::Lost(_) => {}
                Met::End { .. } => return Ok(counts),
            }
        }
    }
}

/// Whether `age_ms` have passed since `then_ms`. By a clock that was not set, none have.
pub(crate) fn is_older(then_ms: i64, age_ms: u64, now_ms: i64) -> bool {
    now_ms >= CLOCK_SET_MS
        && u64::try_from(now_ms.saturating_sub(then_ms)).is_ok_and(|age| age > age_ms)
}
