//! Appending under offsets that the owner gives: for a log that holds some records of another one
//! under the offsets that they have there. What is left out was never there, and is no damage.

use crate::commit::Pending;
use crate::error::AppendError;
use crate::journal::{Journal, MAX_PENDING};
use crate::record;
use crate::storage::Storage;
use crate::varint;

/// Offsets that one batch covers at most.
const MAX_SPAN: u64 = u32::MAX as u64;
/// Offsets that are left out at most at a time; each [`MAX_SPAN`] of them costs a batch.
const MAX_LEFT_OUT: u64 = 1 << 44;

impl<S: Storage> Journal<S> {
    /// Takes a record into memory under an offset that is not taken yet; those before it that are
    /// not taken either are left out for good. It is durable after the next successful
    /// [`Journal::commit`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let (mut alarms, _) = log_lite::Journal::open_dir(dir.path(), Default::default())?;
    /// alarms.append_at(1_700, 3, 0, b"pump-7", b"too hot")?;
    /// alarms.append_at(2_950, 3, 0, b"pump-7", b"fine")?;
    /// alarms.commit()?;
    /// let mut reader = log_lite::Reader::open_dir(dir.path())?;
    /// let batch = reader.next(alarms.end())?.expect("there are records");
    /// let offsets: Vec<u64> = batch.records().map(|record| record.offset).collect();
    /// assert_eq!(offsets, [1_700, 2_950]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AppendError`]; the record is then not taken.
    pub fn append_at(
        &mut self,
        offset: u64,
        partition: u16,
        time_ms: i64,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), AppendError> {
        let next = self.next_offset();
        if offset < next {
            return Err(AppendError::Taken { given: offset, next });
        }
        let end = offset.checked_add(1).ok_or(AppendError::Exhausted)?;
        self.is_near(offset)?;
        // Of a long stretch that is left out, all but the end gets batches of its own.
        let from = if end - next > MAX_SPAN { end - MAX_SPAN } else { next };
        let max = self.max_body();
        let open = self.pending.last().filter(|batch| {
            from == next
                && batch.is_spread
                && batch.partition == partition
                && end - batch.offset <= MAX_SPAN
        });
        let base_ms = open.map_or(time_ms, |batch| batch.time_ms);
        let size = |skipped: u64, base_ms: i64| {
            let delta = time_ms.wrapping_sub(base_ms);
            varint::len(skipped) + record::encoded_len(delta, key, value)
        };
        let joins = open
            .is_some_and(|batch| batch.body_len + size(offset - batch.records_end, base_ms) <= max);
        let (skipped, base_ms) = match open.filter(|_| joins) {
            Some(batch) => (offset - batch.records_end, base_ms),
            None => (offset - from, time_ms),
        };
        let len = size(skipped, base_ms);
        if len > max {
            return Err(AppendError::TooLarge { bytes: len, max });
        }
        self.has_room_for(len)?;
        if !joins {
            self.leave_out(from, partition, time_ms);
            self.open_spread(from, partition, time_ms);
        }
        let delta = time_ms.wrapping_sub(base_ms);
        record::put_sparse(&mut self.bodies, skipped, delta, key, value);
        let batch = self.pending.last_mut().expect("a batch was opened above");
        batch.count = (end - batch.offset) as u32;
        batch.records += 1;
        batch.body_len += len;
        batch.payload += (key.len() + value.len()) as u64;
        batch.times_ms = (batch.times_ms.0.min(time_ms), batch.times_ms.1.max(time_ms));
        batch.records_end = end;
        self.next = end;
        self.asked += (key.len() + value.len()) as u64;
        Ok(())
    }

    /// Leaves out all offsets below `offset` that are not taken yet; durable after the next
    /// successful [`Journal::commit`]. Unlike what [`Journal::advance_to`] passes, they were never
    /// there: no reader is told that something is missing.
    ///
    /// # Errors
    /// [`AppendError`]; nothing is left out then.
    pub fn skip_to(&mut self, offset: u64) -> Result<(), AppendError> {
        self.has_room_for(0)?;
        self.is_near(offset)?;
        self.leave_out(offset, 0, 0);
        Ok(())
    }

    fn is_near(&self, offset: u64) -> Result<(), AppendError> {
        let next = self.next_offset();
        let begins_here = self.segments.is_empty() && self.pending.is_empty();
        if !begins_here && offset.saturating_sub(next) > MAX_LEFT_OUT {
            return Err(AppendError::Far { given: offset, next, max: MAX_LEFT_OUT });
        }
        Ok(())
    }

    fn has_room_for(&self, len: usize) -> Result<(), AppendError> {
        if self.poisoned {
            Err(AppendError::Poisoned)
        } else if self.bodies.len() + len > MAX_PENDING {
            Err(AppendError::Full { bytes: self.bodies.len() })
        } else {
            Ok(())
        }
    }

    /// Batches without a record up to `offset`; a log without a record just begins there.
    fn leave_out(&mut self, offset: u64, partition: u16, time_ms: i64) {
        if self.segments.is_empty() && self.pending.is_empty() && offset > self.next {
            (self.end, self.next) = (offset, offset);
        }
        while self.next < offset {
            self.open_spread(self.next, partition, time_ms);
            let batch = self.pending.last_mut().expect("a batch was just opened");
            batch.count = (offset - batch.offset).min(MAX_SPAN) as u32;
            self.next += u64::from(batch.count);
        }
    }

    fn open_spread(&mut self, offset: u64, partition: u16, time_ms: i64) {
        self.pending.push(Pending {
            partition,
            offset,
            count: 0,
            records: 0,
            is_spread: true,
            records_end: offset,
            time_ms,
            body_at: self.bodies.len(),
            body_len: 0,
            payload: 0,
            times_ms: (time_ms, time_ms),
        });
    }
}
