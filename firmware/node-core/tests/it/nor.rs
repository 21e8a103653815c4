//! NOR flash that dies on cue, in the middle of a word or an erase.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use std::{cell::RefCell, rc::Rc};

pub const PAGE: usize = 4096;
const WORD: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerCut;

impl NorFlashError for PowerCut {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

#[derive(Debug)]
struct Cells {
    bytes: Vec<u8>,
    /// Word writes and erases that still succeed; `None`: all.
    fuse: Option<u64>,
    is_dead: bool,
    operations: u64,
    noise: u32,
}

/// Flash that outlives the node on it.
#[derive(Clone, Debug)]
pub struct Nor(Rc<RefCell<Cells>>);

impl Nor {
    pub fn new(pages: usize) -> Self {
        let bytes = vec![0xFF; pages * PAGE];
        let cells = Cells { bytes, fuse: None, is_dead: false, operations: 0, noise: 0x1234_5677 };
        Self(Rc::new(RefCell::new(cells)))
    }

    pub fn size(&self) -> u32 {
        self.0.borrow().bytes.len() as u32
    }

    /// The power is cut in the middle of the operation after this many more.
    pub fn cut_after(&self, operations: u64) {
        self.0.borrow_mut().fuse = Some(operations);
    }

    /// The power is back, for good.
    pub fn power_up(&self) {
        let mut cells = self.0.borrow_mut();
        (cells.fuse, cells.is_dead) = (None, false);
    }

    pub fn is_dead(&self) -> bool {
        self.0.borrow().is_dead
    }

    pub fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    pub fn damage(&self, at: usize) {
        self.0.borrow_mut().bytes[at] = 0;
    }
}

impl Cells {
    /// True if the operation runs to its end, false if the power goes in its middle.
    fn operate(&mut self) -> Result<bool, PowerCut> {
        if self.is_dead {
            return Err(PowerCut);
        }
        self.operations += 1;
        match &mut self.fuse {
            Some(0) => self.is_dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(!self.is_dead)
    }

    fn random(&mut self) -> u8 {
        self.noise = self.noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.noise >> 24) as u8
    }
}

impl ErrorType for Nor {
    type Error = PowerCut;
}

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), PowerCut> {
        let cells = self.0.borrow();
        if cells.is_dead {
            return Err(PowerCut);
        }
        let at = offset as usize;
        bytes.copy_from_slice(&cells.bytes[at..at + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.size() as usize
    }
}

impl NorFlash for Nor {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), PowerCut> {
        assert!((from as usize).is_multiple_of(PAGE) && (to as usize).is_multiple_of(PAGE));
        let mut cells = self.0.borrow_mut();
        let whole = cells.operate()?;
        for at in from as usize..to as usize {
            // An erase that is cut short has set some bits.
            let set = if whole { 0xFF } else { cells.random() };
            cells.bytes[at] |= set;
        }
        if whole { Ok(()) } else { Err(PowerCut) }
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PowerCut> {
        assert!((offset as usize).is_multiple_of(WORD) && bytes.len().is_multiple_of(WORD));
        let mut cells = self.0.borrow_mut();
        for (index, word) in bytes.chunks_exact(WORD).enumerate() {
            let whole = cells.operate()?;
            for (place, byte) in (offset as usize + index * WORD..).zip(word) {
                let held = cells.bytes[place];
                assert_eq!(!held & byte, 0, "a write to flash at {place:#x} needs an erase first");
                // A write that is cut short has cleared some of its bits.
                let kept = if whole { 0 } else { cells.random() };
                cells.bytes[place] = held & (byte | kept);
            }
            if !whole {
                return Err(PowerCut);
            }
        }
        Ok(())
    }
}
