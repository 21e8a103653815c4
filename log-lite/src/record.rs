//! Records, and the body of a batch of them.
//!
//! ```text
//!  record = | time delta | key len | key | value len | value |    one after the other
//! ```
//! The time delta is a zigzag varint from the batch's time; lengths are varints.

use crate::batch::{BatchHeader, BatchKind};
use crate::varint;

/// One record of the log, borrowed from where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the log: dense, one sequence for all partitions.
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
    done: u32,
}

impl<'a> Records<'a> {
    pub(crate) fn new(header: BatchHeader, body: &'a [u8]) -> Self {
        Self { header, body, at: 0, done: 0 }
    }

    /// Whether the body holds exactly the records that its header counts.
    pub(crate) fn counted_right(&self) -> bool {
        let mut rest = self.clone();
        while rest.next().is_some() {}
        rest.done == rest.header.count
            && (rest.header.kind != BatchKind::Records || rest.at == rest.body.len())
    }

    fn field(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(varint::decode(self.body, &mut self.at)?).ok()?;
        let field = self.body.get(self.at..)?.get(..len)?;
        self.at += len;
        Some(field)
    }

    fn fields(&mut self) -> Option<(i64, &'a [u8], &'a [u8])> {
        match self.header.kind {
            BatchKind::Trim => None,
            BatchKind::Bare => Some((0, &[], self.body)),
            BatchKind::Records => {
                let time = varint::unzigzag(varint::decode(self.body, &mut self.at)?);
                Some((time, self.field()?, self.field()?))
            }
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if self.done == self.header.count {
            return None;
        }
        let (time_delta, key, value) = self.fields()?;
        let record = Record {
            offset: self.header.offset + u64::from(self.done),
            partition: self.header.partition,
            time_ms: self.header.time_ms.wrapping_add(time_delta),
            key,
            value,
        };
        self.done += 1;
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
