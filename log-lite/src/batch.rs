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

pub(crate) use crate::chunk::MAX_BODY;
use crate::chunk::{ChunkHeader, ChunkKind};
use crate::{crc, varint};

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
    /// Of no batch.
    pub(crate) const EMPTY: Self = Self {
        kind: BatchKind::Trim,
        starts_commit: false,
        partition: 0,
        body_len: 0,
        count: 0,
        offset: 0,
        time_ms: 0,
        body_crc: 0,
    };

    /// The offset after the batch's last record; of a mark, its own.
    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.count)
    }

    /// Writes the header, both checksums included, and returns its length.
    #[inline(never)]
    pub(crate) fn encode(&self, chunk: &ChunkHeader, out: &mut [u8]) -> usize {
        let flag = if self.starts_commit { COMMIT_FLAG } else { 0 };
        let mut rest = out.iter_mut();
        let room = rest.len();
        if let Some(marker) = rest.next() {
            *marker = MARKER | flag | self.kind as u8;
        }
        varint::put(u64::from(self.partition), &mut rest);
        varint::put(u64::from(self.body_len), &mut rest);
        if self.kind.has_count() {
            varint::put(u64::from(self.count), &mut rest);
        }
        varint::put(self.offset.wrapping_sub(chunk.base_offset), &mut rest);
        let time = self.time_ms.wrapping_sub(chunk.base_time_ms);
        varint::put(varint::zigzag(time), &mut rest);
        let at = room - rest.len();
        let crc = crc::header_crc(chunk.epoch, &out[..at], self.body_crc);
        let [crc_0, crc_1] = crc.to_le_bytes();
        let [body_0, body_1, body_2, body_3] = self.body_crc.to_le_bytes();
        if let Some(crcs) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *crcs = [crc_0, crc_1, body_0, body_1, body_2, body_3];
        }
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
        let mut header = Self::EMPTY;
        let len = header.parse_into(bytes, chunk)?;
        Some((header, len))
    }

    /// Takes a header from the start of `bytes` where it stands. What it holds where there is none
    /// is not defined.
    fn parse_into(&mut self, bytes: &[u8], chunk: &ChunkHeader) -> Option<usize> {
        let (marker, mut rest) = bytes.split_first()?;
        if !is_marker_in(chunk.kind, *marker) {
            return None;
        }
        self.starts_commit = marker & COMMIT_FLAG != 0;
        let partition = varint::take(&mut rest);
        let body_len = varint::take(&mut rest);
        self.kind = match marker & (COMPACTED_FLAG | 3) {
            1 => BatchKind::Records,
            2 => BatchKind::Bare,
            3 => BatchKind::Trim,
            4 => BatchKind::Spread,
            5 => BatchKind::Sparse,
            6 => BatchKind::Lost,
            _ => BatchKind::End,
        };
        let count = match self.kind {
            BatchKind::Records | BatchKind::Spread | BatchKind::Sparse => varint::take(&mut rest),
            BatchKind::Bare => 1,
            BatchKind::Trim | BatchKind::Lost | BatchKind::End => 0,
        };
        self.partition = u16::try_from(partition).ok()?;
        self.body_len = bounded(body_len)?;
        self.count = match self.kind {
            BatchKind::Spread => u32::try_from(count).ok()?,
            _ => bounded(count)?,
        };
        self.offset = chunk.base_offset.checked_add(varint::take(&mut rest))?;
        self.offset.checked_add(u64::from(self.count))?;
        let time = varint::unzigzag(varint::take(&mut rest));
        self.time_ms = chunk.base_time_ms.wrapping_add(time);
        let (header, crcs) = bytes.split_at_checked(bytes.len() - rest.len())?;
        let [crc_0, crc_1, body_crc @ ..] = *crcs.first_chunk::<6>()?;
        self.body_crc = u32::from_le_bytes(body_crc);
        let crc = crc::header_crc(chunk.epoch, header, self.body_crc);
        (crc == u16::from_le_bytes([crc_0, crc_1])).then_some(header.len() + 6)
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
