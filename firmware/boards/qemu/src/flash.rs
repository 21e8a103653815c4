//! 64 KiB of NOR flash in a file of the host: a write only clears bits, an erase sets those of 4 KiB.

use core::ffi::CStr;
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read,
    check_write,
};
use semihosting::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
};

const CAPACITY: usize = 64 * 1024;
const PAGE: usize = 4096;
const CHUNK: usize = 256;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashError {
    /// The host's file fails.
    Host,
    /// The flash was asked for what it cannot do.
    Request(NorFlashErrorKind),
}

impl From<NorFlashErrorKind> for FlashError {
    fn from(kind: NorFlashErrorKind) -> Self {
        Self::Request(kind)
    }
}

impl From<semihosting::io::Error> for FlashError {
    fn from(_: semihosting::io::Error) -> Self {
        Self::Host
    }
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Request(kind) => *kind,
            Self::Host => NorFlashErrorKind::Other,
        }
    }
}

/// Flash that a file of the host holds.
pub struct HostFlash {
    file: File,
}

impl HostFlash {
    /// Opens the file; one that is not there or is shorter starts erased.
    ///
    /// # Errors
    /// [`FlashError::Host`] if the host does not let it be read and written.
    pub fn open(path: &CStr) -> Result<Self, FlashError> {
        let mut options = File::options();
        options.read(true).write(true);
        let existing = options.open(path).ok();
        let whole = existing.filter(|f| f.metadata().is_ok_and(|m| m.len() >= CAPACITY as u64));
        if let Some(file) = whole {
            return Ok(Self { file });
        }
        let mut flash = Self { file: options.create(true).truncate(true).open(path)? };
        flash.fill_erased(0, CAPACITY)?;
        Ok(flash)
    }

    fn fill_erased(&mut self, at: usize, len: usize) -> Result<(), FlashError> {
        self.file.seek(SeekFrom::Start(at as u64))?;
        for _ in 0..len / CHUNK {
            self.file.write_all(&[0xFF; CHUNK])?;
        }
        Ok(())
    }
}

impl ErrorType for HostFlash {
    type Error = FlashError;
}

impl ReadNorFlash for HostFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        check_read(self, offset, bytes.len())?;
        self.file.seek(SeekFrom::Start(offset.into()))?;
        Ok(self.file.read_exact(bytes)?)
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }
}

impl NorFlash for HostFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        check_erase(self, from, to)?;
        self.fill_erased(from as usize, (to - from) as usize)
    }

    /// # Panics
    /// If a bit would have to go from 0 to 1: real flash would now hold neither old nor new.
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        check_write(self, offset, bytes.len())?;
        let mut at = offset;
        for chunk in bytes.chunks(CHUNK) {
            let mut held = [0; CHUNK];
            let held = &mut held[..chunk.len()];
            self.read(at, held)?;
            assert!(
                held.iter().zip(chunk).all(|(held, new)| !held & new == 0),
                "a write to flash at {at:#x} needs an erase first"
            );
            at += chunk.len() as u32;
        }
        self.file.seek(SeekFrom::Start(offset.into()))?;
        Ok(self.file.write_all(bytes)?)
    }
}
