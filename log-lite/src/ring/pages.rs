//! Pages of a range of flash: aligned reads, their headers, and what stands in them. A place is an
//! address in the flash.

use core::ops::Range;

use super::{NorFlash, flavour};
use crate::MAX_WRITE_SIZE;
use crate::batch::{BatchHeader, is_marker};
use crate::chunk::{ChunkError, ChunkHeader, ChunkKind, FORMAT_VERSION};
use crate::crc::Crc32c;

/// Fills up to the flash's write size before a batch; see FORMAT.md.
const PAD: u8 = 0x5A;
/// What erased flash reads as.
const ERASED: u8 = 0xFF;
/// The longest header of a batch in a page, which has no count.
const HEADER_MAX: usize = 1 + 3 + 3 + 10 + 10 + 2 + 4;
/// Bytes of flash read at once, and of the first write of a batch: a header from any place of a
/// flash word on, and the word that it ends in.
const WINDOW: usize = 64;
const _: () = assert!(MAX_WRITE_SIZE - 1 + HEADER_MAX <= WINDOW);
const _: () = assert!(WINDOW.is_multiple_of(MAX_WRITE_SIZE));
/// Where the window is while it holds nothing of the flash.
const NOWHERE: u32 = u32::MAX - WINDOW as u32;
/// Pages may be as small as this.
const PAGE_MIN: usize = 4 * WINDOW;

/// A range of flash seen as pages, and a walk through the batches of one of them. A ring has one
/// walk for all that it does: on a small stack every copy counts.
#[derive(Debug)]
pub(super) struct Pages<F> {
    pub(super) flash: F,
    /// From the first page to the end of the last.
    pub(super) range: Range<u32>,
    /// What stands at `window_at`.
    window: [u8; WINDOW],
    window_at: u32,
    /// The header of the page that the walk is in.
    pub(super) chunk: ChunkHeader,
    /// Where the walk goes on.
    pub(super) at: u32,
    /// Where it ends.
    pub(super) end: u32,
    /// Behind the last byte that it met and that is not erased.
    pub(super) used: u32,
    /// The batch that it came to, or that is to be written.
    pub(super) batch: BatchHeader,
    body_at: u32,
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
    pub(super) fn stage(&mut self, chunk: &ChunkHeader, body: &[u8]) -> (u32, u32) {
        self.window_at = NOWHERE;
        let header_len = self.batch.encode(chunk, &mut self.window);
        let len = (header_len + body.len()).next_multiple_of(F::WRITE_SIZE);
        let pad = len - header_len - body.len();
        let first_len = (pad + header_len).next_multiple_of(F::WRITE_SIZE);
        self.window[..pad].fill(PAD);
        self.batch.encode(chunk, &mut self.window[pad..]);
        for (out, byte) in self.window[pad + header_len..first_len].iter_mut().zip(body) {
            *out = *byte;
        }
        (first_len as u32, len as u32)
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

    /// At least `len` bytes that stand at a place of the range, or all to its end.
    async fn bytes(&mut self, at: u32, len: usize) -> Result<&[u8], F::Error> {
        if at < self.window_at || at + len as u32 > self.window_at + WINDOW as u32 {
            self.window_at = NOWHERE;
            let from = (at - at % F::READ_SIZE as u32).min(self.range.end - WINDOW as u32);
            self.flash.read(from, &mut self.window).await?;
            self.window_at = from;
        }
        Ok(&self.window[(at - self.window_at) as usize..])
    }

    /// Goes to the start of a page. Returns the format version of its header, 0 if it has none.
    pub(super) async fn enter(&mut self, page: u32) -> Result<u8, F::Error> {
        self.at = page + ChunkHeader::LEN as u32;
        self.end = page + Self::SIZE;
        self.used = self.at;
        let bytes = self.bytes(page, ChunkHeader::LEN).await?;
        Ok(match bytes.first_chunk().map(ChunkHeader::decode) {
            Some(Ok(chunk)) if chunk.kind == ChunkKind::Page => {
                self.chunk = chunk;
                FORMAT_VERSION
            }
            Some(Err(ChunkError::Version(found))) => found,
            _ => 0,
        })
    }

    /// Whether the place of a page's header is erased.
    pub(super) async fn is_blank(&mut self, page: u32) -> Result<bool, F::Error> {
        let bytes = self.bytes(page, ChunkHeader::LEN).await?;
        Ok(bytes.iter().take(ChunkHeader::LEN).all(|byte| *byte == ERASED))
    }

    /// Walks on behind the next batch with a header that can be trusted. Fill, erased bytes and
    /// what cannot be read are passed over. `false`: there is none before the end.
    pub(super) async fn next(&mut self) -> Result<bool, F::Error> {
        while self.at < self.end {
            let at = self.at;
            let first = self.bytes(at, 1).await?[0];
            if is_marker(first) {
                self.bytes(at, HEADER_MAX).await?;
                let from = (at - self.window_at) as usize;
                let bytes = &self.window[from..WINDOW.min(from + (self.end - at) as usize)];
                if let Some(len) = self.batch.parse_into(bytes, &self.chunk) {
                    self.body_at = at + len as u32;
                    if self.batch.body_len <= self.end - self.body_at {
                        self.at = self.body_at + self.batch.body_len;
                        self.used = self.used.max(self.at);
                        return Ok(true);
                    }
                }
            }
            self.at = at + 1;
            if first != ERASED {
                self.used = self.used.max(self.at);
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
            let byte = self.bytes(at, 1).await?[0];
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
