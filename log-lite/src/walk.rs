//! Walks the batches of one segment, across damage.
//!
//! Offsets are dense, so what is lost shows by itself: the next whole batch begins later than the
//! one before it ended. A header that passes its checksum is trusted for its length; where none
//! does, the walk looks byte by byte for the next batch that is whole, header and body.

use std::io;

use crate::batch::{BatchHeader, HeaderError, MAX_BATCH_HEADER, is_marker};
use crate::chunk::ChunkHeader;
use crate::crc::crc32c;
use crate::error::{Damage, Why};
use crate::record::Records;
use crate::segment::HEAD_LEN;
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
    /// No further batch. `why`: something stands there all the same.
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
    window: Window,
    pos: u64,
    expected: u64,
}

impl Walk {
    pub(crate) fn new(chunk: ChunkHeader) -> Self {
        let expected = chunk.base_offset;
        Self { chunk, window: Window::default(), pos: HEAD_LEN as u64, expected }
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
        let at = self.pos;
        let mut pos = at;
        let mut why = None;
        loop {
            let failed = match self.step(file, pos, wanted)? {
                Step::Good(found) if found.header.end() <= self.expected => {
                    // A mark, or a batch whose offsets were given away again.
                    pos = found.next;
                    continue;
                }
                Step::Good(found) if found.header.offset == self.expected => {
                    self.pos = found.next;
                    self.expected = found.header.end();
                    return Ok(Met::Batch(found));
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
                Step::End if why.is_none() && !search => return Ok(Met::End { at, why }),
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
        if !wanted(&header) {
            return Ok(Step::Good(found));
        }
        let body = self.body(file, &found)?;
        let whole = body.len() == header.body_len as usize
            && crc32c(body) == header.body_crc
            && (header.count == 0 || Records::new(header, body).counted_right());
        Ok(if whole { Step::Good(found) } else { Step::BadBody(found) })
    }

    /// The place of the next whole batch behind `after` that does not lie before what is expected.
    fn search<F: SegmentFile>(&mut self, file: &F, after: u64) -> io::Result<Option<u64>> {
        let mut at = after + 1;
        loop {
            let bytes = self.window.load(file, at, 1)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let ahead = self.window.ahead(at);
            match ahead.iter().position(|byte| is_marker(*byte)) {
                None => at += ahead.len() as u64,
                Some(skip) => {
                    at += skip as u64;
                    if let Step::Good(found) = self.step(file, at, &|_| true)?
                        && found.header.offset >= self.expected
                        && found.header.count > 0
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
