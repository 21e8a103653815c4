//! Records, and the body of a batch of them.
//!
//! ```text
//!  record =                | time delta | key len | key | value len | value |   one after the other
//!  spread =               (| skipped | time delta | key len | key | value len | value |)
//!  sparse = | written |   (| skipped | time delta | key len | key | value len | value |)
//! ```
//! The time delta is a zigzag varint from the batch's time; lengths are varints. `skipped` is a
//! varint: the offsets between the record before (at first the batch's offset) and this one.
//! `written` stands once at the start: the time in ms by which the records had been written, a
//! zigzag varint from the batch's time.
//!
//! The body of a lost range is the code of a reason (`Why`), a byte, and the number of its
//! offsets, a varint.

use crate::batch::{BatchHeader, BatchKind};
use crate::error::{Lost, Why};
use crate::varint;

/// One record of the log, borrowed from where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the log: one sequence for all partitions, dense but for what compaction removed.
    pub offset: u64,
    /// Its partition.
    pub partition: u16,
    /// Its time in ms, as the writer gave it.
    pub time_ms: i64,
    /// Its key, perhaps empty.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// Bytes that a record takes in a body.
pub(crate) fn encoded_len(time_delta: i64, key: &[u8], value: &[u8]) -> usize {
    let lengths = varint::len(key.len() as u64) + varint::len(value.len() as u64);
    varint::len(varint::zigzag(time_delta)) + lengths + key.len() + value.len()
}

/// Appends a record to a body.
pub(crate) fn put(body: &mut Vec<u8>, time_delta: i64, key: &[u8], value: &[u8]) {
    put_varint(body, varint::zigzag(time_delta));
    put_varint(body, key.len() as u64);
    body.extend_from_slice(key);
    put_varint(body, value.len() as u64);
    body.extend_from_slice(value);
}

/// Begins the body of a sparse batch.
pub(crate) fn put_written(body: &mut Vec<u8>, since_batch_ms: i64) {
    put_varint(body, varint::zigzag(since_batch_ms));
}

/// Appends a record to the body of a sparse batch.
pub(crate) fn put_sparse(body: &mut Vec<u8>, skipped: u64, delta: i64, key: &[u8], value: &[u8]) {
    put_varint(body, skipped);
    put(body, delta, key, value);
}

/// Appends the body of a lost range.
pub(crate) fn put_lost(body: &mut Vec<u8>, offsets: u64, why: Why) {
    body.push(why.code());
    put_varint(body, offsets);
}

/// The range that the body of a lost batch names.
pub(crate) fn lost(segment: u64, header: &BatchHeader, body: &[u8]) -> Option<Lost> {
    let why = Why::from_code(*body.first()?)?;
    let mut at = 1;
    let end = header.offset.checked_add(varint::decode(body, &mut at)?)?;
    (at == body.len() && end > header.offset).then_some(Lost {
        segment,
        first: header.offset,
        end,
        why,
    })
}

fn put_varint(body: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; varint::MAX_LEN];
    let len = varint::encode(value, &mut bytes);
    body.extend_from_slice(&bytes[..len]);
}

/// The records of one body, in order. Ends early where the body is not what its header says.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    header: BatchHeader,
    body: &'a [u8],
    at: usize,
    /// The offset after the last record given.
    next: u64,
    written_ms: Option<i64>,
}

impl<'a> Records<'a> {
    pub(crate) fn new(header: BatchHeader, body: &'a [u8]) -> Self {
        let mut at = 0;
        let mut written_ms = None;
        if header.kind == BatchKind::Sparse {
            let since = varint::decode(body, &mut at).map(varint::unzigzag);
            written_ms = since.map(|since| header.time_ms.wrapping_add(since));
        }
        Self { header, body, at, next: header.offset, written_ms }
    }

    /// The time in ms by which these records had been written, where the batch says so.
    pub(crate) fn written_ms(&self) -> Option<i64> {
        self.written_ms
    }

    /// Whether the body holds exactly the records that its header counts.
    pub(crate) fn counted_right(&self) -> bool {
        let mut rest = self.clone();
        while rest.next().is_some() {}
        let whole = match rest.header.kind {
            BatchKind::Records | BatchKind::Spread | BatchKind::Sparse => {
                rest.at == rest.body.len()
            }
            _ => true,
        };
        let end = rest.header.end();
        whole && (rest.next == end || (rest.header.kind == BatchKind::Spread && rest.next < end))
    }

    fn field(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(varint::decode(self.body, &mut self.at)?).ok()?;
        let field = self.body.get(self.at..)?.get(..len)?;
        self.at += len;
        Some(field)
    }

    fn offset(&mut self) -> Option<u64> {
        let offset = match self.header.kind {
            BatchKind::Spread | BatchKind::Sparse => {
                self.next.checked_add(varint::decode(self.body, &mut self.at)?)?
            }
            _ => self.next,
        };
        (offset < self.header.end()).then_some(offset)
    }

    fn fields(&mut self) -> Option<(i64, &'a [u8], &'a [u8])> {
        match self.header.kind {
            BatchKind::Bare => Some((0, &[], self.body)),
            BatchKind::Records | BatchKind::Spread | BatchKind::Sparse => {
                let time = varint::unzigzag(varint::decode(self.body, &mut self.at)?);
                Some((time, self.field()?, self.field()?))
            }
            BatchKind::Trim | BatchKind::Lost | BatchKind::End => None,
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let offset = self.offset()?;
        let (time_delta, key, value) = self.fields()?;
        let record = Record {
            offset,
            partition: self.header.partition,
            time_ms: self.header.time_ms.wrapping_add(time_delta),
            key,
            value,
        };
        self.next = offset + 1;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(count: u32, body: &[u8]) -> BatchHeader {
        BatchHeader {
            kind: BatchKind::Records,
            starts_commit: false,
            partition: 9,
            body_len: body.len() as u32,
            count,
            offset: 40,
            time_ms: 1_000,
            body_crc: 0,
        }
    }

    #[test]
    fn records_come_back_with_their_offsets_and_times() {
        let mut body = Vec::new();
        put(&mut body, 0, b"k", b"first");
        put(&mut body, -7, b"", &[5; 300]);
        assert_eq!(body.len(), encoded_len(0, b"k", b"first") + encoded_len(-7, b"", &[5; 300]));
        let records: Vec<_> = Records::new(header(2, &body), &body).collect();
        assert_eq!(records[0].value, b"first");
        assert_eq!((records[1].offset, records[1].time_ms, records[1].value.len()), (41, 993, 300));
        assert!(Records::new(header(2, &body), &body).counted_right());
    }

    #[test]
    fn a_body_that_disagrees_with_its_header_is_not_whole() {
        let mut body = Vec::new();
        put(&mut body, 0, b"k", b"v");
        assert!(!Records::new(header(2, &body), &body).counted_right());
        assert!(!Records::new(header(0, &body), &body).counted_right());
        assert!(!Records::new(header(1, &body[..4]), &body[..4]).counted_right());
        let lying = [0, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F];
        assert!(!Records::new(header(1, &lying), &lying).counted_right());
    }
}
