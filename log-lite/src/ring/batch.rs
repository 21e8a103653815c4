//! The header of a batch in a page: the bytes of [`crate::batch`], read and written where the
//! header stands, and with no more than a page can hold. A page has records without a key and trim
//! marks, and no offset is further from its base than it has bytes.

use core::slice::IterMut;

use crate::chunk::ChunkHeader;
use crate::{crc, varint};

/// Longest header in bytes, both checksums included.
pub(super) const MAX_LEN: usize = 1 + 3 + 3 + 5 + varint::MAX_LEN + CRCS;
/// Bytes of the two checksums.
const CRCS: usize = 2 + 4;
/// The first batch of a commit: on flash each is one.
const COMMIT_FLAG: u8 = 0x08;

/// One record without a key; the body is its value.
pub(super) const BARE: u8 = 0xA2;
/// No record: the body is the offset, as a varint, below which all is acknowledged.
pub(super) const TRIM: u8 = 0xA3;

/// A batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct PageBatch {
    /// [`BARE`] or [`TRIM`].
    pub(super) kind: u8,
    pub(super) partition: u16,
    /// Bytes of the body.
    pub(super) body_len: u32,
    /// Time of the record in ms.
    pub(super) time_ms: i64,
    /// Its offset, from the page's base on.
    pub(super) delta: u32,
    /// CRC-32C of the body.
    pub(super) body_crc: u32,
}

impl PageBatch {
    /// Of no batch.
    pub(super) const EMPTY: Self =
        Self { time_ms: 0, delta: 0, body_len: 0, body_crc: 0, partition: 0, kind: TRIM };

    /// Offsets that it covers.
    pub(super) fn count(&self) -> u32 {
        u32::from(TRIM - self.kind)
    }

    /// Writes the header, both checksums included, and returns its length.
    #[inline(always)]
    pub(super) fn encode(&self, chunk: &ChunkHeader, out: &mut [u8]) -> usize {
        let mut rest = out.iter_mut();
        let room = rest.len();
        if let Some(marker) = rest.next() {
            *marker = COMMIT_FLAG | self.kind;
        }
        varint::put(u64::from(self.partition), &mut rest);
        varint::put(u64::from(self.body_len), &mut rest);
        varint::put(u64::from(self.delta), &mut rest);
        let time = self.time_ms.wrapping_sub(chunk.base_time_ms);
        varint::put(varint::zigzag(time), &mut rest);
        let at = room - rest.len();
        let crc = crc::header_crc(chunk.epoch, out.get(..at).unwrap_or_default(), self.body_crc);
        let mut rest = out.get_mut(at..).unwrap_or_default().iter_mut();
        put_le(u32::from(crc), 2, &mut rest);
        put_le(self.body_crc, 4, &mut rest);
        at + CRCS
    }

    /// Takes a header from the start of `bytes` and returns its length, or 0: there is none, and
    /// what this holds is not defined.
    #[inline(always)]
    pub(super) fn parse(&mut self, bytes: &[u8], chunk: &ChunkHeader) -> u32 {
        let mut rest = bytes;
        let Some((marker, behind)) = rest.split_first() else { return 0 };
        self.kind = marker & !COMMIT_FLAG;
        if self.kind & !1 != BARE {
            return 0;
        }
        rest = behind;
        let partition = take(&mut rest);
        if partition > u32::from(u16::MAX) {
            return 0;
        }
        self.partition = partition as u16;
        self.body_len = take(&mut rest);
        self.delta = take(&mut rest);
        let time = varint::unzigzag(varint::take(&mut rest));
        self.time_ms = time.wrapping_add(chunk.base_time_ms);
        let len = bytes.len() - rest.len();
        let Some([crc_0, crc_1, body_crc @ ..]) = rest.first_chunk::<CRCS>() else { return 0 };
        self.body_crc = u32::from_le_bytes(*body_crc);
        let crc = crc::header_crc(chunk.epoch, &bytes[..len], self.body_crc);
        if crc == u16::from_le_bytes([*crc_0, *crc_1]) { (len + CRCS) as u32 } else { 0 }
    }
}

/// The higher of two offsets, once for all who need it: small processors take many instructions.
#[inline(never)]
pub(super) fn later(a: u64, b: u64) -> u64 {
    a.max(b)
}

/// Writes the lowest bytes of a number, lowest first.
#[inline(never)]
fn put_le(mut value: u32, bytes: usize, out: &mut IterMut<'_, u8>) {
    for byte in out.take(bytes) {
        *byte = value as u8;
        value >>= 8;
    }
}

/// Takes a number of 32 bits, as [`varint::take`] does.
#[inline(never)]
fn take(rest: &mut &[u8]) -> u32 {
    let value = varint::take(rest);
    if value >> 32 != 0 {
        *rest = &[];
    }
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchHeader, BatchKind};
    use crate::chunk::ChunkKind;

    const CHUNK: ChunkHeader = ChunkHeader {
        kind: ChunkKind::Page,
        base_offset: 1_000,
        base_time_ms: 1_763_700_000_000,
        epoch: 7,
    };

    #[test]
    fn a_header_in_a_page_has_the_bytes_that_a_header_in_a_segment_has() {
        for (kind, whole) in [(BARE, BatchKind::Bare), (TRIM, BatchKind::Trim)] {
            for (delta, body_len, partition, time_ms) in
                [(0, 0, 0, 0), (300, 70_000, 3, -5), (u32::MAX, 1 << 20, u16::MAX, i64::MIN)]
            {
                let page = PageBatch { time_ms, delta, body_len, body_crc: 77, partition, kind };
                let header = BatchHeader {
                    kind: whole,
                    starts_commit: true,
                    partition,
                    body_len,
                    count: page.count(),
                    offset: 1_000 + u64::from(delta),
                    time_ms,
                    body_crc: 77,
                };
                let (mut out, mut expected) = ([0; 40], [0; 40]);
                let len = page.encode(&CHUNK, &mut out);
                assert_eq!(len, header.encode(&CHUNK, &mut expected));
                assert!(len <= MAX_LEN);
                assert_eq!(out, expected);
                let mut back = PageBatch::EMPTY;
                assert_eq!(back.parse(&out, &CHUNK), len as u32);
                assert_eq!(back, page);
                for cut in 0..len {
                    assert_eq!(back.parse(&out[..cut], &CHUNK), 0, "{cut} bytes");
                }
            }
        }
    }

    #[test]
    fn a_header_with_any_flipped_bit_or_of_another_epoch_is_not_taken() {
        let page = PageBatch { delta: 20, body_len: 90, partition: 3, ..PageBatch::EMPTY };
        let mut out = [0; 40];
        let len = page.encode(&CHUNK, &mut out);
        let mut back = PageBatch::EMPTY;
        for bit in 0..len * 8 {
            let mut bad = out;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(back.parse(&bad, &CHUNK), 0, "bit {bit}");
        }
        assert_eq!(back.parse(&out, &ChunkHeader { epoch: 8, ..CHUNK }), 0);
    }
}
