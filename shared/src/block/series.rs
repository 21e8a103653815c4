//! The adaptive Rice code of one series of differences.
//!
//! ```text
//! sized(u)    7 bits: n, the bits of u (0 to 64); then its n - 1 bits below the highest
//! rice(u, k)  u >> k below 16: that many ones, a zero, the low k bits of u
//!             else: 16 ones, sized(u)
//! first       before any difference but zero was seen:  0 | 1 sized(u - 1)
//! flagged     if zeros are frequent:                    0 | 1 rice(u - 1, k)
//! plain       else:                                     rice(u, k)
//! ```
//!
//! `k` follows the running mean of the differences that are not zero. A difference counts in it for
//! at most 4 (mean + 1), so one gap does not spoil what follows. Both ends compute `k` and the choice
//! from what came before, so neither is stored.

use super::BlockError;
use super::bits::{BitReader, BitWriter, WORD_BITS};

/// The most bits that [`Series::encode`] writes for one difference: flag, 16 ones, sized 64.
pub(super) const CODE_BITS_MAX: usize = 1 + QUOTIENT_MAX as usize + SIZED_BITS_MAX;
/// The most bits of a sized number.
pub(super) const SIZED_BITS_MAX: usize = LENGTH_BITS as usize + 63;
/// The fewest bits of a sized number.
pub(super) const SIZED_BITS_MIN: usize = LENGTH_BITS as usize;

const LENGTH_BITS: u32 = 7;
const QUOTIENT_MAX: u32 = 16;
/// Weight of the newest in a running mean falls to 1 / 16.
const WINDOW: u8 = 16;
/// One, as a share of zeros.
const SHARE_ONE: i32 = 1 << 12;
/// Keeps 16 times four times the mean within 64 bits.
const MEAN_INPUT_MAX: u64 = 1 << 57;

/// What both ends know of a series of differences.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series {
    /// Running mean of the differences that are not zero, in sixteenths.
    mean_16: u64,
    /// Running share of differences that are zero, of [`SHARE_ONE`].
    zero_share: i32,
    /// Differences seen, at most [`WINDOW`].
    seen: u8,
    /// Differences but zero seen, at most [`WINDOW`].
    seen_nonzero: u8,
}

enum Code {
    First,
    Flagged(u32),
    Plain(u32),
}

impl Series {
    pub(super) const fn new() -> Self {
        Self { mean_16: 0, zero_share: 0, seen: 0, seen_nonzero: 0 }
    }

    #[inline]
    fn code(&self) -> Code {
        if self.seen_nonzero == 0 {
            return Code::First;
        }
        let k = ((self.mean_16 + 8) >> 4).max(1).ilog2();
        // A flag costs the others one bit and saves k bits of each zero.
        if self.zero_share * (k as i32 + 1) > SHARE_ONE { Code::Flagged(k) } else { Code::Plain(k) }
    }

    #[inline]
    fn learn(&mut self, u: u64) {
        self.seen = (self.seen + 1).min(WINDOW);
        let target = if u == 0 { SHARE_ONE } else { 0 };
        self.zero_share += (target - self.zero_share) >> self.seen.ilog2();
        if u == 0 {
            return;
        }
        let input_16 = u.min(MEAN_INPUT_MAX) << 4;
        let input_16 = match self.seen_nonzero {
            0 => input_16,
            _ => input_16.min(4 * self.mean_16 + 64),
        };
        self.seen_nonzero = (self.seen_nonzero + 1).min(WINDOW);
        let step = (input_16 as i64 - self.mean_16 as i64) >> self.seen_nonzero.ilog2();
        self.mean_16 = self.mean_16.wrapping_add_signed(step);
    }

    /// Writes the difference `d`.
    ///
    /// # Errors
    /// [`BlockError::Full`]; then `self` and `writer` are to be set back by the caller.
    #[inline]
    pub(super) fn encode(
        &mut self,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        d: i64,
    ) -> Result<(), BlockError> {
        let u = zigzag(d);
        match self.code() {
            Code::Plain(k) => write_rice(writer, buffer, u, k)?,
            Code::First | Code::Flagged(_) if u == 0 => writer.write(buffer, 0, 1)?,
            Code::First => {
                writer.write(buffer, 1, 1)?;
                write_sized(writer, buffer, u - 1)?;
            }
            Code::Flagged(k) => {
                writer.write(buffer, 1, 1)?;
                write_rice(writer, buffer, u - 1, k)?;
            }
        }
        self.learn(u);
        Ok(())
    }

    /// Reads the next difference.
    ///
    /// # Errors
    /// [`BlockError::Truncated`], [`BlockError::Malformed`].
    #[inline]
    pub(super) fn decode(&mut self, reader: &mut BitReader<'_>) -> Result<i64, BlockError> {
        let u = match self.code() {
            Code::Plain(k) => read_rice(reader, k)?,
            Code::First | Code::Flagged(_) if reader.read(1)? == 0 => 0,
            Code::First => read_sized(reader)?.checked_add(1).ok_or(BlockError::Malformed)?,
            Code::Flagged(k) => {
                read_rice(reader, k)?.checked_add(1).ok_or(BlockError::Malformed)?
            }
        };
        self.learn(u);
        Ok(unzigzag(u))
    }
}

/// Small of either sign to small without one: 0, -1, 1, -2 to 0, 1, 2, 3.
pub(super) const fn zigzag(d: i64) -> u64 {
    ((d << 1) ^ (d >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(super) const fn unzigzag(u: u64) -> i64 {
    (u >> 1) as i64 ^ -((u & 1) as i64)
}

pub(super) fn write_sized(
    writer: &mut BitWriter,
    buffer: &mut [u8],
    u: u64,
) -> Result<(), BlockError> {
    let length = 64 - u.leading_zeros();
    writer.write(buffer, u64::from(length), LENGTH_BITS)?;
    if length <= 1 {
        return Ok(());
    }
    let below = u & !(1 << (length - 1));
    if length - 1 <= WORD_BITS {
        return writer.write(buffer, below, length - 1);
    }
    writer.write(buffer, below >> 32, length - 1 - 32)?;
    writer.write(buffer, below & u64::from(u32::MAX), 32)
}

pub(super) fn read_sized(reader: &mut BitReader<'_>) -> Result<u64, BlockError> {
    let length = reader.read(LENGTH_BITS)? as u32;
    match length {
        0 => Ok(0),
        1..=57 => Ok(1 << (length - 1) | reader.read(length - 1)?),
        58..=64 => {
            let high = reader.read(length - 1 - 32)?;
            Ok(1 << (length - 1) | high << 32 | reader.read(32)?)
        }
        _ => Err(BlockError::Malformed),
    }
}

#[inline]
fn write_rice(writer: &mut BitWriter, buffer: &mut [u8], u: u64, k: u32) -> Result<(), BlockError> {
    let quotient = u >> k;
    if quotient >= u64::from(QUOTIENT_MAX) {
        writer.write(buffer, (1 << QUOTIENT_MAX) - 1, QUOTIENT_MAX)?;
        return write_sized(writer, buffer, u);
    }
    let ones = quotient as u32;
    let unary = (1u64 << (ones + 1)) - 2;
    let low = u & ((1 << k) - 1);
    if ones + 1 + k <= WORD_BITS {
        return writer.write(buffer, unary << k | low, ones + 1 + k);
    }
    writer.write(buffer, unary, ones + 1)?;
    let high_bits = k.saturating_sub(32);
    writer.write(buffer, low >> (k - high_bits), high_bits)?;
    writer.write(buffer, low & ((1 << (k - high_bits)) - 1), k - high_bits)
}

#[inline]
fn read_rice(reader: &mut BitReader<'_>, k: u32) -> Result<u64, BlockError> {
    let quotient = reader.ones(QUOTIENT_MAX)?;
    if quotient == QUOTIENT_MAX {
        return read_sized(reader);
    }
    let high_bits = k.saturating_sub(32);
    let mut low = 0;
    if high_bits > 0 {
        low = reader.read(high_bits)? << 32;
    }
    low |= reader.read(k - high_bits)?;
    Ok(u64::from(quotient) << k | low)
}
