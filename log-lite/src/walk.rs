//! Walks the batches of one segment, across damage.
//!
//! Offsets are dense, so what is lost shows by itself: the next whole batch begins later than the
//! one before it ended. A header that passes its checksum is trusted for its length; where none
//! does, the walk looks byte by byte for the next batch that is whole, header and body.
//!
//! In a compacted segment offsets may be left out between whole batches. There, what is lost is
//! what lies where bytes cannot be read; an end mark says that nothing is missing at the end.

use std::io;

use crate::batch::{BatchHeader, BatchKind, HeaderError, MAX_BATCH_HEADER, is_marker_in};
use crate::chunk::ChunkHeader;
use crate::commit::BLOCK;
use crate::crc::crc32c;
use crate::error::{Damage, Lost, Why};
use crate::record::{self, Records};
use crate::segment::Head;
use crate::storage::SegmentFile;

/// Bytes read at once, where a batch does not need more.
const READ_AHEAD: usize = 64 << 10;
/// A buffer beyond this is given back once a smaller batch has been read.
const KEEP_BUFFER: usize = 256 << 10;

/// A batch with a trusted header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub(crate) at: u64,
    pub(crate) body_at: u64,
    pub(crate) next: u64,
    pub(crate) header: BatchHeader,
}

/// What a walk meets.
#[derive(Debug)]
pub(crate) enum Met {
    /// The next batch in order.
    Batch(Located),
    /// A range that is lost; the walk stands before the whole batch behind it.
    Hole(Damage),
    /// A range that an earlier repair or compaction found lost.
    Lost(Lost),
    /// No further batch. `why`: something stands there all the same, or, in a compacted segment,
    /// more should.
    End { at: u64, why: Option<Why> },
}

enum Step {
    Good(Located),
    BadBody(Located),
    BadHeader,
    End,
}

/// The place of a walk in a segment.
#[derive(Debug)]
pub(crate) struct Walk {
    chunk: ChunkHeader,
    /// The offset after the last that a compacted segment covers.
    covers_to: Option<u64>,
    window: Window,
    pos: u64,
    expected: u64,
}

/// Unreadable bytes of a compacted segment.
struct Gap {
    why: Why,
    /// First offset that may be in them.
    first: u64,
    /// The offset after the last, if headers say which.
    end: Option<u64>,
}

impl Walk {
    pub(crate) fn new(head: &Head) -> Self {
        Self {
            chunk: head.chunk,
            covers_to: head.extent.map(|extent| extent.end),
            window: Window::default(),
            pos: head.len(),
            expected: head.chunk.base_offset,
        }
    }

    /// The offset after the last that the segment covers, which a compacted one says of itself.
    pub(crate) fn covers_to(&self) -> Option<u64> {
        self.covers_to
    }

    /// Whether this is a compacted segment and all of it was met.
    pub(crate) fn is_complete(&self) -> bool {
        self.covers_to == Some(self.expected)
    }

    pub(crate) fn chunk(&self) -> &ChunkHeader {
        &self.chunk
    }

    /// The offset that comes next.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// Where the next batch begins.
    pub(crate) fn pos(&self) -> u64 {
        self.pos
    }

    /// Goes back to a batch that was just met.
    pub(crate) fn rewind(&mut self, to: &Located) {
        self.pos = to.at;
        self.expected = to.header.offset;
    }

    /// Goes to a place where a batch or the end is known to be, and the offset that comes there.
    pub(crate) fn stand_at(&mut self, byte: u64, offset: u64) {
        (self.pos, self.expected) = (byte, offset);
    }

    /// Forgets what was read ahead, since the file may have grown.
    pub(crate) fn refresh(&mut self) {
        self.window.len = 0;
    }

    /// The body of a batch that was just met.
    pub(crate) fn body<F: SegmentFile>(&mut self, file: &F, of: &Located) -> io::Result<&[u8]> {
        self.window.load(file, of.body_at, of.header.body_len as usize)
    }

    /// The next batch. Bodies of batches that `wanted` refuses are skipped unread. Where nothing
    /// is stored, `search` says whether to look behind it.
    pub(crate) fn next<F: SegmentFile>(
        &mut self,
        file: &F,
        wanted: &dyn Fn(&BatchHeader) -> bool,
        search: bool,
    ) -> io::Result<Met> {
        match self.covers_to {
            Some(end) => self.next_compacted(file, wanted, end),
            None => self.next_dense(file, wanted, search),
        }
    }

    fn next_compacted<F: SegmentFile>(
        &mut self,
        file: &F,
        wanted: &dyn Fn(&BatchHeader) -> bool,
        covers_to: u64,
    ) -> io::Result<Met> {
        let at = self.pos;
        let mut pos = at;
        let mut gap: Option<Gap> = None;
        loop {
            let why = match self.step(file, pos, wanted)? {
                Step::Good(found) if self.is_in_order(&found.header, covers_to) => {
                    return match gap {
                        None => self.take(file, &found),
                        Some(gap) => Ok(Met::Hole(self.hole_of(at, &gap, &found))),
                    };
                }
                Step::BadBody(found) if self.is_in_order(&found.header, covers_to) => {
                    let BatchHeader { kind, offset, .. } = found.header;
                    // Only the body of a lost range says where it ends.
                    let end = (kind != BatchKind::Lost).then(|| found.header.end());
                    let gap = gap.get_or_insert(Gap { why: Why::Body, first: offset, end });
                    gap.end = gap.end.and(end);
                    pos = found.next;
                    continue;
                }
                Step::End => Why::EndMark,
                Step::Good(_) | Step::BadBody(_) | Step::BadHeader => Why::Header,
            };
            let gap = gap.get_or_insert(Gap { why, first: self.expected, end: None });
            gap.end = None;
            match self.search(file, pos)? {
                Some(next) => pos = next,
                None => return Ok(Met::End { at, why: Some(gap.why) }),
            }
        }
    }

    fn is_in_order(&self, header: &BatchHeader, covers_to: u64) -> bool {
        header.offset >= self.expected
            && header.end() <= covers_to
            && (header.kind != BatchKind::End || header.offset == covers_to)
            && (header.count > 0 || matches!(header.kind, BatchKind::Lost | BatchKind::End))
    }

    /// Goes behind a whole batch of a compacted segment.
    fn take<F: SegmentFile>(&mut self, file: &F, found: &Located) -> io::Result<Met> {
        self.expected = found.header.end();
        match found.header.kind {
            // The walk stays before the end mark, and meets it again.
            BatchKind::End => return Ok(Met::End { at: found.next, why: None }),
            BatchKind::Lost => {
                let segment = self.chunk.base_offset;
                let lost = record::lost(segment, &found.header, self.body(file, found)?);
                let lost = lost.expect("the body of a good batch was looked at");
                self.pos = found.next;
                self.expected = lost.end;
                return Ok(Met::Lost(lost));
            }
            _ => self.pos = found.next,
        }
        Ok(Met::Batch(*found))
    }

    fn hole_of(&mut self, byte: u64, gap: &Gap, next: &Located) -> Damage {
        let end = gap.end.unwrap_or(next.header.offset).min(next.header.offset);
        let first = gap.first.min(end);
        self.pos = next.at;
        self.expected = end;
        Damage { segment: self.chunk.base_offset, byte, first, end, why: gap.why }
    }

    fn next_dense<F: SegmentFile>(
        &mut self,
        file: &F,
        wanted: &dyn Fn(&BatchHeader) -> bool,
        search: bool,
    ) -> io::Result<Met> {
        let at = self.pos;
        let mut pos = at;
        let mut why = None;
        let mut looked_again = false;
        loop {
            let failed = match self.step(file, pos, wanted)? {
                Step::Good(found)
                    if found.header.end() <= self.expected || found.header.count == 0 =>
                {
                    // A mark, which vouches for no offset, or a batch whose offsets were given
                    // away again.
                    pos = found.next;
                    continue;
                }
                Step::Good(found) if found.header.offset == self.expected => {
                    self.pos = found.next;
                    self.expected = found.header.end();
                    return Ok(Met::Batch(found));
                }
                Step::Good(_) if !looked_again && pos > at => {
                    // A running writer may have filled the place since it was read.
                    looked_again = true;
                    self.refresh();
                    (pos, why) = (at, None);
                    continue;
                }
                Step::Good(found) if found.header.offset > self.expected => {
                    return Ok(Met::Hole(self.hole(at, why.unwrap_or(Why::Missing), &found)));
                }
                Step::BadBody(found) => {
                    why.get_or_insert(Why::Body);
                    pos = found.next;
                    continue;
                }
                Step::Good(_) | Step::BadHeader => Some(Why::Header),
                Step::End if why.is_none() && !search => {
                    match self.behind_fill(file, pos, wanted)? {
                        Some(block) => pos = block,
                        None => return Ok(Met::End { at, why }),
                    }
                    continue;
                }
                Step::End => None,
            };
            let found = self.search(file, pos)?;
            why = why.or(failed);
            match found {
                Some(next) => pos = next,
                None => return Ok(Met::End { at, why }),
            }
        }
    }

    /// The next block, if the commit that comes next made way for it.
    fn behind_fill<F: SegmentFile>(
        &mut self,
        file: &F,
        pos: u64,
        wanted: &dyn Fn(&BatchHeader) -> bool,
    ) -> io::Result<Option<u64>> {
        let block = pos.next_multiple_of(BLOCK);
        if block == pos {
            return Ok(None);
        }
        let expected = self.expected;
        Ok(match self.step(file, block, wanted)? {
            Step::Good(Located { header, .. }) | Step::BadBody(Located { header, .. }) => {
                (header.starts_commit && header.count > 0 && header.offset == expected)
                    .then_some(block)
            }
            _ => None,
        })
    }

    fn hole(&mut self, byte: u64, why: Why, next: &Located) -> Damage {
        let first = self.expected;
        self.rewind(next);
        Damage { segment: self.chunk.base_offset, byte, first, end: next.header.offset, why }
    }

    fn step<F: SegmentFile>(
        &mut self,
        file: &F,
        at: u64,
        wanted: &dyn Fn(&BatchHeader) -> bool,
    ) -> io::Result<Step> {
        let bytes = self.window.load(file, at, MAX_BATCH_HEADER)?;
        let (header, len) = match BatchHeader::decode(bytes, &self.chunk) {
            Ok(found) => found,
            Err(HeaderError::End) => return Ok(Step::End),
            Err(HeaderError::Damaged) => return Ok(Step::BadHeader),
        };
        let body_at = at + len as u64;
        let next = body_at + u64::from(header.body_len);
        let found = Located { at, body_at, next, header };
        if header.kind != BatchKind::Lost && !wanted(&header) {
            return Ok(Step::Good(found));
        }
        let segment = self.chunk.base_offset;
        let covers_to = self.covers_to;
        let body = self.body(file, &found)?;
        let whole = body.len() == header.body_len as usize
            && crc32c(body) == header.body_crc
            && match header.kind {
                BatchKind::Lost => record::lost(segment, &header, body)
                    .is_some_and(|lost| covers_to.is_some_and(|covers_to| lost.end <= covers_to)),
                _ => header.count == 0 || Records::new(header, body).counted_right(),
            };
        Ok(if whole { Step::Good(found) } else { Step::BadBody(found) })
    }

    /// Whether a batch that was found by its bytes alone is one to go on from.
    fn may_follow(&self, header: &BatchHeader) -> bool {
        match self.covers_to {
            Some(end) => self.is_in_order(header, end),
            None => header.offset >= self.expected && header.count > 0,
        }
    }

    /// The place of the next whole batch behind `after` that does not lie before what is expected.
    fn search<F: SegmentFile>(&mut self, file: &F, after: u64) -> io::Result<Option<u64>> {
        let kind = self.chunk.kind;
        let mut at = after + 1;
        loop {
            let bytes = self.window.load(file, at, 1)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let ahead = self.window.ahead(at);
            match ahead.iter().position(|byte| is_marker_in(kind, *byte)) {
                None => at += ahead.len() as u64,
                Some(skip) => {
                    at += skip as u64;
                    if let Step::Good(found) = self.step(file, at, &|_| true)?
                        && self.may_follow(&found.header)
                    {
                        return Ok(Some(at));
                    }
                    at += 1;
                }
            }
        }
    }
}

/// A stretch of a file in memory.
#[derive(Debug, Default)]
struct Window {
    buf: Vec<u8>,
    start: u64,
    len: usize,
}

impl Window {
    /// `want` bytes at `at`, fewer where the file ends.
    fn load<F: SegmentFile>(&mut self, file: &F, at: u64, want: usize) -> io::Result<&[u8]> {
        let here = at >= self.start && at + want as u64 <= self.start + self.len as u64;
        if !here {
            let size = want.max(READ_AHEAD);
            if self.buf.len() > KEEP_BUFFER && size < KEEP_BUFFER {
                self.buf = Vec::new();
            }
            if self.buf.len() < size {
                self.buf.resize(size, 0);
            }
            self.len = 0;
            self.len = file.read_at(at, &mut self.buf[..size])?;
            self.start = at;
        }
        let bytes = self.ahead(at);
        Ok(&bytes[..bytes.len().min(want)])
    }

    /// What is in memory from `at` on.
    fn ahead(&self, at: u64) -> &[u8] {
        &self.buf[(at - self.start) as usize..self.len]
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::segment;

    /// A file of which the first read sees only what was there before the second batch, though
    /// later reads see all.
    struct Growing {
        bytes: Vec<u8>,
        first_batch_ends: usize,
        first_read_ends: usize,
        reads: Cell<u32>,
    }

    impl SegmentFile for Growing {
        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
            let first = self.reads.replace(self.reads.get() + 1) == 0;
            let mut bytes = self.bytes.clone();
            if first {
                bytes[self.first_batch_ends..].fill(0);
                bytes.truncate(self.first_read_ends);
            }
            let from = (at as usize).min(bytes.len());
            let len = buf.len().min(bytes.len() - from);
            buf[..len].copy_from_slice(&bytes[from..from + len]);
            Ok(len)
        }

        fn write_at(&self, _at: u64, _bytes: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_writer_stores_while_it_is_looked_at_is_no_hole() {
        let chunk = segment::header(0, 0);
        let mut bytes = Vec::new();
        segment::put_head(&chunk, &mut bytes);
        let mut ends = Vec::new();
        for offset in 0..3 {
            let mut body = Vec::new();
            record::put(&mut body, 0, b"", &[7; 40]);
            let header = BatchHeader {
                kind: BatchKind::Records,
                starts_commit: true,
                partition: 0,
                body_len: body.len() as u32,
                count: 1,
                offset,
                time_ms: 0,
                body_crc: crc32c(&body),
            };
            let mut out = [0; MAX_BATCH_HEADER];
            let len = header.encode(&chunk, &mut out);
            bytes.extend_from_slice(&out[..len]);
            bytes.extend_from_slice(&body);
            ends.push(bytes.len());
        }
        let file = Growing {
            bytes,
            first_batch_ends: ends[0],
            first_read_ends: ends[1],
            reads: Cell::new(0),
        };
        let mut walk = Walk::new(&chunk.into());
        for offset in 0..3 {
            let met = walk.next(&file, &|_| true, true).expect("it can be read");
            assert!(matches!(met, Met::Batch(found) if found.header.offset == offset), "{met:?}");
        }
    }
}
