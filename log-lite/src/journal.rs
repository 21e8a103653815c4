//! The file journal: one writer, one write and one sync for everything appended since the last.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use crate::batch::{BatchHeader, BatchKind, MAX_BATCH_HEADER, MAX_BODY};
use crate::chunk::ChunkHeader;
use crate::crc::crc32c;
use crate::error::{AppendError, JournalError};
use crate::record;
use crate::recover::{self, Recovery};
use crate::retention::{Clock, WhenFull};
use crate::segment::{self, HEAD_LEN};
use crate::stats::{CommitStats, Counters};
use crate::storage::{DirStorage, SegmentEntry, SegmentFile, Storage};

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

/// Consecutive records of one partition that wait for the commit.
#[derive(Debug)]
struct Pending {
    partition: u16,
    offset: u64,
    count: u32,
    time_ms: i64,
    body_at: usize,
    body_len: usize,
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
    bodies: Vec<u8>,
    pending: Vec<Pending>,
    next: u64,
    asked: u64,
    out: Vec<u8>,
    poisoned: bool,
}

/// Where a commit began, to go back to.
struct Undo {
    segments: usize,
    pos: u64,
}

/// A failed step of a commit.
enum Failed {
    /// Nothing is lost: the bytes can be taken back.
    Write(JournalError),
    /// What the disk holds is not known any more.
    Sync(io::Error),
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
        let open = self.pending.last().filter(|batch| batch.partition == partition);
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
                time_ms,
                body_at,
                body_len: 0,
            });
        }
        let batch = self.pending.last_mut().expect("a batch was opened above");
        batch.count += 1;
        batch.body_len += len;
        record::put(&mut self.bodies, delta, key, value);
        self.next += 1;
        self.asked += (key.len() + value.len()) as u64;
        Ok(offset)
    }

    /// Makes everything appended durable: one write and one sync, and one more of each where a
    /// segment is full.
    ///
    /// # Errors
    /// What was appended is dropped and its offsets are given away again.
    /// [`JournalError::DiskFull`] and [`JournalError::Io`] leave the log as it was;
    /// [`JournalError::Poisoned`] stops this journal until it is opened again.
    pub fn commit(&mut self) -> Result<CommitStats, JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned { source: None });
        }
        let before = self.counters;
        let undo = Undo {
            segments: self.segments.len(),
            pos: self.active.as_ref().map_or(0, |active| active.pos),
        };
        let pending = std::mem::take(&mut self.pending);
        let bodies = std::mem::take(&mut self.bodies);
        let result = self.write_all(&pending, &bodies);
        let records = self.next - self.end;
        let asked = std::mem::take(&mut self.asked);
        self.recycle(pending, bodies);
        match result {
            Ok(batches) => {
                self.end = self.next;
                self.counters.commits += u64::from(records > 0);
                self.counters.records += records;
                self.counters.bytes_asked += asked;
                Ok(CommitStats {
                    records,
                    batches,
                    bytes: self.counters.bytes_issued - before.bytes_issued,
                    writes: self.counters.writes - before.writes,
                    syncs: self.counters.syncs - before.syncs,
                    end: self.end,
                })
            }
            Err(failed) => {
                self.next = self.end;
                self.counters.failed_commits += 1;
                Err(self.give_up(failed, &undo))
            }
        }
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
            self.active = None;
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

    fn max_body(&self) -> usize {
        MAX_BODY.min(self.options.segment_size as usize - HEAD_LEN - MAX_BATCH_HEADER)
    }

    fn recycle(&mut self, mut pending: Vec<Pending>, mut bodies: Vec<u8>) {
        const KEEP: usize = 1 << 20;
        pending.clear();
        bodies.clear();
        bodies.shrink_to(KEEP);
        self.out.clear();
        self.out.shrink_to(KEEP);
        (self.pending, self.bodies) = (pending, bodies);
    }

    fn write_all(&mut self, pending: &[Pending], bodies: &[u8]) -> Result<u64, Failed> {
        let mut rest = pending;
        while let Some(first) = rest.first() {
            self.out.clear();
            let fresh = match &self.active {
                Some(active) if self.fits(active.pos, first) => false,
                _ => {
                    self.create(first)?;
                    true
                }
            };
            let taken = self.fill_out(rest, bodies);
            self.write_out(fresh)?;
            rest = &rest[taken..];
        }
        Ok(pending.len() as u64)
    }

    fn fits(&self, pos: u64, batch: &Pending) -> bool {
        let most = pos + (MAX_BATCH_HEADER + batch.body_len) as u64;
        most <= u64::from(self.options.segment_size)
    }

    /// Makes the segment that begins with this batch, and its head in `out`.
    fn create(&mut self, first: &Pending) -> Result<(), Failed> {
        let base = first.offset;
        let failed = |source| Failed::Write(JournalError::io("create", Some(base), source));
        let file = self.storage.create(base).map_err(failed)?;
        let chunk = segment::header(base, first.time_ms);
        segment::put_head(&chunk, &mut self.out);
        self.segments.push_back(SegmentEntry { base, bytes: 0, modified_ms: 0 });
        self.active = Some(Active { file, chunk, pos: 0, len: 0 });
        self.clock.active_since_ms = None;
        self.counters.segments_created += 1;
        Ok(())
    }

    /// Puts as many batches as fit the active segment into `out`; returns how many.
    fn fill_out(&mut self, batches: &[Pending], bodies: &[u8]) -> usize {
        let active = self.active.as_ref().expect("a commit writes to an active segment");
        let (chunk, pos) = (active.chunk, active.pos);
        let mut taken = 0;
        for batch in batches {
            if taken > 0 && !self.fits(pos + self.out.len() as u64, batch) {
                break;
            }
            let body = &bodies[batch.body_at..batch.body_at + batch.body_len];
            let header = BatchHeader {
                kind: BatchKind::Records,
                starts_commit: taken == 0,
                partition: batch.partition,
                body_len: batch.body_len as u32,
                count: batch.count,
                offset: batch.offset,
                time_ms: batch.time_ms,
                body_crc: crc32c(body),
            };
            let mut bytes = [0; MAX_BATCH_HEADER];
            let len = header.encode(&chunk, &mut bytes);
            self.out.extend_from_slice(&bytes[..len]);
            self.out.extend_from_slice(body);
            taken += 1;
        }
        taken
    }

    /// One write of `out`, with zeros behind it where the file has to grow, and one sync.
    fn write_out(&mut self, fresh: bool) -> Result<(), Failed> {
        let active = self.active.as_mut().expect("a commit writes to an active segment");
        let base = active.chunk.base_offset;
        let data_end = active.pos + self.out.len() as u64;
        if data_end > active.len {
            let step = u64::from(self.options.zero_fill_step.max(1));
            let limit = u64::from(self.options.segment_size).max(data_end);
            let zeros = data_end.next_multiple_of(step).min(limit) - data_end;
            self.out.resize(self.out.len() + zeros as usize, 0);
            self.counters.zero_fill_bytes += zeros;
        }
        self.counters.writes += 1;
        self.counters.bytes_issued += self.out.len() as u64;
        active
            .file
            .write_at(active.pos, &self.out)
            .map_err(|source| Failed::Write(JournalError::io("write to", Some(base), source)))?;
        active.len = active.len.max(active.pos + self.out.len() as u64);
        self.segments.back_mut().expect("the active segment is listed").bytes = active.len;
        self.clock.written_from.get_or_insert(base);
        self.counters.syncs += 1;
        active.file.sync().map_err(Failed::Sync)?;
        active.pos = data_end;
        if fresh {
            self.counters.dir_syncs += 1;
            self.storage.sync_dir().map_err(Failed::Sync)?;
        }
        Ok(())
    }

    fn give_up(&mut self, failed: Failed, undo: &Undo) -> JournalError {
        match failed {
            Failed::Write(error) => match self.roll_back(undo) {
                Ok(()) => error,
                Err(source) => self.poison(source),
            },
            Failed::Sync(source) => self.poison(source),
        }
    }

    fn poison(&mut self, source: io::Error) -> JournalError {
        self.poisoned = true;
        JournalError::Poisoned { source: Some(source) }
    }

    /// Takes back what a failed commit wrote: its segments, newest first, then its bytes at the
    /// tail. Left there, they could pass for records once the next commit is torn.
    fn roll_back(&mut self, undo: &Undo) -> io::Result<()> {
        let created = self.segments.len() > undo.segments;
        if created {
            self.active = None;
        }
        while self.segments.len() > undo.segments {
            let segment = self.segments.pop_back().expect("longer than before the commit");
            self.storage.remove(segment.base)?;
            self.storage.sync_dir()?;
        }
        let Some(last) = self.segments.back_mut() else { return Ok(()) };
        if undo.pos == 0 {
            // The commit found no active segment and made the first of a log of sealed ones.
            return Ok(());
        }
        if created {
            let file = self.storage.open(last.base, true)?;
            let chunk = segment::read_head(&file, last.base)?
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            self.active = Some(Active { file, chunk, pos: undo.pos, len: 0 });
        }
        let active = self.active.as_mut().expect("reopened above, or never closed");
        active.pos = undo.pos;
        active.len = active.file.len()?;
        last.bytes = active.len;
        zero(&active.file, active.pos, active.len)?;
        active.file.sync()
    }
}

/// Writes zeros from `at` to `end`.
pub(crate) fn zero<F: SegmentFile>(file: &F, mut at: u64, end: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while at < end {
        let len = (end - at).min(ZEROS.len() as u64);
        file.write_at(at, &ZEROS[..len as usize])?;
        at += len;
    }
    Ok(())
}
