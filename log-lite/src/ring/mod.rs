//! The log on NOR flash: a ring of pages, oldest overwritten first.
//!
//! Every page is a chunk. The newest has the highest epoch; appending goes on behind its last
//! byte that is not erased. Nothing is programmed twice between erases, a page is only erased to
//! be programmed next, and the ring wears all pages alike. What is acknowledged is remembered by
//! trim marks among the batches; one is written at the latest when a page is full.

mod error;
mod pages;

use core::ops::Range;

use embedded_storage::nor_flash::NorFlash;

use crate::batch::{BatchHeader, BatchKind, MAX_BATCH_HEADER};
use crate::chunk::{ChunkHeader, ChunkKind};
use crate::crc::crc32c;
use crate::varint;
pub use error::RingError;
use pages::{ERASED, Entry, PAD, Pages};

/// The largest write size of flash that a ring works on.
pub const MAX_WRITE_SIZE: usize = 32;
/// Records that may be acknowledged before the next trim mark, and so come again after a reset.
pub const TRIM_MARK_EVERY: u64 = 16;

/// Room at a page's end for its last trim mark: the longest that a page can need.
const MARK_ROOM: u32 = 24;
/// Header, fill before it, and the part of the body that shares its last flash word.
const FIRST_WRITE: usize = MAX_BATCH_HEADER + 2 * (MAX_WRITE_SIZE - 1);

/// A record as [`Ring::read`] found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingRecord {
    /// Its place in the log.
    pub offset: u64,
    /// Its partition.
    pub partition: u16,
    /// Its time in ms.
    pub time_ms: i64,
    /// Bytes of the block in the buffer: checksum and body.
    pub len: usize,
}

/// The newest page.
#[derive(Clone, Copy, Debug)]
struct Head {
    page: u32,
    chunk: ChunkHeader,
    /// Where the next batch goes.
    pos: u32,
}

/// Where a reader that reads on in order goes on.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    page: u32,
    at: u32,
}

/// A log on a range of NOR flash.
#[derive(Debug)]
pub struct Ring<F: NorFlash> {
    pages: Pages<F>,
    head: Option<Head>,
    tail: u32,
    tail_base: u64,
    end: u64,
    trimmed: u64,
    /// The trim that a mark on flash holds.
    marked: u64,
    dropped: u64,
    place: Option<Place>,
}

impl<F: NorFlash> Ring<F> {
    /// Finds the log in a range of flash, whatever a power cut left there. Writes nothing. A range
    /// without a log holds an empty one.
    ///
    /// # Errors
    /// [`RingError::Geometry`], [`RingError::Version`], [`RingError::Flash`].
    pub fn mount(flash: F, range: Range<u32>) -> Result<Self, RingError<F::Error>> {
        let pages = Pages::new(flash, range)?;
        let mut ring = Self {
            pages,
            head: None,
            tail: 0,
            tail_base: 0,
            end: 0,
            trimmed: 0,
            marked: 0,
            dropped: 0,
            place: None,
        };
        for page in 0..ring.pages.count {
            if let Some(chunk) = ring.pages.header(page)?
                && ring.head.is_none_or(|head| chunk.epoch > head.chunk.epoch)
            {
                ring.head = Some(Head { page, chunk, pos: 0 });
            }
        }
        if let Some(head) = ring.head {
            ring.find_end(head).map_err(RingError::Flash)?;
            ring.find_mark(head)?;
            (ring.tail, ring.tail_base) = ring.oldest_from(ring.pages.after(head.page), head)?;
            ring.trimmed = ring.marked.min(ring.end);
            ring.dropped = ring.tail_base.saturating_sub(ring.trimmed);
        }
        Ok(ring)
    }

    /// Stores a block, `[crc32c of the body, little-endian][body]`, as it is, and returns its
    /// offset. At most two writes, and where a page is full an erase and up to two writes more;
    /// the oldest page is overwritten then, see [`Ring::dropped`].
    ///
    /// # Errors
    /// [`RingError::Checksum`], [`RingError::TooLarge`], [`RingError::Flash`]. Not stored.
    pub fn append_block(
        &mut self,
        partition: u16,
        time_ms: i64,
        block: &[u8],
    ) -> Result<u64, RingError<F::Error>> {
        let (crc, body) = block.split_first_chunk().ok_or(RingError::Checksum)?;
        let crc = u32::from_le_bytes(*crc);
        if crc32c(body) != crc {
            return Err(RingError::Checksum);
        }
        self.store(partition, time_ms, crc, body)
    }

    /// Stores a body under a checksum of its own, as [`Ring::append_block`] does.
    ///
    /// # Errors
    /// [`RingError::TooLarge`], [`RingError::Flash`]. Not stored.
    pub fn append(
        &mut self,
        partition: u16,
        time_ms: i64,
        body: &[u8],
    ) -> Result<u64, RingError<F::Error>> {
        self.store(partition, time_ms, crc32c(body), body)
    }

    /// The first record at or after `from` that can be read; its block is put into `buf`. An
    /// offset beyond `from` says that what is between was trimmed, overwritten or damaged.
    ///
    /// # Errors
    /// [`RingError::Buffer`], [`RingError::Flash`].
    pub fn read(
        &mut self,
        from: u64,
        buf: &mut [u8],
    ) -> Result<Option<RingRecord>, RingError<F::Error>> {
        let from = from.max(self.start());
        let Some((place, entry)) = self.find(from)? else { return Ok(None) };
        let BatchHeader { offset, partition, time_ms, body_len, .. } = entry.header;
        let len = 4 + body_len as usize;
        let out = buf.get_mut(..len).ok_or(RingError::Buffer { needed: len })?;
        self.pages.read(place.page, entry.body_at - 4, out).map_err(RingError::Flash)?;
        self.place = Some(Place { offset: offset + 1, at: entry.next(), ..place });
        Ok(Some(RingRecord { offset, partition, time_ms, len }))
    }

    /// Everything below `before` is acknowledged: it is not read again and may be overwritten.
    /// Remembered on flash every [`TRIM_MARK_EVERY`] records and at the end of each page.
    ///
    /// # Errors
    /// [`RingError::Flash`]; it is then remembered until the next reset only.
    pub fn trim(&mut self, before: u64) -> Result<(), RingError<F::Error>> {
        self.trimmed = self.trimmed.max(before.min(self.end));
        if self.trimmed - self.marked < TRIM_MARK_EVERY {
            return Ok(());
        }
        self.write_mark(Self::mark_room())
    }

    /// The first offset that is stored and not acknowledged; [`Ring::end`] where there is none.
    pub fn start(&self) -> u64 {
        self.tail_base.max(self.trimmed)
    }

    /// The offset that the next record gets.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Records that were overwritten, or lost with their page, before they were acknowledged:
    /// those that the mount found missing and those since.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes of the largest body that can be stored.
    pub const fn max_body() -> usize {
        let room = F::ERASE_SIZE - ChunkHeader::LEN - Self::mark_room() as usize;
        room - MAX_BATCH_HEADER - F::WRITE_SIZE
    }

    /// The flash, for example to count its wear.
    pub fn flash(&self) -> &F {
        &self.pages.flash
    }

    /// Gives the flash back.
    pub fn release(self) -> F {
        self.pages.flash
    }

    const fn mark_room() -> u32 {
        MARK_ROOM.next_multiple_of(F::WRITE_SIZE as u32)
    }

    /// Walks the newest page to its end.
    fn find_end(&mut self, head: Head) -> Result<(), F::Error> {
        let Head { page, chunk, .. } = head;
        self.end = chunk.base_offset;
        let mut at = ChunkHeader::LEN as u32;
        while let Some(entry) = self.pages.entry(&chunk, page, at, Pages::<F>::SIZE)? {
            at = entry.next();
            if entry.whole {
                self.end = self.end.max(entry.header.end());
            }
        }
        let mut pos = self.pages.erased_from(page, at)?;
        if pos > at {
            // A torn write ends here. Its last word may hold less charge than it reads as.
            pos += Pages::<F>::WORD;
        }
        let pos = pos.next_multiple_of(Pages::<F>::WORD).min(Pages::<F>::SIZE);
        self.head = Some(Head { pos, ..head });
        Ok(())
    }

    /// The newest trim mark: in the newest page, or the last of the page before, and so on.
    fn find_mark(&mut self, head: Head) -> Result<(), RingError<F::Error>> {
        let mut page = head.page;
        for _ in 0..self.pages.count {
            let Some(chunk) = self.pages.header(page)? else { break };
            if chunk.epoch > head.chunk.epoch {
                break;
            }
            let mut at = ChunkHeader::LEN as u32;
            let size = Pages::<F>::SIZE;
            while let Some(entry) =
                self.pages.entry(&chunk, page, at, size).map_err(RingError::Flash)?
            {
                at = entry.next();
                if entry.whole && entry.header.kind == BatchKind::Trim {
                    self.marked = self.marked.max(self.mark_of(page, &entry)?);
                }
            }
            if self.marked > 0 {
                break;
            }
            page = self.pages.before(page);
        }
        Ok(())
    }

    fn mark_of(&mut self, page: u32, entry: &Entry) -> Result<u64, RingError<F::Error>> {
        let mut body = [0; varint::MAX_LEN];
        let len = body.len().min(entry.header.body_len as usize);
        self.pages.read(page, entry.body_at, &mut body[..len]).map_err(RingError::Flash)?;
        Ok(varint::decode(&body[..len], &mut 0).unwrap_or(0))
    }

    /// The first page from `page` on, in the order of the ring, that has a header, and its base.
    fn oldest_from(
        &mut self,
        mut page: u32,
        head: Head,
    ) -> Result<(u32, u64), RingError<F::Error>> {
        while page != head.page {
            if let Some(chunk) = self.pages.header(page)? {
                return Ok((page, chunk.base_offset));
            }
            page = self.pages.after(page);
        }
        Ok((head.page, head.chunk.base_offset))
    }

    fn store(
        &mut self,
        partition: u16,
        time_ms: i64,
        crc: u32,
        body: &[u8],
    ) -> Result<u64, RingError<F::Error>> {
        let max = Self::max_body();
        if body.len() > max {
            return Err(RingError::TooLarge { max });
        }
        let offset = self.end;
        let header = BatchHeader {
            kind: BatchKind::Bare,
            starts_commit: true,
            partition,
            body_len: body.len() as u32,
            count: 1,
            offset,
            time_ms,
            body_crc: crc,
        };
        if !self.program_whole(&header, body)? {
            self.open_page(time_ms)?;
            if !self.program_whole(&header, body)? {
                return Err(RingError::TooLarge { max });
            }
        }
        self.end = offset + 1;
        Ok(offset)
    }

    /// Programs a batch of records. A write that failed and stored all the same is no failure:
    /// the offset must not be given away again while the flash holds a whole record of it.
    fn program_whole(
        &mut self,
        header: &BatchHeader,
        body: &[u8],
    ) -> Result<bool, RingError<F::Error>> {
        let before = self.head;
        let result = self.program(header, body, Self::mark_room());
        if result.is_err()
            && let Some(Head { page, chunk, pos }) = before
            && let Ok(Some(entry)) = self.pages.entry(&chunk, page, pos, Pages::<F>::SIZE)
            && entry.whole
            && entry.header == *header
        {
            return Ok(true);
        }
        result
    }

    /// Programs a batch so that it ends with a flash word, in at most two writes. `false`: the
    /// page has not that much room and `spare` bytes more.
    fn program(
        &mut self,
        header: &BatchHeader,
        body: &[u8],
        spare: u32,
    ) -> Result<bool, RingError<F::Error>> {
        let Some(head) = &mut self.head else { return Ok(false) };
        let mut encoded = [0; MAX_BATCH_HEADER];
        let header_len = header.encode(&head.chunk, &mut encoded);
        let word = F::WRITE_SIZE;
        let len = (header_len + body.len()).next_multiple_of(word);
        if head.pos + len as u32 + spare > Pages::<F>::SIZE {
            return Ok(false);
        }
        let pad = len - header_len - body.len();
        let shared = ((pad + header_len).next_multiple_of(word) - pad - header_len).min(body.len());
        let (with_header, rest) = body.split_at(shared);
        let mut first = [PAD; FIRST_WRITE];
        let first_len = pad + header_len + shared;
        first[pad..pad + header_len].copy_from_slice(&encoded[..header_len]);
        first[pad + header_len..first_len].copy_from_slice(with_header);
        let (page, at) = (head.page, head.pos);
        // Moved before the writes: what fails halfway is never programmed again.
        head.pos += len as u32;
        self.pages.write(page, at, &first[..first_len]).map_err(RingError::Flash)?;
        if !rest.is_empty() {
            self.pages.write(page, at + first_len as u32, rest).map_err(RingError::Flash)?;
        }
        Ok(true)
    }

    /// Writes a trim mark, unless flash has it or the page is short of room.
    fn write_mark(&mut self, spare: u32) -> Result<(), RingError<F::Error>> {
        let Some(head) = &self.head else { return Ok(()) };
        let mut body = [ERASED; varint::MAX_LEN];
        let len = varint::encode(self.trimmed, &mut body);
        let header = BatchHeader {
            kind: BatchKind::Trim,
            starts_commit: true,
            partition: 0,
            body_len: len as u32,
            count: 0,
            offset: self.end,
            time_ms: head.chunk.base_time_ms,
            body_crc: crc32c(&body[..len]),
        };
        if self.program(&header, &body[..len], spare)? {
            self.marked = self.trimmed;
        }
        Ok(())
    }

    /// Makes the next page the newest, and gives up the oldest where it is in the way.
    fn open_page(&mut self, time_ms: i64) -> Result<(), RingError<F::Error>> {
        let (page, epoch) = match self.head {
            None => (0, 0),
            Some(head) => {
                // Before the erase, so that a reset in between does not count what was
                // acknowledged as dropped.
                if self.trimmed > 0 {
                    self.write_mark(0)?;
                }
                (self.pages.after(head.page), head.chunk.epoch.wrapping_add(1))
            }
        };
        if let Some(head) = self.head
            && page == self.tail
        {
            let start = self.start();
            (self.tail, self.tail_base) = self.oldest_from(self.pages.after(page), head)?;
            self.dropped += self.tail_base.saturating_sub(start);
        }
        self.place = None;
        let base_offset = self.end;
        let chunk =
            ChunkHeader { kind: ChunkKind::Page, base_offset, base_time_ms: time_ms, epoch };
        self.pages.erase(page).map_err(RingError::Flash)?;
        self.pages.write(page, 0, &chunk.encode()).map_err(RingError::Flash)?;
        if self.head.is_none() {
            (self.tail, self.tail_base) = (page, base_offset);
        }
        self.head = Some(Head { page, chunk, pos: ChunkHeader::LEN as u32 });
        if self.trimmed > self.marked {
            // The page before had a torn write where its last mark belongs.
            self.write_mark(Self::mark_room())?;
        }
        Ok(())
    }

    /// The first whole record at or after `from`.
    fn find(&mut self, from: u64) -> Result<Option<(Place, Entry)>, RingError<F::Error>> {
        let Some(head) = self.head else { return Ok(None) };
        let mut place = match self.place {
            Some(place) if place.offset <= from => place,
            _ => self.page_of(from, head)?,
        };
        loop {
            if let Some(chunk) = self.pages.header(place.page)? {
                let newest = place.page == head.page;
                let limit = if newest { head.pos } else { Pages::<F>::SIZE };
                while let Some(entry) = self
                    .pages
                    .entry(&chunk, place.page, place.at, limit)
                    .map_err(RingError::Flash)?
                {
                    if entry.whole
                        && entry.header.kind == BatchKind::Bare
                        && entry.header.offset >= from
                    {
                        return Ok(Some((place, entry)));
                    }
                    place.at = entry.next();
                }
            }
            if place.page == head.page {
                return Ok(None);
            }
            place.page = self.pages.after(place.page);
            place.at = ChunkHeader::LEN as u32;
        }
    }

    /// The start of the last page that begins at or before an offset.
    fn page_of(&mut self, offset: u64, head: Head) -> Result<Place, RingError<F::Error>> {
        let mut page = self.tail;
        let mut found = page;
        while page != head.page {
            page = self.pages.after(page);
            if let Some(chunk) = self.pages.header(page)? {
                if chunk.base_offset > offset {
                    break;
                }
                found = page;
            }
        }
        Ok(Place { offset, page: found, at: ChunkHeader::LEN as u32 })
    }
}
