//! What stands before the rows.

use super::{BlockError, CRC_SIZE};

/// The most channels of a block.
pub const CHANNELS_MAX: usize = 8;

/// The most decimal places of a channel.
pub const SCALE_MAX: u8 = 9;

/// The most rows of a block.
pub const COUNT_MAX: u16 = (1 << 14) - 1;

/// The most bytes before the first row, CRC included.
pub const HEADER_MAX: usize = CRC_SIZE + 1 + 3 * 5 + 10 + 5 + CHANNELS_MAX + TAIL_SIZE_MAX;

/// The most bytes of [`Tail`].
pub(super) const TAIL_SIZE_MAX: usize = 2 * COUNT_SIZE_MAX;
const COUNT_SIZE_MAX: usize = 2;

const VERSION: u8 = 1;
const VERSION_MASK: u8 = 0b111;
const FLAG_UNIX: u8 = 1 << 3;
const FLAG_PUNCTUAL: u8 = 1 << 4;
const CHANNELS_SHIFT: u32 = 5;
/// Decimal-scaled integers. Others (raw floats, booleans, text) have numbers left.
const CODEC_DECIMAL: u8 = 0;

/// The low bit of the period's field: the rest is seconds, not ms.
const PERIOD_S: u64 = 1;

const _: () = assert!(CHANNELS_MAX - 1 == (u8::MAX >> CHANNELS_SHIFT) as usize);
const _: () = assert!(COUNT_MAX < 1 << (7 * COUNT_SIZE_MAX));

/// What the times of a block count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The node's start: its clock was not synchronised when it began the block.
    SinceBoot,
    /// 1970 UTC, without leap seconds.
    Unix,
}

/// What a node says of a block before its first row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSpec<'a> {
    /// Which start of the node: counts up with every boot.
    pub boot_epoch: u32,
    /// Number of this block in the boot epoch, from 0.
    pub sequence: u32,
    /// Number of this block's first row in the boot epoch, from 0.
    pub first_sample: u32,
    /// What `base_ms` and the times of the rows count from.
    pub clock: Clock,
    /// The nominal time from row to row, in ms.
    pub period_ms: u32,
    /// Decimal places of each channel, each 0 to [`SCALE_MAX`]: a value `v` means `v / 10^scale`.
    pub scales: &'a [u8],
}

/// What a block says before its first row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Which start of the node: counts up with every boot.
    pub boot_epoch: u32,
    /// Number of this block in the boot epoch, from 0.
    pub sequence: u32,
    /// Number of this block's first row in the boot epoch, from 0.
    pub first_sample: u32,
    /// What `base_ms` and the times of the rows count from.
    pub clock: Clock,
    /// The nominal time from row to row, in ms.
    pub period_ms: u32,
    /// Where time starts, in ms by `clock`; as a rule the time of the first row.
    pub base_ms: u64,
    /// Rows in the block, at most [`COUNT_MAX`].
    pub count: u16,
    /// Rows from the start that came exactly when due; their times take no bits.
    pub(super) punctual: u16,
    channels: u8,
    scales: [u8; CHANNELS_MAX],
}

impl BlockHeader {
    /// Decimal places of each channel; the length is the number of channels.
    pub fn scales(&self) -> &[u8] {
        &self.scales[..self.channels()]
    }

    /// Channels of the block, 1 to [`CHANNELS_MAX`].
    pub fn channels(&self) -> usize {
        usize::from(self.channels)
    }

    /// The number that the first row of the next block has if no row is missing.
    pub fn next_sample(&self) -> u32 {
        self.first_sample.wrapping_add(u32::from(self.count))
    }

    /// Reads the body's start; returns the header and the rows.
    pub(super) fn parse(body: &[u8]) -> Result<(Self, &[u8]), BlockError> {
        let mut rest = body;
        let form = byte(&mut rest)?;
        if form & VERSION_MASK != VERSION {
            return Err(BlockError::Version(form & VERSION_MASK));
        }
        let channels = (form >> CHANNELS_SHIFT) + 1;
        let mut header = Self {
            boot_epoch: varint_u32(&mut rest)?,
            sequence: varint_u32(&mut rest)?,
            first_sample: varint_u32(&mut rest)?,
            clock: if form & FLAG_UNIX == 0 { Clock::SinceBoot } else { Clock::Unix },
            base_ms: varint(&mut rest)?,
            period_ms: period(varint(&mut rest)?)?,
            count: 0,
            punctual: 0,
            channels,
            scales: [0; CHANNELS_MAX],
        };
        for scale in &mut header.scales[..usize::from(channels)] {
            let channel = byte(&mut rest)?;
            if channel >> 4 != CODEC_DECIMAL {
                return Err(BlockError::Codec(channel >> 4));
            }
            *scale = channel & 0xF;
            if *scale > SCALE_MAX {
                return Err(BlockError::Scale(*scale));
            }
        }
        header.count = rows(varint(&mut rest)?, COUNT_MAX)?;
        header.punctual = match header.count.checked_sub(1) {
            Some(last) if form & FLAG_PUNCTUAL == 0 => rows(varint(&mut rest)?, last)?,
            _ => header.count,
        };
        Ok((header, rest))
    }
}

impl BlockSpec<'_> {
    pub(super) fn check(&self) -> Result<(), BlockError> {
        if !(1..=CHANNELS_MAX).contains(&self.scales.len()) {
            return Err(BlockError::Channels(self.scales.len()));
        }
        match self.scales.iter().find(|scale| **scale > SCALE_MAX) {
            Some(scale) => Err(BlockError::Scale(*scale)),
            None => Ok(()),
        }
    }

    /// Writes all but CRC and [`Tail`] behind the CRC's place; returns where the tail goes.
    pub(super) fn write(&self, buffer: &mut [u8], base_ms: u64) -> Result<usize, BlockError> {
        self.check()?;
        let mut form = VERSION | ((self.scales.len() - 1) as u8) << CHANNELS_SHIFT;
        if self.clock == Clock::Unix {
            form |= FLAG_UNIX;
        }
        let mut at = CRC_SIZE;
        put(buffer, &mut at, form)?;
        for field in [self.boot_epoch, self.sequence, self.first_sample] {
            put_varint(buffer, &mut at, u64::from(field))?;
        }
        put_varint(buffer, &mut at, base_ms)?;
        let period = match self.period_ms {
            ms if ms.is_multiple_of(1000) => u64::from(ms / 1000) << 1 | PERIOD_S,
            ms => u64::from(ms) << 1,
        };
        put_varint(buffer, &mut at, period)?;
        for scale in self.scales {
            put(buffer, &mut at, CODEC_DECIMAL << 4 | scale)?;
        }
        if buffer.len() < at + TAIL_SIZE_MAX {
            return Err(BlockError::BufferTooSmall);
        }
        Ok(at)
    }
}

/// What is known of a block's header only when its last row is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    pub(super) count: u16,
    pub(super) punctual: u16,
}

impl Tail {
    pub(super) const fn size(self) -> usize {
        let late = if self.punctual == self.count { 0 } else { row_number_size(self.punctual) };
        row_number_size(self.count) + late
    }

    /// Writes the tail at its place `at`, before which [`BlockSpec::write`] wrote the rest; returns
    /// where the rows go.
    pub(super) fn write(self, buffer: &mut [u8], mut at: usize) -> Result<usize, BlockError> {
        put_varint(buffer, &mut at, u64::from(self.count))?;
        if self.punctual == self.count {
            buffer[CRC_SIZE] |= FLAG_PUNCTUAL;
        } else {
            put_varint(buffer, &mut at, u64::from(self.punctual))?;
        }
        Ok(at)
    }
}

const fn row_number_size(number: u16) -> usize {
    if number < 0x80 { 1 } else { COUNT_SIZE_MAX }
}

fn put(buffer: &mut [u8], at: &mut usize, byte: u8) -> Result<(), BlockError> {
    *buffer.get_mut(*at).ok_or(BlockError::BufferTooSmall)? = byte;
    *at += 1;
    Ok(())
}

/// LEB128: seven bits a byte, least significant first, the high bit set on all but the last.
fn put_varint(buffer: &mut [u8], at: &mut usize, mut value: u64) -> Result<(), BlockError> {
    while value >= 0x80 {
        put(buffer, at, value as u8 | 0x80)?;
        value >>= 7;
    }
    put(buffer, at, value as u8)
}

fn byte(rest: &mut &[u8]) -> Result<u8, BlockError> {
    let (first, after) = rest.split_first().ok_or(BlockError::Truncated)?;
    *rest = after;
    Ok(*first)
}

fn varint(rest: &mut &[u8]) -> Result<u64, BlockError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = byte(rest)?;
        if shift == 63 && byte > 1 {
            return Err(BlockError::Malformed);
        }
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(BlockError::Malformed)
}

fn varint_u32(rest: &mut &[u8]) -> Result<u32, BlockError> {
    u32::try_from(varint(rest)?).map_err(|_| BlockError::Malformed)
}

fn period(field: u64) -> Result<u32, BlockError> {
    let unit_ms = if field & PERIOD_S == 0 { 1 } else { 1000 };
    let period_ms = (field >> 1).checked_mul(unit_ms).ok_or(BlockError::Malformed)?;
    u32::try_from(period_ms).map_err(|_| BlockError::Malformed)
}

fn rows(field: u64, rows_max: u16) -> Result<u16, BlockError> {
    let rows = u16::try_from(field).map_err(|_| BlockError::Malformed)?;
    if rows > rows_max { Err(BlockError::Malformed) } else { Ok(rows) }
}
