//! Reads one hole of what a route has covered.

use headwater_shared::envelope::GapCause;

use crate::forward::local::Source;
use crate::forward::upstream::Fault;
use crate::journal::{ReadError, Record};

/// Bytes of records that are taken from the journal at a time.
const READ_BYTES: usize = 64 << 10;
/// Reads at a time; then the others have their turn.
const READS_MAX: u32 = 8;

/// Where a hole is read.
pub(super) struct Reading<S> {
    source: S,
    unread: std::vec::IntoIter<Record>,
    /// All of the hole below is sent, or not the route's...
    pub(super) first: u64,
    /// ...what is staged ends here...
    staged: u64,
    /// ...all below has been looked at...
    pub(super) scanned: u64,
    /// ...and here the hole ends, if it does.
    limit: Option<u64>,
}

/// What a hole has next.
pub(super) enum Found {
    /// A record.
    Record(Record),
    /// These offsets cannot be read, to the end exclusive.
    Gap(GapCause, (u64, u64)),
    /// No more: all of the hole has been looked at.
    Over,
}

impl<S: Source> Reading<S> {
    /// `source` stands at the begin of `hole`.
    pub(super) fn new(source: S, (first, limit): (u64, Option<u64>)) -> Self {
        Self { source, unread: Vec::new().into_iter(), first, staged: first, scanned: first, limit }
    }

    /// What is below `end` is staged; gives where that begins.
    pub(super) fn stage(&mut self, end: u64) -> u64 {
        self.staged = end;
        self.first
    }

    /// What was staged is sent.
    pub(super) fn sent(&mut self) {
        self.first = self.staged;
    }

    /// Another reads what comes at and above `limit`.
    pub(super) fn end_at(&mut self, limit: u64) {
        self.limit = Some(limit);
    }

    /// The next of it; `None` when the journal has no more now, or too much was read at a time.
    pub(super) fn next(&mut self, reads: &mut u32) -> Result<Option<Found>, Fault> {
        loop {
            if self.limit.is_some_and(|limit| self.scanned >= limit) {
                return Ok(Some(Found::Over));
            }
            if let Some(record) = self.unread.next() {
                match self.limit.filter(|limit| record.offset >= *limit) {
                    Some(limit) => self.scanned = limit,
                    None => {
                        self.scanned = record.offset + 1;
                        return Ok(Some(Found::Record(record)));
                    }
                }
                continue;
            }
            if *reads >= READS_MAX {
                return Ok(None);
            }
            *reads += 1;
            match self.source.read(READ_BYTES) {
                Ok(records) if records.is_empty() => {
                    self.scanned = self.scanned.max(self.source.position());
                    match self.limit.filter(|limit| self.scanned >= *limit) {
                        Some(limit) => self.scanned = limit,
                        None => return Ok(None),
                    }
                }
                Ok(records) => self.unread = records.into_iter(),
                Err(ReadError::Trimmed { first, end }) => {
                    return Ok(Some(self.gap(GapCause::Retention, first, end)));
                }
                Err(ReadError::Damaged { first, end, .. }) => {
                    return Ok(Some(self.gap(GapCause::Damage, first, end)));
                }
                Err(problem @ ReadError::Io(_)) => return Err(Fault::retry(problem.to_string())),
            }
        }
    }

    /// What is missing beyond the hole is not this hole's to tell.
    fn gap(&mut self, cause: GapCause, first: u64, end: u64) -> Found {
        let end = self.limit.map_or(end, |limit| end.min(limit));
        self.scanned = self.scanned.max(end);
        Found::Gap(cause, (first, end))
    }
}
