//! NOR flash in RAM: the least that a driver can be.

use core::hint::black_box;
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

/// Bytes of the flash.
pub(crate) const SIZE: usize = 4096;
const PAGE: usize = 1024;

/// Out of bounds, the one thing that this flash can object to.
#[derive(Debug)]
pub(crate) struct OutOfBounds;

impl NorFlashError for OutOfBounds {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::OutOfBounds
    }
}

/// Four pages of 1 KiB with words of 4 bytes.
pub(crate) struct Flash([u8; SIZE]);

impl Flash {
    /// As it comes from the factory.
    pub(crate) const ERASED: Self = Self([0xFF; SIZE]);

    fn part(&mut self, from: u32, len: usize) -> Result<&mut [u8], OutOfBounds> {
        self.0.get_mut(from as usize..).and_then(|rest| rest.get_mut(..len)).ok_or(OutOfBounds)
    }
}

impl ErrorType for Flash {
    type Error = OutOfBounds;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    #[inline(never)]
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        let part = self.part(offset, bytes.len())?;
        for (out, byte) in bytes.iter_mut().zip(part) {
            *out = black_box(*byte);
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        SIZE
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    #[inline(never)]
    fn erase(&mut self, from: u32, to: u32) -> Result<(), OutOfBounds> {
        self.part(from, to.wrapping_sub(from) as usize)?.fill(0xFF);
        Ok(())
    }

    #[inline(never)]
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        for (cell, byte) in self.part(offset, bytes.len())?.iter_mut().zip(bytes) {
            *cell &= *byte;
        }
        Ok(())
    }
}

/// The same flash as asynchronous drivers have it; it never lets its caller wait.
#[cfg(feature = "async")]
pub(crate) struct Ready(pub(crate) Flash);

#[cfg(feature = "async")]
mod ready {
    use super::{Flash, OutOfBounds, Ready};
    use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
    use embedded_storage_async::nor_flash as asynchronous;

    impl ErrorType for Ready {
        type Error = OutOfBounds;
    }

    impl asynchronous::ReadNorFlash for Ready {
        const READ_SIZE: usize = Flash::READ_SIZE;

        async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
            self.0.read(offset, bytes)
        }

        fn capacity(&self) -> usize {
            self.0.capacity()
        }
    }

    impl asynchronous::NorFlash for Ready {
        const WRITE_SIZE: usize = Flash::WRITE_SIZE;
        const ERASE_SIZE: usize = Flash::ERASE_SIZE;

        async fn erase(&mut self, from: u32, to: u32) -> Result<(), OutOfBounds> {
            self.0.erase(from, to)
        }

        async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
            self.0.write(offset, bytes)
        }
    }
}
