//! Pages of a range of flash: aligned reads, their headers, and what stands in them.

use core::ops::Range;

use embedded_storage::nor_flash::NorFlash;

use super::RingError;
use crate::batch::{BatchHeader, MAX_BATCH_HEADER, is_marker};
use crate::chunk::{ChunkError, ChunkHeader, ChunkKind};
use crate::crc::Crc32c;

/// Fills up to the flash's write size before a batch; see FORMAT.md.
pub(super) const PAD: u8 = 0x5A;
/// What erased flash reads as.
pub(super) const ERASED: u8 = 0xFF;
/// Bytes of flash read at once.
const WINDOW: usize = 64;

/// A batch with a trusted header.
pub(super) struct Entry {
    pub(super) header: BatchHeader,
    /// Where in the page the body begins; its checksum is right before it.
    pub(super) body_at: u32,
    /// Whether the body passes its checksum.
    pub(super) whole: bool,
}

impl Entry {
    /// Where in the page the next batch may begin.
    pub(super) fn next(&self) -> u32 {
        self.body_at + self.header.body_len
    }
}

/// A range of flash seen as pages.
#[derive(Debug)]
pub(super) struct Pages<F> {
    pub(super) flash: F,
    start: u32,
    pub(super) count: u32,
}

impl<F: NorFlash> Pages<F> {
    pub(super) const SIZE: u32 = F::ERASE_SIZE as u32;
    pub(super) const WORD: u32 = F::WRITE_SIZE as u32;

    pub(super) fn new(flash: F, range: Range<u32>) -> Result<Self, RingError<F::Error>> {
        let sizes = F::WRITE_SIZE <= super::MAX_WRITE_SIZE
            && F::READ_SIZE <= WINDOW / 2
            && WINDOW.is_multiple_of(F::READ_SIZE)
            && ChunkHeader::LEN.is_multiple_of(F::WRITE_SIZE)
            && F::ERASE_SIZE >= 4 * WINDOW;
        let aligned =
            range.start.is_multiple_of(Self::SIZE) && range.end.is_multiple_of(Self::SIZE);
        let inside = range.end as usize <= flash.capacity();
        let count = range.end.saturating_sub(range.start) / Self::SIZE;
        if sizes && aligned && inside && count >= 2 {
            Ok(Self { flash, start: range.start, count })
        } else {
            Err(RingError::Geometry)
        }
    }

    pub(super) fn after(&self, page: u32) -> u32 {
        if page + 1 == self.count { 0 } else { page + 1 }
    }

    pub(super) fn before(&self, page: u32) -> u32 {
        if page == 0 { self.count - 1 } else { page - 1 }
    }

    pub(super) fn erase(&mut self, page: u32) -> Result<(), F::Error> {
        let at = self.start + page * Self::SIZE;
        self.flash.erase(at, at + Self::SIZE)
    }

    pub(super) fn write(&mut self, page: u32, at: u32, bytes: &[u8]) -> Result<(), F::Error> {
        self.flash.write(self.start + page * Self::SIZE + at, bytes)
    }

    /// Reads any bytes of a page, however the flash wants its reads aligned.
    pub(super) fn read(&mut self, page: u32, at: u32, out: &mut [u8]) -> Result<(), F::Error> {
        let mut done = 0;
        while done < out.len() {
            let (window, skip) = self.window(page, at + done as u32)?;
            let len = (out.len() - done).min(WINDOW - skip);
            out[done..done + len].copy_from_slice(&window[skip..skip + len]);
            done += len;
        }
        Ok(())
    }

    /// The aligned window that holds a place, and where in it the place is.
    fn window(&mut self, page: u32, at: u32) -> Result<([u8; WINDOW], usize), F::Error> {
        let mut window = [0; WINDOW];
        let skip = at % WINDOW as u32;
        let from = self.start + page * Self::SIZE + at - skip;
        self.flash.read(from, &mut window)?;
        Ok((window, skip as usize))
    }

    /// The header of a page, if it has one.
    pub(super) fn header(&mut self, page: u32) -> Result<Option<ChunkHeader>, RingError<F::Error>> {
        let mut bytes = [0; ChunkHeader::LEN];
        self.read(page, 0, &mut bytes).map_err(RingError::Flash)?;
        match ChunkHeader::decode(&bytes) {
            Ok(header) if header.kind == ChunkKind::Page => Ok(Some(header)),
            Err(ChunkError::Version(found)) => Err(RingError::Version(found)),
            _ => Ok(None),
        }
    }

    /// The next batch at or behind `at` that begins before `limit`. Fill, erased bytes and what
    /// cannot be read are passed over.
    pub(super) fn entry(
        &mut self,
        chunk: &ChunkHeader,
        page: u32,
        mut at: u32,
        limit: u32,
    ) -> Result<Option<Entry>, F::Error> {
        while at < limit {
            let (window, skip) = self.window(page, at)?;
            let Some(marker) = window[skip..].iter().position(|byte| is_marker(*byte)) else {
                at += (WINDOW - skip) as u32;
                continue;
            };
            at += marker as u32;
            let mut bytes = [0; MAX_BATCH_HEADER];
            let len = bytes.len().min((Self::SIZE - at) as usize);
            self.read(page, at, &mut bytes[..len])?;
            if let Ok((header, len)) = BatchHeader::decode(&bytes[..len], chunk) {
                let body_at = at + len as u32;
                if at < limit && header.body_len <= Self::SIZE - body_at {
                    let crc = self.body_crc(page, body_at, header.body_len)?;
                    return Ok(Some(Entry { header, body_at, whole: crc == header.body_crc }));
                }
            }
            at += 1;
        }
        Ok(None)
    }

    fn body_crc(&mut self, page: u32, at: u32, len: u32) -> Result<u32, F::Error> {
        let mut crc = Crc32c::new();
        let mut done = 0;
        while done < len {
            let (window, skip) = self.window(page, at + done)?;
            let piece = (len - done).min((WINDOW - skip) as u32);
            crc.update(&window[skip..skip + piece as usize]);
            done += piece;
        }
        Ok(crc.finish())
    }

    /// Where, at or behind `at`, everything to the page's end is erased.
    pub(super) fn erased_from(&mut self, page: u32, at: u32) -> Result<u32, F::Error> {
        let (mut place, mut free) = (at, at);
        while place < Self::SIZE {
            let (window, skip) = self.window(page, place)?;
            if let Some(last) = window[skip..].iter().rposition(|byte| *byte != ERASED) {
                free = place + last as u32 + 1;
            }
            place += (WINDOW - skip) as u32;
        }
        Ok(free)
    }
}
