//! The head of a segment file: its chunk header, twice, so that one damaged byte does not cost it.

use std::io;

use crate::chunk::{ChunkError, ChunkHeader, ChunkKind};
use crate::crc::crc32c;
use crate::storage::SegmentFile;

/// Where the first batch begins.
pub(crate) const HEAD_LEN: usize = 2 * ChunkHeader::LEN;

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

/// Reads the head of the segment named `base` from whichever copy is whole.
pub(crate) fn read_head<F: SegmentFile>(
    file: &F,
    base: u64,
) -> io::Result<Result<ChunkHeader, ChunkError>> {
    let mut version = None;
    for copy in 0..2 {
        let mut bytes = [0; ChunkHeader::LEN];
        let at = copy * ChunkHeader::LEN as u64;
        if file.read_at(at, &mut bytes)? < bytes.len() {
            continue;
        }
        match ChunkHeader::decode(&bytes) {
            Ok(head) if head.kind == ChunkKind::Segment && head.base_offset == base => {
                return Ok(Ok(head));
            }
            Err(ChunkError::Version(found)) => version = Some(found),
            _ => {}
        }
    }
    Ok(Err(version.map_or(ChunkError::Invalid, ChunkError::Version)))
}
