//! A channel of floats, or of any bits: each value xor the one before.
//!
//! ```text
//! first    the bits
//! same     0
//! within   10, the bits of the window
//! else     11, leading, length - 1, the bits of the new window
//! ```
//!
//! The window is where the bits that changed lie: `leading` zeros, then `length` bits. The last two
//! fields have 5 bits each for a float of 32 bits, 6 for one of 64. A new window is opened if the
//! old one does not hold all that changed, or costs more.

use super::BlockError;
use super::bits::{BitReader, BitWriter};
use super::rice::{read_wide, write_wide};

/// What both ends know of a channel of floats of `WIDTH` bits.
#[derive(Clone, Copy, Debug)]
pub struct Xor<const WIDTH: u32> {
    last: u64,
    /// Zeros before the window.
    leading: u32,
    /// Bits of the window; 0 before the first.
    length: u32,
}

impl<const WIDTH: u32> Xor<WIDTH> {
    /// The most bits of a value.
    pub(super) const CODE_BITS_MAX: usize = (2 + 2 * Self::FIELD_BITS + WIDTH) as usize;

    const FIELD_BITS: u32 = WIDTH.ilog2();

    pub(super) const fn new() -> Self {
        Self { last: 0, leading: 0, length: 0 }
    }

    pub(super) fn encode(
        &mut self,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        bits: u64,
        is_first: bool,
    ) -> Result<(), BlockError> {
        let changed = bits ^ self.last;
        self.last = bits;
        if is_first {
            return write_wide(writer, buffer, bits, WIDTH);
        }
        if changed == 0 {
            return writer.write(buffer, 0, 1);
        }
        let leading = changed.leading_zeros() - (u64::BITS - WIDTH);
        let length = WIDTH - leading - changed.trailing_zeros();
        let is_within = self.leading <= leading && leading + length <= self.leading + self.length;
        if is_within && self.length <= length + 2 * Self::FIELD_BITS {
            writer.write(buffer, 0b10, 2)?;
        } else {
            [self.leading, self.length] = [leading, length];
            let fields = u64::from(leading) << Self::FIELD_BITS | u64::from(length - 1);
            let head = 0b11 << (2 * Self::FIELD_BITS) | fields;
            writer.write(buffer, head, 2 + 2 * Self::FIELD_BITS)?;
        }
        write_wide(writer, buffer, changed >> self.below(), self.length)
    }

    pub(super) fn decode(
        &mut self,
        reader: &mut BitReader<'_>,
        is_first: bool,
    ) -> Result<u64, BlockError> {
        if is_first {
            self.last = read_wide(reader, WIDTH)?;
            return Ok(self.last);
        }
        if reader.read(1)? == 0 {
            return Ok(self.last);
        }
        if reader.read(1)? == 1 {
            self.leading = reader.read(Self::FIELD_BITS)? as u32;
            self.length = reader.read(Self::FIELD_BITS)? as u32 + 1;
        }
        if self.length == 0 || self.leading + self.length > WIDTH {
            return Err(BlockError::Malformed);
        }
        self.last ^= read_wide(reader, self.length)? << self.below();
        Ok(self.last)
    }

    /// Bits below the window.
    const fn below(&self) -> u32 {
        WIDTH - self.leading - self.length
    }
}
