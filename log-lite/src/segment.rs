//! The head of a segment file: its chunk header, twice, so that one damaged byte does not cost it.
//!
//! ```text
//!  ordinary:   | chunk header | chunk header |                                   batches from 64
//!  compacted:  | chunk header | chunk header | extent | extent |                 batches from 96
//!  extent:     | end offset, u64 | flags, u32 | CRC-32C of epoch, end, flags |
//! ```

use std::io;

use crate::chunk::{ChunkError, ChunkHeader, ChunkKind};
use crate::crc::crc32c;
use crate::storage::SegmentFile;

/// Where the first batch of an ordinary segment begins.
pub(crate) const HEAD_LEN: usize = 2 * ChunkHeader::LEN;
/// Where the first batch of a compacted segment begins.
pub(crate) const COMPACTED_HEAD_LEN: usize = HEAD_LEN + 2 * EXTENT_LEN;

const EXTENT_LEN: usize = 16;
const CLEAN_FLAG: u32 = 1;

/// What a compacted segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The offset after the last that it covers.
    pub(crate) end: u64,
    /// Whether no record in it or before it is superseded by one in it or before it.
    pub(crate) clean: bool,
}

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) chunk: ChunkHeader,
    /// Compacted segments have one.
    pub(crate) extent: Option<Extent>,
    /// Where a copy is that cannot be read, though the other can.
    pub(crate) bad_copy: Option<u64>,
}

impl Head {
    /// Where the first batch begins.
    pub(crate) fn len(&self) -> u64 {
        if self.extent.is_some() { COMPACTED_HEAD_LEN as u64 } else { HEAD_LEN as u64 }
    }
}

impl From<ChunkHeader> for Head {
    /// The head of an ordinary segment.
    fn from(chunk: ChunkHeader) -> Self {
        Self { chunk, extent: None, bad_copy: None }
    }
}

/// The header of a segment that begins with this record.
pub(crate) fn header(base_offset: u64, base_time_ms: i64) -> ChunkHeader {
    // Segments are never written in place of others, so the epoch only has to differ between them.
    let epoch = crc32c(&base_offset.to_le_bytes());
    ChunkHeader { kind: ChunkKind::Segment, base_offset, base_time_ms, epoch }
}

/// Appends the head of a segment to `out`.
pub(crate) fn put_head(header: &ChunkHeader, out: &mut Vec<u8>) {
    let bytes = header.encode();
    out.extend_from_slice(&bytes);
    out.extend_from_slice(&bytes);
}

/// Appends what follows the headers of a compacted segment to `out`.
pub(crate) fn put_extent(header: &ChunkHeader, extent: Extent, out: &mut Vec<u8>) {
    let flags = if extent.clean { CLEAN_FLAG } else { 0 };
    let crc = extent_crc(header.epoch, extent.end, flags);
    for _ in 0..2 {
        out.extend_from_slice(&extent.end.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
    }
}

fn extent_crc(epoch: u32, end: u64, flags: u32) -> u32 {
    let mut covered = [0; 16];
    covered[..4].copy_from_slice(&epoch.to_le_bytes());
    covered[4..12].copy_from_slice(&end.to_le_bytes());
    covered[12..].copy_from_slice(&flags.to_le_bytes());
    crc32c(&covered)
}

/// Reads the head of the segment named `base` from whichever copies are whole.
pub(crate) fn read_head<F: SegmentFile>(
    file: &F,
    base: u64,
) -> io::Result<Result<Head, ChunkError>> {
    let mut bytes = [0; COMPACTED_HEAD_LEN];
    let got = file.read_at(0, &mut bytes)?;
    Ok(decode_head(&bytes[..got], base))
}

fn decode_head(bytes: &[u8], base: u64) -> Result<Head, ChunkError> {
    let mut version = None;
    let mut bad_copy = None;
    let mut chunk = None;
    for (copy, bytes) in copies(bytes, 0, ChunkHeader::LEN) {
        match bytes.and_then(|bytes| bytes.try_into().ok()).map(ChunkHeader::decode) {
            Some(Ok(header)) if header.base_offset == base && header.kind != ChunkKind::Page => {
                chunk.get_or_insert(header);
            }
            Some(Err(ChunkError::Version(found))) => version = Some(found),
            _ => bad_copy = Some(copy),
        }
    }
    let Some(chunk) = chunk else {
        return Err(version.map_or(ChunkError::Invalid, ChunkError::Version));
    };
    if chunk.kind != ChunkKind::Compacted {
        return Ok(Head { chunk, extent: None, bad_copy });
    }
    let mut extent = None;
    for (copy, bytes) in copies(bytes, HEAD_LEN, EXTENT_LEN) {
        match bytes.and_then(|bytes| decode_extent(bytes, &chunk)) {
            Some(found) => extent = extent.or(Some(found)),
            None => bad_copy = bad_copy.or(Some(copy)),
        }
    }
    if extent.is_none() {
        return Err(ChunkError::Invalid);
    }
    Ok(Head { chunk, extent, bad_copy })
}

/// The end that a compacted segment says it has, where its headers cannot be read and so nothing
/// vouches for it but that it is there twice.
pub(crate) fn plain_end<F: SegmentFile>(file: &F, base: u64) -> io::Result<Option<u64>> {
    let mut bytes = [0; 2 * EXTENT_LEN];
    let got = file.read_at(HEAD_LEN as u64, &mut bytes)?;
    let (first, second) = bytes.split_at(EXTENT_LEN);
    let end = u64::from_le_bytes(first[..8].try_into().expect("eight bytes"));
    Ok((got == bytes.len() && first == second && end > base).then_some(end))
}

/// The two copies of something `len` bytes long, and where they are.
fn copies(bytes: &[u8], from: usize, len: usize) -> [(u64, Option<&[u8]>); 2] {
    [from, from + len].map(|at| (at as u64, bytes.get(at..at + len)))
}

fn decode_extent(bytes: &[u8], chunk: &ChunkHeader) -> Option<Extent> {
    let end = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let flags = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
    let crc = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?);
    let whole = crc == extent_crc(chunk.epoch, end, flags) && end > chunk.base_offset;
    whole.then_some(Extent { end, clean: flags & CLEAN_FLAG != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted() -> (Head, Vec<u8>) {
        let chunk =
            ChunkHeader { kind: ChunkKind::Compacted, base_offset: 7, base_time_ms: -3, epoch: 11 };
        let extent = Extent { end: 1_000, clean: true };
        let mut bytes = Vec::new();
        put_head(&chunk, &mut bytes);
        put_extent(&chunk, extent, &mut bytes);
        (Head { chunk, extent: Some(extent), bad_copy: None }, bytes)
    }

    #[test]
    fn the_head_of_a_compacted_segment_outlives_any_flipped_bit_and_says_where_it_is() {
        let (head, bytes) = compacted();
        assert_eq!(decode_head(&bytes, 7), Ok(head));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let copy = [80, 64, 32, 0].into_iter().find(|at| *at <= bit as u64 / 8);
            assert_eq!(decode_head(&bad, 7), Ok(Head { bad_copy: copy, ..head }), "bit {bit}");
        }
    }

    #[test]
    fn a_head_of_which_both_copies_are_gone_is_none() {
        let (_, bytes) = compacted();
        for (first, second) in [(0, 32), (64, 80)] {
            let mut bad = bytes.clone();
            bad[first + 8] ^= 1;
            bad[second + 8] ^= 1;
            assert_eq!(decode_head(&bad, 7), Err(ChunkError::Invalid));
        }
        assert_eq!(decode_head(&bytes, 8), Err(ChunkError::Invalid));
        assert_eq!(decode_head(&bytes[..70], 7), Err(ChunkError::Invalid));
    }
}
