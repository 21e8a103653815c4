//! The header of a chunk: a segment of a file journal or a page of flash.
//!
//! ```text
//!  0        4    5    6      8             16            24      28      32
//!  +--------+----+----+------+-------------+-------------+-------+-------+
//!  | "HWLG" | v  |kind| 0 0  | base offset | base time   | epoch | crc   |
//!  +--------+----+----+------+-------------+-------------+-------+-------+
//! ```
//! Little-endian. `crc` is CRC-32C of bytes 0 to 27. Version 1 has segments and pages; version 2
//! adds compacted and sparse segments and changes nothing else, so each kind is always of one version.

use crate::crc::crc32c;

const MAGIC: [u8; 4] = *b"HWLG";
const VERSION_AT: usize = MAGIC.len();
const KIND_AT: usize = VERSION_AT + 1;
const RESERVED_AT: usize = KIND_AT + 1;
const OFFSET_AT: usize = RESERVED_AT + 2;
const TIME_AT: usize = OFFSET_AT + 8;
const EPOCH_AT: usize = TIME_AT + 8;
const CRC_AT: usize = EPOCH_AT + 4;

/// The newest version of the format that this crate writes. It reads this one and all before.
pub const FORMAT_VERSION: u8 = 2;

/// Longest body of a batch in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// What holds the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChunkKind {
    /// A segment of a file journal; its header is there twice.
    Segment = 1,
    /// A page of a flash ring.
    Page = 2,
    /// A segment of a file journal that was written anew, by compaction or repair. Offsets may be
    /// left out of it.
    Compacted = 3,
    /// A segment of a file journal whose owner leaves offsets out, as `BatchKind::Spread`
    /// batches say.
    Sparse = 4,
}

impl ChunkKind {
    /// The version of the format that brought this kind.
    const fn version(self) -> u8 {
        match self {
            Self::Segment | Self::Page => 1,
            Self::Compacted | Self::Sparse => 2,
        }
    }
}

/// What all batches of a chunk share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// What holds the chunk.
    pub kind: ChunkKind,
    /// Offset of the chunk's first record.
    pub base_offset: u64,
    /// Time in ms that the batches' times are relative to.
    pub base_time_ms: i64,
    /// Seeds the checksums of batch headers, so that bytes of an earlier use of the same place are
    /// not taken for batches.
    pub epoch: u32,
}

/// Why bytes are not a chunk header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// Not a header: erased, zero, torn or damaged.
    Invalid,
    /// A whole header of a later version of the format.
    Version(u8),
}

impl ChunkHeader {
    /// Bytes of an encoded header.
    pub const LEN: usize = CRC_AT + 4;

    /// The header's bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        self.encode_into(&mut out);
        out
    }

    /// Writes the header's bytes where they belong.
    pub(crate) fn encode_into(&self, out: &mut [u8; Self::LEN]) {
        out[..VERSION_AT].copy_from_slice(&MAGIC);
        out[VERSION_AT] = self.kind.version();
        out[KIND_AT] = self.kind as u8;
        out[RESERVED_AT..OFFSET_AT].fill(0);
        out[OFFSET_AT..TIME_AT].copy_from_slice(&self.base_offset.to_le_bytes());
        out[TIME_AT..EPOCH_AT].copy_from_slice(&self.base_time_ms.to_le_bytes());
        out[EPOCH_AT..CRC_AT].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = crc32c(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`ChunkError`] where the bytes are not a header that this crate reads.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, ChunkError> {
        let kind = Self::kind_of(bytes)?;
        let mut header = Self { kind, base_offset: 0, base_time_ms: 0, epoch: 0 };
        header.read(bytes);
        Ok(header)
    }

    /// What the header's bytes are of.
    #[inline(always)]
    pub(crate) fn kind_of(bytes: &[u8; Self::LEN]) -> Result<ChunkKind, ChunkError> {
        // The checksum first: so small processors keep nothing on the stack while it is calculated.
        if crc32c(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) || bytes[..VERSION_AT] != MAGIC {
            return Err(ChunkError::Invalid);
        }
        match (bytes[VERSION_AT], bytes[KIND_AT]) {
            (1, 1) => Ok(ChunkKind::Segment),
            (1, 2) => Ok(ChunkKind::Page),
            (2, 3) => Ok(ChunkKind::Compacted),
            (2, 4) => Ok(ChunkKind::Sparse),
            (1, _) => Err(ChunkError::Invalid),
            (version, _) => Err(ChunkError::Version(version)),
        }
    }

    /// Reads all but the kind from a whole header.
    #[inline(always)]
    pub(crate) fn read(&mut self, bytes: &[u8; Self::LEN]) {
        self.base_offset = u64_at(bytes, OFFSET_AT);
        self.base_time_ms = u64_at(bytes, TIME_AT) as i64;
        self.epoch = u32_at(bytes, EPOCH_AT);
    }
}

#[inline(always)]
fn u32_at(bytes: &[u8; ChunkHeader::LEN], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline(always)]
fn u64_at(bytes: &[u8; ChunkHeader::LEN], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_any_flipped_bit_is_noticed() {
        let header = ChunkHeader {
            kind: ChunkKind::Page,
            base_offset: 0x0102_0304_0506_0708,
            base_time_ms: -5,
            epoch: 0xDEAD_BEEF,
        };
        let bytes = header.encode();
        assert_eq!(ChunkHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ChunkHeader::decode(&bad), Err(ChunkError::Invalid), "bit {bit}");
        }
    }

    #[test]
    fn a_whole_header_of_a_later_version_is_told_from_damage() {
        let header =
            ChunkHeader { kind: ChunkKind::Segment, base_offset: 0, base_time_ms: 0, epoch: 0 };
        let mut bytes = header.encode();
        for version in [2, 3, 255] {
            bytes[VERSION_AT] = version;
            let crc = crc32c(&bytes[..CRC_AT]);
            bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(ChunkHeader::decode(&bytes), Err(ChunkError::Version(version)));
        }
    }

    #[test]
    fn compacted_and_sparse_segments_are_of_version_2() {
        for (kind, version) in [
            (ChunkKind::Segment, 1),
            (ChunkKind::Page, 1),
            (ChunkKind::Compacted, 2),
            (ChunkKind::Sparse, 2),
        ] {
            let header = ChunkHeader { kind, base_offset: 9, base_time_ms: 0, epoch: 0 };
            let bytes = header.encode();
            assert_eq!(bytes[VERSION_AT], version);
            assert_eq!(ChunkHeader::decode(&bytes), Ok(header));
        }
    }
}
