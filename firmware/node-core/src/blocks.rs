//! Puts readings together to blocks and says when a block is done.

use headwater_shared::block::{BlockBuilder, BlockError, BlockSpec, CHANNELS_MAX, Clock, Kind};
use heapless::Vec;

/// When a block is sealed, besides when it has no room for another reading.
#[derive(Clone, Copy, Debug)]
pub struct SealPolicy {
    /// This many readings are in it.
    pub readings_max: u16,
    /// Its first reading is this old: the longest that a reset takes from a node's memory.
    pub age_ms_max: u64,
}

/// A block whose bytes will not change again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed<'b> {
    /// Its number in this boot epoch.
    pub(crate) sequence: u32,
    /// When its first reading was taken: ms since boot, or since 1970 once the clock is set.
    pub(crate) time_ms: u64,
    /// The whole block, `[crc32c][body]`.
    pub(crate) bytes: &'b [u8],
}

/// The block in the making, of at most `N` bytes.
#[derive(Debug)]
pub(crate) struct Blocks<const N: usize> {
    builder: BlockBuilder<N>,
    policy: SealPolicy,
    kinds: Vec<Kind, CHANNELS_MAX>,
    boot_epoch: u32,
    period_ms: u32,
    sequence: u32,
    samples: u32,
    opened_ms: u64,
    boot_unix_ms: Option<u64>,
}

impl<const N: usize> Blocks<N> {
    /// No block yet; `kinds` are what each channel holds, as numbers.
    ///
    /// # Errors
    /// [`BlockError::Channels`] for more than a block can hold.
    pub(crate) fn new(
        policy: SealPolicy,
        boot_epoch: u32,
        period_ms: u32,
        kinds: &[Kind],
    ) -> Result<Self, BlockError> {
        let kinds = Vec::from_slice(kinds).map_err(|_| BlockError::Channels(kinds.len()))?;
        Ok(Self {
            builder: BlockBuilder::new(),
            policy,
            kinds,
            boot_epoch,
            period_ms,
            sequence: 0,
            samples: 0,
            opened_ms: 0,
            boot_unix_ms: None,
        })
    }

    /// Adds a reading taken at `uptime_ms`. `boot_unix_ms` is when the node started, if it knows;
    /// a block has one clock, so when that changes the block before is sealed. What gets sealed on
    /// the way goes to `sink`, in order.
    ///
    /// # Errors
    /// Of the encoder, where values and channels do not match; nothing is lost then.
    pub(crate) fn push(
        &mut self,
        uptime_ms: u64,
        boot_unix_ms: Option<u64>,
        values: &[i64],
        sink: &mut impl FnMut(Sealed<'_>),
    ) -> Result<(), BlockError> {
        if self.boot_unix_ms != boot_unix_ms {
            self.seal(sink);
            self.boot_unix_ms = boot_unix_ms;
        }
        self.seal_if_old(uptime_ms, sink);
        if !self.builder.is_open() {
            self.open(uptime_ms)?;
        }
        let time_ms = self.clock_ms(uptime_ms);
        match self.builder.push(time_ms, values) {
            Err(BlockError::Full) if self.builder.count() > 0 => {
                self.seal(sink);
                self.open(uptime_ms)?;
                self.builder.push(time_ms, values)?;
            }
            other => other?,
        }
        self.samples = self.samples.wrapping_add(1);
        if self.builder.count() >= self.policy.readings_max {
            self.seal(sink);
        }
        Ok(())
    }

    /// Seals a block whose time has come though no reading does.
    pub(crate) fn seal_if_old(&mut self, uptime_ms: u64, sink: &mut impl FnMut(Sealed<'_>)) {
        if uptime_ms.saturating_sub(self.opened_ms) >= self.policy.age_ms_max {
            self.seal(sink);
        }
    }

    /// Readings that only RAM holds.
    pub(crate) fn unsealed(&self) -> u16 {
        self.builder.count()
    }

    /// The number of the next block to seal.
    pub(crate) fn sequence(&self) -> u32 {
        self.sequence
    }

    fn open(&mut self, uptime_ms: u64) -> Result<(), BlockError> {
        let clock = if self.boot_unix_ms.is_some() { Clock::Unix } else { Clock::SinceBoot };
        let spec = BlockSpec {
            boot_epoch: self.boot_epoch,
            sequence: self.sequence,
            first_sample: self.samples,
            clock,
            period_ms: self.period_ms,
            kinds: &self.kinds,
        };
        self.opened_ms = uptime_ms;
        self.builder.start(&spec, self.clock_ms(uptime_ms))
    }

    fn seal(&mut self, sink: &mut impl FnMut(Sealed<'_>)) {
        if self.builder.count() == 0 {
            return;
        }
        let (sequence, time_ms) = (self.sequence, self.clock_ms(self.opened_ms));
        if let Some(bytes) = self.builder.finish() {
            sink(Sealed { sequence, time_ms, bytes });
            self.sequence = self.sequence.wrapping_add(1);
        }
    }

    fn clock_ms(&self, uptime_ms: u64) -> u64 {
        self.boot_unix_ms.unwrap_or(0).wrapping_add(uptime_ms)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use headwater_shared::block::BlockDecoder;
    use std::vec::Vec as StdVec;

    const POLICY: SealPolicy = SealPolicy { readings_max: 10, age_ms_max: 1_000 };

    type Rows = StdVec<(u64, i64)>;

    fn blocks<const N: usize>(policy: SealPolicy) -> Blocks<N> {
        Blocks::new(policy, 7, 25, &[Kind::Decimal { scale: 2 }]).unwrap()
    }

    fn collect(out: &mut StdVec<(u32, Clock, u32, Rows)>) -> impl FnMut(Sealed<'_>) {
        |sealed| {
            let mut decoder = BlockDecoder::new(sealed.bytes).unwrap();
            let header = *decoder.header();
            assert_eq!((header.boot_epoch, header.sequence), (7, sealed.sequence));
            assert_eq!(header.base_ms, sealed.time_ms);
            let mut rows = Rows::new();
            let mut values = [0];
            while let Some(time_ms) = decoder.next_row(&mut values) {
                rows.push((time_ms.unwrap(), values[0]));
            }
            out.push((header.sequence, header.clock, header.first_sample, rows));
        }
    }

    #[test]
    fn a_block_is_sealed_when_it_has_all_its_readings() {
        let (mut blocks, mut out) = (blocks::<512>(POLICY), StdVec::new());
        for sample in 0..25 {
            let at_ms = sample as u64 * 25;
            blocks.push(at_ms, None, &[sample], &mut collect(&mut out)).unwrap();
        }
        let heads: StdVec<_> = out.iter().map(|b| (b.0, b.2, b.3.len())).collect();
        assert_eq!(heads, [(0, 0, 10), (1, 10, 10)]);
        assert_eq!(out[1].3[9], (19 * 25, 19));
        assert_eq!(blocks.unsealed(), 5);
    }

    #[test]
    fn a_full_block_is_sealed_without_the_reading_that_did_not_fit() {
        let policy = SealPolicy { readings_max: u16::MAX, age_ms_max: u64::MAX };
        let (mut blocks, mut out) = (blocks::<64>(policy), StdVec::new());
        for sample in 0..200_u64 {
            let value = (sample.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as i64;
            blocks.push(sample * 25, None, &[value], &mut collect(&mut out)).unwrap();
        }
        let rows: StdVec<_> = out.iter().flat_map(|b| b.3.iter().map(|row| row.0)).collect();
        assert!(rows.iter().enumerate().all(|(index, time_ms)| *time_ms == index as u64 * 25));
        assert_eq!(rows.len() + usize::from(blocks.unsealed()), 200);
        assert!(out.len() > 5);
    }

    #[test]
    fn an_old_block_is_sealed_with_or_without_a_new_reading() {
        let (mut blocks, mut out) = (blocks::<512>(POLICY), StdVec::new());
        blocks.push(500, None, &[1], &mut collect(&mut out)).unwrap();
        blocks.seal_if_old(1_499, &mut collect(&mut out));
        assert_eq!(out.len(), 0);
        blocks.seal_if_old(1_500, &mut collect(&mut out));
        assert_eq!(out.len(), 1);
        blocks.push(1_600, None, &[2], &mut collect(&mut out)).unwrap();
        blocks.push(2_600, None, &[3], &mut collect(&mut out)).unwrap();
        assert_eq!(out[1].3, [(1_600, 2)]);
    }

    #[test]
    fn a_block_has_one_clock() {
        let (mut blocks, mut out) = (blocks::<512>(POLICY), StdVec::new());
        blocks.push(100, None, &[1], &mut collect(&mut out)).unwrap();
        blocks.push(125, Some(1_000_000), &[2], &mut collect(&mut out)).unwrap();
        blocks.push(150, Some(1_000_007), &[3], &mut collect(&mut out)).unwrap();
        blocks.seal_if_old(9_999, &mut collect(&mut out));
        let rows: StdVec<_> = out.iter().map(|b| (b.1, b.3[0])).collect();
        let unix = |time_ms, value| (Clock::Unix, (time_ms, value));
        assert_eq!(rows, [(Clock::SinceBoot, (100, 1)), unix(1_000_125, 2), unix(1_000_157, 3)]);
    }
}
