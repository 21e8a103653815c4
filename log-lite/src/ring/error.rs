//! Why a ring did not do what was asked.

use core::fmt;

/// What can go wrong on a ring. `E` is the flash's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError<E> {
    /// The flash failed. What an append may have written is never programmed again.
    Flash(E),
    /// The range is not two or more whole pages of this flash, or its word and page sizes are out
    /// of bounds, or too large for the window.
    Geometry,
    /// The flash holds a log of another format version: erase it, or run the firmware that wrote it.
    Version(u8),
    /// The body does not fit into a page.
    TooLarge {
        /// Bytes that a body may have.
        max: usize,
    },
    /// A block's checksum does not match its body; it was not stored.
    Checksum,
    /// The buffer is too small for the record; nothing was read.
    Buffer {
        /// Bytes that the record needs.
        needed: usize,
    },
}

impl<E: fmt::Debug> fmt::Display for RingError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flash(error) => write!(f, "the flash failed: {error:?}"),
            Self::Geometry => f.write_str("the range is not two or more whole pages of this flash"),
            Self::Version(found) => write!(f, "the flash holds format version {found}; erase it"),
            Self::TooLarge { max } => write!(f, "the body is larger than {max} bytes"),
            Self::Checksum => f.write_str("the block's checksum does not match its body"),
            Self::Buffer { needed } => write!(f, "the buffer needs {needed} bytes"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for RingError<E> {}
