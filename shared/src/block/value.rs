//! A value of a row, and what both ends know of its channel.

use super::bits::{BitReader, BitWriter};
use super::float::Xor;
use super::grid::{GRID_BITS_MAX, Grid};
use super::number::Number;
use super::rice::{CODE_BITS_MAX, Form};
use super::text::{self, TextReader, TextWriter, text_length};
use super::{BlockError, Kind};

/// A value of a row.
///
/// Floats keep all their bits; compare them by `to_bits` where NaN matters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Of [`Kind::Decimal`] and [`Kind::Grid`]: `v / 10^scale`.
    Decimal(i64),
    /// Of [`Kind::Unsigned`].
    Unsigned(u64),
    /// Of [`Kind::Float32`].
    Float32(f32),
    /// Of [`Kind::Float64`].
    Float64(f64),
    /// Of [`Kind::Boolean`].
    Boolean(bool),
    /// Of [`Kind::Text`], at most [`super::TEXT_MAX`] bytes.
    Text(&'a str),
}

/// What an encoder knows of each channel of a block.
pub trait Cells: Copy + core::fmt::Debug {
    /// Before any kind is known.
    const BLANK: Self;

    /// A channel before its first value.
    ///
    /// # Errors
    /// [`BlockError::Kind`] if its rows cannot have such a channel.
    fn new(kind: Kind, channel: usize) -> Result<Self, BlockError>;

    /// The most bits of a value.
    fn bits_max(&self) -> usize;
}

/// A channel of a block that takes rows of numbers only.
#[derive(Clone, Copy, Debug)]
pub struct NumberCell {
    number: Number,
    is_marked: bool,
}

impl Cells for NumberCell {
    const BLANK: Self = Self { number: Number::new(), is_marked: false };

    fn new(kind: Kind, channel: usize) -> Result<Self, BlockError> {
        let is_marked = match kind {
            Kind::Decimal { .. } => false,
            Kind::Grid { .. } => true,
            _ => return Err(BlockError::Kind { channel }),
        };
        Ok(Self { is_marked, ..Self::BLANK })
    }

    fn bits_max(&self) -> usize {
        CODE_BITS_MAX
    }
}

/// What one end knows of a channel of any kind; `T` is its view of texts.
#[derive(Clone, Copy, Debug)]
pub enum Cell<T> {
    Decimal(Number),
    Grid(Grid),
    Unsigned(Number),
    Float32(Xor<32>),
    Float64(Xor<64>),
    Boolean,
    Text(T),
}

impl<T> Cell<T> {
    pub(super) fn of(kind: Kind, text: T) -> Self {
        match kind {
            Kind::Decimal { .. } => Self::Decimal(Number::new()),
            Kind::Grid { scale, step } => Self::Grid(Grid::new(scale, step)),
            Kind::Unsigned => Self::Unsigned(Number::new()),
            Kind::Float32 => Self::Float32(Xor::new()),
            Kind::Float64 => Self::Float64(Xor::new()),
            Kind::Boolean => Self::Boolean,
            Kind::Text => Self::Text(text),
        }
    }

    /// True if rows of i64 can have the channel.
    pub(super) const fn is_counted(&self) -> bool {
        matches!(self, Self::Decimal(_) | Self::Grid(_))
    }
}

impl Cells for Cell<TextWriter> {
    const BLANK: Self = Self::Boolean;

    fn new(kind: Kind, _channel: usize) -> Result<Self, BlockError> {
        Ok(Self::of(kind, TextWriter::new()))
    }

    fn bits_max(&self) -> usize {
        match self {
            Self::Decimal(_) | Self::Unsigned(_) => CODE_BITS_MAX,
            Self::Grid(_) => GRID_BITS_MAX,
            Self::Float32(_) => Xor::<32>::CODE_BITS_MAX,
            Self::Float64(_) => Xor::<64>::CODE_BITS_MAX,
            Self::Boolean => 1,
            Self::Text(_) => text::CODE_BITS_MAX,
        }
    }
}

/// Writes values of a type into the cells that take it.
pub(super) trait Write<C>: Copy {
    /// Refuses a value that the cell does not take.
    fn check(self, cell: &C, channel: usize) -> Result<(), BlockError>;

    /// Writes a value that was checked.
    ///
    /// # Errors
    /// [`BlockError::Full`]; then cell and writer are to be set back by the caller.
    fn write(
        self,
        cell: &mut C,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        is_first: bool,
    ) -> Result<(), BlockError>;
}

impl Write<NumberCell> for i64 {
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn check(self, _cell: &NumberCell, _channel: usize) -> Result<(), BlockError> {
        Ok(())
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn write(
        self,
        cell: &mut NumberCell,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        is_first: bool,
    ) -> Result<(), BlockError> {
        cell.number.encode(writer, buffer, self, is_first, cell.is_marked)
    }
}

impl Write<Cell<TextWriter>> for i64 {
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn check(self, cell: &Cell<TextWriter>, channel: usize) -> Result<(), BlockError> {
        if cell.is_counted() { Ok(()) } else { Err(BlockError::Kind { channel }) }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn write(
        self,
        cell: &mut Cell<TextWriter>,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        is_first: bool,
    ) -> Result<(), BlockError> {
        let (number, is_marked) = match cell {
            Cell::Decimal(number) => (number, false),
            Cell::Grid(grid) => (&mut grid.number, true),
            _ => return Ok(()),
        };
        number.encode(writer, buffer, self, is_first, is_marked)
    }
}

impl Write<Cell<TextWriter>> for Value<'_> {
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn check(self, cell: &Cell<TextWriter>, channel: usize) -> Result<(), BlockError> {
        match (self, cell) {
            (Self::Text(text), Cell::Text(_)) => text_length(text).map(|_| ()),
            (Self::Decimal(_), Cell::Decimal(_) | Cell::Grid(_))
            | (Self::Unsigned(_), Cell::Unsigned(_))
            | (Self::Float32(_), Cell::Float32(_))
            | (Self::Float64(_), Cell::Float64(_))
            | (Self::Boolean(_), Cell::Boolean) => Ok(()),
            _ => Err(BlockError::Kind { channel }),
        }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn write(
        self,
        cell: &mut Cell<TextWriter>,
        writer: &mut BitWriter,
        buffer: &mut [u8],
        is_first: bool,
    ) -> Result<(), BlockError> {
        match (self, cell) {
            (Self::Decimal(value), Cell::Decimal(number)) => {
                number.encode(writer, buffer, value, is_first, false)
            }
            (Self::Decimal(value), Cell::Grid(grid)) => {
                grid.encode(writer, buffer, value, is_first)
            }
            (Self::Unsigned(value), Cell::Unsigned(number)) => {
                number.encode(writer, buffer, value.cast_signed(), is_first, false)
            }
            (Self::Float32(value), Cell::Float32(xor)) => {
                xor.encode(writer, buffer, u64::from(value.to_bits()), is_first)
            }
            (Self::Float64(value), Cell::Float64(xor)) => {
                xor.encode(writer, buffer, value.to_bits(), is_first)
            }
            (Self::Boolean(value), Cell::Boolean) => writer.write(buffer, u64::from(value), 1),
            (Self::Text(text), Cell::Text(texts)) => texts.encode(writer, buffer, text),
            _ => Ok(()),
        }
    }
}

impl<'b> Cell<TextReader<'b>> {
    /// Reads the number of a row of i64; the cell is counted.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn read_count(
        &mut self,
        reader: &mut BitReader<'_>,
        is_first: bool,
        form: Form,
    ) -> Result<i64, BlockError> {
        match self {
            Self::Grid(grid) => grid.decode_point(reader, is_first),
            Self::Decimal(number) => number.decode_unmarked(reader, is_first, form),
            _ => Err(BlockError::Malformed),
        }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn read(
        &mut self,
        reader: &mut BitReader<'b>,
        is_first: bool,
        form: Form,
    ) -> Result<Value<'b>, BlockError> {
        Ok(match self {
            Self::Decimal(number) => {
                Value::Decimal(number.decode_unmarked(reader, is_first, form)?)
            }
            Self::Grid(grid) => Value::Decimal(grid.decode(reader, is_first)?),
            Self::Unsigned(number) => {
                let value = number.decode_unmarked(reader, is_first, form)?;
                Value::Unsigned(value.cast_unsigned())
            }
            Self::Float32(xor) => {
                // The code of 32 bits gives no others.
                Value::Float32(f32::from_bits(xor.decode(reader, is_first)? as u32))
            }
            Self::Float64(xor) => Value::Float64(f64::from_bits(xor.decode(reader, is_first)?)),
            Self::Boolean => Value::Boolean(reader.read(1)? == 1),
            Self::Text(texts) => Value::Text(texts.decode(reader)?),
        })
    }
}
