//! Retention by size: whole segments, oldest first.

use std::collections::BTreeMap;
use std::io;

use crate::error::JournalError;
use crate::journal::Journal;
use crate::segment;
use crate::storage::Storage;
use crate::walk::{Met, Walk};

/// A segment that retention deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// First offset that is gone.
    pub first: u64,
    /// The offset after the last that is gone.
    pub end: u64,
    /// Whether records at or above the keep position are among them: the owner records a gap.
    pub past_keep: bool,
    /// How many records at or above the keep position each partition lost; what was damaged
    /// already is not counted.
    pub counts: BTreeMap<u16, u64>,
}

impl<S: Storage> Journal<S> {
    /// Says how far everyone has read. Retention prefers what is below; what is at or above it
    /// deletes only when nothing else is left, and says so. Until called, nothing is kept.
    pub fn set_keep(&mut self, position: u64) {
        self.keep = position;
    }

    /// The range that [`Journal::enforce_retention`] would delete though it is not yet below the
    /// keep position. An owner that would rather stop than drop asks before it appends.
    pub fn would_drop(&self) -> Option<std::ops::Range<u64>> {
        let mut excess = self.size().checked_sub(self.options.max_size?)?;
        for (at, segment) in self.segments.iter().enumerate() {
            let end = self.segments.get(at + 1)?.base;
            if excess == 0 {
                return None;
            }
            if end > self.keep {
                return Some(segment.base..end);
            }
            excess = excess.saturating_sub(segment.bytes);
        }
        None
    }

    /// Deletes the oldest segments until the log is no larger than `max_size`. The newest segment
    /// stays.
    ///
    /// # Errors
    /// What the disk says; the log is whole, and the next call goes on.
    pub fn enforce_retention(&mut self) -> Result<Vec<Dropped>, JournalError> {
        let mut dropped = Vec::new();
        if let Some(error) = self.deferred.take() {
            return Err(error);
        }
        let Some(max) = self.options.max_size else { return Ok(dropped) };
        while self.size() > max && self.segments.len() > 1 {
            if let Err(error) = self.drop_oldest(&mut dropped) {
                if dropped.is_empty() {
                    return Err(error);
                }
                // What was dropped has to reach the owner, so the error waits for the next call.
                self.deferred = Some(error);
                break;
            }
        }
        Ok(dropped)
    }

    fn drop_oldest(&mut self, dropped: &mut Vec<Dropped>) -> Result<(), JournalError> {
        let oldest = self.segments[0];
        let end = self.segments[1].base;
        let failed = |action| move |source| JournalError::io(action, Some(oldest.base), source);
        let past_keep = end > self.keep;
        let counts = if past_keep {
            self.count_from(oldest.base, self.keep).map_err(failed("read"))?
        } else {
            BTreeMap::new()
        };
        self.storage.remove(oldest.base).map_err(failed("delete"))?;
        self.segments.pop_front();
        self.counters.segments_deleted += 1;
        dropped.push(Dropped { first: oldest.base, end, past_keep, counts });
        // Synced one by one, so that no crash leaves a hole before an older segment.
        self.counters.dir_syncs += 1;
        self.storage.sync_dir().map_err(failed("delete"))
    }

    fn count_from(&self, base: u64, from: u64) -> io::Result<BTreeMap<u16, u64>> {
        let mut counts = BTreeMap::new();
        let file = self.storage.open(base, false)?;
        let Ok(chunk) = segment::read_head(&file, base)? else { return Ok(counts) };
        let mut walk = Walk::new(chunk);
        loop {
            match walk.next(&file, &|_| false, false)? {
                Met::Batch(batch) => {
                    let lost = batch.header.end().saturating_sub(from.max(batch.header.offset));
                    if lost > 0 {
                        *counts.entry(batch.header.partition).or_default() += lost;
                    }
                }
                Met::Hole(_) => {}
                Met::End { .. } => return Ok(counts),
            }
        }
    }
}
