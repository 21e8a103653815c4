//! The file journal: one writer, one write and one sync for everything appended since the last.

use std::collections::VecDeque;
use std::path::Path;

use crate::batch::{MAX_BATCH_HEADER, MAX_BODY};
use crate::chunk::ChunkHeader;
use crate::commit::Pending;
use crate::error::{AppendError, JournalError};
use crate::record;
use crate::recover::{self, Recovery};
use crate::retention::{Clock, WhenFull};
use crate::segment::HEAD_LEN;
use crate::stats::Counters;
use crate::storage::{DirStorage, SegmentEntry, Storage};
use crate::summary::Builder;

/// Bytes that may wait for a commit.
pub const MAX_PENDING: usize = 16 << 20;

const MIN_SEGMENT: u32 = 512;
const MAX_SEGMENT: u32 = 1 << 30;

/// How a journal uses its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Bytes of a segment, the unit of retention. A record must fit into one.
    pub segment_size: u32,
    /// Bytes of all segments, beyond which [`Journal::enforce_retention`] deletes the oldest.
    pub max_size: Option<u64>,
    /// How long after its last write a segment may be deleted, in ms. The time is that of the
    /// clock handed to [`Journal::enforce_retention`], not that of the records.
    pub max_age_ms: Option<u64>,
    /// What retention does with records that not everyone has read.
    pub when_full: WhenFull,
    /// Bytes by which the newest segment is filled with zeros ahead of the records, so that most
    /// commits write over blocks that are already there. 0 or 1: not ahead at all.
    pub zero_fill_step: u32,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_size: 16 << 20,
            max_size: None,
            max_age_ms: None,
            when_full: WhenFull::DropOldest,
            zero_fill_step: 256 << 10,
        }
    }
}

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Active<F> {
    pub(crate) file: F,
    pub(crate) chunk: ChunkHeader,
    /// Where the next batch goes.
    pub(crate) pos: u64,
    /// Bytes of the file; zeros from `pos` on.
    pub(crate) len: u64,
    /// Of what is before `pos`, where that is whole.
    pub(crate) summary: Option<Builder>,
}

/// The writer of a log.
#[derive(Debug)]
pub struct Journal<S: Storage = DirStorage> {
    pub(crate) storage: S,
    pub(crate) options: JournalOptions,
    /// All segments, oldest first; the active one is the last.
    pub(crate) segments: VecDeque<SegmentEntry>,
    pub(crate) active: Option<Active<S::File>>,
    pub(crate) end: u64,
    pub(crate) keep: u64,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    /// An error of retention that its caller has not seen yet.
    pub(crate) deferred: Option<JournalError>,
    pub(crate) bodies: Vec<u8>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) next: u64,
    pub(crate) asked: u64,
    pub(crate) out: Vec<u8>,
    pub(crate) poisoned: bool,
    /// Segments that the last compaction merged away, and that may still be there.
    pub(crate) merged: Vec<u64>,
}

impl Journal<DirStorage> {
    /// Opens the log in `dir`, or starts one there, and locks it.
    ///
    /// # Errors
    /// As [`Journal::open`], and [`JournalError::Locked`] while another process writes there.
    pub fn open_dir(dir: &Path, options: JournalOptions) -> Result<(Self, Recovery), JournalError> {
        Self::open(DirStorage::for_writing(dir)?, options)
    }
}

impl<S: Storage> Journal<S> {
    /// Opens the log in `storage`, or starts one there. A torn tail is cut, damage is reported,
    /// and no whole record is deleted.
    ///
    /// # Errors
    /// [`JournalError::SegmentSize`], [`JournalError::Version`], or what the disk says.
    pub fn open(storage: S, options: JournalOptions) -> Result<(Self, Recovery), JournalError> {
        let given = options.segment_size;
        if !(MIN_SEGMENT..=MAX_SEGMENT).contains(&given) {
            return Err(JournalError::SegmentSize { given, min: MIN_SEGMENT, max: MAX_SEGMENT });
        }
        let recovered = recover::recover(&storage)?;
        let recovery = recovered.report;
        let clock = Clock::at_open(recovered.active.as_ref(), recovered.segments.back());
        let journal = Self {
            storage,
            options,
            segments: recovered.segments,
            active: recovered.active,
            end: recovery.end,
            keep: u64::MAX,
            clock,
            counters: Counters::default(),
            deferred: None,
            bodies: Vec::new(),
            pending: Vec::new(),
            next: recovery.end,
            asked: 0,
            out: Vec::new(),
            poisoned: false,
            merged: Vec::new(),
        };
        Ok((journal, recovery))
    }

    /// Takes a record into memory and gives it its offset. It is durable after the next
    /// successful [`Journal::commit`].
    ///
    /// # Errors
    /// [`AppendError`]; the record is then not taken and its offset goes to the next one.
    pub fn append(
        &mut self,
        partition: u16,
        time_ms: i64,
        key: &[u8],
        value: &[u8],
    ) -> Result<u64, AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        let offset = self.next;
        self.next.checked_add(1).ok_or(AppendError::Exhausted)?;
        let max = self.max_body();
        let joinable = |batch: &&Pending| batch.partition == partition && !batch.is_spread;
        let open = self.pending.last().filter(joinable);
        let delta = open.map_or(0, |batch| time_ms.wrapping_sub(batch.time_ms));
        let len = record::encoded_len(delta, key, value);
        let joins = open.is_some_and(|batch| batch.body_len + len <= max);
        let (delta, len) =
            if joins { (delta, len) } else { (0, record::encoded_len(0, key, value)) };
        if len > max {
            return Err(AppendError::TooLarge { bytes: len, max });
        }
        if self.bodies.len() + len > MAX_PENDING {
            return Err(AppendError::Full { bytes: self.bodies.len() });
        }
        if !joins {
            let body_at = self.bodies.len();
            self.pending.push(Pending {
                partition,
                offset,
                count: 0,
                records: 0,
                is_spread: false,
                records_end: offset,
                time_ms,
                body_at,
                body_len: 0,
                payload: 0,
                times_ms: (time_ms, time_ms),
            });
        }
        let batch = self.pending.last_mut().expect("a batch was opened above");
        batch.count += 1;
        batch.records += 1;
        batch.body_len += len;
        batch.payload += (key.len() + value.len()) as u64;
        batch.times_ms = (batch.times_ms.0.min(time_ms), batch.times_ms.1.max(time_ms));
        record::put(&mut self.bodies, delta, key, value);
        self.next += 1;
        self.asked += (key.len() + value.len()) as u64;
        Ok(offset)
    }

    /// Drops what was appended since the last commit.
    pub fn discard(&mut self) {
        self.pending.clear();
        self.bodies.clear();
        self.asked = 0;
        self.next = self.end;
    }

    /// Commits, and gives away no offset below `offset` from then on. For an owner that knows of
    /// positions beyond the end, because what was acknowledged there has been damaged since: new
    /// records at these offsets would pass for old ones. Readers are told the range is damaged.
    ///
    /// # Errors
    /// As [`Journal::commit`].
    pub fn advance_to(&mut self, offset: u64) -> Result<(), JournalError> {
        self.commit()?;
        if offset > self.end {
            self.seal();
            (self.end, self.next) = (offset, offset);
        }
        Ok(())
    }

    /// The first offset of the log; [`Journal::end`] where it is empty.
    pub fn start(&self) -> u64 {
        self.segments.front().map_or(self.end, |first| first.base)
    }

    /// The offset after the last durable record.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The offset that the next appended record gets.
    pub fn next_offset(&self) -> u64 {
        self.next
    }

    /// Bytes that wait for the next commit.
    pub fn pending_bytes(&self) -> usize {
        self.bodies.len()
    }

    /// Bytes of all segments.
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = SegmentEntry> + '_ {
        self.segments.iter().copied()
    }

    /// What was done since opening.
    pub fn stats(&self) -> &Counters {
        &self.counters
    }

    /// As it was opened.
    pub fn options(&self) -> &JournalOptions {
        &self.options
    }

    /// Where the segments are.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    pub(crate) fn max_body(&self) -> usize {
        MAX_BODY.min(self.options.segment_size as usize - HEAD_LEN - MAX_BATCH_HEADER)
    }
}
