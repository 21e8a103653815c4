//! Reads a log as its users do, and holds the reader to what it promises whatever stands there.

use std::collections::BTreeMap;

use log_lite::{ReadError, Reader};

use crate::sim::SimStorage;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) partition: u16,
    pub(super) time_ms: i64,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// What one reading gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) rows: BTreeMap<u64, Row>,
    /// Ranges that cannot be read, neighbours joined.
    pub(super) lost: Vec<(u64, u64)>,
    /// What retention took before it was read.
    pub(super) skipped: Option<(u64, u64)>,
    /// Where it went on from and where it stopped.
    pub(super) span: (u64, u64),
}

impl Reading {
    pub(super) fn lose(&mut self, first: u64, end: u64) {
        match self.lost.last_mut() {
            Some((_, last)) if *last == first => *last = end,
            _ => self.lost.push((first, end)),
        }
    }
}

/// Reads on to `limit`, which takes at most so many steps. Where it may jump, for a filter or in
/// compacted segments, batches need not follow one another. `None`: a later release wrote the log.
pub(super) fn read_on(
    reader: &mut Reader<SimStorage>,
    limit: u64,
    steps: usize,
    jumps: bool,
) -> Option<Reading> {
    let mut reading = Reading { span: (reader.position(), 0), ..Reading::default() };
    for _ in 0..steps {
        let from = reader.position();
        match reader.next(limit) {
            Ok(Some(batch)) => {
                let mut next = batch.first();
                assert!(next == from || jumps && next > from, "{next} behind {from}");
                assert!(batch.end() > next && batch.end() <= limit);
                for record in batch.records() {
                    assert!(record.offset == next || jumps && record.offset > next);
                    next = record.offset + 1;
                    let row = Row {
                        partition: record.partition,
                        time_ms: record.time_ms,
                        key: record.key.to_vec(),
                        value: record.value.to_vec(),
                    };
                    reading.rows.insert(record.offset, row);
                }
                assert!(next == batch.end() || jumps && next < batch.end());
                next = batch.end();
                assert_eq!(reader.position(), next);
            }
            Ok(None) => {
                reading.span.1 = reader.position();
                return Some(reading);
            }
            Err(ReadError::Damaged { first, end, .. } | ReadError::Lost { first, end, .. }) => {
                assert!(first == from || jumps && first > from, "{first} behind {from}");
                assert!((end > first || jumps && end == first) && end <= limit, "{first}..{end}");
                assert_eq!(reader.position(), end);
                reading.lose(first, end);
            }
            Err(ReadError::Trimmed { start }) => {
                assert!(start > from && reader.position() == start);
                assert_eq!(reading.skipped, None);
                reading.skipped = Some((from, start));
            }
            Err(ReadError::Version { .. }) => return None,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the log does not come to an end in {steps} steps");
}
