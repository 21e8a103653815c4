//! Pages of a range of flash: aligned reads, their headers, and what stands in them. A place is an
//! address in the flash.

use core::hint::black_box;
use core::ops::Range;

use super::{NorFlash, flavour};
use crate::MAX_WRITE_SIZE;
use crate::batch::BatchHeader;
use crate::chunk::{ChunkError, ChunkHeader, ChunkKind};
use crate::crc::Crc32c;

/// Fills up to the flash's write size before a batch; see FORMAT.md.
const PAD: u8 = 0x5A;
/// What erased flash reads as.
const ERASED: u8 = 0xFF;
/// The longest header of a batch in a page, which has no count.
const HEADER_MAX: u32 = 1 + 3 + 3 + 10 + 10 + 2 + 4;
/// Bytes of flash read at once, and of the first write of a batch: a header from any place of a
/// flash word on, and the word that it ends in.
const WINDOW: usize = 64;
const _: () = assert!(MAX_WRITE_SIZE - 1 + HEADER_MAX as usize <= WINDOW);
const _: () = assert!(WINDOW.is_multiple_of(MAX_WRITE_SIZE));
/// Where the window is while it holds nothing of the flash.
const NOWHERE: u32 = u32::MAX - WINDOW as u32;
/// The version of the format that brought pages, and the last that changed them.
pub(super) const VERSION: u8 = 1;
/// Pages may be as small as this.
const PAGE_MIN: usize = 4 * WINDOW;

/// A range of flash seen as pages, and a walk through the batches of one of them. A ring has one
/// walk for all that it does: on a small stack every copy counts. What is near the start takes
/// shorter instructions on the smallest processors, hence the order.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Pages<F> {
    /// The header of the page that the walk is in.
    pub(super) chunk: ChunkHeader,
    /// The batch that it came to, or that is to be written.
    pub(super) batch: BatchHeader,
    body_at: u32,
    /// Where the walk goes on.
    pub(super) at: u32,
    /// Where it ends.
    pub(super) end: u32,
    /// Behind the last byte that it met and that is not erased.
    pub(super) used: u32,
    /// From the first page to the end of the last.
    pub(super) range: Range<u32>,
    window_at: u32,
    pub(super) flash: F,
    /// What stands at `window_at`.
    window: [u8; WINDOW],
}

#[flavour]
impl<F: NorFlash> Pages<F> {
    pub(super) const SIZE: u32 = F::ERASE_SIZE as u32;
    pub(super) const WORD: u32 = F::WRITE_SIZE as u32;

    pub(super) const fn new(flash: F, range: Range<u32>) -> Self {
        Self {
            flash,
            range,
            window: [ERASED; WINDOW],
            window_at: NOWHERE,
            chunk: ChunkHeader { kind: ChunkKind::Page, base_offset: 0, base_time_ms: 0, epoch: 0 },
            at: 0,
            end: 0,
            used: 0,
            batch: BatchHeader::EMPTY,
            body_at: 0,
        }
    }

    /// Whether the range is two or more whole pages of flash that a ring works on.
    pub(super) fn fit(&self) -> bool {
        let sizes = F::WRITE_SIZE <= MAX_WRITE_SIZE
            && F::READ_SIZE <= MAX_WRITE_SIZE
            && WINDOW.is_multiple_of(F::READ_SIZE)
            && ChunkHeader::LEN.is_multiple_of(F::WRITE_SIZE)
            && F::ERASE_SIZE.is_multiple_of(WINDOW)
            && F::ERASE_SIZE >= PAGE_MIN;
        let Range { start, end } = self.range;
        sizes
            && start.is_multiple_of(Self::SIZE)
            && end.is_multiple_of(Self::SIZE)
            && end as usize <= self.flash.capacity()
            && end.saturating_sub(start) >= 2 * Self::SIZE
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
        self.window_at = NOWHERE;
        self.flash.erase(page, page + Self::SIZE).await?;
        let (header, _) = self.window.split_first_chunk_mut().expect("a header fits");
        self.chunk.encode_into(header);
        self.flash.write(page, header).await
    }

    /// Makes the first write of the batch, so that the batch ends with a flash word. Returns its
    /// length and that of the whole batch.
    pub(super) fn stage(&mut self, body: &[u8]) -> (u32, u32) {
        self.window_at = NOWHERE;
        let mut pad = 0;
        loop {
            // Once to learn how long the header is, and once more where it belongs.
            let header_end = pad + self.batch.encode(&self.chunk, &mut self.window[pad..]);
            let len = (header_end + body.len()).next_multiple_of(F::WRITE_SIZE);
            if len == header_end + body.len() {
                let first_len = header_end.next_multiple_of(F::WRITE_SIZE);
                for (out, byte) in self.window[header_end..].iter_mut().zip(body) {
                    *out = *byte;
                }
                return (first_len as u32, len as u32);
            }
            pad = len - header_end - body.len();
            for byte in self.window.iter_mut().take(pad) {
                // A program that has no other use for memset is spared it.
                *byte = black_box(PAD);
            }
        }
    }

    /// Programs what was staged, and the rest of its body.
    pub(super) async fn program(
        &mut self,
        at: u32,
        (first_len, len): (u32, u32),
        body: &[u8],
    ) -> Result<(), F::Error> {
        self.flash.write(at, &self.window[..first_len as usize]).await?;
        let rest = (len - first_len) as usize;
        if rest > 0 {
            self.flash.write(at + first_len, &body[body.len() - rest..]).await?;
        }
        Ok(())
    }

    /// Brings what stands at a place into the window: `len` bytes, or all to the range's end.
    /// Returns what the window holds from there on.
    #[inline(never)]
    async fn bytes(&mut self, at: u32, len: u32) -> Result<&[u8], F::Error> {
        let end = (at + len).min(self.range.end);
        if at < self.window_at || end > self.window_at + WINDOW as u32 {
            self.window_at = NOWHERE;
            let from = (at - at % F::READ_SIZE as u32).min(self.range.end - WINDOW as u32);
            self.flash.read(from, &mut self.window).await?;
            self.window_at = from;
        }
        Ok(self.window.get((at - self.window_at) as usize..).unwrap_or_default())
    }

    /// One byte.
    async fn byte(&mut self, at: u32) -> Result<u8, F::Error> {
        Ok(self.bytes(at, 1).await?.first().copied().unwrap_or(ERASED))
    }

    /// Goes to the start of a page. Returns the format version of its header, 0 if it has none.
    pub(super) async fn enter(&mut self, page: u32) -> Result<u8, F::Error> {
        self.at = page + ChunkHeader::LEN as u32;
        self.end = page + Self::SIZE;
        self.used = self.at;
        let bytes = self.bytes(page, ChunkHeader::LEN as u32).await?;
        Ok(match bytes.first_chunk().map(ChunkHeader::decode) {
            Some(Ok(chunk)) if chunk.kind == ChunkKind::Page => {
                self.chunk = chunk;
                VERSION
            }
            Some(Err(ChunkError::Version(found))) => found,
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
    pub(super) async fn next(&mut self) -> Result<bool, F::Error> {
        while self.at < self.end {
            let at = self.at;
            self.bytes(at, HEADER_MAX).await?;
            let bytes = self.window.get((at - self.window_at) as usize..).unwrap_or_default();
            let len = self.batch.parse_into(bytes, &self.chunk).unwrap_or(0) as u32;
            self.body_at = at + len;
            self.at = self.body_at + self.batch.body_len;
            let is_batch = len > 0 && self.at <= self.end;
            if !is_batch {
                self.at = at + 1;
            }
            if is_batch || bytes.first() != Some(&ERASED) {
                self.used = self.used.max(self.at);
            }
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
        let mut at = self.body_at;
        while at < self.at {
            let byte = self.byte(at).await?;
            crc.add(byte);
            if let Some(out) = out.next() {
                *out = byte;
            }
            at += 1;
        }
        let is_whole = crc.finish() == self.batch.body_crc;
        if !is_whole {
            self.at = self.body_at;
        }
        Ok(is_whole)
    }
}
