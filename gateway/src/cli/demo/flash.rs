//! NOR flash in memory: erases to ones, programs to zeros only.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

const PAGE: usize = 4096;

/// 64 KiB of pages of 4 KiB.
pub(super) struct Flash {
    bytes: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct OutOfBounds;

impl NorFlashError for OutOfBounds {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::OutOfBounds
    }
}

impl Flash {
    pub(super) const SIZE: u32 = 64 << 10;

    pub(super) fn erased() -> Self {
        Self { bytes: vec![0xFF; Self::SIZE as usize] }
    }

    fn slice(&mut self, from: u32, length: usize) -> Result<&mut [u8], OutOfBounds> {
        let from = from as usize;
        let end = from.checked_add(length).ok_or(OutOfBounds)?;
        self.bytes.get_mut(from..end).ok_or(OutOfBounds)
    }
}

impl ErrorType for Flash {
    type Error = OutOfBounds;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        bytes.copy_from_slice(self.slice(offset, bytes.len())?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), OutOfBounds> {
        let length = to.checked_sub(from).ok_or(OutOfBounds)? as usize;
        self.slice(from, length)?.fill(0xFF);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        for (cell, byte) in self.slice(offset, bytes.len())?.iter_mut().zip(bytes) {
            *cell &= byte;
        }
        Ok(())
    }
}
