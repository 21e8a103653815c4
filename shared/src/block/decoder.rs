//! Reads a block, row by row.

use super::bits::BitReader;
use super::rice::{Form, Series};
use super::text::TextReader;
use super::value::Cell;
use super::{BlockError, BlockHeader, CHANNELS_MAX, Value};

/// Reads a block from the bytes it borrows. Any bytes give rows or an error, in a time that is
/// bounded by their number.
#[derive(Clone, Debug)]
pub struct BlockDecoder<'b> {
    header: BlockHeader,
    reader: BitReader<'b>,
    /// Rows not read yet.
    left: u16,
    /// The time that the next row has if the node was punctual.
    due_ms: u64,
    time: Series,
    cells: [Cell<TextReader<'b>>; CHANNELS_MAX],
}

impl<'b> BlockDecoder<'b> {
    /// Checks the CRC and reads the header.
    ///
    /// # Errors
    /// [`BlockError::Truncated`], [`BlockError::Crc`], [`BlockError::Version`],
    /// [`BlockError::Codec`], [`BlockError::Scale`], [`BlockError::Step`], [`BlockError::Malformed`].
    pub fn new(block: &'b [u8]) -> Result<Self, BlockError> {
        let (header, rows) = BlockHeader::open(block)?;
        if rows_bits_min(&header) > rows.len() * 8 {
            return Err(BlockError::Truncated);
        }
        if header.count == 0 && !rows.is_empty() {
            return Err(BlockError::Malformed);
        }
        let mut decoder = Self {
            header,
            reader: BitReader::new(rows),
            left: header.count,
            due_ms: header.base_ms,
            time: Series::new(),
            cells: [Cell::Boolean; CHANNELS_MAX],
        };
        for (cell, kind) in decoder.cells.iter_mut().zip(header.kinds()) {
            *cell = Cell::of(*kind, TextReader::new());
        }
        Ok(decoder)
    }

    /// What the block says of itself.
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// Reads the next row into `numbers`, one for each channel, and returns its time in ms by the
    /// block's clock. `None` after the last row and after an error. A number is the digits of a
    /// [`super::Kind::Decimal`], the steps of a [`super::Kind::Grid`].
    ///
    /// # Errors
    /// [`BlockError::RowWidth`] if `numbers` has another length, [`BlockError::Kind`] if a channel is
    /// of another kind (the row is then still there); [`BlockError::Truncated`],
    /// [`BlockError::Malformed`] and [`BlockError::OffGrid`] end the block.
    pub fn next_row(&mut self, numbers: &mut [i64]) -> Option<Result<u64, BlockError>> {
        let channels = &self.cells[..self.header.channels()];
        if let Some(channel) = channels.iter().position(|cell| !cell.is_counted()) {
            return (self.left > 0).then_some(Err(BlockError::Kind { channel }));
        }
        self.next(numbers, Cell::read_count)
    }

    /// Reads the next row of any kinds into `values`, as [`Self::next_row`].
    ///
    /// # Errors
    /// [`BlockError::RowWidth`] if `values` has another length (the row is then still there);
    /// [`BlockError::Truncated`] and [`BlockError::Malformed`] end the block.
    pub fn next_values(&mut self, values: &mut [Value<'b>]) -> Option<Result<u64, BlockError>> {
        self.next(values, Cell::read)
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn next<V>(
        &mut self,
        row: &mut [V],
        read: impl Read<'b, V>,
    ) -> Option<Result<u64, BlockError>> {
        if self.left == 0 {
            return None;
        }
        let channels = self.header.channels();
        if row.len() != channels {
            return Some(Err(BlockError::RowWidth { channels, values: row.len() }));
        }
        let time_ms = self.read_row(row, read);
        self.left = if time_ms.is_ok() { self.left - 1 } else { 0 };
        Some(time_ms)
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn read_row<V>(&mut self, row: &mut [V], read: impl Read<'b, V>) -> Result<u64, BlockError> {
        let form = self.header.form;
        let is_punctual = self.header.count - self.left < self.header.punctual;
        let late_ms = match is_punctual {
            true => 0,
            false => self.time.decode_unmarked(&mut self.reader, form)?,
        };
        let time_ms = self.due_ms.wrapping_add_signed(late_ms);
        self.due_ms = time_ms.wrapping_add(u64::from(self.header.period_ms));
        let is_first = self.left == self.header.count;
        for (value, cell) in row.iter_mut().zip(&mut self.cells) {
            *value = read(cell, &mut self.reader, is_first, form)?;
        }
        if self.left == 1 && !self.reader.is_at_end() {
            return Err(BlockError::Malformed);
        }
        Ok(time_ms)
    }
}

/// Reads a value of a channel.
trait Read<'b, V>:
    Fn(&mut Cell<TextReader<'b>>, &mut BitReader<'b>, bool, Form) -> Result<V, BlockError>
{
}

impl<'b, V, F> Read<'b, V> for F where
    F: Fn(&mut Cell<TextReader<'b>>, &mut BitReader<'b>, bool, Form) -> Result<V, BlockError>
{
}

/// The fewest bits that the rows take: the first values, a bit for each later one and each time that
/// is written.
fn rows_bits_min(header: &BlockHeader) -> usize {
    let Some(later) = usize::from(header.count).checked_sub(1) else { return 0 };
    let first: usize = header.kinds().iter().map(|kind| kind.first_bits_min()).sum();
    let times = usize::from(header.count - header.punctual);
    first + header.channels() * later + times
}
