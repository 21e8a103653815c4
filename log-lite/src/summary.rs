//! What a sealed segment holds, beside it in a small file, so that a reader can pass it by.
//!
//! ```text
//!  0      4   5   6     8             16      20      24        28         32           40
//!  +------+---+---+-----+-------------+-------+-------+---------+----------+------------+---
//!  | HWSU | 1 | m | 0 0 | base offset | epoch | used  | last at | last crc | end offset |
//!  +------+---+---+-----+-------------+-------+-------+---------+----------+------------+---
//!     40        48        56        64           72           80           84      88
//!  ---+---------+---------+---------+------------+------------+------------+-------+
//!     | records | batches | payload | first time | last time  | partitions | index |
//!  ---+---------+---------+---------+------------+------------+------------+-------+
//!  88
//!  +-------------------------------+------------------------------------------+--------+
//!  | (partition delta, records)*   | (offset delta, byte delta, time delta)*  | crc32c |
//!  +-------------------------------+------------------------------------------+--------+
//! ```
//! Little-endian; the two lists are varints. `m` is 1 where the segment has more partitions than
//! are listed. It is never synced and decides nothing that the segment does not: a reader believes
//! it only if the segment's head and last batch are those that it names and nothing follows, and
//! else walks the segment.

use std::collections::BTreeMap;
use std::io;

use crate::batch::{BatchHeader, MAX_BATCH_HEADER};
use crate::chunk::ChunkHeader;
use crate::crc::crc32c;
use crate::record::Records;
use crate::segment::{HEAD_LEN, Head};
use crate::storage::{SegmentFile, Storage};
use crate::varint;
use crate::verify::SegmentInfo;
use crate::walk::{Located, Met, Walk};

const MAGIC: [u8; 4] = *b"HWSU";
const VERSION: u8 = 1;
const HEAD: usize = 88;
/// Partitions that are listed; a segment with more is never passed by for its partitions.
const MAX_PARTITIONS: usize = 4096;
/// Places that are listed; beyond them every second one is given up.
const MAX_STRETCHES: usize = 1024;
/// Bytes between two places, at first.
const STEP: u64 = 64 << 10;
/// No summary is longer.
pub(crate) const MAX_SUMMARY: usize = HEAD + MAX_PARTITIONS * 13 + MAX_STRETCHES * 30 + 4;

/// Some batches of a segment, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    offset: u64,
    byte: u64,
    latest_ms: i64,
}

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    base: u64,
    epoch: u32,
    /// Where the last batch begins, its body's checksum, and where it ends.
    last_at: u64,
    last_crc: u32,
    pub(crate) used: u64,
    /// The offset after the last record.
    pub(crate) end: u64,
    pub(crate) records: u64,
    pub(crate) batches: u64,
    /// Bytes of keys and values.
    pub(crate) payload: u64,
    /// Earliest and latest time in ms.
    pub(crate) times_ms: (i64, i64),
    /// Records of each partition; `None` where there are more than are listed.
    pub(crate) partitions: Option<BTreeMap<u16, u64>>,
    stretches: Vec<Stretch>,
}

impl Summary {
    /// The summary of an open segment, if there is one and it is this segment's.
    pub(crate) fn load<S: Storage>(
        storage: &S,
        file: &S::File,
        chunk: &ChunkHeader,
    ) -> Option<Self> {
        let bytes = storage.read_summary(chunk.base_offset, MAX_SUMMARY).ok()??;
        let summary = Self::decode(&bytes)?;
        summary.is_of(file, chunk).unwrap_or(false).then_some(summary)
    }

    /// As the verifier says it; `None` where not all partitions are listed.
    pub(crate) fn info(self, head: &Head, bytes: u64) -> Option<SegmentInfo> {
        Some(SegmentInfo {
            base: self.base,
            end: head.extent.map_or(self.end, |extent| extent.end),
            compacted: head.extent.is_some(),
            bytes,
            used: self.used,
            batches: self.batches,
            payload: self.payload,
            times_ms: Some(self.times_ms),
            partitions: self.partitions?,
        })
    }

    /// Whether any record may be of these partitions.
    pub(crate) fn has_any(&self, wanted: &[u16]) -> bool {
        let listed = self.partitions.as_ref();
        listed.is_none_or(|listed| wanted.iter().any(|partition| listed.contains_key(partition)))
    }

    /// The last place, as byte and offset, at or before which no offset from `offset` on lies.
    pub(crate) fn before_offset(&self, offset: u64) -> (u64, u64) {
        let after = self.stretches.partition_point(|stretch| stretch.offset <= offset);
        let found = self.stretches[after.saturating_sub(1)];
        (found.byte, found.offset)
    }

    /// The first offset of the first stretch with a record at or after `time_ms`.
    pub(crate) fn before_time(&self, time_ms: i64) -> Option<u64> {
        let found = self.stretches.iter().find(|stretch| stretch.latest_ms >= time_ms);
        found.map(|stretch| stretch.offset)
    }

    fn is_of<F: SegmentFile>(&self, file: &F, chunk: &ChunkHeader) -> io::Result<bool> {
        if (chunk.base_offset, chunk.epoch) != (self.base, self.epoch) {
            return Ok(false);
        }
        let mut bytes = [0; MAX_BATCH_HEADER];
        let got = file.read_at(self.last_at, &mut bytes)?;
        let Ok((last, len)) = BatchHeader::decode(&bytes[..got], chunk) else { return Ok(false) };
        let ends = self.last_at + len as u64 + u64::from(last.body_len);
        let mut behind = [0];
        Ok(last.body_crc == self.last_crc
            && ends == self.used
            // Passing the segment by leads behind it, or a reader would come here for ever.
            && last.end() == self.end
            && self.end > self.base
            && (file.read_at(self.used, &mut behind)? == 0 || behind == [0]))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let empty = BTreeMap::new();
        let partitions = self.partitions.as_ref().unwrap_or(&empty);
        let mut out = Vec::with_capacity(HEAD + partitions.len() * 4 + self.stretches.len() * 12);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, u8::from(self.partitions.is_none()), 0, 0]);
        out.extend_from_slice(&self.base.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        for place in [self.used, self.last_at] {
            // A segment has at most a gibibyte and one batch.
            out.extend_from_slice(&(place as u32).to_le_bytes());
        }
        out.extend_from_slice(&self.last_crc.to_le_bytes());
        for number in [self.end, self.records, self.batches, self.payload] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.times_ms.0.to_le_bytes());
        out.extend_from_slice(&self.times_ms.1.to_le_bytes());
        for count in [partitions.len(), self.stretches.len()] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        let mut put = |value| {
            let mut bytes = [0; varint::MAX_LEN];
            let len = varint::encode(value, &mut bytes);
            out.extend_from_slice(&bytes[..len]);
        };
        let mut before = 0;
        for (partition, records) in partitions {
            put(u64::from(*partition - before));
            put(*records);
            before = *partition;
        }
        let (mut offset, mut byte, mut time) = (self.base, HEAD_LEN as u64, self.times_ms.0);
        for stretch in &self.stretches {
            put(stretch.offset - offset);
            put(stretch.byte - byte);
            put(varint::zigzag(stretch.latest_ms.wrapping_sub(time)));
            (offset, byte, time) = (stretch.offset, stretch.byte, stretch.latest_ms);
        }
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (checked, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let (head, lists) = checked.split_at_checked(HEAD)?;
        let whole = crc == crc32c(checked).to_le_bytes() && bytes.len() <= MAX_SUMMARY;
        if !whole || head[..4] != MAGIC || head[4] != VERSION || head[5] > 1 || head[6..8] != [0; 2]
        {
            return None;
        }
        let mut at = 0;
        let mut summary = Self {
            base: u64_at(head, 8),
            epoch: u32_at(head, 16),
            used: u64::from(u32_at(head, 20)),
            last_at: u64::from(u32_at(head, 24)),
            last_crc: u32_at(head, 28),
            end: u64_at(head, 32),
            records: u64_at(head, 40),
            batches: u64_at(head, 48),
            payload: u64_at(head, 56),
            times_ms: (u64_at(head, 64) as i64, u64_at(head, 72) as i64),
            partitions: None,
            stretches: Vec::new(),
        };
        let listed = summary.decode_partitions(u32_at(head, 80), lists, &mut at)?;
        summary.partitions = (head[5] == 0).then_some(listed);
        summary.decode_stretches(u32_at(head, 84), lists, &mut at)?;
        (at == lists.len() && !summary.stretches.is_empty()).then_some(summary)
    }

    fn decode_partitions(
        &self,
        count: u32,
        lists: &[u8],
        at: &mut usize,
    ) -> Option<BTreeMap<u16, u64>> {
        let mut listed = BTreeMap::new();
        let mut partition = 0u64;
        for nth in 0..count {
            let delta = varint::decode(lists, at)?;
            if delta == 0 && nth > 0 {
                return None;
            }
            partition = partition.checked_add(delta)?;
            listed.insert(u16::try_from(partition).ok()?, varint::decode(lists, at)?);
        }
        Some(listed)
    }

    fn decode_stretches(&mut self, count: u32, lists: &[u8], at: &mut usize) -> Option<()> {
        let (mut offset, mut byte, mut latest_ms) = (self.base, HEAD_LEN as u64, self.times_ms.0);
        for _ in 0..count {
            offset = offset.checked_add(varint::decode(lists, at)?)?;
            byte = byte.checked_add(varint::decode(lists, at)?)?;
            latest_ms = latest_ms.wrapping_add(varint::unzigzag(varint::decode(lists, at)?));
            if offset > self.end || byte > self.used {
                return None;
            }
            self.stretches.push(Stretch { offset, byte, latest_ms });
        }
        Some(())
    }
}

/// Makes a summary while batches are written or read, in order.
#[derive(Debug)]
pub(crate) struct Builder {
    summary: Summary,
    step: u64,
}

impl Builder {
    pub(crate) fn new(chunk: &ChunkHeader) -> Self {
        let summary = Summary {
            base: chunk.base_offset,
            epoch: chunk.epoch,
            last_at: 0,
            last_crc: 0,
            used: HEAD_LEN as u64,
            end: chunk.base_offset,
            records: 0,
            batches: 0,
            payload: 0,
            times_ms: (i64::MAX, i64::MIN),
            partitions: Some(BTreeMap::new()),
            stretches: Vec::new(),
        };
        Self { summary, step: STEP }
    }

    /// Reads what lies before `until`. `None` where that is not whole.
    pub(crate) fn scan<F: SegmentFile>(
        file: &F,
        chunk: ChunkHeader,
        until: u64,
    ) -> io::Result<Option<Self>> {
        let (mut walk, mut builder) = (Walk::new(&chunk.into()), Self::new(&chunk));
        while walk.pos() < until {
            match walk.next(file, &|_| true, false)? {
                Met::Batch(batch) => builder.add_read(&batch, walk.body(file, &batch)?),
                Met::Hole(_) | Met::Lost(_) | Met::End { .. } => return Ok(None),
            }
        }
        Ok((walk.pos() == until).then_some(builder))
    }

    /// A batch that was read.
    pub(crate) fn add_read(&mut self, batch: &Located, body: &[u8]) {
        self.add_batch(batch.at, batch.next, &batch.header, body);
    }

    /// A batch from byte `at` to `next`.
    pub(crate) fn add_batch(&mut self, at: u64, next: u64, header: &BatchHeader, body: &[u8]) {
        let (mut records, mut payload, mut times_ms) = (0, 0, (i64::MAX, i64::MIN));
        for record in Records::new(*header, body) {
            records += 1;
            payload += (record.key.len() + record.value.len()) as u64;
            times_ms = widest(times_ms, (record.time_ms, record.time_ms));
        }
        self.add(at, next, header, (records, payload), times_ms);
    }

    /// A batch from byte `at` to `next`, its records and the bytes of their keys and values, and
    /// their earliest and latest time.
    pub(crate) fn add(
        &mut self,
        at: u64,
        next: u64,
        header: &BatchHeader,
        (records, payload): (u64, u64),
        times_ms: (i64, i64),
    ) {
        let summary = &mut self.summary;
        (summary.last_at, summary.last_crc, summary.used) = (at, header.body_crc, next);
        summary.end = summary.end.max(header.end());
        if records == 0 {
            return;
        }
        summary.batches += 1;
        summary.records += records;
        summary.payload += payload;
        summary.times_ms = widest(summary.times_ms, times_ms);
        if let Some(partitions) = &mut summary.partitions {
            *partitions.entry(header.partition).or_default() += records;
            if partitions.len() > MAX_PARTITIONS {
                summary.partitions = None;
            }
        }
        self.add_to_index(at, header.offset, times_ms.1);
    }

    fn add_to_index(&mut self, byte: u64, offset: u64, latest_ms: i64) {
        let stretches = &mut self.summary.stretches;
        if let Some(last) = stretches.last_mut().filter(|last| byte < last.byte + self.step) {
            last.latest_ms = last.latest_ms.max(latest_ms);
            return;
        }
        if stretches.len() == MAX_STRETCHES {
            for at in 0..MAX_STRETCHES / 2 {
                let (first, second) = (stretches[2 * at], stretches[2 * at + 1]);
                let latest_ms = first.latest_ms.max(second.latest_ms);
                stretches[at] = Stretch { latest_ms, ..first };
            }
            stretches.truncate(MAX_STRETCHES / 2);
            self.step *= 2;
            return self.add_to_index(byte, offset, latest_ms);
        }
        stretches.push(Stretch { offset, byte, latest_ms });
    }

    /// The summary of what was added, if that was anything.
    pub(crate) fn finish(self) -> Option<Summary> {
        (self.summary.records > 0).then_some(self.summary)
    }
}

fn widest(a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
    (a.0.min(b.0), a.1.max(b.1))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchKind;
    use crate::segment;

    /// A summary of batches of `size` bytes, each of one record of the next partition.
    fn sample(batches: u64, size: u64, partitions: u64) -> Summary {
        let chunk = segment::header(1_000, 0);
        let mut builder = Builder::new(&chunk);
        for n in 0..batches {
            let header = BatchHeader {
                kind: BatchKind::Records,
                starts_commit: true,
                partition: (n % partitions) as u16,
                body_len: 0,
                count: 1,
                offset: 1_000 + n,
                time_ms: 0,
                body_crc: n as u32,
            };
            let at = 64 + n * size;
            let time = (n as i64 * 37) % 100 - 50;
            builder.add(at, at + size, &header, (1, size - 13), (time, time));
        }
        builder.finish().expect("it has records")
    }

    #[test]
    fn a_summary_comes_back_and_any_flipped_bit_is_noticed() {
        let summary = sample(300, 4_000, 7);
        let bytes = summary.encode();
        assert_eq!(Summary::decode(&bytes).as_ref(), Some(&summary));
        assert_eq!((summary.records, summary.times_ms), (300, (-50, 49)));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Summary::decode(&bad), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Summary::decode(&bytes[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn a_place_is_never_behind_what_is_looked_for_and_at_most_a_step_before_it() {
        let summary = sample(3_000, 4_000, 7);
        for n in 0..3_000 {
            let (byte, offset) = summary.before_offset(1_000 + n);
            assert_eq!(byte, 64 + (offset - 1_000) * 4_000);
            assert!(offset <= 1_000 + n && (n + 1_000 - offset) * 4_000 <= STEP + 4_000);
        }
        let place = summary.before_time(49).unwrap() - 1_000;
        let first = (0..3_000).find(|n| (n * 37) % 100 - 50 >= 49).unwrap();
        assert!(place as i64 <= first && first < place as i64 + 17);
        assert_eq!(summary.before_time(50), None);
    }

    #[test]
    fn the_size_has_a_bound_whatever_the_segment_holds() {
        let summary = sample(70_000, 15_000, 65_536);
        assert_eq!(summary.partitions, None);
        assert!(summary.has_any(&[9]));
        assert!(summary.stretches.len() <= MAX_STRETCHES);
        let bytes = summary.encode();
        assert!(bytes.len() <= MAX_SUMMARY, "{}", bytes.len());
        assert_eq!(Summary::decode(&bytes), Some(summary));
    }

    #[test]
    fn only_partitions_that_are_there_are_looked_for() {
        let summary = sample(100, 500, 7);
        assert!(summary.has_any(&[3, 900]));
        assert!(!summary.has_any(&[7, 900]));
    }
}
