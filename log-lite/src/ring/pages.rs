//! Pages of a range of flash: aligned reads, their headers, and what stands in them. A place is an
//! address in the flash.

use core::hint::black_box;
use core::ops::Range;

use super::{NorFlash, flavour};
use crate::chunk::{ChunkError, ChunkHeader, ChunkKind};
use crate::crc::Crc32c;
use crate::ring::batch::{MAX_LEN as HEADER_MAX, PageBatch, TRIM};
use crate::varint;

/// Fills up to the flash's write size before a batch; see FORMAT.md.
const PAD: u8 = 0x5A;
/// What erased flash reads as.
const ERASED: u8 = 0xFF;
/// The epoch of no page: the next is 0.
pub(super) const NO_EPOCH: u32 = u32::MAX;
/// The version of the format that brought pages, and the last that changed them.
pub(super) const VERSION: u8 = 1;
/// Pages may be as small as this.
const PAGE_MIN: usize = 256;

/// A range of flash seen as pages, and a walk through the batches of one of them. A ring has one
/// walk for all that it does: on a small stack every copy counts. What is near the start takes
/// shorter instructions on the smallest processors, hence the order.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Pages<F, const WINDOW: usize> {
    /// The header of the page that the walk is in.
    pub(super) chunk: ChunkHeader,
    /// The batch that it came to, or that is to be written.
    pub(super) batch: PageBatch,
    /// Where the walk goes on.
    pub(super) at: u32,
    /// Where it ends.
    pub(super) end: u32,
    /// Behind the last byte that it met and that is not erased.
    pub(super) used: u32,
    /// A read goes on where the walk is from this offset on, from the page's base on. `u32::MAX`:
    /// it does not.
    pub(super) read_on: u32,
    /// From the first page to the end of the last.
    pub(super) range: Range<u32>,
    window_at: u32,
    /// What stands at `window_at`.
    window: [u8; WINDOW],
    pub(super) flash: F,
}

#[flavour]
impl<F: NorFlash, const WINDOW: usize> Pages<F, WINDOW> {
    pub(super) const SIZE: u32 = F::ERASE_SIZE as u32;
    pub(super) const WORD: u32 = F::WRITE_SIZE as u32;
    /// Where the window is while it holds nothing of the flash.
    const NOWHERE: u32 = u32::MAX - WINDOW as u32;

    pub(super) const fn new(flash: F, range: Range<u32>) -> Self {
        Self {
            flash,
            range,
            window: [ERASED; WINDOW],
            window_at: Self::NOWHERE,
            chunk: ChunkHeader { kind: ChunkKind::Page, base_offset: 0, base_time_ms: 0, epoch: 0 },
            at: 0,
            end: 0,
            used: 0,
            read_on: u32::MAX,
            batch: PageBatch::EMPTY,
        }
    }

    /// Whether the range is two or more whole pages of flash that a ring works on.
    pub(super) fn fit(&self) -> bool {
        let sizes = F::WRITE_SIZE.max(F::READ_SIZE) + HEADER_MAX - 1 <= WINDOW
            && ChunkHeader::LEN <= WINDOW
            && WINDOW.is_multiple_of(F::READ_SIZE)
            && WINDOW.is_multiple_of(F::WRITE_SIZE)
            && ChunkHeader::LEN.is_multiple_of(F::WRITE_SIZE)
            && F::ERASE_SIZE.is_multiple_of(F::READ_SIZE)
            && F::ERASE_SIZE.is_multiple_of(F::WRITE_SIZE)
            && F::ERASE_SIZE >= PAGE_MIN.max(WINDOW);
        let Range { start, end } = self.range;
        sizes
            && start.is_multiple_of(Self::SIZE)
            && end.is_multiple_of(Self::SIZE)
            && end as usize <= self.flash.capacity()
            && end.saturating_sub(start) >= 2 * Self::SIZE
    }

    /// The offset of the batch.
    pub(super) fn offset(&self) -> u64 {
        self.chunk.base_offset.wrapping_add(u64::from(self.batch.delta))
    }

    pub(super) fn after(&self, page: u32) -> u32 {
        let next = page + Self::SIZE;
        if next == self.range.end { self.range.start } else { next }
    }

    pub(super) fn before(&self, page: u32) -> u32 {
        (if page == self.range.start { self.range.end } else { page }) - Self::SIZE
    }

    /// Erases a page and programs the header into it.
    pub(super) async fn open(&mut self, page: u32) -> Result<(), F::Error> {
        self.window_at = Self::NOWHERE;
        self.read_on = u32::MAX;
        self.flash.erase(page, page + Self::SIZE).await?;
        let (header, _) = self.window.split_first_chunk_mut().expect("a header fits");
        self.chunk.encode_into(header);
        self.flash.write(page, header).await
    }

    /// Makes the first write of the batch, so that the batch ends with a flash word. Returns the
    /// length of the whole batch.
    #[inline(never)]
    pub(super) fn stage(&mut self, body: &[u8]) -> usize {
        self.window_at = Self::NOWHERE;
        let mut pad = 0;
        loop {
            // Once to learn how long the header is, and once more where it belongs.
            let (fill, rest) = self.window.split_at_mut(pad.min(WINDOW));
            for byte in fill {
                // A program that has no other use for memset is spared it.
                *byte = black_box(PAD);
            }
            let header_end = pad + self.batch.encode(&self.chunk, rest);
            let len = header_end + body.len();
            if len.is_multiple_of(F::WRITE_SIZE) {
                for (out, byte) in self.window.iter_mut().skip(header_end).zip(body) {
                    *out = *byte;
                }
                return len;
            }
            pad = F::WRITE_SIZE - len % F::WRITE_SIZE;
        }
    }

    /// Programs what was staged, `len` bytes with its body, and the rest of the body.
    pub(super) async fn program(
        &mut self,
        at: u32,
        len: usize,
        body: &[u8],
    ) -> Result<(), F::Error> {
        let first_len = (len - body.len()).next_multiple_of(F::WRITE_SIZE);
        let first = self.window.get(..first_len).unwrap_or_default();
        self.flash.write(at, first).await?;
        match body.get(body.len() - (len - first_len)..) {
            None | Some([]) => Ok(()),
            Some(rest) => self.flash.write(at + first_len as u32, rest).await,
        }
    }

    /// Brings what stands at a place into the window: `len` bytes, or all to the range's end.
    /// Returns where in the window that is.
    #[inline(never)]
    async fn bring(&mut self, at: u32, len: usize) -> Result<usize, F::Error> {
        let end = (at + len as u32).min(self.range.end);
        if at < self.window_at || end > self.window_at + WINDOW as u32 {
            self.window_at = Self::NOWHERE;
            let from = (at - at % F::READ_SIZE as u32).min(self.range.end - WINDOW as u32);
            self.flash.read(from, &mut self.window).await?;
            self.window_at = from;
        }
        Ok((at - self.window_at) as usize)
    }

    /// Goes to the start of a page. Returns the format version of its header, 0 if it has none.
    #[inline(never)]
    pub(super) async fn enter(&mut self, page: u32) -> Result<u8, F::Error> {
        self.at = page + ChunkHeader::LEN as u32;
        self.end = page + Self::SIZE;
        self.used = self.at;
        self.read_on = u32::MAX;
        // Read anew, it stands at the window's start, where its fields are words.
        self.window_at = Self::NOWHERE;
        self.bring(page, ChunkHeader::LEN).await?;
        let (bytes, _) = self.window.split_first_chunk().expect("a header fits");
        Ok(match ChunkHeader::kind_of(bytes) {
            Ok(ChunkKind::Page) => {
                self.chunk.read(bytes);
                VERSION
            }
            Err(ChunkError::Version(found)) => found,
            _ => 0,
        })
    }

    /// Whether anything but a header stands where the header of a page belongs.
    pub(super) async fn is_begun(&mut self, page: u32) -> Result<bool, F::Error> {
        if self.enter(page).await? > 0 {
            return Ok(false);
        }
        (self.at, self.used, self.end) = (page, page, self.at);
        Ok(self.next().await? || self.used > page)
    }

    /// Walks on behind the next batch with a header that can be trusted. Fill, erased bytes and
    /// what cannot be read are passed over. `false`: there is none before the end.
    #[inline(never)]
    pub(super) async fn next(&mut self) -> Result<bool, F::Error> {
        while self.at < self.end {
            let start = self.bring(self.at, HEADER_MAX).await?;
            let bytes = self.window.get(start..).unwrap_or_default();
            if bytes.first() == Some(&ERASED) {
                self.at += 1;
                continue;
            }
            let len = self.batch.parse(bytes, &self.chunk);
            let end = (self.at + len).saturating_add(self.batch.body_len);
            let is_batch = len > 0 && end <= self.end;
            self.at = if is_batch { end } else { self.at + 1 };
            self.used = self.used.max(self.at);
            if is_batch {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the body of the batch, or what of it `out` has room for, and says whether it passes
    /// its checksum. Where it does not, the walk goes on inside it: the header may be that of a
    /// torn batch that could not be read when the next was written there.
    #[inline(never)]
    pub(super) async fn body(&mut self, out: &mut [u8]) -> Result<bool, F::Error> {
        let mut crc = Crc32c::new();
        let mut out = out.iter_mut();
        let body_at = self.at - self.batch.body_len;
        if self.batch.kind == TRIM {
            // All of it comes into the window at once, where `mark` finds what passed the checksum:
            // read again, what a cut has left may be different.
            self.window_at = Self::NOWHERE;
        }
        let mut at = body_at;
        while at < self.at {
            let start = self.bring(at, 1).await?;
            let byte = self.window.get(start).copied().unwrap_or(ERASED);
            crc.add(byte);
            if let Some(out) = out.next() {
                *out = byte;
            }
            at += 1;
        }
        let is_whole = crc.finish() == self.batch.body_crc;
        if !is_whole {
            self.at = body_at;
        }
        Ok(is_whole)
    }

    /// The number in the body that was just read, which passed its checksum; 0 where that is of no
    /// trim mark.
    #[inline(never)]
    pub(super) fn mark(&self) -> u64 {
        if self.batch.kind != TRIM {
            return 0;
        }
        let start = (self.at - self.batch.body_len).wrapping_sub(self.window_at) as usize;
        varint::take(&mut self.window.get(start..).unwrap_or_default())
    }
}
