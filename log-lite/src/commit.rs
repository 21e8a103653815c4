//! A commit: one write and one sync for everything appended since the last, and the way back.

use std::io;

use crate::batch::{BatchHeader, BatchKind, MAX_BATCH_HEADER, MAX_SPREAD_DELTA};
use crate::chunk::{ChunkHeader, ChunkKind};
use crate::crc::crc32c;
use crate::error::JournalError;
use crate::journal::{Active, Journal};
use crate::segment::{self, HEAD_LEN};
use crate::stats::CommitStats;
use crate::storage::{SegmentEntry, SegmentFile, Storage};
use crate::summary::Builder;
use crate::walk::{Met, Walk};

/// The unit in which a disk is written.
pub(crate) const BLOCK: u64 = 4096;
/// A longer commit does not make way for a block: zeros of up to its length would be left.
const SMALL: u64 = 256;

/// Consecutive records of one partition that wait for the commit.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) partition: u16,
    pub(crate) offset: u64,
    /// Offsets that the batch covers, and records in it; fewer where it is spread.
    pub(crate) count: u32,
    pub(crate) records: u32,
    /// Whether offsets may be left out.
    pub(crate) is_spread: bool,
    /// The offset after the last record of a spread batch; its own offset where it has none.
    pub(crate) records_end: u64,
    pub(crate) time_ms: i64,
    pub(crate) body_at: usize,
    pub(crate) body_len: usize,
    /// Bytes of keys and values.
    pub(crate) payload: u64,
    /// Earliest and latest time.
    pub(crate) times_ms: (i64, i64),
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

impl<S: Storage> Journal<S> {
    /// Makes everything appended durable: one write and one sync, and one more of each where a
    /// segment is full.
    ///
    /// # Errors
    /// What was appended is dropped and its offsets are given away again.
    /// [`JournalError::DiskFull`] and [`JournalError::Io`] leave the log as it was;
    /// [`JournalError::Poisoned`] stops this journal until it is opened again.
    pub fn commit(&mut self) -> Result<CommitStats, JournalError> {
        if self.poisoned {
            return Err(self.stopped(None));
        }
        let before = self.counters;
        let undo = self.undo();
        let pending = std::mem::take(&mut self.pending);
        let bodies = std::mem::take(&mut self.bodies);
        let result = self.write_all(&pending, &bodies);
        let records: u64 = pending.iter().map(|batch| u64::from(batch.records)).sum();
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
                Some(active)
                    if fits(self.options.segment_size, active.pos, first)
                        && takes(&active.chunk, first) =>
                {
                    false
                }
                Some(active) if active.pos == HEAD_LEN as u64 && !takes(&active.chunk, first) => {
                    self.convert()?;
                    false
                }
                _ => {
                    let spread = first.is_spread;
                    let kind = if spread { ChunkKind::Sparse } else { ChunkKind::Segment };
                    self.create(first.offset, first.time_ms, kind)?;
                    true
                }
            };
            let taken = self.fill_out(rest, bodies);
            self.write_out(fresh)?;
            rest = &rest[taken..];
        }
        Ok(pending.len() as u64)
    }

    /// Goes on in a new segment, durably, though nothing is stored in it yet.
    pub(crate) fn roll(&mut self, now_ms: i64) -> Result<(), JournalError> {
        let undo = self.undo();
        self.out.clear();
        let kind = self.active.as_ref().map_or(ChunkKind::Segment, |active| active.chunk.kind);
        let done = self.create(self.end, now_ms, kind).and_then(|()| self.write_out(true));
        done.map_err(|failed| self.give_up(failed, &undo))
    }

    fn undo(&self) -> Undo {
        let pos = self.active.as_ref().map_or(0, |active| active.pos);
        Undo { segments: self.segments.len(), pos }
    }

    /// Makes the segment that begins at this offset and time, and its head in `out`.
    fn create(&mut self, base: u64, time_ms: i64, kind: ChunkKind) -> Result<(), Failed> {
        self.seal();
        let failed = |source| Failed::Write(JournalError::io("create", Some(base), source));
        let file = self.storage.create(base).map_err(failed)?;
        let chunk = ChunkHeader { kind, ..segment::header(base, time_ms) };
        segment::put_head(&chunk, &mut self.out);
        self.segments.push_back(SegmentEntry { base, bytes: 0, modified_ms: 0 });
        let summary = Some(Builder::new(&chunk));
        self.active = Some(Active { file, chunk, pos: 0, len: 0, summary });
        self.clock.active_since_ms = None;
        self.counters.segments_created += 1;
        Ok(())
    }

    /// Makes the active segment, in which nothing is stored yet, one that takes spread batches. It
    /// takes the other's place in one step, so that the log's end is never without a segment.
    fn convert(&mut self) -> Result<(), Failed> {
        let active = self.active.as_ref().expect("a commit writes to an active segment");
        let chunk = ChunkHeader { kind: ChunkKind::Sparse, ..active.chunk };
        let base = chunk.base_offset;
        let failed = |source| Failed::Write(JournalError::io("create", Some(base), source));
        let mut head = Vec::new();
        segment::put_head(&chunk, &mut head);
        let file = self.storage.create_aside(base).map_err(failed)?;
        file.write_at(0, &head).map_err(failed)?;
        file.sync().map_err(failed)?;
        self.storage.replace(base).map_err(failed)?;
        let (len, summary) = (head.len() as u64, Some(Builder::new(&chunk)));
        self.active = Some(Active { file, chunk, pos: len, len, summary });
        self.segments.back_mut().expect("the active segment is listed").bytes = len;
        self.counters.dir_syncs += 1;
        self.storage.sync_dir().map_err(Failed::Sync)
    }

    /// Takes the active segment out of use and leaves a summary beside it. Where that fails,
    /// readers walk the segment instead.
    pub(crate) fn seal(&mut self) {
        let Some(active) = self.active.take() else { return };
        let Some(summary) = active.summary.and_then(Builder::finish) else { return };
        let bytes = summary.encode();
        match self.storage.write_summary(active.chunk.base_offset, &bytes) {
            Ok(()) => {
                self.counters.summaries += 1;
                self.counters.summary_bytes += bytes.len() as u64;
                self.counters.device_bytes += in_blocks(0, bytes.len() as u64);
            }
            Err(_) => self.counters.failed_summaries += 1,
        }
    }

    /// Puts as many batches as fit the active segment into `out`; returns how many.
    fn fill_out(&mut self, batches: &[Pending], bodies: &[u8]) -> usize {
        let segment_size = self.options.segment_size;
        let active = self.active.as_mut().expect("a commit writes to an active segment");
        let (chunk, mut pos) = (active.chunk, active.pos);
        let mut taken = 0;
        for batch in batches {
            let at = pos + self.out.len() as u64;
            if taken > 0 && !(fits(segment_size, at, batch) && takes(&chunk, batch)) {
                break;
            }
            let body = &bodies[batch.body_at..batch.body_at + batch.body_len];
            let header = BatchHeader {
                kind: if batch.is_spread { BatchKind::Spread } else { BatchKind::Records },
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
            if batches.len() == 1 {
                pos = place(active, self.out.len() as u64);
                active.pos = pos;
            }
            if let Some(summary) = &mut active.summary {
                let next = pos + self.out.len() as u64;
                let at = next - (len + body.len()) as u64;
                let payload = (u64::from(batch.records), batch.payload);
                summary.add(at, next, &header, payload, batch.times_ms);
            }
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
        self.counters.device_bytes += in_blocks(active.pos, self.out.len() as u64);
        active.file.write_at(active.pos, &self.out).map_err(|source| {
            Failed::Write(JournalError::io_at("write to", base, active.pos, source))
        })?;
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
        self.stopped(Some(source))
    }

    fn stopped(&self, source: Option<io::Error>) -> JournalError {
        let segment = self.segments.back().map(|newest| newest.base);
        JournalError::Poisoned { segment, end: self.end, source }
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
        if self.active.is_none() {
            let file = self.storage.open(last.base, true)?;
            let chunk = segment::read_head(&file, last.base)?
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?
                .chunk;
            self.active = Some(Active { file, chunk, pos: undo.pos, len: 0, summary: None });
        }
        let active = self.active.as_mut().expect("reopened above, or never closed");
        active.pos = undo.pos;
        active.len = active.file.len()?;
        last.bytes = active.len;
        clear(active, self.end)?;
        active.file.sync()?;
        active.summary = Builder::scan(&active.file, active.chunk, active.pos).unwrap_or(None);
        Ok(())
    }
}

/// Whether such a batch may be in such a segment.
fn takes(chunk: &ChunkHeader, batch: &Pending) -> bool {
    !batch.is_spread
        || (chunk.kind == ChunkKind::Sparse && batch.offset - chunk.base_offset <= MAX_SPREAD_DELTA)
}

fn fits(segment_size: u32, pos: u64, batch: &Pending) -> bool {
    pos + (MAX_BATCH_HEADER + batch.body_len) as u64 <= u64::from(segment_size)
}

/// Where a commit of one batch begins that takes so many bytes: behind the last, or, if it is small
/// and would lie in two blocks, at the next. The zeros in between are there already, and stay. A
/// commit of several batches does not make way: if its first was torn, zeros say so.
fn place<F>(active: &Active<F>, len: u64) -> u64 {
    let (pos, block) = (active.pos, active.pos.next_multiple_of(BLOCK));
    let makes_way = len <= SMALL && pos < block && block < pos + len && block + len <= active.len;
    if makes_way { block } else { pos }
}

/// Bytes of the blocks that a write touches.
fn in_blocks(at: u64, len: u64) -> u64 {
    (at + len).next_multiple_of(BLOCK) - at / BLOCK * BLOCK
}

/// Writes zeros over what a failed commit left behind `pos`. Batch by batch from the last on: where
/// that fails too, the batches that are left follow each other, and the tail is a torn one.
fn clear<F: SegmentFile>(active: &Active<F>, offset: u64) -> io::Result<()> {
    let mut walk = Walk::new(&active.chunk.into());
    walk.stand_at(active.pos, offset);
    let mut starts = vec![active.pos];
    while let Met::Batch(batch) = walk.next(&active.file, &|_| true, false)? {
        starts.push(batch.next);
    }
    let mut end = active.len;
    for start in starts.into_iter().rev() {
        zero(&active.file, start, end)?;
        end = start;
    }
    Ok(())
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
