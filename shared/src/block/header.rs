//! What stands before the rows.

use super::kind::KIND_SIZE_MAX;
use super::rice::{Form, unzigzag, zigzag};
use super::{BlockError, CRC, CRC_SIZE, Kind};

/// The most channels of a block.
pub const CHANNELS_MAX: usize = 8;

/// The most rows of a block.
pub const COUNT_MAX: u16 = (1 << 14) - 1;

/// The most bytes before the first row, CRC included.
pub const HEADER_MAX: usize =
    CRC_SIZE + 1 + 3 * 5 + 10 + CHANNELS_MAX * KIND_SIZE_MAX + TAIL_SIZE_MAX;

/// The most bytes of [`Tail`].
pub(super) const TAIL_SIZE_MAX: usize = COUNT_SIZE_MAX + 5 + COUNT_SIZE_MAX;
const COUNT_SIZE_MAX: usize = 2;

const VERSION_1: u8 = 1;
const VERSION: u8 = 2;
const VERSION_MASK: u8 = 0b111;
const FLAG_UNIX: u8 = 1 << 3;
const FLAG_PUNCTUAL: u8 = 1 << 4;
const CHANNELS_SHIFT: u32 = 5;

/// Where the boot epoch stands, whose lowest bit says that the block is regular.
const EPOCH_AT: usize = CRC_SIZE + 1;
const FLAG_REGULAR: u8 = 1;

/// The low bits of the period's field: its unit, and whether time starts at a multiple of it.
const PERIOD_SHIFT: u32 = 3;
const PERIOD_ALIGNED: u64 = 1 << 2;
const PERIOD_UNIT_MASK: u64 = 0b11;
const PERIOD_UNITS_MS: [u32; 4] = [1, 1000, 60_000, 3_600_000];
/// The low bit of the period's field in version 1: the rest is seconds, not ms.
const PERIOD_S_1: u64 = 1;

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
    /// What each channel holds.
    pub kinds: &'a [Kind],
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
    /// How its integers are written.
    pub(super) form: Form,
    channels: u8,
    kinds: [Kind; CHANNELS_MAX],
}

impl BlockHeader {
    /// What each channel holds; the length is the number of channels.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds[..self.channels()]
    }

    /// Channels of the block, 1 to [`CHANNELS_MAX`].
    pub fn channels(&self) -> usize {
        usize::from(self.channels)
    }

    /// The number that the first row of the next block has if no row is missing.
    pub fn next_sample(&self) -> u32 {
        self.first_sample.wrapping_add(u32::from(self.count))
    }

    /// Checks the CRC of a block and reads its header, and none of its rows.
    ///
    /// # Errors
    /// [`BlockError::Truncated`], [`BlockError::Crc`], [`BlockError::Version`],
    /// [`BlockError::Codec`], [`BlockError::Scale`], [`BlockError::Step`], [`BlockError::Malformed`].
    pub fn read(block: &[u8]) -> Result<Self, BlockError> {
        Self::open(block).map(|(header, _)| header)
    }

    /// Checks the CRC; returns the header and the rows.
    pub(super) fn open(block: &[u8]) -> Result<(Self, &[u8]), BlockError> {
        let (stored, body) = block.split_first_chunk().ok_or(BlockError::Truncated)?;
        const { assert!(CRC_SIZE == size_of::<u32>()) };
        let stored = u32::from_le_bytes(*stored);
        let computed = CRC.checksum(body);
        if stored != computed {
            return Err(BlockError::Crc { stored, computed });
        }
        Self::parse(body)
    }

    /// Reads the body's start; returns the header and the rows.
    fn parse(body: &[u8]) -> Result<(Self, &[u8]), BlockError> {
        let mut rest = body;
        let form = byte(&mut rest)?;
        let header = match form & VERSION_MASK {
            VERSION_1 => Self::parse_1(form, &mut rest)?,
            VERSION => Self::parse_2(form, &mut rest)?,
            other => return Err(BlockError::Version(other)),
        };
        Ok((header, rest))
    }

    fn blank(form: u8) -> Self {
        Self {
            boot_epoch: 0,
            sequence: 0,
            first_sample: 0,
            clock: if form & FLAG_UNIX == 0 { Clock::SinceBoot } else { Clock::Unix },
            base_ms: 0,
            period_ms: 0,
            count: 0,
            punctual: 0,
            form: Form::Plain,
            channels: (form >> CHANNELS_SHIFT) + 1,
            kinds: [Kind::Boolean; CHANNELS_MAX],
        }
    }

    fn parse_1(form: u8, rest: &mut &[u8]) -> Result<Self, BlockError> {
        let mut header = Self::blank(form);
        header.form = Form::One;
        header.boot_epoch = varint_u32(rest)?;
        header.sequence = varint_u32(rest)?;
        header.first_sample = varint_u32(rest)?;
        header.base_ms = varint(rest)?;
        let period = varint(rest)?;
        header.period_ms = period_ms(period >> 1, if period & PERIOD_S_1 == 0 { 1 } else { 1000 })?;
        for kind in &mut header.kinds[..usize::from(header.channels)] {
            *kind = Kind::parse_1(rest)?;
        }
        header.count = rows(varint(rest)?, COUNT_MAX)?;
        header.punctual = header.parse_punctual(form, rest)?;
        Ok(header)
    }

    fn parse_2(form: u8, rest: &mut &[u8]) -> Result<Self, BlockError> {
        let mut header = Self::blank(form);
        let epoch = varint(rest)?;
        header.boot_epoch = u32::try_from(epoch >> 1).map_err(|_| BlockError::Malformed)?;
        header.sequence = varint_u32(rest)?;
        let period = varint(rest)?;
        let unit_ms = PERIOD_UNITS_MS[(period & PERIOD_UNIT_MASK) as usize];
        header.period_ms = period_ms(period >> PERIOD_SHIFT, unit_ms)?;
        let unit_ms = if period & PERIOD_ALIGNED == 0 { 1 } else { i64::from(header.period_ms) };
        let base_ms = unzigzag(varint(rest)?).checked_mul(unit_ms).ok_or(BlockError::Malformed)?;
        header.base_ms = zero_ms(header.clock).wrapping_add_signed(base_ms);
        for kind in &mut header.kinds[..usize::from(header.channels)] {
            *kind = Kind::parse(rest)?;
        }
        header.count = rows(varint(rest)?, COUNT_MAX)?;
        header.first_sample = if epoch & u64::from(FLAG_REGULAR) == 0 {
            varint_u32(rest)?
        } else {
            regular_first_sample(header.sequence, header.count)
        };
        header.punctual = header.parse_punctual(form, rest)?;
        Ok(header)
    }

    fn parse_punctual(&self, form: u8, rest: &mut &[u8]) -> Result<u16, BlockError> {
        match self.count.checked_sub(1) {
            Some(last) if form & FLAG_PUNCTUAL == 0 => rows(varint(rest)?, last),
            _ => Ok(self.count),
        }
    }
}

/// The first sample of a block if all before it in the boot epoch have as many rows as it has.
fn regular_first_sample(sequence: u32, count: u16) -> u32 {
    sequence.wrapping_mul(u32::from(count))
}

impl BlockSpec<'_> {
    pub(super) fn check(&self) -> Result<(), BlockError> {
        if !(1..=CHANNELS_MAX).contains(&self.kinds.len()) {
            return Err(BlockError::Channels(self.kinds.len()));
        }
        self.kinds.iter().try_for_each(|kind| kind.check())
    }

    /// Writes all but CRC and [`Tail`] behind the CRC's place; returns where the tail goes.
    pub(super) fn write(&self, buffer: &mut [u8], base_ms: u64) -> Result<usize, BlockError> {
        self.check()?;
        let mut form = VERSION | ((self.kinds.len() - 1) as u8) << CHANNELS_SHIFT;
        if self.clock == Clock::Unix {
            form |= FLAG_UNIX;
        }
        let mut at = CRC_SIZE;
        put(buffer, &mut at, form)?;
        put_varint(buffer, &mut at, u64::from(self.boot_epoch) << 1)?;
        put_varint(buffer, &mut at, u64::from(self.sequence))?;
        let (period, base) = self.times(base_ms);
        put_varint(buffer, &mut at, period)?;
        put_varint(buffer, &mut at, base)?;
        for kind in self.kinds {
            kind.write(buffer, &mut at)?;
        }
        if buffer.len() < at + TAIL_SIZE_MAX {
            return Err(BlockError::BufferTooSmall);
        }
        Ok(at)
    }

    /// The fields of period and base.
    fn times(&self, base_ms: u64) -> (u64, u64) {
        let divides = |unit_ms: &u32| self.period_ms.is_multiple_of(*unit_ms);
        // The last is the longest that divides it; the first always does.
        let unit = PERIOD_UNITS_MS.iter().rposition(divides).unwrap_or(0);
        let units = u64::from(self.period_ms / PERIOD_UNITS_MS[unit]);
        let period = units << PERIOD_SHIFT | unit as u64;
        let base_ms = base_ms.wrapping_sub(zero_ms(self.clock)).cast_signed();
        let period_ms = i64::from(self.period_ms);
        match base_ms.checked_rem(period_ms) {
            Some(0) => (period | PERIOD_ALIGNED, zigzag(base_ms / period_ms)),
            _ => (period, zigzag(base_ms)),
        }
    }
}

/// What the base of version 2 counts from: for Unix times the start of 2025, so it takes few bytes
/// for years around it.
const fn zero_ms(clock: Clock) -> u64 {
    match clock {
        Clock::SinceBoot => 0,
        Clock::Unix => 1_735_689_600_000,
    }
}

/// What is known of a block's header only when its last row is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    pub(super) sequence: u32,
    pub(super) first_sample: u32,
    pub(super) count: u16,
    pub(super) punctual: u16,
}

impl Tail {
    fn is_regular(self) -> bool {
        self.first_sample == regular_first_sample(self.sequence, self.count)
    }

    pub(super) fn size(self) -> usize {
        let first = if self.is_regular() { 0 } else { varint_size(self.first_sample) };
        let late = if self.punctual == self.count { 0 } else { varint_size(self.punctual.into()) };
        varint_size(self.count.into()) + first + late
    }

    /// Writes the tail at its place `at`, before which [`BlockSpec::write`] wrote the rest; returns
    /// where the rows go.
    pub(super) fn write(self, buffer: &mut [u8], mut at: usize) -> Result<usize, BlockError> {
        put_varint(buffer, &mut at, u64::from(self.count))?;
        if self.is_regular() {
            buffer[EPOCH_AT] |= FLAG_REGULAR;
        } else {
            put_varint(buffer, &mut at, u64::from(self.first_sample))?;
        }
        if self.punctual == self.count {
            buffer[CRC_SIZE] |= FLAG_PUNCTUAL;
        } else {
            put_varint(buffer, &mut at, u64::from(self.punctual))?;
        }
        Ok(at)
    }
}

const fn varint_size(value: u32) -> usize {
    (value | 1).ilog2() as usize / 7 + 1
}

pub(super) fn put(buffer: &mut [u8], at: &mut usize, byte: u8) -> Result<(), BlockError> {
    *buffer.get_mut(*at).ok_or(BlockError::BufferTooSmall)? = byte;
    *at += 1;
    Ok(())
}

/// LEB128: seven bits a byte, least significant first, the high bit set on all but the last.
pub(super) fn put_varint(
    buffer: &mut [u8],
    at: &mut usize,
    mut value: u64,
) -> Result<(), BlockError> {
    while value >= 0x80 {
        put(buffer, at, value as u8 | 0x80)?;
        value >>= 7;
    }
    put(buffer, at, value as u8)
}

pub(super) fn byte(rest: &mut &[u8]) -> Result<u8, BlockError> {
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

pub(super) fn varint_u32(rest: &mut &[u8]) -> Result<u32, BlockError> {
    u32::try_from(varint(rest)?).map_err(|_| BlockError::Malformed)
}

fn period_ms(units: u64, unit_ms: u32) -> Result<u32, BlockError> {
    let period_ms = units.checked_mul(u64::from(unit_ms)).ok_or(BlockError::Malformed)?;
    u32::try_from(period_ms).map_err(|_| BlockError::Malformed)
}

fn rows(field: u64, rows_max: u16) -> Result<u16, BlockError> {
    let rows = u16::try_from(field).map_err(|_| BlockError::Malformed)?;
    if rows > rows_max { Err(BlockError::Malformed) } else { Ok(rows) }
}
