//! What segments and partitions hold, added up record by record.

use std::collections::BTreeMap;

use headwater_shared::block::BlockDecoder;
use headwater_shared::envelope::Envelope;
use log_lite::{BatchView, ReadError, Reader, SegmentInfo};

use super::budget::Budget;
use super::place::Log;
use super::progress::Bar;
use super::walk::{self, Sizes};
use crate::config::Format;
use crate::exit::Failure;

/// A reading in memory: a timestamp and a value of 8 bytes each.
const READING_BYTES: u64 = 16;

/// Of a segment or a partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    pub(super) records: u64,
    /// Records that say that something is missing.
    pub(super) gaps: u64,
    /// First and last offset.
    pub(super) offsets: Option<(u64, u64)>,
    /// Earliest and latest time, ms since 1970.
    pub(super) times_ms: Option<(i64, i64)>,
    /// What the payloads would take without the log: as they came, and 16 bytes a reading of a
    /// node's block.
    pub(super) raw: u64,
    /// What they take in the log.
    pub(super) stored: u64,
}

/// A segment and what is in it.
#[derive(Clone, Debug, Default)]
pub(super) struct SegmentSum {
    pub(super) base: u64,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Where its last batch ends.
    pub(super) used: u64,
    /// The offset after its last record.
    pub(super) end: u64,
    pub(super) batches: u64,
    /// Whether its records were read; else the summary beside it was, which does not know payloads
    /// nor damage.
    pub(super) read: bool,
    pub(super) sum: Sum,
    pub(super) partitions: BTreeMap<u16, u64>,
}

/// What is read of the newest segments where summaries tell of the older.
const NEWEST_BYTES: u64 = 64 << 20;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) segments: Vec<SegmentSum>,
    /// Of the segments that were read.
    pub(super) partitions: BTreeMap<u16, Sum>,
    pub(super) damage: Vec<ReadError>,
    pub(super) budget: Budget,
}

impl Sum {
    fn add(&mut self, record: &log_lite::Record<'_>, raw: u64, is_gap: bool) {
        self.records += 1;
        self.gaps += u64::from(is_gap);
        self.raw += raw;
        let (first, _) = self.offsets.unwrap_or((record.offset, record.offset));
        self.offsets = Some((first, record.offset));
        let (first_ms, last_ms) = self.times_ms.unwrap_or((record.time_ms, record.time_ms));
        self.times_ms = Some((first_ms.min(record.time_ms), last_ms.max(record.time_ms)));
    }

    /// Adds another sum.
    pub(super) fn merge(&mut self, other: &Self) {
        self.records += other.records;
        self.gaps += other.gaps;
        self.raw += other.raw;
        self.stored += other.stored;
        let offsets = |(a, b): (u64, u64), (c, d): (u64, u64)| (a.min(c), b.max(d));
        let times = |(a, b): (i64, i64), (c, d): (i64, i64)| (a.min(c), b.max(d));
        self.offsets = both(self.offsets, other.offsets, offsets);
        self.times_ms = both(self.times_ms, other.times_ms, times);
    }

    /// Raw bytes for each byte stored; below 1 where messages are small and the log adds to them.
    pub(super) fn ratio(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a ratio is shown with two digits")]
        let ratio = self.raw as f64 / self.stored as f64;
        (self.stored > 0).then_some(ratio)
    }
}

fn both<T: Copy>(a: Option<T>, b: Option<T>, with: impl FnOnce(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(with(a, b)),
        (a, b) => a.or(b),
    }
}

impl Survey {
    /// Looks at all segments: reads the newest, and the older ones where `full` says so or no
    /// summary tells what they hold.
    pub(super) fn read(log: &Log, full: bool) -> Result<Self, Failure> {
        let sizes = Sizes::of(&log.journal)?;
        let mut survey = Self::default();
        let mut bar = Bar::new();
        let mut reader = Reader::open_dir(&log.journal).map_err(walk::disk)?;
        let segments = sizes.segments();
        for (at, segment) in segments.iter().enumerate() {
            let old = sizes.total() - sizes.before(segment.base) > NEWEST_BYTES;
            let known = if old && !full {
                reader.segment_info(*segment).map_err(walk::disk)?
            } else {
                None
            };
            bar.set(sizes.before(segment.base), sizes.total());
            if let Some(info) = known {
                survey.segments.push(info.into());
                continue;
            }
            survey.segments.push(SegmentSum {
                base: segment.base,
                bytes: segment.bytes,
                end: segment.base,
                read: true,
                ..SegmentSum::default()
            });
            reader.seek(segment.base);
            let until = segments.get(at + 1).map_or(u64::MAX, |next| next.base);
            survey.read_segment(log, &mut reader, until, &mut |batch| {
                bar.set(sizes.before(batch.segment()) + batch.bytes().end, sizes.total());
            })?;
        }
        Ok(survey)
    }

    fn read_segment(
        &mut self,
        log: &Log,
        reader: &mut Reader,
        until: u64,
        each: &mut dyn FnMut(&BatchView<'_>),
    ) -> Result<(), Failure> {
        loop {
            match reader.next(until) {
                Ok(Some(batch)) => {
                    each(&batch);
                    self.count(log, &batch);
                }
                Ok(None) => return Ok(()),
                // Retention deleted it meanwhile.
                Err(ReadError::Trimmed { .. }) => return Ok(()),
                Err(problem @ (ReadError::Damaged { .. } | ReadError::Lost { .. })) => {
                    self.damage.push(problem);
                }
                Err(problem) => return Err(walk::disk(problem)),
            }
        }
    }

    fn count(&mut self, log: &Log, batch: &BatchView<'_>) {
        self.budget.batch(batch);
        let segment = self.segments.last_mut().expect("callers push the segment that they read");
        if batch.segment() != segment.base {
            // The gateway began it since the segments were listed.
            let base = batch.segment();
            self.segments.push(SegmentSum { base, read: true, ..SegmentSum::default() });
        }
        let segment = self.segments.last_mut().expect("there is one");
        let number = batch.partition();
        let partition = self.partitions.entry(number).or_default();
        let is_blocks = log
            .streams
            .partition(number)
            .is_some_and(|place| log.streams.format(&place.stream) == Some(Format::Blocks));
        let stored = batch.bytes().end - batch.bytes().start;
        (segment.used, segment.end) = (batch.bytes().end, batch.end());
        segment.batches += 1;
        segment.sum.stored += stored;
        partition.stored += stored;
        for record in batch.records() {
            let (raw, is_gap) = raw_bytes(record.value, is_blocks);
            segment.sum.add(&record, raw, is_gap);
            partition.add(&record, raw, is_gap);
            *segment.partitions.entry(number).or_default() += 1;
        }
    }
}

impl From<SegmentInfo> for SegmentSum {
    fn from(info: SegmentInfo) -> Self {
        let sum = Sum {
            records: info.partitions.values().sum(),
            offsets: info.end.checked_sub(1).map(|last| (info.base, last)),
            times_ms: info.times_ms,
            ..Sum::default()
        };
        let SegmentInfo { base, end, bytes, used, batches, partitions, .. } = info;
        Self { base, bytes, used, end, batches, read: false, sum, partitions }
    }
}

/// What a value would take without the log, and whether it is a gap record.
fn raw_bytes(value: &[u8], is_blocks: bool) -> (u64, bool) {
    let stored = value.len() as u64;
    match Envelope::decode(value) {
        Ok(Envelope::Publish(publish)) => {
            let block = (is_blocks && publish.rejected.is_none())
                .then(|| BlockDecoder::new(publish.payload).ok())
                .flatten();
            let readings = block
                .map(|block| u64::from(block.header().count) * block.header().channels() as u64);
            let raw = readings.map_or(publish.payload.len() as u64, |n| n * READING_BYTES);
            (raw, false)
        }
        Ok(Envelope::Output(output)) => (output.payload.len() as u64, false),
        Ok(Envelope::Gap(_)) => (stored, true),
        Ok(Envelope::Session(_) | Envelope::Tick(_)) | Err(_) => (stored, false),
    }
}
