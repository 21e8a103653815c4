//! Writes a compacted segment beside the log: for compaction, which leaves records out, and for
//! repair, which puts lost ranges in the place of damage.

use std::io;

use crate::batch::{BatchHeader, BatchKind, MAX_BATCH_HEADER, MAX_BODY};
use crate::chunk::{ChunkHeader, ChunkKind};
use crate::crc::crc32c;
use crate::error::Why;
use crate::record::{self, Record, Records};
use crate::segment::{self, COMPACTED_HEAD_LEN, Extent, Head};
use crate::storage::SegmentFile;
use crate::summary::{Builder, Summary};

/// Bytes of a body beyond which the next record begins a batch. A damaged byte costs a batch.
const BODY_TARGET: usize = 16 << 10;
/// What a record may take in a sparse batch beyond what it takes in a dense one.
const SPARSE_ROOM: usize = 24;
/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 << 10;

/// A segment that is being written.
#[derive(Debug)]
pub(crate) struct Rewrite<F> {
    file: F,
    chunk: ChunkHeader,
    /// What is not written yet, and where it goes.
    out: Vec<u8>,
    at: u64,
    /// The batch that records are put into, and its body.
    open: Option<OpenBatch>,
    body: Vec<u8>,
    /// `None` once a range was lost: who passes the segment by would not be told.
    summary: Option<Builder>,
    unsynced: u64,
}

#[derive(Debug)]
struct OpenBatch {
    partition: u16,
    offset: u64,
    /// The offset after the last record.
    next: u64,
    time_ms: i64,
    written_ms: i64,
}

/// A segment that was written and synced, and is still beside the log.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) summary: Option<Summary>,
}

/// The header of a segment that takes the place of the one with this head, if that can be read.
pub(crate) fn successor(base: u64, replaced: Option<&Head>) -> ChunkHeader {
    let old = replaced.map_or_else(|| segment::header(base, 0), |head| head.chunk);
    // Whatever belongs to the replaced segment, as a summary does, is not taken for this one's.
    let epoch = old.epoch.wrapping_add(1);
    ChunkHeader { kind: ChunkKind::Compacted, epoch, ..old }
}

impl<F: SegmentFile> Rewrite<F> {
    /// Begins a segment in an empty file.
    pub(crate) fn new(file: F, chunk: ChunkHeader) -> Self {
        let summary = Some(Builder::new(&chunk));
        Self {
            file,
            chunk,
            out: Vec::new(),
            at: COMPACTED_HEAD_LEN as u64,
            open: None,
            body: Vec::new(),
            summary,
            unsynced: 0,
        }
    }

    /// Bytes of the segment so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.at + (self.out.len() + self.body.len()) as u64
    }

    /// Adds a record, behind those added before. `written_ms`: when it had been written.
    pub(crate) fn push(&mut self, record: &Record, written_ms: i64) -> io::Result<()> {
        let len = record::encoded_len(0, record.key, record.value);
        let joins = self.open.as_ref().is_some_and(|open| {
            open.partition == record.partition
                && open.written_ms == written_ms
                && self.body.len() + len <= BODY_TARGET
                && record.offset - open.offset < MAX_BODY as u64
        });
        if !joins {
            self.close()?;
            if len + SPARSE_ROOM > MAX_BODY {
                return self.put_alone(record);
            }
            let Record { partition, offset, time_ms, .. } = *record;
            record::put_written(&mut self.body, written_ms.wrapping_sub(time_ms));
            self.open = Some(OpenBatch { partition, offset, next: offset, time_ms, written_ms });
        }
        let open = self.open.as_mut().expect("a batch was opened above");
        let skipped = record.offset - open.next;
        let delta = record.time_ms.wrapping_sub(open.time_ms);
        record::put_sparse(&mut self.body, skipped, delta, record.key, record.value);
        open.next = record.offset + 1;
        Ok(())
    }

    /// Adds a record that is too long for a sparse batch, as it was.
    fn put_alone(&mut self, record: &Record) -> io::Result<()> {
        let mut body = Vec::new();
        record::put(&mut body, 0, record.key, record.value);
        let Record { partition, offset, time_ms, .. } = *record;
        self.put(BatchKind::Records, partition, (offset, 1), time_ms, &body)
    }

    /// Adds a batch as it is.
    pub(crate) fn copy(&mut self, header: &BatchHeader, body: &[u8]) -> io::Result<()> {
        self.close()?;
        let BatchHeader { kind, partition, offset, count, time_ms, .. } = *header;
        self.put(kind, partition, (offset, count), time_ms, body)
    }

    /// Adds a range that cannot be read any more.
    pub(crate) fn lost(&mut self, first: u64, end: u64, why: Why) -> io::Result<()> {
        if first == end {
            return Ok(());
        }
        self.close()?;
        self.summary = None;
        let mut body = Vec::new();
        record::put_lost(&mut body, end - first, why);
        self.put(BatchKind::Lost, 0, (first, 0), self.chunk.base_time_ms, &body)
    }

    /// Makes durable what was written so far, if that is at least so many bytes: so that the end
    /// of the segment is not one long sync, for which the log would have to wait.
    pub(crate) fn sync_beyond(&mut self, bytes: u64) -> io::Result<()> {
        if self.unsynced >= bytes {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Ends the segment, which covers all offsets below `end`, and makes it durable.
    pub(crate) fn finish(mut self, extent: Extent, modified_ms: i64) -> io::Result<Written> {
        self.close()?;
        let time_ms = self.chunk.base_time_ms;
        self.put(BatchKind::End, 0, (extent.end, 0), time_ms, &[])?;
        self.flush()?;
        let mut head = Vec::with_capacity(COMPACTED_HEAD_LEN);
        segment::put_head(&self.chunk, &mut head);
        segment::put_extent(&self.chunk, extent, &mut head);
        self.file.write_at(0, &head)?;
        self.file.set_modified_ms(modified_ms)?;
        self.file.sync()?;
        let summary = self.summary.and_then(Builder::finish);
        Ok(Written { bytes: self.at, summary })
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(OpenBatch { partition, offset, next, time_ms, .. }) = self.open.take() else {
            return Ok(());
        };
        let body = std::mem::take(&mut self.body);
        let count = u32::try_from(next - offset).expect("the span of a batch is limited");
        self.put(BatchKind::Sparse, partition, (offset, count), time_ms, &body)?;
        self.body = body;
        self.body.clear();
        Ok(())
    }

    fn put(
        &mut self,
        kind: BatchKind,
        partition: u16,
        (offset, count): (u64, u32),
        time_ms: i64,
        body: &[u8],
    ) -> io::Result<()> {
        let header = BatchHeader {
            kind,
            starts_commit: false,
            partition,
            body_len: body.len() as u32,
            count,
            offset,
            time_ms,
            body_crc: crc32c(body),
        };
        let mut bytes = [0; MAX_BATCH_HEADER];
        let len = header.encode(&self.chunk, &mut bytes);
        let at = self.at + self.out.len() as u64;
        self.out.extend_from_slice(&bytes[..len]);
        self.out.extend_from_slice(body);
        if let Some(summary) = &mut self.summary {
            let next = self.at + self.out.len() as u64;
            summary.add_batch(at, next, &header, body);
        }
        if self.out.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.at, &self.out)?;
        self.at += self.out.len() as u64;
        self.unsynced += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }
}

/// The time by which the records of a batch had been written, and the records.
pub(crate) fn written<'a>(
    header: BatchHeader,
    body: &'a [u8],
    segment_ms: i64,
) -> (i64, Records<'a>) {
    let records = Records::new(header, body);
    (records.written_ms().unwrap_or(segment_ms), records)
}
