//! The header of a batch.
//!
//! ```text
//!  +--------+-----------+----------+---------+--------------+-----------+-------+--------+------+
//!  | marker | partition | body len | (count) | offset delta | time delta| crc16 | crc32c | body |
//!  +--------+-----------+----------+---------+--------------+-----------+-------+--------+------+
//!     1 B      1-3 B       1-3 B     0-3 B       1-10 B        1-10 B      2 B      4 B
//! ```
//! marker = `1010 c0kk`: kk = 1 records, 2 bare, 3 trim mark; c = first batch of a commit. In a
//! compacted segment also `1010 01kk`: kk = 1 sparse records, 2 lost, 3 end mark. It is never 0x00
//! or 0xFF, so a zero-filled file and erased flash both read as the end. Varints are LEB128;
//! deltas are from the chunk's base; the time delta is zigzag. Only the two kinds of records have
//! a count.
//! crc16 covers the chunk's epoch, everything before it and the crc32c field, so a good crc16 says
//! that the length can be trusted even where the body is damaged. crc32c covers the body alone, so
//! `[crc32c][body]` is a node's block as it travels.

use crate::chunk::{ChunkHeader, ChunkKind};
use crate::{crc, varint};

/// Longest body of a batch in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// Longest header of a batch in bytes, both checksums included.
pub const MAX_BATCH_HEADER: usize = 1 + 3 + 3 + 3 + 2 * varint::MAX_LEN + 2 + 4;

/// How far from its segment's base a spread batch may begin: its count is longer than others', so
/// its offset has to be shorter.
#[cfg(any(feature = "std", test))]
pub(crate) const MAX_SPREAD_DELTA: u64 = (1 << 56) - 1;

const MARKER: u8 = 0xA0;
const COMMIT_FLAG: u8 = 0x08;
const COMPACTED_FLAG: u8 = 0x04;

/// What the body of a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BatchKind {
    /// Records, each with a time, a key and a value.
    Records = 1,
    /// One record without a key; the body is its value.
    Bare = 2,
    /// No record: the body is the offset, as a varint, below which all is acknowledged.
    Trim = 3,
    /// Records of which offsets before, between and behind may be left out, or none. Only in sparse
    /// segments.
    Spread = 4,
    /// Records of which some offsets between may be left out. Only in compacted segments.
    Sparse = 5,
    /// No record: the body names a range of offsets that was lost. Only in compacted segments.
    Lost = 6,
    /// No record: the compacted segment is whole up to here, and ends.
    End = 7,
}

impl BatchKind {
    fn has_count(self) -> bool {
        matches!(self, Self::Records | Self::Spread | Self::Sparse)
    }
}

/// A batch header, its deltas resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// What the body is.
    pub kind: BatchKind,
    /// The first batch of a group commit: all before it was synced when it was written.
    pub starts_commit: bool,
    /// The partition of all its records.
    pub partition: u16,
    /// Bytes of the body, at most [`MAX_BODY`].
    pub body_len: u32,
    /// Offsets that the batch covers, which is its number of records, except that
    /// [`BatchKind::Spread`] and [`BatchKind::Sparse`] may have fewer. 1 for [`BatchKind::Bare`], 0 where there is no record.
    pub count: u32,
    /// Offset of the first record.
    pub offset: u64,
    /// Time of the first record in ms.
    pub time_ms: i64,
    /// CRC-32C of the body.
    pub body_crc: u32,
}

/// Why bytes are not a batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Nothing was written here.
    End,
    /// Something was, and it is not a whole header of this chunk.
    Damaged,
}

impl BatchHeader {
    /// The offset after the batch's last record; of a mark, its own.
    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.count)
    }

    /// Writes the header, both checksums included, and returns its length.
    pub(crate) fn encode(&self, chunk: &ChunkHeader, out: &mut [u8; MAX_BATCH_HEADER]) -> usize {
        let flag = if self.starts_commit { COMMIT_FLAG } else { 0 };
        out[0] = MARKER | flag | self.kind as u8;
        let mut at = 1;
        at += varint::encode(u64::from(self.partition), &mut out[at..]);
        at += varint::encode(u64::from(self.body_len), &mut out[at..]);
        if self.kind.has_count() {
            at += varint::encode(u64::from(self.count), &mut out[at..]);
        }
        at += varint::encode(self.offset - chunk.base_offset, &mut out[at..]);
        let time = self.time_ms.wrapping_sub(chunk.base_time_ms);
        at += varint::encode(varint::zigzag(time), &mut out[at..]);
        let crc = crc::header_crc(chunk.epoch, &out[..at], self.body_crc);
        out[at..at + 2].copy_from_slice(&crc.to_le_bytes());
        out[at + 2..at + 6].copy_from_slice(&self.body_crc.to_le_bytes());
        at + 6
    }

    /// Reads a header at the start of `bytes`, and returns it with its length.
    pub(crate) fn decode(bytes: &[u8], chunk: &ChunkHeader) -> Result<(Self, usize), HeaderError> {
        match bytes.first() {
            None | Some(0x00 | 0xFF) => Err(HeaderError::End),
            Some(_) => Self::parse(bytes, chunk).ok_or(HeaderError::Damaged),
        }
    }

    fn parse(bytes: &[u8], chunk: &ChunkHeader) -> Option<(Self, usize)> {
        let marker = *bytes.first()?;
        if !is_marker_in(chunk.kind, marker) {
            return None;
        }
        let kind = match marker & (COMPACTED_FLAG | 3) {
            1 => BatchKind::Records,
            2 => BatchKind::Bare,
            3 => BatchKind::Trim,
            4 => BatchKind::Spread,
            5 => BatchKind::Sparse,
            6 => BatchKind::Lost,
            _ => BatchKind::End,
        };
        let mut at = 1;
        let partition = u16::try_from(varint::decode(bytes, &mut at)?).ok()?;
        let body_len = bounded(varint::decode(bytes, &mut at)?)?;
        let count = match kind {
            BatchKind::Spread => u32::try_from(varint::decode(bytes, &mut at)?).ok()?,
            BatchKind::Records | BatchKind::Sparse => bounded(varint::decode(bytes, &mut at)?)?,
            BatchKind::Bare => 1,
            BatchKind::Trim | BatchKind::Lost | BatchKind::End => 0,
        };
        let offset = chunk.base_offset.checked_add(varint::decode(bytes, &mut at)?)?;
        offset.checked_add(u64::from(count))?;
        let time = varint::unzigzag(varint::decode(bytes, &mut at)?);
        let crcs = bytes.get(at..at + 6)?;
        let body_crc = u32::from_le_bytes([crcs[2], crcs[3], crcs[4], crcs[5]]);
        let crc = u16::from_le_bytes([crcs[0], crcs[1]]);
        if crc != crc::header_crc(chunk.epoch, &bytes[..at], body_crc) {
            return None;
        }
        let header = Self {
            kind,
            starts_commit: marker & COMMIT_FLAG != 0,
            partition,
            body_len,
            count,
            offset,
            time_ms: chunk.base_time_ms.wrapping_add(time),
            body_crc,
        };
        Some((header, at + 6))
    }
}

/// Whether a batch of version 1 may begin with this byte.
pub(crate) fn is_marker(byte: u8) -> bool {
    byte & !(COMMIT_FLAG | 3) == MARKER && byte & 3 != 0
}

/// Whether a batch of such a chunk may begin with this byte.
pub(crate) fn is_marker_in(chunk: ChunkKind, byte: u8) -> bool {
    match chunk {
        ChunkKind::Segment | ChunkKind::Page => is_marker(byte),
        ChunkKind::Compacted => is_marker(byte & !COMPACTED_FLAG),
        ChunkKind::Sparse => {
            is_marker(byte) || byte & !COMMIT_FLAG == MARKER | BatchKind::Spread as u8
        }
    }
}

fn bounded(value: u64) -> Option<u32> {
    (value <= MAX_BODY as u64).then_some(value as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkKind;

    const CHUNK: ChunkHeader = ChunkHeader {
        kind: ChunkKind::Segment,
        base_offset: 1_000,
        base_time_ms: 1_763_700_000_000,
        epoch: 7,
    };

    fn sample() -> BatchHeader {
        BatchHeader {
            kind: BatchKind::Records,
            starts_commit: true,
            partition: 3,
            body_len: 90,
            count: 2,
            offset: 1_020,
            time_ms: 1_763_700_001_000,
            body_crc: 0x1234_5678,
        }
    }

    #[test]
    fn a_header_comes_back_and_a_usual_one_takes_thirteen_bytes() {
        let mut out = [0; MAX_BATCH_HEADER];
        let len = sample().encode(&CHUNK, &mut out);
        assert_eq!(len, 13);
        assert_eq!(BatchHeader::decode(&out, &CHUNK), Ok((sample(), len)));
    }

    #[test]
    fn the_longest_header_fits() {
        let chunk = ChunkHeader { base_offset: 0, base_time_ms: 0, ..CHUNK };
        let header = BatchHeader {
            partition: u16::MAX,
            body_len: MAX_BODY as u32,
            count: MAX_BODY as u32,
            offset: u64::MAX - MAX_BODY as u64,
            time_ms: i64::MIN,
            ..sample()
        };
        let mut out = [0; MAX_BATCH_HEADER];
        assert_eq!(header.encode(&chunk, &mut out), MAX_BATCH_HEADER);
        assert_eq!(BatchHeader::decode(&out, &chunk), Ok((header, MAX_BATCH_HEADER)));
        let chunk = ChunkHeader { kind: ChunkKind::Sparse, ..chunk };
        let kind = BatchKind::Spread;
        let header = BatchHeader { kind, count: u32::MAX, offset: MAX_SPREAD_DELTA, ..header };
        assert_eq!(header.encode(&chunk, &mut out), MAX_BATCH_HEADER);
    }

    #[test]
    fn a_header_of_another_epoch_is_not_taken() {
        let mut out = [0; MAX_BATCH_HEADER];
        sample().encode(&CHUNK, &mut out);
        let later = ChunkHeader { epoch: 8, ..CHUNK };
        assert_eq!(BatchHeader::decode(&out, &later), Err(HeaderError::Damaged));
    }

    #[test]
    fn any_flipped_bit_of_a_header_is_noticed() {
        let mut out = [0; MAX_BATCH_HEADER];
        let len = sample().encode(&CHUNK, &mut out);
        for bit in 0..len * 8 {
            let mut bad = out;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(BatchHeader::decode(&bad, &CHUNK).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn no_marker_looks_like_zero_fill_or_erased_flash() {
        assert!(!is_marker(0x00) && !is_marker(0xFF));
        assert_eq!((0..=255).filter(|byte| is_marker(*byte)).count(), 6);
        let in_compacted = |byte: &u8| is_marker_in(ChunkKind::Compacted, *byte);
        assert!(!in_compacted(&0x00) && !in_compacted(&0xFF));
        assert_eq!((0..=255).filter(in_compacted).count(), 12);
    }

    #[test]
    fn the_kinds_of_version_2_are_batches_of_a_compacted_segment_alone() {
        let compacted = ChunkHeader { kind: ChunkKind::Compacted, ..CHUNK };
        for (kind, count) in [(BatchKind::Sparse, 2), (BatchKind::Lost, 0), (BatchKind::End, 0)] {
            let header = BatchHeader { kind, count, ..sample() };
            let mut out = [0; MAX_BATCH_HEADER];
            let len = header.encode(&compacted, &mut out);
            assert_eq!(BatchHeader::decode(&out, &compacted), Ok((header, len)));
            assert_eq!(BatchHeader::decode(&out, &CHUNK), Err(HeaderError::Damaged));
        }
    }

    #[test]
    fn offsets_are_left_out_in_batches_of_a_sparse_segment_alone() {
        let sparse = ChunkHeader { kind: ChunkKind::Sparse, ..CHUNK };
        let header = BatchHeader { kind: BatchKind::Spread, ..sample() };
        let mut out = [0; MAX_BATCH_HEADER];
        let len = header.encode(&sparse, &mut out);
        assert_eq!(BatchHeader::decode(&out, &sparse), Ok((header, len)));
        let compacted = ChunkHeader { kind: ChunkKind::Compacted, ..CHUNK };
        for other in [CHUNK, compacted] {
            assert_eq!(BatchHeader::decode(&out, &other), Err(HeaderError::Damaged));
        }
    }
}
