//! The adaptive Rice code of one series of differences.
//!
//! ```text
//! sized(u)    7 bits: n, the bits of u (0 to 64); then its n - 1 bits below the highest
//! rice(u, k)  u >> k below 8: that many ones, a zero, the low k bits of u
//!             else: 8 ones, [0,] escape(u, k)
//! escape      n, the bits of u >> k, is 4, 5, 6:  0, 10, 110, the n - 1 + k bits below the highest
//!             else:                               111, sized(u)
//! first       before any difference but zero was seen:  0 | 1 [0,] sized(u - 1)
//! flagged     if zeros are frequent:                    0 | 1 rice(u - 1, k)
//! plain       else:                                     rice(u, k)
//! ```
//!
//! A series with marks has the bits in brackets; a 1 there is a mark, and the difference comes after
//! what the mark announces. Version 1 has 16 for 8, no marks, and `sized(u)` for every escape.
//!
//! `k` follows the running mean of the differences that are not zero. A difference counts in it for
//! at most 4 (mean + 1), so one gap does not spoil what follows. Both ends compute `k` and the choice
//! from what came before, so neither is stored.

use super::BlockError;
use super::bits::{BitReader, BitWriter, WORD_BITS};
use core::hint::select_unpredictable;

/// The most bits that [`Series::encode`] writes for one difference: flag, ones, mark, class, sized.
pub(super) const CODE_BITS_MAX: usize =
    1 + QUOTIENT_MAX as usize + 1 + ESCAPES_MAX as usize + SIZED_BITS_MAX;
/// The most bits of a mark.
pub(super) const MARK_BITS_MAX: usize = 1 + QUOTIENT_MAX as usize + 1;
/// The most bits of a sized number.
pub(super) const SIZED_BITS_MAX: usize = LENGTH_BITS as usize + 63;
/// The fewest bits of a sized number.
pub(super) const SIZED_BITS_MIN: usize = LENGTH_BITS as usize;

const LENGTH_BITS: u32 = 7;
const QUOTIENT_MAX: u32 = 8;
const QUOTIENT_MAX_1: u32 = 16;
/// Bits of the least quotient that is escaped.
const ESCAPED_BITS_MIN: u32 = QUOTIENT_MAX.ilog2() + 1;
/// Lengths of a quotient that an escape names in unary.
const ESCAPES_MAX: u32 = 3;
/// Weight of the newest in a running mean falls to 1 / 16.
const WINDOW: u8 = 16;
/// The largest k of a code that is surely written and read in one go.
const K_QUICK_MAX: u32 = WORD_BITS - QUOTIENT_MAX - 1;
/// One, as a share of zeros.
const SHARE_ONE: i32 = 1 << 12;
/// Keeps 16 times four times the mean within 64 bits.
const MEAN_INPUT_MAX: u64 = 1 << 57;

/// Which code a series has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Of version 1; is read only.
    One,
    /// Without marks.
    Plain,
    /// With marks.
    Marked,
}

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

/// How the next difference is written once one but zero was seen.
#[derive(Clone, Copy)]
struct Code {
    k: u32,
    /// Bits of the flag that tells zero apart: 1 or 0.
    flag_bits: u32,
}

impl Series {
    pub(super) const fn new() -> Self {
        Self { mean_16: 0, zero_share: 0, seen: 0, seen_nonzero: 0 }
    }

    /// `None` is the code before any difference but zero was seen.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn code(&self) -> Option<Code> {
        if self.seen_nonzero == 0 {
            return None;
        }
        let k = (((self.mean_16 + 8) >> 4) | 1).ilog2();
        // A flag costs the others one bit and saves k bits of each zero.
        let flag_bits = u32::from(self.zero_share * (k as i32 + 1) > SHARE_ONE);
        Some(Code { k, flag_bits })
    }

    /// The most that a difference counts in the mean once one but zero was seen.
    const fn limit_16(&self) -> u64 {
        4 * self.mean_16 + 64
    }

    /// Takes note of `u`, which counts in the mean for at most `limit_16`.
    ///
    /// Selects rather than branches: zeros among others are hard to foresee.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn learn(&mut self, u: u64, limit_16: u64) {
        let is_nonzero = u != 0;
        if self.seen < WINDOW {
            self.seen += 1;
        }
        let share = if is_nonzero { 0 } else { SHARE_ONE };
        self.zero_share += (share - self.zero_share) >> self.seen.ilog2();
        self.seen_nonzero = (self.seen_nonzero + u8::from(is_nonzero)).min(WINDOW);
        let input_16 = (u.min(MEAN_INPUT_MAX) << 4).min(limit_16);
        let distance_16 = input_16 as i64 - self.mean_16 as i64;
        let step_16 = distance_16 >> (self.seen_nonzero | 1).ilog2();
        self.mean_16 = self.mean_16.wrapping_add_signed(if is_nonzero { step_16 } else { 0 });
    }

    /// Writes the difference `d`.
    ///
    /// # Errors
    /// [`BlockError::Full`]; then `self` and `writer` are to be set back by the caller.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn encode(
        &mut self,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        d: i64,
        is_marked: bool,
    ) -> Result<(), BlockError> {
        let u = zigzag(d);
        let limit_16 = if let Some(code) = self.code() {
            code.write(writer, buffer, u, is_marked)?;
            self.limit_16()
        } else {
            write_first(writer, buffer, u, is_marked)?;
            u64::MAX
        };
        self.learn(u, limit_16);
        Ok(())
    }

    /// Writes a mark.
    pub(super) fn write_mark(
        &self,
        writer: &mut BitWriter,
        buffer: &mut [u8],
    ) -> Result<(), BlockError> {
        let ones = self.code().map_or(2, |code| code.flag_bits + QUOTIENT_MAX + 1);
        writer.write(buffer, (1 << ones) - 1, ones)
    }

    /// Reads the next difference; `None` is a mark.
    ///
    /// # Errors
    /// [`BlockError::Truncated`], [`BlockError::Malformed`].
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn decode(
        &mut self,
        reader: &mut BitReader<'_>,
        form: Form,
    ) -> Result<Option<i64>, BlockError> {
        let (u, limit_16) = match self.code() {
            Some(code) => (code.read(reader, form)?, self.limit_16()),
            None => (read_first(reader, form)?, u64::MAX),
        };
        let Some(u) = u else { return Ok(None) };
        self.learn(u, limit_16);
        Ok(Some(unzigzag(u)))
    }

    /// Reads the next difference of a series without marks.
    ///
    /// # Errors
    /// As [`Self::decode`].
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn decode_unmarked(
        &mut self,
        reader: &mut BitReader<'_>,
        form: Form,
    ) -> Result<i64, BlockError> {
        self.decode(reader, form)?.ok_or(BlockError::Malformed)
    }
}

impl Code {
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn write(
        self,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        u: u64,
        is_marked: bool,
    ) -> Result<(), BlockError> {
        let Self { k, flag_bits } = self;
        let is_flag_alone = flag_bits == 1 && u == 0;
        let rest = u.saturating_sub(u64::from(flag_bits));
        let quotient = rest >> k;
        if quotient >= u64::from(QUOTIENT_MAX) || k > K_QUICK_MAX {
            return self.write_slowly(writer, buffer, u, is_marked);
        }
        let bits = flag_bits + quotient as u32 + 1 + k;
        let low = 1 << k;
        // Ones up to the highest bit, the zero that ends them, the low bits.
        let code = ((1 << bits) - 2 * low) | rest & (low - 1);
        let code = select_unpredictable(is_flag_alone, 0, code);
        let bits = select_unpredictable(is_flag_alone, 1, bits);
        writer.write(buffer, code, bits)
    }

    #[cold]
    fn write_slowly(
        self,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        u: u64,
        is_marked: bool,
    ) -> Result<(), BlockError> {
        if self.flag_bits == 0 {
            return write_rice(writer, buffer, u, self.k, is_marked);
        }
        writer.write(buffer, u64::from(u != 0), 1)?;
        if u == 0 { Ok(()) } else { write_rice(writer, buffer, u - 1, self.k, is_marked) }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn read(self, reader: &mut BitReader<'_>, form: Form) -> Result<Option<u64>, BlockError> {
        let Self { k, flag_bits } = self;
        let word = reader.peek();
        let is_flag_alone = flag_bits == 1 && word >> 63 == 0;
        // The lowest bit is none of those that count here.
        let quotient = (!(word << flag_bits) | 1).leading_zeros();
        if k > K_QUICK_MAX || (quotient >= QUOTIENT_MAX && !is_flag_alone) {
            return self.read_slowly(reader, form);
        }
        let bits = flag_bits + quotient + 1 + k;
        // Bits beyond the word are behind a flag alone, and do not count.
        let low = word.wrapping_shr(bits.wrapping_neg()) & ((1 << k) - 1);
        let u = (u64::from(quotient) << k | low) + u64::from(flag_bits);
        reader.take(select_unpredictable(is_flag_alone, 1, bits))?;
        Ok(Some(select_unpredictable(is_flag_alone, 0, u)))
    }

    #[cold]
    fn read_slowly(
        self,
        reader: &mut BitReader<'_>,
        form: Form,
    ) -> Result<Option<u64>, BlockError> {
        if self.flag_bits == 0 {
            return read_rice(reader, self.k, form);
        }
        if reader.read(1)? == 0 {
            return Ok(Some(0));
        }
        after(read_rice(reader, self.k, form)?)
    }
}

#[cold]
fn write_first(
    writer: &mut BitWriter,
    buffer: &mut [u8],
    u: u64,
    is_marked: bool,
) -> Result<(), BlockError> {
    if u == 0 {
        return writer.write(buffer, 0, 1);
    }
    writer.write(buffer, if is_marked { 0b10 } else { 1 }, 1 + u32::from(is_marked))?;
    write_sized(writer, buffer, u - 1)
}

#[cold]
fn read_first(reader: &mut BitReader<'_>, form: Form) -> Result<Option<u64>, BlockError> {
    if reader.read(1)? == 0 {
        return Ok(Some(0));
    }
    if form == Form::Marked && reader.read(1)? == 1 {
        return Ok(None);
    }
    after(Some(read_sized(reader)?))
}

/// The number after `u`: a zero was told apart before.
fn after(u: Option<u64>) -> Result<Option<u64>, BlockError> {
    u.map(|u| u.checked_add(1).ok_or(BlockError::Malformed)).transpose()
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
    write_below(writer, buffer, u, length)
}

/// Writes the bits of `u`, which has `length`, below the highest.
fn write_below(
    writer: &mut BitWriter,
    buffer: &mut [u8],
    u: u64,
    length: u32,
) -> Result<(), BlockError> {
    if length <= 1 {
        return Ok(());
    }
    write_wide(writer, buffer, u & !(1 << (length - 1)), length - 1)
}

/// Writes the low `bits`, up to 64, of `value`, which has no others set.
pub(super) fn write_wide(
    writer: &mut BitWriter,
    buffer: &mut [u8],
    value: u64,
    bits: u32,
) -> Result<(), BlockError> {
    if bits <= WORD_BITS {
        return writer.write(buffer, value, bits);
    }
    writer.write(buffer, value >> 32, bits - 32)?;
    writer.write(buffer, value & u64::from(u32::MAX), 32)
}

pub(super) fn read_sized(reader: &mut BitReader<'_>) -> Result<u64, BlockError> {
    match reader.read(LENGTH_BITS)? as u32 {
        0 => Ok(0),
        length @ 1..=64 => read_below(reader, length),
        _ => Err(BlockError::Malformed),
    }
}

/// Reads a number of `length` bits, 1 to 64, whose highest is not there.
fn read_below(reader: &mut BitReader<'_>, length: u32) -> Result<u64, BlockError> {
    Ok(1 << (length - 1) | read_wide(reader, length - 1)?)
}

/// Reads up to 64 bits.
pub(super) fn read_wide(reader: &mut BitReader<'_>, bits: u32) -> Result<u64, BlockError> {
    if bits <= WORD_BITS {
        return reader.read(bits);
    }
    let high = reader.read(bits - 32)?;
    Ok(high << 32 | reader.read(32)?)
}

pub(super) fn write_rice(
    writer: &mut BitWriter,
    buffer: &mut [u8],
    u: u64,
    k: u32,
    is_marked: bool,
) -> Result<(), BlockError> {
    let quotient = u >> k;
    if quotient >= u64::from(QUOTIENT_MAX) {
        return write_escape(writer, buffer, u, k, is_marked);
    }
    let ones = quotient as u32;
    let unary = (1u64 << (ones + 1)) - 2;
    let low = u & ((1 << k) - 1);
    if ones + 1 + k <= WORD_BITS {
        return writer.write(buffer, unary << k | low, ones + 1 + k);
    }
    writer.write(buffer, unary, ones + 1)?;
    write_wide(writer, buffer, low, k)
}

#[cold]
fn write_escape(
    writer: &mut BitWriter,
    buffer: &mut [u8],
    u: u64,
    k: u32,
    is_marked: bool,
) -> Result<(), BlockError> {
    writer.write(buffer, (1 << QUOTIENT_MAX) - 1, QUOTIENT_MAX)?;
    if is_marked {
        writer.write(buffer, 0, 1)?;
    }
    let length = 64 - u.leading_zeros();
    let class = length - k - ESCAPED_BITS_MIN;
    if class >= ESCAPES_MAX {
        writer.write(buffer, (1 << ESCAPES_MAX) - 1, ESCAPES_MAX)?;
        return write_sized(writer, buffer, u);
    }
    writer.write(buffer, (1 << (class + 1)) - 2, class + 1)?;
    write_below(writer, buffer, u, length)
}

/// `None` is a mark.
pub(super) fn read_rice(
    reader: &mut BitReader<'_>,
    k: u32,
    form: Form,
) -> Result<Option<u64>, BlockError> {
    let quotient_max = if form == Form::One { QUOTIENT_MAX_1 } else { QUOTIENT_MAX };
    let quotient = reader.ones(quotient_max)?;
    if quotient == quotient_max {
        return read_escape(reader, k, form);
    }
    Ok(Some(u64::from(quotient) << k | read_wide(reader, k)?))
}

#[cold]
fn read_escape(reader: &mut BitReader<'_>, k: u32, form: Form) -> Result<Option<u64>, BlockError> {
    if form == Form::One {
        return read_sized(reader).map(Some);
    }
    if form == Form::Marked && reader.read(1)? == 1 {
        return Ok(None);
    }
    let class = reader.ones(ESCAPES_MAX)?;
    let u = if class == ESCAPES_MAX {
        read_sized(reader)?
    } else {
        // k is below 58 and the class below 3, so this is a length of at most 63 bits.
        read_below(reader, ESCAPED_BITS_MIN + class + k)?
    };
    Ok(Some(u))
}
