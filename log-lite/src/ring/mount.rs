//! Finding the log that a range of flash holds.

use core::ops::Range;

use super::log::{Head, Ring};
use super::pages::{NO_EPOCH, Pages, VERSION};
use super::{NorFlash, flavour};
use crate::chunk::ChunkHeader;
use crate::ring::RingError;
use crate::ring::batch::later;

/// A place for a ring, in which it is mounted: [`Ring::mount`] needs room for two on the stack.
#[derive(Debug)]
pub struct RingSlot<F: NorFlash, const WINDOW: usize = 64>(Ring<F, WINDOW>);

#[flavour]
impl<F: NorFlash> RingSlot<F> {
    /// Of a ring with the window that is large enough for all flash. Reads nothing yet.
    pub const fn new(flash: F, range: Range<u32>) -> Self {
        Self::with_window(flash, range)
    }
}

#[flavour]
impl<F: NorFlash, const WINDOW: usize> RingSlot<F, WINDOW> {
    /// Of a ring that holds `WINDOW` bytes of flash in RAM: 32 do for flash whose write and read
    /// sizes are at most 4 bytes, 40 for 8 and 48 for 16. Reads nothing yet.
    pub const fn with_window(flash: F, range: Range<u32>) -> Self {
        Self(Ring::empty(flash, range))
    }

    /// Finds the log, as [`Ring::mount`] does, or finds it anew, as after a reset.
    ///
    /// # Errors
    /// [`RingError::Geometry`], [`RingError::Version`], [`RingError::Flash`].
    pub async fn mount(&mut self) -> Result<&mut Ring<F, WINDOW>, RingError<F::Error>> {
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
}

#[flavour]
impl<F: NorFlash, const WINDOW: usize> Ring<F, WINDOW> {
    const fn empty(flash: F, range: Range<u32>) -> Self {
        Self {
            end: 0,
            trimmed: 0,
            marked: 0,
            tail_base: 0,
            dropped: 0,
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
        self.head.page = end.wrapping_sub(Pages::<F, WINDOW>::SIZE);
        self.head.pos = end;
        self.tail = start;
        (self.tail_base, self.end, self.trimmed, self.marked, self.dropped) = (0, 0, 0, 0, 0);
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
            page += Pages::<F, WINDOW>::SIZE;
        }
        Ok(if self.head.epoch == NO_EPOCH { 0 } else { VERSION })
    }

    /// Takes up the log from its newest page.
    #[inline(never)]
    async fn take_up(&mut self) -> Result<(), F::Error> {
        let newest = self.head.page;
        let epoch = self.head.epoch;
        self.scan(newest).await?;
        let used = self.pages.used;
        let next = self.pages.after(newest);
        let before = self.pages.before(newest);
        // A word that a cut has begun to program may read as erased, or hold less charge than it
        // reads as: one is left out.
        let mut pos = used.next_multiple_of(Pages::<F, WINDOW>::WORD) + Pages::<F, WINDOW>::WORD;
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
        self.head.pos = pos.min(self.head.page + Pages::<F, WINDOW>::SIZE);
        let end = self.end;
        let mut page = before;
        while self.marked == 0 && page != newest {
            self.scan(page).await?;
            page = self.pages.before(page);
        }
        self.end = end;
        if self.marked > end {
            self.marked = end;
        }
        self.trimmed = self.marked;
        self.tail = self.enter_behind(newest).await?;
        self.tail_base = self.pages.chunk.base_offset;
        self.dropped = self.start() - self.trimmed;
        Ok(())
    }

    /// Takes in the whole batches of a page, from the one in doubt on if there is one: the log's
    /// end and the newest mark.
    #[inline(never)]
    async fn scan(&mut self, page: u32) -> Result<(), F::Error> {
        if self.pages.enter(page).await? == VERSION {
            self.pages.at = self.pages.at.max(self.doubt);
            while self.pages.next().await? {
                if self.pages.body(&mut []).await? {
                    let count = self.pages.batch.count();
                    self.end = later(self.end, self.pages.offset().wrapping_add(count.into()));
                    self.marked = later(self.marked, self.pages.mark());
                }
            }
        }
        Ok(())
    }

    /// Finds out whether flash has a batch whose writing failed or was given up: its offset must
    /// not be given away again then.
    #[inline(always)]
    pub(super) async fn settle(&mut self) -> Result<(), F::Error> {
        if self.doubt > 0 {
            self.scan(self.head.page).await?;
            self.doubt = 0;
        }
        Ok(())
    }

    /// Enters the first page behind `page` that has a header, at the latest the newest.
    #[inline(never)]
    pub(super) async fn enter_behind(&mut self, page: u32) -> Result<u32, F::Error> {
        let mut next = page;
        loop {
            next = self.pages.after(next);
            let version = self.pages.enter(next).await?;
            if version > 0 || next == self.head.page {
                return Ok(next);
            }
        }
    }
}
