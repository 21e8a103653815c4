//! Writes a block, row by row, into a buffer that is given or owned.

use super::bits::BitWriter;
use super::header::{TAIL_SIZE_MAX, Tail};
use super::rice::{CODE_BITS_MAX, Series};
use super::text::TextWriter;
use super::value::{Cell, Cells, NumberCell, Write};
use super::{BlockError, BlockSpec, CHANNELS_MAX, COUNT_MAX, CRC, CRC_SIZE, Value};

/// A block in the making, without its bytes. A copy is a point to go back to.
#[derive(Clone, Copy, Debug)]
struct Open<C> {
    writer: BitWriter,
    tail_at: usize,
    tail: Tail,
    channels: u8,
    /// The time that the next row has if the node is punctual.
    due_ms: u64,
    period_ms: u32,
    time: Series,
    /// The most bits of a row.
    row_bits_max: usize,
    cells: [C; CHANNELS_MAX],
}

impl<C: Cells> Open<C> {
    fn new(buffer: &mut [u8], spec: &BlockSpec<'_>, base_ms: u64) -> Result<Self, BlockError> {
        let tail_at = spec.write(buffer, base_ms)?;
        let BlockSpec { sequence, first_sample, .. } = *spec;
        let mut open = Self {
            // The rows move up to the tail once its length is known.
            writer: BitWriter::new(tail_at + TAIL_SIZE_MAX),
            tail_at,
            tail: Tail { sequence, first_sample, count: 0, punctual: 0 },
            channels: spec.kinds.len() as u8,
            due_ms: base_ms,
            period_ms: spec.period_ms,
            time: Series::new(),
            row_bits_max: CODE_BITS_MAX,
            cells: [C::BLANK; CHANNELS_MAX],
        };
        for (channel, (cell, kind)) in open.cells.iter_mut().zip(spec.kinds).enumerate() {
            *cell = C::new(*kind, channel)?;
            open.row_bits_max += cell.bits_max();
        }
        Ok(open)
    }

    fn push<V: Write<C>>(
        &mut self,
        buffer: &mut [u8],
        time_ms: u64,
        row: &[V],
    ) -> Result<(), BlockError> {
        let channels = usize::from(self.channels);
        if row.len() != channels {
            return Err(BlockError::RowWidth { channels, values: row.len() });
        }
        for (channel, (value, cell)) in row.iter().zip(&self.cells).enumerate() {
            value.check(cell, channel)?;
        }
        if self.tail.count == COUNT_MAX {
            return Err(BlockError::Full);
        }
        if self.writer.room_bits(buffer) >= self.row_bits_max {
            return self.write_row(buffer, time_ms, row);
        }
        self.try_row(buffer, time_ms, row)
    }

    /// A row that may not fit.
    #[inline(never)]
    fn try_row<V: Write<C>>(
        &mut self,
        buffer: &mut [u8],
        time_ms: u64,
        row: &[V],
    ) -> Result<(), BlockError> {
        let before = *self;
        let written = self.write_row(buffer, time_ms, row);
        if written.is_err() {
            *self = before;
        }
        written
    }

    /// On an error the caller goes back to what was before.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn write_row<V: Write<C>>(
        &mut self,
        buffer: &mut [u8],
        time_ms: u64,
        row: &[V],
    ) -> Result<(), BlockError> {
        let late_ms = time_ms.wrapping_sub(self.due_ms) as i64;
        if late_ms == 0 && self.tail.punctual == self.tail.count {
            self.tail.punctual += 1;
        } else {
            self.time.encode(&mut self.writer, buffer, late_ms, false)?;
        }
        self.due_ms = time_ms.wrapping_add(u64::from(self.period_ms));
        let is_first = self.tail.count == 0;
        for (value, cell) in row.iter().zip(&mut self.cells) {
            value.write(cell, &mut self.writer, buffer, is_first)?;
        }
        self.tail.count += 1;
        Ok(())
    }

    fn size(&self) -> usize {
        self.writer.end() - TAIL_SIZE_MAX + self.tail.size()
    }

    fn finish(mut self, buffer: &mut [u8]) -> usize {
        self.writer.flush(buffer);
        let rows_at =
            self.tail.write(buffer, self.tail_at).expect("the tail has its place in the buffer");
        buffer.copy_within(self.tail_at + TAIL_SIZE_MAX..self.writer.end(), rows_at);
        let size = self.size();
        let (crc, body) = buffer[..size].split_at_mut(CRC_SIZE);
        crc.copy_from_slice(&CRC.checksum(body).to_le_bytes());
        size
    }
}

/// Writes a block into a buffer that it borrows.
///
/// ```
/// use headwater_shared::block::{BlockDecoder, BlockEncoder, BlockSpec, Clock, Kind};
///
/// let spec = BlockSpec {
///     boot_epoch: 3,
///     sequence: 0,
///     first_sample: 0,
///     clock: Clock::Unix,
///     period_ms: 1000,
///     kinds: &[Kind::Decimal { scale: 2 }, Kind::Decimal { scale: 1 }],
/// };
/// let mut buffer = [0; 256];
/// let mut block = BlockEncoder::new(&mut buffer, &spec, 1_763_700_000_000)?;
/// block.push(1_763_700_000_000, &[2179, 451])?; // 21.79 and 45.1
/// block.push(1_763_700_001_004, &[2180, 451])?;
/// let bytes = block.finish();
///
/// let mut rows = BlockDecoder::new(bytes)?;
/// let mut values = [0; 2];
/// assert_eq!(rows.next_row(&mut values), Some(Ok(1_763_700_000_000)));
/// assert_eq!(rows.next_row(&mut values), Some(Ok(1_763_700_001_004)));
/// assert_eq!(values, [2180, 451]);
/// assert_eq!(rows.next_row(&mut values), None);
/// # Ok::<(), headwater_shared::block::BlockError>(())
/// ```
#[derive(Debug)]
pub struct BlockEncoder<'b> {
    buffer: &'b mut [u8],
    open: Open<Cell<TextWriter>>,
}

impl<'b> BlockEncoder<'b> {
    /// Starts a block in `buffer`, whose length is the most that the block will take.
    ///
    /// `base_ms` is the time of the first row, or near it, in ms by the clock of `spec`.
    ///
    /// # Errors
    /// [`BlockError::Channels`], [`BlockError::Scale`], [`BlockError::Step`];
    /// [`BlockError::BufferTooSmall`] if not even the header fits.
    pub fn new(
        buffer: &'b mut [u8],
        spec: &BlockSpec<'_>,
        base_ms: u64,
    ) -> Result<Self, BlockError> {
        let open = Open::new(buffer, spec, base_ms)?;
        Ok(Self { buffer, open })
    }

    /// Adds a row: its time in ms by the block's clock, and one number for each channel. All are
    /// [`super::Kind::Decimal`], the number is the digits, or [`super::Kind::Grid`], it is that of
    /// steps.
    ///
    /// # Errors
    /// [`BlockError::Full`] if it does not fit, [`BlockError::RowWidth`], [`BlockError::Kind`]; the
    /// block is then as it was.
    pub fn push(&mut self, time_ms: u64, numbers: &[i64]) -> Result<(), BlockError> {
        self.open.push(self.buffer, time_ms, numbers)
    }

    /// Adds a row of any kinds: its time in ms by the block's clock, and one value for each channel.
    ///
    /// # Errors
    /// As [`Self::push`], and [`BlockError::TextLength`].
    pub fn push_values(&mut self, time_ms: u64, values: &[Value<'_>]) -> Result<(), BlockError> {
        self.open.push(self.buffer, time_ms, values)
    }

    /// Rows so far.
    pub fn count(&self) -> u16 {
        self.open.tail.count
    }

    /// Bytes of the block if it were finished now.
    pub fn size(&self) -> usize {
        self.open.size()
    }

    /// The whole block, CRC included.
    pub fn finish(self) -> &'b [u8] {
        let size = self.open.finish(self.buffer);
        &self.buffer[..size]
    }
}

/// Writes block after block of numbers into a buffer of its own, of `N` bytes: for a struct that
/// lives as long as the node does. The code and the state of other kinds stay out of its program.
pub type BlockBuilder<const N: usize> = Builder<N, NumberCell>;

/// As [`BlockBuilder`], for channels of any kind.
pub type ValueBuilder<const N: usize> = Builder<N, Cell<TextWriter>>;

/// [`BlockBuilder`] and [`ValueBuilder`].
#[derive(Clone, Debug)]
pub struct Builder<const N: usize, C> {
    buffer: [u8; N],
    open: Option<Open<C>>,
}

impl<const N: usize, C: Cells> Default for Builder<N, C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize, C: Cells> Builder<N, C> {
    /// No block yet.
    pub const fn new() -> Self {
        Self { buffer: [0; N], open: None }
    }

    /// Starts a block; one that was open is given up.
    ///
    /// # Errors
    /// As [`BlockEncoder::new`], and [`BlockError::Kind`] where its rows are numbers and a channel
    /// is neither decimal nor grid; then no block is open.
    pub fn start(&mut self, spec: &BlockSpec<'_>, base_ms: u64) -> Result<(), BlockError> {
        self.open = None;
        self.open = Some(Open::new(&mut self.buffer, spec, base_ms)?);
        Ok(())
    }

    /// True between [`Self::start`] and [`Self::finish`].
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn push_row<V: Write<C>>(&mut self, time_ms: u64, row: &[V]) -> Result<(), BlockError> {
        let open = self.open.as_mut().ok_or(BlockError::NotStarted)?;
        open.push(&mut self.buffer, time_ms, row)
    }

    /// Rows of the open block; 0 without one.
    pub fn count(&self) -> u16 {
        self.open.as_ref().map_or(0, |open| open.tail.count)
    }

    /// Bytes of the open block if it were finished now; 0 without one.
    pub fn size(&self) -> usize {
        self.open.as_ref().map_or(0, Open::size)
    }

    /// The whole block, CRC included; `None` if none is open. It stays in the buffer until the next
    /// is started.
    pub fn finish(&mut self) -> Option<&[u8]> {
        let size = self.open.take()?.finish(&mut self.buffer);
        Some(&self.buffer[..size])
    }
}

impl<const N: usize> BlockBuilder<N> {
    /// Adds a row, as [`BlockEncoder::push`].
    ///
    /// # Errors
    /// As there, and [`BlockError::NotStarted`].
    pub fn push(&mut self, time_ms: u64, numbers: &[i64]) -> Result<(), BlockError> {
        self.push_row(time_ms, numbers)
    }
}

impl<const N: usize> ValueBuilder<N> {
    /// Adds a row, as [`BlockEncoder::push_values`].
    ///
    /// # Errors
    /// As there, and [`BlockError::NotStarted`].
    pub fn push_values(&mut self, time_ms: u64, values: &[Value<'_>]) -> Result<(), BlockError> {
        self.push_row(time_ms, values)
    }
}
