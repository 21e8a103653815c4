//! Reads a block, row by row.

use super::bits::BitReader;
use super::series::{SIZED_BITS_MIN, Series, read_sized, unzigzag};
use super::{BlockError, BlockHeader, CHANNELS_MAX, CRC, CRC_SIZE};

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
    values: [Series; CHANNELS_MAX],
    last: [i64; CHANNELS_MAX],
}

impl<'b> BlockDecoder<'b> {
    /// Checks the CRC and reads the header.
    ///
    /// # Errors
    /// [`BlockError::Truncated`], [`BlockError::Crc`], [`BlockError::Version`],
    /// [`BlockError::Codec`], [`BlockError::Scale`], [`BlockError::Malformed`].
    pub fn new(block: &'b [u8]) -> Result<Self, BlockError> {
        let (stored, body) = block.split_first_chunk().ok_or(BlockError::Truncated)?;
        const { assert!(CRC_SIZE == size_of::<u32>()) };
        let stored = u32::from_le_bytes(*stored);
        let computed = CRC.checksum(body);
        if stored != computed {
            return Err(BlockError::Crc { stored, computed });
        }
        let (header, rows) = BlockHeader::parse(body)?;
        if rows_bits_min(&header) > rows.len() * 8 {
            return Err(BlockError::Truncated);
        }
        if header.count == 0 && !rows.is_empty() {
            return Err(BlockError::Malformed);
        }
        Ok(Self {
            header,
            reader: BitReader::new(rows),
            left: header.count,
            due_ms: header.base_ms,
            time: Series::new(),
            values: [Series::new(); CHANNELS_MAX],
            last: [0; CHANNELS_MAX],
        })
    }

    /// What the block says of itself.
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// Reads the next row into `values`, one for each channel, and returns its time in ms by the
    /// block's clock. `None` after the last row and after an error.
    ///
    /// # Errors
    /// [`BlockError::RowWidth`] if `values` has another length (the row is then still there);
    /// [`BlockError::Truncated`] and [`BlockError::Malformed`] end the block.
    pub fn next_row(&mut self, values: &mut [i64]) -> Option<Result<u64, BlockError>> {
        if self.left == 0 {
            return None;
        }
        let channels = self.header.channels();
        if values.len() != channels {
            return Some(Err(BlockError::RowWidth { channels, values: values.len() }));
        }
        let row = self.read_row(values);
        self.left = if row.is_ok() { self.left - 1 } else { 0 };
        Some(row)
    }

    fn read_row(&mut self, values: &mut [i64]) -> Result<u64, BlockError> {
        let is_punctual = self.header.count - self.left < self.header.punctual;
        let late_ms = if is_punctual { 0 } else { self.time.decode(&mut self.reader)? };
        let time_ms = self.due_ms.wrapping_add_signed(late_ms);
        self.due_ms = time_ms.wrapping_add(u64::from(self.header.period_ms));
        let is_first = self.left == self.header.count;
        for ((value, last), series) in values.iter_mut().zip(&mut self.last).zip(&mut self.values) {
            *value = if is_first {
                unzigzag(read_sized(&mut self.reader)?)
            } else {
                last.wrapping_add(series.decode(&mut self.reader)?)
            };
            *last = *value;
        }
        if self.left == 1 && !self.reader.is_at_end() {
            return Err(BlockError::Malformed);
        }
        Ok(time_ms)
    }
}

/// The fewest bits that the rows take: the first values, a bit for each difference and each time that
/// is written.
fn rows_bits_min(header: &BlockHeader) -> usize {
    let channels = header.channels();
    let Some(differences) = usize::from(header.count).checked_sub(1) else { return 0 };
    let times = usize::from(header.count - header.punctual);
    channels * (SIZED_BITS_MIN + differences) + times
}
