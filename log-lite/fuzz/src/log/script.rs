//! Chunks from a script: mostly as the format says, with faults where the script wants them, so
//! that a fuzzer gets behind the checksums. Written from FORMAT.md, not with the crate's own code.

use crc::{CRC_16_IBM_3740, CRC_32_ISCSI, Crc};
use log_lite::{ChunkHeader, ChunkKind};

use super::input::Input;

const CRC16: Crc<u16> = Crc::<u16>::new(&CRC_16_IBM_3740);
const CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

const RECORDS: u8 = 1;
const BARE: u8 = 2;
const TRIM: u8 = 3;
const SPARSE: u8 = 5;
const LOST: u8 = 6;
const END: u8 = 7;

/// What is wrong with a batch.
mod flaw {
    pub(super) const HEADER: u8 = 1;
    pub(super) const BODY: u8 = 2;
    pub(super) const COUNT: u8 = 3;
    pub(super) const CUT: u8 = 4;
    pub(super) const LENGTH: u8 = 5;
}

/// The batches of one chunk.
pub(super) struct Script {
    pub(super) chunk: ChunkHeader,
    pub(super) bytes: Vec<u8>,
    /// The offset that the next batch has if the script does not want another.
    pub(super) next: u64,
    /// The highest offset that any batch lays claim to.
    pub(super) reaches: u64,
    /// What a batch ends with a multiple of; 1 in segments.
    word: usize,
}

impl Script {
    pub(super) fn new(chunk: ChunkHeader, word: usize) -> Self {
        let base = chunk.base_offset;
        Self { chunk, bytes: Vec::new(), next: base, reaches: base, word }
    }

    /// Puts the chunk's header, whole or not. Gives whether it is forged: changed by someone who
    /// sets the checksum right.
    pub(super) fn head(&mut self, input: &mut Input) -> bool {
        let mut head = self.chunk.encode();
        let op = input.byte();
        match op {
            0..=199 => {}
            at @ 200..=231 => {
                head[usize::from(at - 200)] ^= input.byte();
                let crc = CRC32.checksum(&head[..28]);
                head[28..].copy_from_slice(&crc.to_le_bytes());
            }
            at => head[usize::from(at - 232)] ^= input.byte(),
        }
        self.bytes.extend_from_slice(&head);
        (200..=231).contains(&op)
    }

    /// Puts what follows the headers of a compacted segment.
    pub(super) fn extent(&mut self, input: &mut Input) {
        let end = self.chunk.base_offset.wrapping_add(input.number());
        let flags = u32::from(input.byte());
        let epoch = self.chunk.epoch.to_le_bytes();
        let covered = [&epoch[..], &end.to_le_bytes(), &flags.to_le_bytes()].concat();
        for _ in 0..2 {
            let crc = CRC32.checksum(&covered) ^ u32::from(input.byte() == 255);
            self.bytes.extend_from_slice(&covered[4..]);
            self.bytes.extend_from_slice(&crc.to_le_bytes());
        }
    }

    /// One step: a batch, or bytes that are none, or damage to what is there.
    pub(super) fn step(&mut self, input: &mut Input) {
        let op = input.byte();
        match op & 7 {
            0..=3 => self.batch(op, input),
            4 => self.bytes.extend_from_slice(input.take(usize::from(op >> 3))),
            5 => {
                let fill = if op & 8 == 0 { 0x00 } else { 0xFF };
                let len = input.below(1024) as usize;
                self.bytes.extend(std::iter::repeat_n(fill, len));
            }
            6 => {
                let len = self.bytes.len() as u64;
                if len > 0 {
                    self.bytes[input.below(len) as usize] ^= input.byte() | 1;
                }
            }
            _ => {
                let keep = self.bytes.len().saturating_sub(input.number() as usize % 600);
                self.bytes.truncate(keep);
            }
        }
    }

    fn batch(&mut self, op: u8, input: &mut Input) {
        let kind = match self.chunk.kind {
            ChunkKind::Compacted => [RECORDS, SPARSE, LOST, END][usize::from(op & 3)],
            _ => [RECORDS, RECORDS, BARE, TRIM][usize::from(op & 3)],
        };
        let flaw = input.byte();
        let (partition, time) = (input.below(1 << 16), input.number());
        let offset = match op >> 6 {
            0 | 1 => self.next,
            2 => self.next.wrapping_add(input.number()),
            _ => self.next.wrapping_sub(input.number()),
        };
        let (mut body, records) = match kind {
            BARE => (input.take(usize::from(op >> 3 & 7) * 9).to_vec(), 1),
            TRIM => (varint(input.number()), 0),
            LOST => ([vec![input.byte()], varint(input.number())].concat(), 0),
            END => (Vec::new(), 0),
            SPARSE => sparse(input, 1 + usize::from(op >> 4 & 3)),
            _ => records(input, 1 + usize::from(op >> 4 & 3)),
        };
        if flaw == flaw::LENGTH {
            body.extend_from_slice(input.take(5));
        }
        let has_count = kind == RECORDS || kind == SPARSE;
        let count = if has_count && flaw == flaw::COUNT { input.number() } else { records };
        let mut header = vec![0xA0 | (op & 8) | kind];
        header.extend(varint(partition));
        header.extend(varint(body.len() as u64));
        if has_count {
            header.extend(varint(count));
        }
        header.extend(varint(offset.wrapping_sub(self.chunk.base_offset)));
        header.extend(varint(time));
        let body_crc = CRC32.checksum(&body) ^ u32::from(flaw == flaw::BODY);
        let mut digest = CRC16.digest();
        digest.update(&self.chunk.epoch.to_le_bytes());
        digest.update(&header);
        digest.update(&body_crc.to_le_bytes());
        let crc = digest.finalize() ^ u16::from(flaw == flaw::HEADER);
        let len = header.len() + 6 + body.len();
        self.bytes.extend(std::iter::repeat_n(0x5A, len.next_multiple_of(self.word) - len));
        self.bytes.extend(header);
        self.bytes.extend(crc.to_le_bytes());
        self.bytes.extend(body_crc.to_le_bytes());
        self.bytes.extend(body);
        if flaw == flaw::CUT {
            let keep = self.bytes.len() - (input.number() as usize).min(len);
            self.bytes.truncate(keep);
        }
        self.next = offset.wrapping_add(count);
        if count > 0 {
            self.reaches = self.reaches.max(offset).max(self.next);
        }
    }
}

/// The body of a sparse batch, and the offsets that it covers.
fn sparse(input: &mut Input, count: usize) -> (Vec<u8>, u64) {
    let (mut body, mut covers) = (varint(input.number()), 0u64);
    for _ in 0..count {
        let skipped = input.number();
        body.extend(varint(skipped));
        body.extend(records(input, 1).0);
        covers = covers.wrapping_add(skipped).wrapping_add(1);
    }
    (body, covers)
}

/// The body of a batch of records, and how many there are.
fn records(input: &mut Input, count: usize) -> (Vec<u8>, u64) {
    let mut body = Vec::new();
    for _ in 0..count {
        body.extend(varint(input.number()));
        for _ in 0..2 {
            let len = usize::from(input.byte());
            // Longer than what follows: a length that lies.
            body.extend(varint(len as u64));
            body.extend_from_slice(input.take(len));
        }
    }
    (body, count as u64)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A header of a segment whose epoch is the one that the format gives it.
pub(super) fn segment(base_offset: u64, base_time_ms: i64) -> ChunkHeader {
    let epoch = CRC32.checksum(&base_offset.to_le_bytes());
    ChunkHeader { kind: ChunkKind::Segment, base_offset, base_time_ms, epoch }
}

/// A header of a segment that was compacted so often.
pub(super) fn compacted(base_offset: u64, base_time_ms: i64, epoch: u32) -> ChunkHeader {
    ChunkHeader { kind: ChunkKind::Compacted, base_offset, base_time_ms, epoch }
}

/// Sets the checksum at the end of some bytes right.
pub(super) fn seal(bytes: &mut [u8]) {
    if let Some((checked, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = CRC32.checksum(checked).to_le_bytes();
    }
}
