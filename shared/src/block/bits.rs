//! A stream of bits, most significant first.

use super::BlockError;

/// The most bits of one [`BitWriter::write`] and [`BitReader::read`].
pub(super) const WORD_BITS: u32 = 56;

/// Where the next bit goes; the buffer is the caller's, so a copy of this is a point to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct BitWriter {
    /// The next byte of the buffer.
    at: usize,
    /// Bits that do not fill a byte yet, left aligned, zeros below them; fewer than 8 of them.
    pending: u64,
    pending_bits: u32,
}

impl BitWriter {
    pub(super) const fn new(at: usize) -> Self {
        Self { at, pending: 0, pending_bits: 0 }
    }

    /// Bits that still fit `buffer`.
    pub(super) fn room_bits(&self, buffer: &[u8]) -> usize {
        buffer.len().saturating_sub(self.at) * 8 - self.pending_bits as usize
    }

    /// The length of the buffer's used part, a begun byte included.
    pub(super) const fn end(&self) -> usize {
        self.at + (self.pending_bits > 0) as usize
    }

    /// Writes the low `bits` (up to [`WORD_BITS`]) of `value`, which has no others set.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn write(
        &mut self,
        buffer: &mut [u8],
        value: u64,
        bits: u32,
    ) -> Result<(), BlockError> {
        // Seven bits wait at most, so this is below 64; no bits are the value 0, however shifted.
        let pending_bits = self.pending_bits + bits;
        let pending = self.pending | value.wrapping_shl(64 - pending_bits);
        let whole = (pending_bits / 8) as usize;
        let word = pending.to_be_bytes();
        if let Some(place) = buffer.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            // What is written beyond the whole bytes is written again later.
            *place = word;
        } else if self.room_bits(buffer) >= bits as usize {
            buffer[self.at..self.at + whole].copy_from_slice(&word[..whole]);
        } else {
            return Err(BlockError::Full);
        }
        self.at += whole;
        self.pending = pending << (pending_bits & !7);
        self.pending_bits = pending_bits & 7;
        Ok(())
    }

    /// Pads the last byte with zeros, then copies `bytes`; returns where they stand.
    pub(super) fn write_bytes(
        &mut self,
        buffer: &mut [u8],
        bytes: &[u8],
    ) -> Result<usize, BlockError> {
        let at = self.end();
        let place = buffer.get_mut(at..at + bytes.len()).ok_or(BlockError::Full)?;
        place.copy_from_slice(bytes);
        self.flush(buffer);
        *self = Self::new(at + bytes.len());
        Ok(at)
    }

    /// Pads the last byte with zeros.
    pub(super) fn flush(&mut self, buffer: &mut [u8]) {
        if self.pending_bits > 0 {
            // `write` took these bits only because this byte is there.
            buffer[self.at] = (self.pending >> 56) as u8;
            *self = Self::new(self.at + 1);
        }
    }
}

/// Reads what [`BitWriter`] wrote.
#[derive(Clone, Debug)]
pub(super) struct BitReader<'b> {
    bytes: &'b [u8],
    /// The next bit to take from `bytes`.
    at: usize,
    /// Where the last eight of `bytes` start; 0 if they are fewer.
    last_word_at: usize,
}

impl<'b> BitReader<'b> {
    pub(super) const fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0, last_word_at: bytes.len().saturating_sub(8) }
    }

    const fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    /// The next bits, left aligned, at least [`WORD_BITS`] of them where so many are left, and zeros
    /// after the last. Anything where none is left.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn peek(&self) -> u64 {
        let from = (self.at / 8).min(self.last_word_at);
        let word = match self.bytes.get(from..).and_then(<[u8]>::first_chunk) {
            Some(word) => u64::from_be_bytes(*word),
            None => self.only_word(),
        };
        word.wrapping_shl((self.at - from * 8) as u32)
    }

    /// All bytes, which are fewer than 8, and zeros.
    #[cold]
    fn only_word(&self) -> u64 {
        let mut word = [0; 8];
        for (place, byte) in word.iter_mut().zip(self.bytes) {
            *place = *byte;
        }
        u64::from_be_bytes(word)
    }

    /// Takes `bits`, which [`Self::peek`] showed if they are there.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn take(&mut self, bits: u32) -> Result<(), BlockError> {
        if bits as usize > self.left() {
            return Err(BlockError::Truncated);
        }
        self.at += bits as usize;
        Ok(())
    }

    /// The next `bits`, up to [`WORD_BITS`].
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn read(&mut self, bits: u32) -> Result<u64, BlockError> {
        let word = self.peek();
        self.take(bits)?;
        Ok(word >> 1 >> (63 - bits))
    }

    /// Counts ones up to a zero, which is taken too, or up to `limit` (below [`WORD_BITS`]) ones.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn ones(&mut self, limit: u32) -> Result<u32, BlockError> {
        let ones = self.peek().leading_ones().min(limit);
        self.take(if ones == limit { ones } else { ones + 1 })?;
        Ok(ones)
    }

    /// Skips the zeros up to the next whole byte and takes `length` bytes.
    pub(super) fn read_bytes(&mut self, length: usize) -> Result<&'b [u8], BlockError> {
        if self.read((self.left() % 8) as u32)? != 0 {
            return Err(BlockError::Malformed);
        }
        let from = self.at / 8;
        let bytes = self.bytes.get(from..from + length).ok_or(BlockError::Truncated)?;
        self.at += length * 8;
        Ok(bytes)
    }

    /// True if only the padding of the last byte is left.
    pub(super) fn is_at_end(&self) -> bool {
        let left = self.left();
        left == 0 || left < 8 && self.peek() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back_in_the_order_and_width_they_went() {
        let mut buffer = [0xAA; 64];
        let mut writer = BitWriter::new(1);
        let widths = [1, 56, 7, 8, 9, 0, 33, 56, 3];
        for width in widths {
            let value = 0x5A_F00D_CAFE_1234 & ((1 << width) - 1);
            writer.write(&mut buffer, value, width).unwrap();
        }
        writer.flush(&mut buffer);
        assert_eq!(buffer[0], 0xAA, "the byte before is not touched");
        let mut reader = BitReader::new(&buffer[1..writer.end()]);
        for width in widths {
            assert_eq!(reader.read(width), Ok(0x5A_F00D_CAFE_1234 & ((1 << width) - 1)));
        }
        assert!(reader.is_at_end());
        assert_eq!(reader.read(8), Err(BlockError::Truncated));
    }

    #[test]
    fn a_write_takes_the_last_bit_and_not_one_more() {
        let mut buffer = [0; 2];
        let mut writer = BitWriter::new(0);
        writer.write(&mut buffer, 0x7FFF, 15).unwrap();
        assert_eq!(writer.write(&mut buffer, 3, 2), Err(BlockError::Full));
        writer.write(&mut buffer, 1, 1).unwrap();
        assert_eq!(writer.write(&mut buffer, 0, 1), Err(BlockError::Full));
        assert_eq!(buffer, [0xFF, 0xFF]);
    }

    #[test]
    fn counting_ones_stops_at_the_limit_and_at_the_end() {
        assert_eq!(BitReader::new(&[0b1110_0000]).ones(16), Ok(3));
        let mut reader = BitReader::new(&[0xFF, 0xFF, 0x80]);
        assert_eq!(reader.ones(16), Ok(16));
        assert_eq!(reader.ones(16), Ok(1));
        assert_eq!(BitReader::new(&[0xFF]).ones(16), Err(BlockError::Truncated));
    }
}
