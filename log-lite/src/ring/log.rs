//! The ring itself: what is appended, read and trimmed.

use super::pages::{NO_EPOCH, Pages};
use super::{NorFlash, flavour};
use crate::chunk::{ChunkHeader, MAX_BODY};
use crate::crc::crc32c;
use crate::ring::batch::{BARE, MAX_LEN, PageBatch, TRIM, later};
use crate::ring::{RingError, RingRecord, TRIM_MARK_EVERY};
use crate::varint;

/// Room at a page's end for its last trim mark: the longest that a page can need.
const MARK_ROOM: u32 = 24;

/// The newest page.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) epoch: u32,
    pub(super) page: u32,
    /// Where the next batch goes.
    pub(super) pos: u32,
}

/// A log on a range of NOR flash. `WINDOW` is the bytes of flash that it holds in RAM, see
/// [`crate::RingSlot::with_window`].
///
/// ```
/// use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
/// use log_lite::Ring;
///
/// /// Four pages of flash, in memory.
/// struct Chip([u8; 4096]);
///
/// impl ErrorType for Chip {
///     type Error = core::convert::Infallible;
/// }
///
/// impl ReadNorFlash for Chip {
///     const READ_SIZE: usize = 1;
///     fn read(&mut self, at: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
///         bytes.copy_from_slice(&self.0[at as usize..][..bytes.len()]);
///         Ok(())
///     }
///     fn capacity(&self) -> usize {
///         self.0.len()
///     }
/// }
///
/// impl NorFlash for Chip {
///     const WRITE_SIZE: usize = 4;
///     const ERASE_SIZE: usize = 1024;
///     fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
///         self.0[from as usize..to as usize].fill(0xFF);
///         Ok(())
///     }
///     fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Self::Error> {
///         self.0[at as usize..].iter_mut().zip(bytes).for_each(|(cell, byte)| *cell &= byte);
///         Ok(())
///     }
/// }
///
/// let mut ring = Ring::mount(Chip([0xFF; 4096]), 0..4096)?;
/// let offset = ring.append(3, 1_763_700_000_000, b"21.5")?;
///
/// // After a reset:
/// let mut ring = Ring::mount(ring.release(), 0..4096)?;
/// let mut block = [0; 64];
/// let record = ring.read(ring.start(), &mut block)?.expect("one record");
/// assert_eq!((record.offset, record.partition), (offset, 3));
/// assert_eq!(&block[4..record.len], b"21.5"); // behind its checksum
/// ring.trim(offset + 1)?;
/// assert_eq!(ring.start(), ring.end());
/// # Ok::<(), log_lite::RingError<core::convert::Infallible>>(())
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct Ring<F: NorFlash, const WINDOW: usize = 64> {
    pub(super) end: u64,
    pub(super) trimmed: u64,
    pub(super) tail: u32,
    /// Where a batch begins of which it is not known whether flash has it. 0, where no batch can
    /// begin: there is none.
    pub(super) doubt: u32,
    pub(super) tail_base: u64,
    /// Of a log without a page: the last page, full, so that the first is opened next.
    pub(super) head: Head,
    /// Offsets from the base of the page of the walk to that of the next, `u32::MAX` if it is the
    /// newest.
    pub(super) limit: u32,
    /// The trim that a mark on flash holds.
    pub(super) marked: u64,
    pub(super) pages: Pages<F, WINDOW>,
    pub(super) dropped: u64,
}

#[flavour]
impl<F: NorFlash, const WINDOW: usize> Ring<F, WINDOW> {
    /// Stores a block, `[crc32c of the body, little-endian][body]`, as it is, and returns its
    /// offset. At most two writes, and where a page is full an erase and up to two writes more;
    /// the oldest page is overwritten then, see [`Ring::dropped`].
    ///
    /// # Errors
    /// [`RingError::Checksum`], [`RingError::TooLarge`], [`RingError::Flash`]. Not stored.
    pub async fn append_block(
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
        self.store(partition, time_ms, crc, body).await
    }

    /// Stores a body under a checksum of its own, as [`Ring::append_block`] does.
    ///
    /// # Errors
    /// [`RingError::TooLarge`], [`RingError::Flash`]. Not stored.
    pub async fn append(
        &mut self,
        partition: u16,
        time_ms: i64,
        body: &[u8],
    ) -> Result<u64, RingError<F::Error>> {
        self.store(partition, time_ms, crc32c(body), body).await
    }

    /// The first record at or after `from` that can be read; its block is put into `buf`. An
    /// offset beyond `from` says that what is between was trimmed, overwritten or damaged.
    ///
    /// # Errors
    /// [`RingError::Buffer`], [`RingError::Flash`].
    pub async fn read(
        &mut self,
        from: u64,
        buf: &mut [u8],
    ) -> Result<Option<RingRecord>, RingError<F::Error>> {
        let mut record = RingRecord { offset: 0, partition: 0, time_ms: 0, len: 0 };
        self.find(from, buf, &mut record).await.map_err(RingError::Flash)?;
        match record.len {
            0 => Ok(None),
            needed if needed > buf.len() => Err(RingError::Buffer { needed }),
            _ => Ok(Some(record)),
        }
    }

    /// Everything below `before` is acknowledged: it is not read again and may be overwritten.
    /// Remembered on flash every [`TRIM_MARK_EVERY`] records and at the end of each page.
    ///
    /// # Errors
    /// [`RingError::Flash`]; it is then remembered until the next reset only.
    pub async fn trim(&mut self, before: u64) -> Result<(), RingError<F::Error>> {
        self.settle().await.map_err(RingError::Flash)?;
        self.trimmed = later(self.trimmed, before.min(self.end));
        if self.trimmed.wrapping_sub(self.marked) < TRIM_MARK_EVERY {
            return Ok(());
        }
        self.remember().await.map_err(RingError::Flash)
    }

    /// The first offset that is stored and not acknowledged; [`Ring::end`] where there is none.
    pub fn start(&self) -> u64 {
        later(self.tail_base, self.trimmed)
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
        let max = room - MAX_LEN - F::WRITE_SIZE;
        if max < MAX_BODY { max } else { MAX_BODY }
    }

    /// The flash, for example to count its wear.
    pub fn flash(&self) -> &F {
        &self.pages.flash
    }

    /// Gives the flash back.
    pub fn release(self) -> F {
        self.pages.flash
    }

    pub(super) const fn mark_room() -> u32 {
        MARK_ROOM.next_multiple_of(F::WRITE_SIZE as u32)
    }

    /// Enters the last page that begins at or before an offset.
    async fn seek(&mut self, from: u64) -> Result<(), F::Error> {
        let mut page = self.tail;
        // Of the newest page: further than a limit reaches.
        let mut limit = from.wrapping_add(1 << 32);
        while page != self.head.page {
            let next = self.enter_behind(page).await?;
            if self.pages.chunk.base_offset > from {
                limit = self.pages.chunk.base_offset;
                break;
            }
            page = next;
        }
        self.enter_behind(self.pages.before(page)).await?;
        // Further apart than any ring makes them, bases would lead back to where one has been.
        let limit = limit.wrapping_sub(self.pages.chunk.base_offset);
        self.limit = u32::try_from(limit).unwrap_or(u32::MAX);
        Ok(())
    }

    /// Puts what there is to read into `found`, or leaves its length 0.
    async fn find(
        &mut self,
        from: u64,
        buf: &mut [u8],
        found: &mut RingRecord,
    ) -> Result<(), F::Error> {
        self.settle().await?;
        let from = later(from, self.start());
        if from >= self.end {
            return Ok(());
        }
        let ahead = from.wrapping_sub(self.pages.chunk.base_offset);
        if !(self.pages.read_on.into()..self.limit.into()).contains(&ahead) {
            self.seek(from).await?;
        }
        self.pages.read_on = u32::MAX;
        let mut behind = 0;
        loop {
            if self.limit == u32::MAX {
                self.pages.end = self.head.pos;
            }
            while self.pages.next().await? {
                let offset = self.pages.offset();
                // What comes after a batch says whether it counts. One that was torn, and can be
                // read all the same now, has its offset again behind it.
                if found.len > 0 && offset > found.offset {
                    break;
                }
                found.len = 0;
                let is_it = self.pages.batch.kind == BARE
                    && offset >= from
                    && self.pages.batch.delta < self.limit;
                let block = if is_it { &mut *buf } else { &mut [] };
                let body = match block.split_first_chunk_mut() {
                    Some((crc, body)) => {
                        *crc = self.pages.batch.body_crc.to_le_bytes();
                        body
                    }
                    None => &mut [],
                };
                if self.pages.body(body).await? && is_it {
                    let PageBatch { partition, time_ms, body_len, .. } = self.pages.batch;
                    let len = 4 + body_len as usize;
                    *found = RingRecord { offset, partition, time_ms, len };
                    behind = self.pages.at;
                }
            }
            if found.len > 0 {
                self.pages.at = behind;
                // Only forged pages lead to where offsets end.
                let base = self.pages.chunk.base_offset;
                let read_on = found.offset.wrapping_sub(base).wrapping_add(1);
                self.pages.read_on = read_on as u32;
                return Ok(());
            }
            if self.limit == u32::MAX {
                return Ok(());
            }
            let next = self.pages.chunk.base_offset.wrapping_add(self.limit.into());
            self.seek(next).await?;
        }
    }

    async fn store(
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
        self.put(partition, time_ms, crc, body).await.map_err(RingError::Flash)
    }

    async fn put(
        &mut self,
        partition: u16,
        time_ms: i64,
        crc: u32,
        body: &[u8],
    ) -> Result<u64, F::Error> {
        self.settle().await?;
        let offset = self.end;
        if let Err(error) = self.place(partition, time_ms, crc, body).await {
            // A write that failed and stored all the same is no failure.
            self.settle().await?;
            if self.end == offset {
                return Err(error);
            }
        }
        // Only forged pages lead to where offsets end.
        self.end = offset.wrapping_add(1);
        Ok(offset)
    }

    /// Programs a record into the newest page or, where that is full, into the next.
    async fn place(
        &mut self,
        partition: u16,
        time_ms: i64,
        crc: u32,
        body: &[u8],
    ) -> Result<(), F::Error> {
        loop {
            let batch = &mut self.pages.batch;
            batch.kind = BARE;
            (batch.partition, batch.time_ms) = (partition, time_ms);
            // A page that was opened for a body has room for it.
            if self.program(crc, body, Self::mark_room()).await? {
                return Ok(());
            }
            if self.trimmed > 0 {
                self.write_mark(0).await?;
            }
            self.turn(time_ms, true).await?;
        }
    }

    /// Programs the batch, with this body, at the log's end, in at most two writes. `false`: the
    /// page has not that much room and `spare` bytes more.
    #[inline(never)]
    async fn program(&mut self, crc: u32, body: &[u8], spare: u32) -> Result<bool, F::Error> {
        let batch = &mut self.pages.batch;
        (batch.body_len, batch.body_crc) = (body.len() as u32, crc);
        let at = self.head.pos;
        if self.pages.chunk.epoch != self.head.epoch {
            self.pages.enter(self.head.page).await?;
        }
        self.pages.batch.delta = self.end.wrapping_sub(self.pages.chunk.base_offset) as u32;
        let len = self.pages.stage(body);
        let room = self.head.page + Pages::<F, WINDOW>::SIZE - at;
        if len as u32 + spare > room || self.pages.chunk.epoch != self.head.epoch {
            return Ok(false);
        }
        // Moved before the writes: what fails halfway is never programmed again.
        self.head.pos += len as u32;
        self.doubt = at;
        self.pages.program(at, len, body).await?;
        self.doubt = 0;
        Ok(true)
    }

    /// Writes a trim mark, unless the page is short of room.
    async fn write_mark(&mut self, spare: u32) -> Result<bool, F::Error> {
        let mut body = [0; varint::MAX_LEN];
        let len = varint::encode(self.trimmed, &mut body);
        let body = &body[..len];
        let batch = &mut self.pages.batch;
        (batch.kind, batch.partition) = (TRIM, 0);
        batch.time_ms = self.pages.chunk.base_time_ms;
        let is_written = self.program(crc32c(body), body, spare).await?;
        if is_written {
            self.marked = self.trimmed;
        }
        Ok(is_written)
    }

    /// Writes a trim mark: where no record has room any more, as the page's last; and behind that
    /// into the next page, unless it costs a record.
    async fn remember(&mut self) -> Result<(), F::Error> {
        if self.write_mark(Self::mark_room()).await? {
            return Ok(());
        }
        if self.write_mark(0).await? {
            self.head.pos = self.head.page + Pages::<F, WINDOW>::SIZE;
            return Ok(());
        }
        self.turn(self.pages.chunk.base_time_ms, false).await
    }

    /// Opens the page after the newest, over the oldest where the ring is full; unless that holds
    /// what was not acknowledged, and it may not drop that. The newest has its last mark by then.
    #[inline(never)]
    async fn turn(&mut self, time_ms: i64, may_drop: bool) -> Result<(), F::Error> {
        let page = self.pages.after(self.head.page);
        if page == self.tail && self.head.epoch != NO_EPOCH {
            let tail = self.enter_behind(page).await?;
            let base = self.pages.chunk.base_offset;
            if base > self.trimmed && !may_drop {
                return Ok(());
            }
            let start = self.start();
            self.dropped = self.dropped.wrapping_add(later(base, start) - start);
            (self.tail, self.tail_base) = (tail, base);
        }
        self.open_page(page, time_ms).await?;
        if self.trimmed > self.marked {
            // The page before had a torn write where its last mark belongs.
            self.write_mark(Self::mark_room()).await?;
        }
        Ok(())
    }

    #[inline(never)]
    async fn open_page(&mut self, page: u32, time_ms: i64) -> Result<(), F::Error> {
        // Once this page may have a header, nothing more belongs into the one before.
        self.head.pos = self.head.page + Pages::<F, WINDOW>::SIZE;
        let chunk = &mut self.pages.chunk;
        (chunk.base_offset, chunk.base_time_ms) = (self.end, time_ms);
        chunk.epoch = self.head.epoch.wrapping_add(1);
        self.pages.open(page).await?;
        let pos = page + ChunkHeader::LEN as u32;
        self.head = Head { epoch: self.pages.chunk.epoch, page, pos };
        Ok(())
    }
}
