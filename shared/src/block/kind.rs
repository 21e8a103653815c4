//! What a channel holds, and the byte that says so.
//!
//! ```text
//! bits 4-7  codec          bits 0-3         then
//! 0         decimal        scale, 0 to 9                                 version 1 only
//! 1         decimal        scale, 0 to 9
//! 2         grid           scale, 0 to 9    varint parts << 1 | has up, varint up if it has
//! 3 to 7    unsigned, float of 32 and 64 bits, boolean, text             0
//! ```

use super::BlockError;
use super::header::{byte, put, put_varint, varint_u32};
use super::rice::SIZED_BITS_MIN;

/// The most decimal places of a channel.
pub const SCALE_MAX: u8 = 9;

/// The most bytes of one text value.
pub const TEXT_MAX: usize = 64;

/// The most bytes of a channel in the header: codec and scale, parts, up.
pub(super) const KIND_SIZE_MAX: usize = 1 + 5 + 5;

const CODEC_SHIFT: u32 = 4;
const SCALE_MASK: u8 = 0xF;
pub(super) const CODEC_DECIMAL_1: u8 = 0;
const CODEC_DECIMAL: u8 = 1;
const CODEC_GRID: u8 = 2;
const CODEC_UNSIGNED: u8 = 3;
const CODEC_FLOAT_32: u8 = 4;
const CODEC_FLOAT_64: u8 = 5;
const CODEC_BOOLEAN: u8 = 6;
const CODEC_TEXT: u8 = 7;

/// What a channel of a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Integers `v` that mean `v / 10^scale`; with scale 0 all of i64.
    Decimal {
        /// Decimal places, 0 to [`SCALE_MAX`].
        scale: u8,
    },
    /// Decimals that are multiples of a step, rounded to their last place: means of a few readings,
    /// counts of a converter. Others may come between; each costs some bytes more.
    Grid {
        /// Decimal places, 0 to [`SCALE_MAX`].
        scale: u8,
        /// From one multiple to the next.
        step: Step,
    },
    /// Integers of u64.
    Unsigned,
    /// Floats of 32 bits, every bit kept.
    Float32,
    /// Floats of 64 bits, every bit kept.
    Float64,
    /// True or false.
    Boolean,
    /// Texts of at most [`TEXT_MAX`] bytes that change now and then.
    Text,
}

/// The step of [`Kind::Grid`], `up / parts`: the mean of three readings of 0.01 has 1 / 300.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// At least 1 and at most 2^31 - 1.
    pub up: u32,
    /// At least 1 and at most 2^31 - 1.
    pub parts: u32,
}

impl Kind {
    /// Decimal places of the values; 0 for what is no decimal.
    pub const fn scale(self) -> u8 {
        match self {
            Self::Decimal { scale } | Self::Grid { scale, .. } => scale,
            _ => 0,
        }
    }

    /// Refuses what no block can hold.
    pub(super) fn check(self) -> Result<(), BlockError> {
        if self.scale() > SCALE_MAX {
            return Err(BlockError::Scale(self.scale()));
        }
        match self {
            Self::Grid { step, .. } => step.check(),
            _ => Ok(()),
        }
    }

    const fn codec(self) -> u8 {
        match self {
            Self::Decimal { .. } => CODEC_DECIMAL,
            Self::Grid { .. } => CODEC_GRID,
            Self::Unsigned => CODEC_UNSIGNED,
            Self::Float32 => CODEC_FLOAT_32,
            Self::Float64 => CODEC_FLOAT_64,
            Self::Boolean => CODEC_BOOLEAN,
            Self::Text => CODEC_TEXT,
        }
    }

    pub(super) fn write(self, buffer: &mut [u8], at: &mut usize) -> Result<(), BlockError> {
        put(buffer, at, self.codec() << CODEC_SHIFT | self.scale())?;
        if let Self::Grid { step, .. } = self {
            put_varint(buffer, at, u64::from(step.parts) << 1 | u64::from(step.up != 1))?;
            if step.up != 1 {
                put_varint(buffer, at, u64::from(step.up))?;
            }
        }
        Ok(())
    }

    /// Reads a channel of version 2.
    pub(super) fn parse(rest: &mut &[u8]) -> Result<Self, BlockError> {
        let channel = byte(rest)?;
        let (codec, scale) = (channel >> CODEC_SHIFT, channel & SCALE_MASK);
        let kind = match codec {
            CODEC_DECIMAL => Self::Decimal { scale },
            CODEC_GRID => {
                let parts = varint_u32(rest)?;
                let up = if parts & 1 == 0 { 1 } else { varint_u32(rest)? };
                Self::Grid { scale, step: Step { up, parts: parts >> 1 } }
            }
            CODEC_UNSIGNED => Self::Unsigned,
            CODEC_FLOAT_32 => Self::Float32,
            CODEC_FLOAT_64 => Self::Float64,
            CODEC_BOOLEAN => Self::Boolean,
            CODEC_TEXT => Self::Text,
            other => return Err(BlockError::Codec(other)),
        };
        kind.check()?;
        if kind.scale() == scale { Ok(kind) } else { Err(BlockError::Malformed) }
    }

    /// Reads a channel of version 1.
    pub(super) fn parse_1(rest: &mut &[u8]) -> Result<Self, BlockError> {
        let channel = byte(rest)?;
        if channel >> CODEC_SHIFT != CODEC_DECIMAL_1 {
            return Err(BlockError::Codec(channel >> CODEC_SHIFT));
        }
        let kind = Self::Decimal { scale: channel & SCALE_MASK };
        kind.check()?;
        Ok(kind)
    }

    /// The fewest bits of the first value; each later one takes a bit at least.
    pub(super) const fn first_bits_min(self) -> usize {
        match self {
            Self::Decimal { .. } | Self::Unsigned => SIZED_BITS_MIN,
            Self::Grid { .. } => 1 + SIZED_BITS_MIN,
            Self::Float32 => 32,
            Self::Float64 => 64,
            Self::Boolean => 1,
            Self::Text => 8,
        }
    }
}

impl Step {
    fn check(self) -> Result<(), BlockError> {
        let range = 1..=u32::MAX >> 1;
        if range.contains(&self.up) && range.contains(&self.parts) {
            Ok(())
        } else {
            Err(BlockError::Step { up: self.up, parts: self.parts })
        }
    }
}
