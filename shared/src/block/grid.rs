//! A channel of decimals that are multiples of a step, rounded to their last place.
//!
//! ```text
//! on the grid   the number of the point
//! off it        a mark, rice(zigzag(offset - expected), floor(log2(step))), the number of the point
//! ```
//!
//! `value = point step + offset`. The expected offset is 0; where steps are whole numbers of the last
//! place it is the offset of the value before, so the grid lies where the values do.

use super::BlockError;
use super::bits::{BitReader, BitWriter};
use super::kind::Step;
use super::number::Number;
use super::rice::{CODE_BITS_MAX, Form, MARK_BITS_MAX, read_rice, unzigzag, write_rice, zigzag};

/// The most bits of a value that is off its grid: mark, how far off, the grid point.
pub(super) const GRID_BITS_MAX: usize = MARK_BITS_MAX + 2 * CODE_BITS_MAX;

/// A channel of decimals on a grid: the number of the grid point, and how far off it the value is.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    pub(super) number: Number,
    /// From point to point, `digits / parts` of the last decimal place.
    digits: Divisor,
    parts: Divisor,
    /// How far off the grid the next value is if nothing is said.
    offset: i64,
}

impl Grid {
    pub(super) fn new(scale: u8, step: Step) -> Self {
        let digits = u64::from(step.up) * 10u64.pow(u32::from(scale));
        let common = gcd(digits, u64::from(step.parts));
        Self {
            number: Number::new(),
            digits: Divisor::new(digits / common),
            parts: Divisor::new(u64::from(step.parts) / common),
            offset: 0,
        }
    }

    /// The value of a grid point; wraps where an i64 cannot hold it.
    fn value(&self, point: i64) -> i64 {
        self.parts.divide(point.wrapping_mul(self.digits.by.cast_signed())).nearest
    }

    /// The grid point near `value` and how far off it that is; any two that belong together where
    /// the arithmetic has no room.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn split(&self, value: i64) -> (i64, i64) {
        let parts = value.wrapping_sub(self.offset).checked_mul(self.parts.by.cast_signed());
        let Some(parts) = parts else { return (0, value) };
        let Quotient { nearest: point, rest } = self.digits.divide(parts);
        // What is off by less than half a digit rounds to the grid.
        if 2 * rest < self.parts.by {
            return (point, self.offset);
        }
        (point, value.wrapping_sub(self.value(point)))
    }

    /// Low bits of a distance from the grid in its Rice code: half a step of either sign, but for the
    /// rest of the bits.
    fn offset_bits(&self) -> u32 {
        // As of a series, so that what an escape says fits 64 bits.
        const BITS_MAX: u32 = 57;
        (self.digits.by / self.parts.by).max(1).ilog2().min(BITS_MAX)
    }

    /// Where steps are whole, the grid lies where the values do; else it has a point at 0.
    fn settle(&mut self, offset: i64) {
        if self.parts.by == 1 {
            self.offset = offset;
        }
    }

    #[cold]
    fn write_offset(
        &mut self,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        offset: i64,
        is_first: bool,
    ) -> Result<(), BlockError> {
        self.number.write_mark(writer, buffer, is_first)?;
        let moved = zigzag(offset.wrapping_sub(self.offset));
        write_rice(writer, buffer, moved, self.offset_bits(), false)?;
        self.settle(offset);
        Ok(())
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn encode(
        &mut self,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        value: i64,
        is_first: bool,
    ) -> Result<(), BlockError> {
        let (point, offset) = self.split(value);
        if offset != self.offset {
            self.write_offset(writer, buffer, offset, is_first)?;
        }
        self.number.encode(writer, buffer, point, is_first, true)
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn decode(
        &mut self,
        reader: &mut BitReader<'_>,
        is_first: bool,
    ) -> Result<i64, BlockError> {
        match self.number.decode(reader, is_first, Form::Marked)? {
            Some(point) => Ok(self.value(point).wrapping_add(self.offset)),
            None => self.read_off_grid(reader, is_first),
        }
    }

    /// Reads the value after a mark.
    #[cold]
    fn read_off_grid(
        &mut self,
        reader: &mut BitReader<'_>,
        is_first: bool,
    ) -> Result<i64, BlockError> {
        let moved = read_rice(reader, self.offset_bits(), Form::Plain)?;
        let moved = unzigzag(moved.ok_or(BlockError::Malformed)?);
        let offset = self.offset.wrapping_add(moved);
        self.settle(offset);
        let point = self.number.decode(reader, is_first, Form::Marked)?;
        Ok(self.value(point.ok_or(BlockError::Malformed)?).wrapping_add(offset))
    }

    /// Reads the number of a grid point.
    ///
    /// # Errors
    /// [`BlockError::OffGrid`] for a value that is none.
    pub(super) fn decode_point(
        &mut self,
        reader: &mut BitReader<'_>,
        is_first: bool,
    ) -> Result<i64, BlockError> {
        self.number.decode(reader, is_first, Form::Marked)?.ok_or(BlockError::OffGrid)
    }
}

/// A divisor of 1 to 2^63 - 1 whose quotients need no division.
#[derive(Clone, Copy, Debug)]
struct Divisor {
    by: u64,
    /// 2^64 / by, rounded down, or one less.
    reciprocal: u64,
}

/// What a division gives.
struct Quotient {
    /// The nearest integer; halves away from 0. It wraps where an i64 cannot hold it.
    nearest: i64,
    /// How far `nearest` times the divisor is from the dividend.
    rest: u64,
}

impl Divisor {
    const fn new(by: u64) -> Self {
        Self { by, reciprocal: u64::MAX / by }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    const fn divide(&self, dividend: i64) -> Quotient {
        let half = self.by / 2;
        let dividend_up = dividend.unsigned_abs() + half;
        // The product is short of the true quotient by less than 1, so this is it or one less.
        let low = ((dividend_up as u128 * self.reciprocal as u128) >> 64) as u64;
        let above = dividend_up - low * self.by;
        let is_less = above >= self.by;
        let nearest = (low + is_less as u64) as i64;
        let remainder = if is_less { above - self.by } else { above };
        Quotient {
            nearest: if dividend < 0 { nearest.wrapping_neg() } else { nearest },
            rest: remainder.abs_diff(half),
        }
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_division_rounds_to_the_nearest_and_halves_away_from_zero(
            dividend in prop_oneof![any::<i64>(), -99..99i64, Just(i64::MIN), Just(i64::MAX)],
            divisor in prop_oneof![1..=u64::MAX >> 1, 1..99u64, (0..63u32).prop_map(|bits| 1 << bits), Just(u64::MAX >> 1)],
        ) {
            let quotient = Divisor::new(divisor).divide(dividend);
            let (wide, by) = (i128::from(dividend), i128::from(divisor));
            let nearest = (wide.abs() + by / 2) / by * wide.signum();
            prop_assert_eq!(quotient.nearest, nearest as i64);
            prop_assert_eq!(i128::from(quotient.rest), (wide - nearest * by).abs());
        }
    }
}
