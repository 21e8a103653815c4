//! The outbox: sealed blocks in the flash ring until the gateway has them. The one place that knows
//! log-lite.

use crate::{blocks::Sealed, node::BLOCK_BYTES_MAX};
use core::ops::Range;
use embedded_storage::nor_flash::NorFlash;
use headwater_shared::{block::BlockHeader, node::NodeGap};
use heapless::Deque;
use log_lite::{Ring, RingError};

/// The partition that blocks are stored in.
const PARTITION: u16 = 0;
/// Runs of overwritten blocks that are remembered until they are reported; the count of all that
/// were overwritten is in the node's presence anyway.
const GAPS_MAX: usize = 4;
/// With fewer blocks waiting than this no page of unacknowledged blocks is overwritten, so what the
/// oldest is need not be known.
const BACKLOG_MIN: u64 = 8;

/// Why the outbox failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxError {
    /// The flash failed.
    Flash,
    /// The range is too small, or not whole pages: give it at least two.
    Geometry,
    /// The flash holds something newer: erase it, or run the firmware that wrote it.
    Version(u8),
    /// A block is larger than a page or a buffer.
    Size,
    /// Not a block.
    Checksum,
}

impl<E> From<RingError<E>> for OutboxError {
    fn from(error: RingError<E>) -> Self {
        match error {
            RingError::Flash(_) => Self::Flash,
            RingError::Geometry => Self::Geometry,
            RingError::Version(version) => Self::Version(version),
            RingError::TooLarge { .. } | RingError::Buffer { .. } => Self::Size,
            RingError::Checksum => Self::Checksum,
        }
    }
}

/// The oldest block that waits.
#[derive(Clone, Copy, Debug)]
struct Oldest {
    offset: u64,
    boot_epoch: u32,
    sequence: u32,
    first_sample: u32,
    /// Where the blocks of an earlier boot epoch end: last sequence, and sample after the last row.
    run_end: Option<(u32, u32)>,
}

/// Sealed blocks in flash.
pub(crate) struct Outbox<F: NorFlash> {
    ring: Ring<F>,
    oldest: Option<Oldest>,
    gaps: Deque<NodeGap, GAPS_MAX>,
    in_report: Option<NodeGap>,
}

impl<F: NorFlash> Outbox<F> {
    /// Takes up what the flash holds.
    pub(crate) fn open(flash: F, range: Range<u32>) -> Result<Self, OutboxError> {
        let ring = Ring::mount(flash, range)?;
        Ok(Self { ring, oldest: None, gaps: Deque::new(), in_report: None })
    }

    /// The boot epoch of the newest block that waits, or 0.
    pub(crate) fn newest_epoch(&mut self) -> Result<u32, OutboxError> {
        let newest = self.header_at(self.ring.end().saturating_sub(1))?;
        Ok(newest.map_or(0, |(_, header)| header.boot_epoch))
    }

    /// Stores a block; where the ring is full, over the oldest.
    pub(crate) fn push(&mut self, sealed: &Sealed<'_>, epoch: u32) -> Result<(), OutboxError> {
        let waiting = self.ring.end() - self.ring.start();
        let is_known = self.oldest.is_some_and(|oldest| oldest.offset >= self.ring.start());
        if waiting >= BACKLOG_MIN && !is_known {
            self.oldest = self.find_oldest(epoch)?;
        }
        let dropped = self.ring.dropped();
        let time_ms = sealed.time_ms.cast_signed();
        let stored = self.ring.append_block(PARTITION, time_ms, sealed.bytes);
        if self.ring.dropped() != dropped {
            let lost = self.oldest.take();
            self.oldest = self.find_oldest(epoch)?;
            self.note_gap(lost, self.oldest);
        }
        stored?;
        Ok(())
    }

    /// The first block at or after `from`, and its size, in `payload`.
    pub(crate) fn read(
        &mut self,
        from: u64,
        payload: &mut [u8],
    ) -> Result<Option<(u64, usize)>, OutboxError> {
        Ok(self.ring.read(from, payload)?.map(|record| (record.offset, record.len)))
    }

    /// The gateway has every block before this one.
    pub(crate) fn trim(&mut self, before: u64) -> Result<(), OutboxError> {
        Ok(self.ring.trim(before)?)
    }

    /// The offsets that wait.
    pub(crate) fn range(&self) -> Range<u64> {
        self.ring.start()..self.ring.end()
    }

    /// Blocks overwritten before they were acknowledged.
    pub(crate) fn dropped(&self) -> u64 {
        self.ring.dropped()
    }

    /// There is a gap to report.
    pub(crate) fn has_gap(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// The gap to report next; it counts as reported at [`Self::gap_reported`].
    pub(crate) fn report_gap(&mut self) -> Option<NodeGap> {
        self.in_report = self.gaps.front().copied();
        self.in_report
    }

    /// The gateway knows the gap of the last report. What was added to it since remains.
    pub(crate) fn gap_reported(&mut self) {
        let (Some(known), Some(gap)) = (self.in_report.take(), self.gaps.front_mut()) else {
            return;
        };
        if *gap == known {
            self.gaps.pop_front();
        } else {
            gap.first_sequence = known.last_sequence.saturating_add(1);
            gap.rows = gap.rows.saturating_sub(known.rows);
        }
    }

    fn header_at(&mut self, from: u64) -> Result<Option<(u64, BlockHeader)>, OutboxError> {
        let mut block = [0; BLOCK_BYTES_MAX];
        let mut from = from;
        while let Some((offset, size)) = self.read(from, &mut block)? {
            if let Ok(header) = BlockHeader::read(&block[..size]) {
                return Ok(Some((offset, header)));
            }
            from = offset + 1;
        }
        Ok(None)
    }

    fn find_oldest(&mut self, epoch: u32) -> Result<Option<Oldest>, OutboxError> {
        let Some((offset, header)) = self.header_at(self.ring.start())? else { return Ok(None) };
        let BlockHeader { boot_epoch, sequence, first_sample, .. } = header;
        let known = self.oldest.filter(|oldest| oldest.boot_epoch == boot_epoch);
        let run_end = match known {
            _ if boot_epoch == epoch => None,
            Some(oldest) => oldest.run_end,
            None => Some(self.run_end(offset, &header)?),
        };
        Ok(Some(Oldest { offset, boot_epoch, sequence, first_sample, run_end }))
    }

    /// Where the blocks of the boot epoch of `first` end, which is at `offset`.
    fn run_end(&mut self, offset: u64, first: &BlockHeader) -> Result<(u32, u32), OutboxError> {
        let (mut offset, mut last) = (offset, *first);
        while let Some((next, header)) = self.header_at(offset + 1)? {
            if header.boot_epoch != first.boot_epoch {
                break;
            }
            (offset, last) = (next, header);
        }
        Ok((last.sequence, last.first_sample.wrapping_add(last.count.into())))
    }

    /// Blocks from `lost` up to `next` were overwritten.
    fn note_gap(&mut self, lost: Option<Oldest>, next: Option<Oldest>) {
        let Some(lost) = lost else { return };
        let next_in_run = next.filter(|next| next.boot_epoch == lost.boot_epoch);
        if let Some(next) = next_in_run {
            self.add_gap(&lost, next.sequence.wrapping_sub(1), next.first_sample);
            return;
        }
        if let Some((last_sequence, end_sample)) = lost.run_end {
            self.add_gap(&lost, last_sequence, end_sample);
        }
        if let Some(next) = next.filter(|next| next.sequence > 0) {
            let first = Oldest { sequence: 0, first_sample: 0, ..next };
            self.add_gap(&first, next.sequence - 1, next.first_sample);
        }
    }

    fn add_gap(&mut self, first: &Oldest, last_sequence: u32, end_sample: u32) {
        let rows = end_sample.wrapping_sub(first.first_sample);
        let boot_epoch = first.boot_epoch;
        let follows = |gap: &&mut NodeGap| {
            gap.boot_epoch == boot_epoch && gap.last_sequence.wrapping_add(1) == first.sequence
        };
        if let Some(gap) = self.gaps.back_mut().filter(follows) {
            gap.last_sequence = last_sequence;
            gap.rows = gap.rows.saturating_add(rows);
            return;
        }
        if self.gaps.is_full() {
            self.gaps.pop_front();
        }
        let gap = NodeGap { boot_epoch, first_sequence: first.sequence, last_sequence, rows };
        self.gaps.push_back(gap).expect("a full queue has just made room");
    }
}
