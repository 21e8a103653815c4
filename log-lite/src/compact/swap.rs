//! The journal's part of compaction: short, and under its owner's lock.

use std::io;

use super::settle::ignore_missing;
use super::{CompactOptions, Compactor};
use crate::error::JournalError;
use crate::journal::Journal;
use crate::storage::{SegmentEntry, Storage};

/// A segment that is ready to take the place of others.
#[derive(Clone, Debug)]
pub struct Compacted {
    /// What is made of them. It has the base of the first.
    pub(super) segment: SegmentEntry,
    /// Bases of the segments that it was made from, oldest first.
    pub(super) sources: Vec<u64>,
}

impl<S: Storage> Journal<S> {
    /// A compactor of this log.
    pub fn compactor(&self, options: CompactOptions) -> Compactor<S>
    where
        S: Clone,
    {
        Compactor::new(self.storage.clone(), options, self.options.segment_size)
    }

    /// Puts a new segment in the place of those that it was made from: one rename, no sync. `false`:
    /// retention has deleted some of them, and all is as it was.
    ///
    /// # Errors
    /// [`JournalError::Io`]; all is as it was.
    pub fn swap_compacted(&mut self, compacted: &Compacted) -> Result<bool, JournalError> {
        let Compacted { segment, sources } = compacted;
        let Ok(at) = self.segments.binary_search_by_key(&segment.base, |listed| listed.base) else {
            return Ok(false);
        };
        let listed = self.segments.range(at..).map(|listed| listed.base);
        let sealed = at + sources.len() < self.segments.len();
        if !sealed || !listed.take(sources.len()).eq(sources.iter().copied()) {
            return Ok(false);
        }
        self.storage
            .replace(segment.base)
            .map_err(|source| JournalError::io("replace", Some(segment.base), source))?;
        self.segments[at] = *segment;
        self.segments.drain(at + 1..at + sources.len());
        // The compactor removes them next. Should retention be faster, it does so first.
        self.merged = sources[1..].to_vec();
        Ok(true)
    }

    /// Removes what the last swap merged away, before retention deletes what it was merged into:
    /// else it would be the log's start after a power cut.
    pub(crate) fn remove_merged(&mut self) -> io::Result<()> {
        if self.merged.is_empty() {
            return Ok(());
        }
        self.storage.sync_dir()?;
        for base in &self.merged {
            ignore_missing(self.storage.remove(*base))?;
        }
        self.storage.sync_dir()?;
        self.merged.clear();
        Ok(())
    }
}
