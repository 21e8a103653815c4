//! What segments and partitions hold, added up record by record.

use std::collections::BTreeMap;

use headwater_shared::block::BlockDecoder;
use headwater_shared::envelope::Envelope;
use log_lite::{BatchView, ReadError, Reader};

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
    pub(super) sum: Sum,
    pub(super) partitions: BTreeMap<u16, u64>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) segments: Vec<SegmentSum>,
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
    /// Reads the segments from the one that begins at `from` on.
    pub(super) fn read(log: &Log, sizes: &Sizes, from: u64) -> Result<Self, Failure> {
        let mut survey = Self::default();
        let mut bar = Bar::new();
        let mut reader = Reader::open_dir(&log.journal).map_err(walk::disk)?;
        reader.seek(from.max(reader.position()));
        let (skipped, total) = (sizes.before(from), sizes.total());
        loop {
            match reader.next(u64::MAX) {
                Ok(Some(batch)) => {
                    survey.count(log, &batch);
                    let done = sizes.before(batch.segment()) + batch.bytes().end;
                    bar.set(done.saturating_sub(skipped), total - skipped);
                }
                Ok(None) => break,
                Err(ReadError::Trimmed { .. }) => {}
                Err(problem @ ReadError::Damaged { .. }) => survey.damage.push(problem),
                Err(problem) => return Err(walk::disk(problem)),
            }
        }
        survey.add_files(sizes, from);
        Ok(survey)
    }

    fn count(&mut self, log: &Log, batch: &BatchView<'_>) {
        self.budget.batch(batch);
        let base = batch.segment();
        if self.segments.last().is_none_or(|segment| segment.base != base) {
            self.segments.push(SegmentSum { base, ..SegmentSum::default() });
        }
        let segment = self.segments.last_mut().expect("one was pushed above");
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

    /// Files' sizes, and files in which nothing could be read.
    fn add_files(&mut self, sizes: &Sizes, from: u64) {
        for file in sizes.segments().iter().filter(|file| file.base >= from) {
            match self.segments.binary_search_by_key(&file.base, |segment| segment.base) {
                Ok(at) => self.segments[at].bytes = file.bytes,
                Err(at) => {
                    let (base, bytes) = (file.base, file.bytes);
                    let empty = SegmentSum { base, bytes, end: base, ..SegmentSum::default() };
                    self.segments.insert(at, empty);
                }
            }
        }
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
