//! A reader: its own position, its own file handles, its own bounded buffer.

use std::io;
use std::ops::Range;
use std::path::Path;

use crate::batch::BatchHeader;
use crate::chunk::ChunkError;
use crate::error::{Damage, Lost, ReadError, Why};
use crate::record::Records;
use crate::segment::{self, Head};
use crate::storage::{DirStorage, SegmentEntry, Storage};
use crate::summary::Summary;
use crate::verify::SegmentInfo;
use crate::walk::{Located, Met, Walk};

/// Offsets that a seek walks over rather than look for the place anew.
const NEAR: u64 = 1024;

/// The records of one batch that the reader asked for. Borrows the reader's buffer.
#[derive(Clone, Debug)]
pub struct BatchView<'a> {
    header: BatchHeader,
    body: &'a [u8],
    from: u64,
    to: u64,
    segment: u64,
    bytes: Range<u64>,
}

impl<'a> BatchView<'a> {
    /// The partition of all its records.
    pub fn partition(&self) -> u16 {
        self.header.partition
    }

    /// The offset that the batch was asked from: that of its first record, or one before it that
    /// compaction removed.
    pub fn first(&self) -> u64 {
        self.from
    }

    /// The offset after the last record.
    pub fn end(&self) -> u64 {
        self.to
    }

    /// Base offset of the segment that it is in.
    pub fn segment(&self) -> u64 {
        self.segment
    }

    /// Its bytes in the segment, header and body.
    pub fn bytes(&self) -> Range<u64> {
        self.bytes.clone()
    }

    /// Whether it is the first batch of a group commit.
    pub fn starts_commit(&self) -> bool {
        self.header.starts_commit
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = crate::Record<'a>> + use<'a> {
        let (from, to) = (self.from, self.to);
        Records::new(self.header, self.body)
            .skip_while(move |record| record.offset < from)
            .take_while(move |record| record.offset < to)
    }
}

/// Reads a log from a position on, beside its writer or without one.
#[derive(Debug)]
pub struct Reader<S: Storage = DirStorage> {
    storage: S,
    open: Option<Open<S::File>>,
    position: u64,
    only: Option<Vec<u16>>,
}

#[derive(Debug)]
struct Open<F> {
    file: F,
    walk: Walk,
}

/// What a look at the open segment gave.
enum Look {
    Found(Located),
    Damaged(Damage),
    Lost(Lost),
    /// The segment has nothing more.
    Done(Option<Why>),
    Skipped,
}

impl Look {
    /// The first offset of what was found.
    fn first(&self) -> Option<u64> {
        match self {
            Self::Found(found) => Some(found.header.offset),
            Self::Damaged(damage) => Some(damage.first),
            Self::Lost(lost) => Some(lost.first),
            Self::Done(_) | Self::Skipped => None,
        }
    }
}

impl Reader<DirStorage> {
    /// A reader of the log in `dir`, at its start. Takes no lock and writes nothing.
    ///
    /// # Errors
    /// [`ReadError::Io`] where the directory cannot be listed.
    pub fn open_dir(dir: &Path) -> Result<Self, ReadError> {
        Self::open(DirStorage::for_reading(dir))
    }
}

impl<S: Storage> Reader<S> {
    /// A reader of the log in `storage`, at its start.
    ///
    /// # Errors
    /// [`ReadError::Io`] where the segments cannot be listed.
    pub fn open(storage: S) -> Result<Self, ReadError> {
        let mut reader = Self { storage, open: None, position: 0, only: None };
        reader.position = reader.start()?;
        Ok(reader)
    }

    /// The first offset of the log; 0 where nothing was ever stored.
    ///
    /// # Errors
    /// [`ReadError::Io`] where the segments cannot be listed.
    pub fn start(&self) -> Result<u64, ReadError> {
        Ok(self.segments()?.first().copied().unwrap_or(0))
    }

    /// The offset that [`Reader::next`] goes on from.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads only these partitions from now on; `None` reads all. Bodies of others are not read.
    pub fn only(&mut self, partitions: Option<&[u16]>) {
        self.only = partitions.map(<[u16]>::to_vec);
    }

    /// Goes to an offset, which need not be there yet.
    pub fn seek(&mut self, offset: u64) {
        let expected = self.open.as_ref().map(|open| open.walk.expected());
        let near = |expected| expected <= offset && offset - expected <= NEAR;
        if !expected.is_some_and(near) {
            self.open = None;
        }
        self.position = offset;
    }

    /// Goes to the first record, in the order of the log, whose time is at or after `time_ms`, or
    /// to the end; returns the offset. Times need not be in order. Of segments whose summary says
    /// that all their records are earlier, nothing else is read.
    ///
    /// # Errors
    /// [`ReadError::Io`], [`ReadError::Version`]. Damage on the way is passed over.
    pub fn seek_time(&mut self, time_ms: i64, limit: u64) -> Result<u64, ReadError> {
        let segments = self.segments()?;
        self.seek(segments.first().copied().unwrap_or(0));
        for (at, base) in segments.iter().enumerate() {
            let until = segments.get(at + 1).map_or(limit, |next| limit.min(*next));
            let from = match self.summary(*base)? {
                None => *base,
                Some(summary) => match summary.before_time(time_ms) {
                    Some(from) => from,
                    None => {
                        self.seek(summary.end.min(limit));
                        continue;
                    }
                },
            };
            self.seek(from.max(self.position));
            if let Some(offset) = self.find_time(time_ms, until)? {
                self.seek(offset);
                return Ok(offset);
            }
        }
        if limit != u64::MAX {
            self.seek(limit);
        }
        Ok(self.position)
    }

    /// What a sealed segment holds, from the summary beside it: the segment is not read. `None`
    /// where no summary can be believed, or the segment is gone.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn segment_info(&self, segment: SegmentEntry) -> Result<Option<SegmentInfo>, ReadError> {
        let found = self.head_and_summary(segment.base)?;
        Ok(found.and_then(|(head, summary)| summary.info(&head, segment.bytes)))
    }

    fn summary(&self, base: u64) -> Result<Option<Summary>, ReadError> {
        Ok(self.head_and_summary(base)?.map(|(_, summary)| summary))
    }

    fn head_and_summary(&self, base: u64) -> Result<Option<(Head, Summary)>, ReadError> {
        let file = match self.storage.open(base, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", Some(base))(error)),
        };
        let head = segment::read_head(&file, base).map_err(failed("read", Some(base)))?;
        let Ok(head) = head else { return Ok(None) };
        Ok(Summary::load(&self.storage, &file, &head.chunk).map(|summary| (head, summary)))
    }

    /// The first record from the position on, and below `until`, that is at or after a time.
    fn find_time(&mut self, time_ms: i64, until: u64) -> Result<Option<u64>, ReadError> {
        loop {
            let found = match self.next(until) {
                Ok(Some(batch)) => batch.records().find(|record| record.time_ms >= time_ms),
                Ok(None) => return Ok(None),
                Err(
                    ReadError::Damaged { .. } | ReadError::Lost { .. } | ReadError::Trimmed { .. },
                ) => None,
                Err(error) => return Err(error),
            };
            if let Some(record) = found {
                return Ok(Some(record.offset));
            }
        }
    }

    /// The next batch that has records below `limit`, which for a live log is the journal's end.
    /// `None`: there is none yet; call again later. With `u64::MAX` the reader goes on to the last
    /// whole batch, and does not call a torn tail damage.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], [`ReadError::Lost`] and [`ReadError::Trimmed`] name a range that
    /// cannot be read, and the next call goes on behind it.
    pub fn next(&mut self, limit: u64) -> Result<Option<BatchView<'_>>, ReadError> {
        let found = loop {
            if self.position >= limit {
                return Ok(None);
            }
            if self.open.is_none() {
                if !self.locate(limit)? {
                    return Ok(None);
                }
                // A summary may have moved the position up to the limit.
                continue;
            }
            let look = match self.look(false)? {
                Look::Done(_) => self.behind_segment(limit)?,
                look => look,
            };
            if look.first().is_some_and(|first| first >= limit) {
                // What lies before it was left out. It is met again once the limit allows it.
                (self.open, self.position) = (None, limit);
                return Ok(None);
            }
            match look {
                Look::Found(found) => break found,
                Look::Skipped => {}
                Look::Damaged(damage) => return Err(self.pass(damage, limit)),
                Look::Lost(lost) => {
                    let (first, end) = self.pass_range(lost.first, lost.end, limit);
                    return Err(Lost { first, end, ..lost }.into());
                }
                Look::Done(_) => return Ok(None),
            }
        };
        self.view(&found, limit).map(Some)
    }

    fn view(&mut self, found: &Located, limit: u64) -> Result<BatchView<'_>, ReadError> {
        let header = found.header;
        let (from, to) = (self.position.max(header.offset), header.end().min(limit));
        self.position = to;
        let open = self.open.as_mut().expect("a batch was just found in the open segment");
        let base = open.walk.chunk().base_offset;
        if to < header.end() {
            open.walk.rewind(found);
        }
        let body = open.walk.body(&open.file, found).map_err(failed_at(base, found.body_at))?;
        Ok(BatchView { header, body, from, to, segment: base, bytes: found.at..found.next })
    }

    /// One step in the open segment.
    fn look(&mut self, search: bool) -> Result<Look, ReadError> {
        let open = self.open.as_mut().expect("callers open a segment first");
        let base = open.walk.chunk().base_offset;
        let from = open.walk.pos();
        let (position, only) = (self.position, self.only.as_deref());
        let wanted = |header: &BatchHeader| {
            header.end() > position && only.is_none_or(|only| only.contains(&header.partition))
        };
        let met = open.walk.next(&open.file, &wanted, search);
        Ok(match met.map_err(failed_at(base, from))? {
            Met::Batch(found) if found.header.end() <= position => Look::Skipped,
            Met::Batch(found) if !wanted(&found.header) => {
                self.position = found.header.end();
                Look::Skipped
            }
            Met::Batch(found) => Look::Found(found),
            Met::Hole(damage) if damage.end <= position => Look::Skipped,
            Met::Hole(damage) => Look::Damaged(damage),
            Met::Lost(lost) if lost.end <= position => Look::Skipped,
            Met::Lost(lost) => Look::Lost(lost),
            Met::End { why, .. } => Look::Done(why),
        })
    }

    /// What follows where the open segment seems to have nothing more: bytes that were written
    /// since it was read, the next segment, damage, or nothing yet.
    fn behind_segment(&mut self, limit: u64) -> Result<Look, ReadError> {
        let walk = &mut self.open.as_mut().expect("callers open a segment first").walk;
        if walk.is_complete() {
            // What compaction left out at the end is behind the reader, too.
            self.position = self.position.max(walk.expected().min(limit));
            if self.position == limit {
                return Ok(Look::Done(None));
            }
        }
        let (base, expected, byte) = (walk.chunk().base_offset, walk.expected(), walk.pos());
        walk.refresh();
        if expected > base && self.open_segment(expected)?.is_ok() {
            self.pass_by(limit)?;
            return Ok(Look::Skipped);
        }
        match self.look(false)? {
            Look::Done(_) => {}
            other => return Ok(other),
        }
        let why = match self.look(true)? {
            Look::Done(why) => why,
            other => return Ok(other),
        };
        let first = expected.max(self.position);
        let why_lost = why.unwrap_or(Why::Missing);
        let damage = |end| Damage { segment: base, byte, first, end, why: why_lost };
        let segments = self.segments()?;
        if self.was_replaced(&segments, first)? {
            self.open = None;
            return Ok(Look::Skipped);
        }
        // Retention took it, or the commit that made it failed; neither is damage.
        let deleted = segments.binary_search(&base).is_err();
        match segments.into_iter().find(|next| *next > base) {
            _ if deleted => {
                self.open = None;
                Ok(Look::Skipped)
            }
            Some(next) if next <= first => {
                self.open = None;
                Ok(Look::Skipped)
            }
            Some(next) => Ok(Look::Damaged(damage(next))),
            None if limit != u64::MAX => Ok(Look::Damaged(damage(limit))),
            None => Ok(Look::Done(why)),
        }
    }

    /// Whether the open segment is not the one any more that holds this offset: a compaction wrote
    /// it anew, perhaps merged with others.
    fn was_replaced(&self, segments: &[u64], offset: u64) -> Result<bool, ReadError> {
        let chunk = self.open.as_ref().expect("callers open a segment first").walk.chunk();
        let after = segments.partition_point(|base| *base <= offset);
        let Some(holds) = after.checked_sub(1).map(|at| segments[at]) else {
            return Ok(false);
        };
        match self.head(holds)? {
            // Only a compacted segment covers what lies behind the end of the one it replaced.
            Some(Ok(head)) => Ok(head.chunk != *chunk && head.extent.is_some()),
            _ => Ok(false),
        }
    }

    /// Moves behind a damaged range and makes the error that names it.
    fn pass(&mut self, damage: Damage, limit: u64) -> ReadError {
        let (first, end) = self.pass_range(damage.first, damage.end, limit);
        Damage { first, end, ..damage }.into()
    }

    fn pass_range(&mut self, first: u64, to: u64, limit: u64) -> (u64, u64) {
        let first = first.max(self.position);
        let end = to.min(limit).max(first);
        self.position = end;
        if end < to {
            // The rest of the range is told once the limit allows it.
            self.open = None;
        }
        (first, end)
    }

    /// Opens the segment that holds the position. `false`: there is none yet.
    fn locate(&mut self, limit: u64) -> Result<bool, ReadError> {
        let segments = self.segments()?;
        let after = segments.partition_point(|base| *base <= self.position);
        let Some(holds) = after.checked_sub(1).map(|at| segments[at]) else {
            return match segments.first() {
                Some(start) => {
                    self.position = *start;
                    Err(ReadError::Trimmed { start: *start })
                }
                None => Ok(false),
            };
        };
        match self.open_segment(holds)? {
            Ok(()) => {
                self.pass_by(limit)?;
                Ok(true)
            }
            Err(Missing::Deleted) => self.locate(limit),
            Err(Missing::Header) => {
                let next = segments.get(after).copied();
                match next.or((limit != u64::MAX).then_some(limit)) {
                    None => Ok(false),
                    Some(end) => {
                        let (segment, first) = (holds, self.position);
                        let why = Why::SegmentHeader;
                        let damage = Damage { segment, byte: 0, first, end, why };
                        Err(self.pass(damage, limit))
                    }
                }
            }
        }
    }

    fn open_segment(&mut self, base: u64) -> Result<Result<(), Missing>, ReadError> {
        let file = match self.storage.open(base, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err(Missing::Deleted));
            }
            Err(error) => return Err(failed("open", Some(base))(error)),
        };
        match segment::read_head(&file, base).map_err(failed("read", Some(base)))? {
            Ok(head) => {
                self.open = Some(Open { file, walk: Walk::new(&head) });
                Ok(Ok(()))
            }
            Err(ChunkError::Version(found)) => Err(ReadError::Version { segment: base, found }),
            Err(ChunkError::Invalid) => Ok(Err(Missing::Header)),
        }
    }

    /// The head of a segment; `None` where there is no such segment.
    fn head(&self, base: u64) -> Result<Option<Result<Head, ChunkError>>, ReadError> {
        match self.storage.open(base, false) {
            Ok(file) => {
                segment::read_head(&file, base).map(Some).map_err(failed("read", Some(base)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", Some(base))(error)),
        }
    }

    /// From a segment that was just opened on, passes by what summaries say is not wanted.
    fn pass_by(&mut self, limit: u64) -> Result<(), ReadError> {
        while self.position < limit {
            let open = self.open.as_mut().expect("callers open a segment first");
            let chunk = *open.walk.chunk();
            if self.only.is_none() && self.position <= chunk.base_offset {
                break;
            }
            let Some(summary) = Summary::load(&self.storage, &open.file, &chunk) else { break };
            if self.only.as_ref().is_none_or(|only| summary.has_any(only)) {
                let (byte, offset) = summary.before_offset(self.position);
                open.walk.stand_at(byte, offset);
                break;
            }
            open.walk.stand_at(summary.used, summary.end);
            self.position = self.position.max(summary.end);
            if self.open_segment(summary.end)?.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The bases of all segments, in order.
    fn segments(&self) -> Result<Vec<u64>, ReadError> {
        let mut segments = self.storage.bases().map_err(failed("list", None))?;
        segments.sort_unstable();
        Ok(segments)
    }
}

/// Why a segment could not be opened.
enum Missing {
    Deleted,
    Header,
}

fn failed(action: &'static str, segment: Option<u64>) -> impl FnOnce(io::Error) -> ReadError {
    move |source| ReadError::Io { action, segment, byte: None, source }
}

fn failed_at(segment: u64, byte: u64) -> impl FnOnce(io::Error) -> ReadError {
    move |source| {
        let (segment, byte) = (Some(segment), Some(byte));
        ReadError::Io { action: "read", segment, byte, source }
    }
}
