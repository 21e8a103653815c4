//! The ring itself.

use core::ops::Range;

use super::pages::{Pages, VERSION};
use super::{NorFlash, flavour};
use crate::batch::{BatchHeader, BatchKind, MAX_BATCH_HEADER, MAX_BODY};
use crate::chunk::ChunkHeader;
use crate::crc::crc32c;
use crate::ring::{RingError, RingRecord, TRIM_MARK_EVERY};
use crate::varint;

/// Room at a page's end for its last trim mark: the longest that a page can need.
const MARK_ROOM: u32 = 24;

/// The epoch of no page: the next is 0.
const NO_EPOCH: u32 = u32::MAX;

/// The newest page.
#[derive(Debug)]
struct Head {
    epoch: u32,
    page: u32,
    /// Where the next batch goes.
    pos: u32,
}

/// A log on a range of NOR flash.
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
pub struct Ring<F: NorFlash> {
    end: u64,
    /// Where the page of the walk ends in the log, `u64::MAX` if it is the newest.
    limit: u64,
    trimmed: u64,
    /// A read from this offset on goes on where the walk is. `u64::MAX`: it is elsewhere.
    read_on: u64,
    /// The trim that a mark on flash holds.
    marked: u64,
    tail: u32,
    /// Where a batch begins of which it is not known whether flash has it. 0, where no batch can
    /// begin: there is none.
    doubt: u32,
    tail_base: u64,
    /// Of a log without a page: the last page, full, so that the first is opened next.
    head: Head,
    pages: Pages<F>,
    dropped: u64,
}

/// A place for a ring, in which it is mounted: [`Ring::mount`] needs room for two on the stack.
#[derive(Debug)]
pub struct RingSlot<F: NorFlash>(Ring<F>);

#[flavour]
impl<F: NorFlash> RingSlot<F> {
    /// Reads nothing yet.
    pub const fn new(flash: F, range: Range<u32>) -> Self {
        Self(Ring::empty(flash, range))
    }

    /// Finds the log, as [`Ring::mount`] does, or finds it anew, as after a reset.
    ///
    /// # Errors
    /// [`RingError::Geometry`], [`RingError::Version`], [`RingError::Flash`].
    pub async fn mount(&mut self) -> Result<&mut Ring<F>, RingError<F::Error>> {
        self.0.forget();
        self.0.recover().await?;
        Ok(&mut self.0)
    }
}

#[flavour]
impl<F: NorFlash> Ring<F> {
    /// Finds the log in a range of flash, whatever a power cut left there. Writes nothing. A range
    /// without a log holds an empty one.
    ///
    /// # Errors
    /// [`RingError::Geometry`], [`RingError::Version`], [`RingError::Flash`].
    pub async fn mount(flash: F, range: Range<u32>) -> Result<Self, RingError<F::Error>> {
        let mut slot = RingSlot::new(flash, range);
        slot.mount().await?;
        Ok(slot.0)
    }

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
        match self.find(from, buf).await {
            Ok(Some(record)) if record.len > buf.len() => {
                Err(RingError::Buffer { needed: record.len })
            }
            Ok(found) => Ok(found),
            Err(error) => Err(RingError::Flash(error)),
        }
    }

    /// Everything below `before` is acknowledged: it is not read again and may be overwritten.
    /// Remembered on flash every [`TRIM_MARK_EVERY`] records and at the end of each page.
    ///
    /// # Errors
    /// [`RingError::Flash`]; it is then remembered until the next reset only.
    pub async fn trim(&mut self, before: u64) -> Result<(), RingError<F::Error>> {
        self.settle().await.map_err(RingError::Flash)?;
        self.trimmed = self.trimmed.max(before.min(self.end));
        if self.trimmed - self.marked < TRIM_MARK_EVERY {
            return Ok(());
        }
        self.remember().await.map_err(RingError::Flash)
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
        let max = room - MAX_BATCH_HEADER - F::WRITE_SIZE;
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

    const fn mark_room() -> u32 {
        MARK_ROOM.next_multiple_of(F::WRITE_SIZE as u32)
    }

    const fn empty(flash: F, range: Range<u32>) -> Self {
        Self {
            end: 0,
            trimmed: 0,
            marked: 0,
            tail_base: 0,
            dropped: 0,
            read_on: u64::MAX,
            limit: 0,
            tail: 0,
            doubt: 0,
            head: Head { epoch: NO_EPOCH, page: 0, pos: 0 },
            pages: Pages::new(flash, range),
        }
    }

    /// Makes it a ring without a log.
    fn forget(&mut self) {
        let Range { start, end } = self.pages.range;
        self.head.epoch = NO_EPOCH;
        self.head.page = end.wrapping_sub(Pages::<F>::SIZE);
        self.head.pos = end;
        self.tail = start;
        (self.tail_base, self.end, self.trimmed, self.marked, self.dropped) = (0, 0, 0, 0, 0);
        self.read_on = u64::MAX;
        self.doubt = 0;
    }

    async fn recover(&mut self) -> Result<(), RingError<F::Error>> {
        if !self.pages.fit() {
            return Err(RingError::Geometry);
        }
        match self.find_newest().await {
            Ok(0) => Ok(()),
            Ok(VERSION) => self.take_up().await.map_err(RingError::Flash),
            Ok(found) => Err(RingError::Version(found)),
            Err(error) => Err(RingError::Flash(error)),
        }
    }

    /// Finds the newest page. Returns its format version, 0 where there is none; or another that
    /// it met.
    #[inline(never)]
    async fn find_newest(&mut self) -> Result<u8, F::Error> {
        let mut page = self.pages.range.start;
        while page != self.pages.range.end {
            let version = self.pages.enter(page).await?;
            let newest = self.head.epoch;
            match version {
                0 => {}
                VERSION if newest != NO_EPOCH && self.pages.chunk.epoch < newest => {}
                VERSION => {
                    self.head = Head { epoch: self.pages.chunk.epoch, page, pos: page };
                    self.end = self.pages.chunk.base_offset;
                }
                found => return Ok(found),
            }
            page += Pages::<F>::SIZE;
        }
        Ok(if self.head.epoch == NO_EPOCH { 0 } else { VERSION })
    }

    /// Takes up the log from its newest page.
    #[inline(never)]
    async fn take_up(&mut self) -> Result<(), F::Error> {
        let newest = self.head.page;
        let epoch = self.head.epoch;
        let used = self.scan(newest, 0).await?;
        let next = self.pages.after(newest);
        let before = self.pages.before(newest);
        // A word that a cut has begun to program may read as erased, or hold less charge than it
        // reads as: one is left out.
        let mut pos = used.next_multiple_of(Pages::<F>::WORD) + Pages::<F>::WORD;
        if used == newest + ChunkHeader::LEN as u32 {
            // The header may be the last that was begun, and be gone next time: it is opened anew.
            if epoch == 0 {
                self.forget();
                return Ok(());
            }
            if self.pages.enter(before).await? > 0 && self.pages.chunk.epoch == epoch - 1 {
                self.head = Head { epoch: epoch - 1, page: before, pos: 0 };
                pos = u32::MAX;
            }
        } else if self.pages.is_begun(next).await? {
            // It was begun after the newest, and may have a header next time.
            pos = u32::MAX;
        }
        self.head.pos = pos.min(self.head.page + Pages::<F>::SIZE);
        let end = self.end;
        let mut page = before;
        while self.marked == 0 && page != newest {
            self.scan(page, 0).await?;
            page = self.pages.before(page);
        }
        self.end = end;
        self.marked = self.marked.min(end);
        self.trimmed = self.marked;
        self.tail = self.enter_behind(newest).await?;
        self.tail_base = self.pages.chunk.base_offset;
        self.dropped = self.tail_base.saturating_sub(self.trimmed);
        Ok(())
    }

    /// Takes in the whole batches of a page from a place on: the log's end and the newest mark.
    /// Returns the place behind the last byte that is not erased.
    #[inline(never)]
    async fn scan(&mut self, page: u32, from: u32) -> Result<u32, F::Error> {
        self.read_on = u64::MAX;
        if self.pages.enter(page).await? == VERSION {
            self.pages.at = self.pages.at.max(from);
            while self.pages.next().await? {
                let mut body = [0; varint::MAX_LEN];
                if self.pages.body(&mut body).await? {
                    self.end = self.end.max(self.pages.batch.end());
                    if self.pages.batch.kind == BatchKind::Trim {
                        let mark = varint::take(&mut &body[..]);
                        self.marked = self.marked.max(mark);
                    }
                }
            }
        }
        Ok(self.pages.used)
    }

    /// Finds out whether flash has a batch whose writing failed or was given up: its offset must
    /// not be given away again then.
    async fn settle(&mut self) -> Result<(), F::Error> {
        if self.doubt > 0 {
            self.scan(self.head.page, self.doubt).await?;
            self.doubt = 0;
        }
        Ok(())
    }

    /// Enters the first page behind `page` that has a header, at the latest the newest.
    #[inline(never)]
    async fn enter_behind(&mut self, page: u32) -> Result<u32, F::Error> {
        self.read_on = u64::MAX;
        let mut next = page;
        loop {
            next = self.pages.after(next);
            let version = self.pages.enter(next).await?;
            if version > 0 || next == self.head.page {
                return Ok(next);
            }
        }
    }

    /// Enters the last page that begins at or before an offset.
    async fn seek(&mut self, from: u64) -> Result<(), F::Error> {
        let mut page = self.tail;
        self.limit = u64::MAX;
        while page != self.head.page {
            let next = self.enter_behind(page).await?;
            if self.pages.chunk.base_offset > from {
                self.limit = self.pages.chunk.base_offset;
                break;
            }
            page = next;
        }
        self.enter_behind(self.pages.before(page)).await?;
        Ok(())
    }

    async fn find(&mut self, from: u64, buf: &mut [u8]) -> Result<Option<RingRecord>, F::Error> {
        self.settle().await?;
        let from = from.max(self.start());
        if from >= self.end {
            return Ok(None);
        }
        if self.read_on > from {
            self.seek(from).await?;
        }
        self.read_on = u64::MAX;
        let mut found = None;
        let mut behind = 0;
        loop {
            if self.limit == u64::MAX {
                self.pages.end = self.head.pos;
            }
            while self.pages.next().await? {
                let BatchHeader { offset, partition, time_ms, .. } = self.pages.batch;
                // What comes after a batch says whether it counts. One that was torn, and can be
                // read all the same now, has its offset again behind it.
                if let Some(RingRecord { offset: before, .. }) = found {
                    if offset > before {
                        break;
                    }
                    found = None;
                }
                let is_it = self.pages.batch.kind == BatchKind::Bare
                    && offset >= from
                    && offset < self.limit;
                let block = if is_it { &mut *buf } else { &mut [] };
                let body = match block.split_first_chunk_mut() {
                    Some((crc, body)) => {
                        *crc = self.pages.batch.body_crc.to_le_bytes();
                        body
                    }
                    None => &mut [],
                };
                if self.pages.body(body).await? && is_it {
                    let len = 4 + self.pages.batch.body_len as usize;
                    found = Some(RingRecord { offset, partition, time_ms, len });
                    behind = self.pages.at;
                }
            }
            if let Some(RingRecord { offset, .. }) = found {
                (self.pages.at, self.read_on) = (behind, offset + 1);
                return Ok(found);
            }
            if self.limit == u64::MAX {
                return Ok(None);
            }
            self.seek(self.limit).await?;
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
        loop {
            let batch = &mut self.pages.batch;
            (batch.kind, batch.count) = (BatchKind::Bare, 1);
            (batch.partition, batch.time_ms) = (partition, time_ms);
            // A page that was opened for a body has room for it.
            if self.program(crc, body, Self::mark_room()).await? {
                break;
            }
            self.turn(time_ms, true).await?;
        }
        let offset = self.end;
        self.end = offset + 1;
        Ok(offset)
    }

    /// Programs the batch, with this body, at the log's end, in at most two writes. `false`: the
    /// page has not that much room and `spare` bytes more.
    #[inline(never)]
    async fn program(&mut self, crc: u32, body: &[u8], spare: u32) -> Result<bool, F::Error> {
        let batch = &mut self.pages.batch;
        batch.starts_commit = true;
        (batch.offset, batch.body_len, batch.body_crc) = (self.end, body.len() as u32, crc);
        let counts = batch.count > 0;
        let at = self.head.pos;
        if self.pages.chunk.epoch != self.head.epoch {
            self.read_on = u64::MAX;
            self.pages.enter(self.head.page).await?;
        }
        let staged = self.pages.stage(body);
        let room = self.head.page + Pages::<F>::SIZE - at;
        if staged.1 + spare > room || self.pages.chunk.epoch != self.head.epoch {
            return Ok(false);
        }
        // Moved before the writes: what fails halfway is never programmed again.
        self.head.pos += staged.1;
        self.doubt = at;
        if let Err(error) = self.pages.program(at, staged, body).await {
            // A write that failed and stored all the same is no failure.
            let end = self.end;
            self.settle().await?;
            if !counts || self.end == end {
                return Err(error);
            }
            self.end = end;
        }
        self.doubt = 0;
        Ok(true)
    }

    /// Writes a trim mark, unless the page is short of room.
    async fn write_mark(&mut self, spare: u32) -> Result<bool, F::Error> {
        let mut body = [0; varint::MAX_LEN];
        let len = varint::encode(self.trimmed, &mut body);
        let body = &body[..len];
        let batch = &mut self.pages.batch;
        (batch.kind, batch.count, batch.partition) = (BatchKind::Trim, 0, 0);
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
            self.head.pos = self.head.page + Pages::<F>::SIZE;
            return Ok(());
        }
        self.turn(self.pages.chunk.base_time_ms, false).await
    }

    /// Opens the page after the newest, over the oldest where the ring is full; unless that holds
    /// what was not acknowledged, and it may not drop that.
    async fn turn(&mut self, time_ms: i64, may_drop: bool) -> Result<(), F::Error> {
        let page = self.pages.after(self.head.page);
        let mut tail = (self.tail, self.tail_base);
        if page == self.tail && self.head.epoch != NO_EPOCH {
            tail.0 = self.enter_behind(page).await?;
            tail.1 = self.pages.chunk.base_offset;
            if tail.1 > self.trimmed && !may_drop {
                return Ok(());
            }
        }
        if self.trimmed > 0 {
            self.write_mark(0).await?;
        }
        self.dropped += tail.1.saturating_sub(self.start());
        (self.tail, self.tail_base) = tail;
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
        self.head.pos = self.head.page + Pages::<F>::SIZE;
        self.read_on = u64::MAX;
        let chunk = &mut self.pages.chunk;
        (chunk.base_offset, chunk.base_time_ms) = (self.end, time_ms);
        chunk.epoch = self.head.epoch.wrapping_add(1);
        self.pages.open(page).await?;
        let pos = page + ChunkHeader::LEN as u32;
        self.head = Head { epoch: self.pages.chunk.epoch, page, pos };
        Ok(())
    }
}
