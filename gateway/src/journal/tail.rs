//! The newest commits, in memory, for readers that have caught up.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::Record;

/// The tail holds at most this many bytes of records, but for its two newest commits.
const TAIL_BYTES_MAX: usize = 1 << 20;

/// A reader that is at the newest commit but one is not behind: it works on what came while the
/// newest was written. Under a flood each commit is as large as the tail.
const COMMITS_MIN: usize = 2;

/// Where a record lies in the bytes of its commit, of which there are less than 4 GiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) time_ms: i64,
    start: u32,
    value_start: u32,
    end: u32,
    pub(super) partition: u16,
}

impl Meta {
    pub(super) fn new(
        partition: u16,
        time_ms: i64,
        start: usize,
        value_start: usize,
        end: usize,
    ) -> Self {
        let place = |at| u32::try_from(at).expect("a commit is far smaller than 4 GiB");
        let (start, value_start, end) = (place(start), place(value_start), place(end));
        Self { time_ms, start, value_start, end, partition }
    }

    pub(super) fn key(&self) -> Range<usize> {
        self.start as usize..self.value_start as usize
    }

    pub(super) fn value(&self) -> Range<usize> {
        self.value_start as usize..self.end as usize
    }

    /// The record at `offset`, which lies in `bytes`.
    pub(super) fn record(&self, offset: u64, bytes: &Bytes) -> Record {
        let (key, value) = (bytes.slice(self.key()), bytes.slice(self.value()));
        Record { offset, partition: self.partition, time_ms: self.time_ms, key, value }
    }
}

/// One commit, as it was appended.
#[derive(Clone)]
pub(super) struct Commit {
    pub(super) first: u64,
    pub(super) bytes: Bytes,
    pub(super) records: std::sync::Arc<[Meta]>,
}

impl Commit {
    pub(super) fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    fn cost(&self) -> usize {
        self.bytes.len() + size_of_val::<[Meta]>(&self.records)
    }

    pub(super) fn record(&self, index: usize) -> Record {
        self.records[index].record(self.first + index as u64, &self.bytes)
    }
}

/// Dense: each commit starts where the one before ends.
pub(super) struct Tail {
    commits: VecDeque<Commit>,
    end: u64,
    bytes: usize,
}

impl Tail {
    pub(super) fn starting_at(end: u64) -> Self {
        Self { commits: VecDeque::new(), end, bytes: 0 }
    }

    pub(super) fn push(&mut self, commit: Commit) {
        self.end = commit.end();
        self.bytes += commit.cost();
        self.commits.push_back(commit);
        while self.bytes > TAIL_BYTES_MAX && self.commits.len() > COMMITS_MIN {
            if let Some(old) = self.commits.pop_front() {
                self.bytes -= old.cost();
            }
        }
    }

    /// Records of `wanted` partitions from `position` on and below `end`, about `bytes_max`, and the
    /// offset below which all was looked at; `None` if they are no longer in memory.
    pub(super) fn read(
        &self,
        position: u64,
        end: u64,
        bytes_max: usize,
        wanted: impl Fn(u16) -> bool,
    ) -> Option<(Vec<Record>, u64)> {
        let start = self.commits.front().map_or(self.end, |commit| commit.first);
        if position < start {
            return None;
        }
        let mut out = Vec::new();
        let mut bytes = 0;
        let mut seen = position;
        let skip = self.commits.partition_point(|commit| commit.end() <= position);
        for commit in self.commits.iter().skip(skip) {
            let from = usize::try_from(position.saturating_sub(commit.first)).unwrap_or(usize::MAX);
            let to = usize::try_from(end.saturating_sub(commit.first)).unwrap_or(usize::MAX);
            for index in from..to.min(commit.records.len()) {
                seen = commit.first + index as u64 + 1;
                if !wanted(commit.records[index].partition) {
                    continue;
                }
                let record = commit.record(index);
                bytes += record.key.len() + record.value.len() + size_of::<Record>();
                out.push(record);
                if bytes >= bytes_max {
                    return Some((out, seen));
                }
            }
            if end <= commit.end() {
                break;
            }
        }
        Some((out, seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(first: u64, values: &[&str]) -> Commit {
        let mut bytes = Vec::new();
        let mut records = Vec::new();
        for value in values {
            let start = bytes.len();
            bytes.extend_from_slice(b"k");
            bytes.extend_from_slice(value.as_bytes());
            records.push(Meta::new(1, 0, start, start + 1, bytes.len()));
        }
        Commit { first, bytes: bytes.into(), records: records.into() }
    }

    #[test]
    fn a_read_starts_inside_a_commit_and_runs_into_the_next() {
        let mut tail = Tail::starting_at(10);
        tail.push(commit(10, &["a", "b", "c"]));
        tail.push(commit(13, &["d"]));
        let (read, end) = tail.read(11, u64::MAX, usize::MAX, |_| true).expect("in memory");
        assert_eq!(end, 14);
        let offsets: Vec<u64> = read.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [11, 12, 13]);
        assert_eq!(&read[2].value[..], b"d");
        let (read, end) = tail.read(11, 13, usize::MAX, |_| true).expect("in memory");
        assert_eq!(read.iter().map(|record| record.offset).collect::<Vec<_>>(), [11, 12]);
        assert_eq!(end, 13);
        let (read, end) = tail.read(14, u64::MAX, usize::MAX, |_| true).expect("caught up");
        assert_eq!((read.len(), end), (0, 14));
        assert!(tail.read(9, u64::MAX, usize::MAX, |_| true).is_none(), "older than the tail");
        let (read, end) =
            tail.read(10, u64::MAX, 1, |partition| partition != 1).expect("in memory");
        assert_eq!((read.len(), end), (0, 14), "what is not wanted is passed by");
    }

    #[test]
    fn a_full_tail_forgets_its_oldest_commits() {
        let mut tail = Tail::starting_at(0);
        let large = "x".repeat(TAIL_BYTES_MAX / 2);
        for first in 0..4 {
            tail.push(commit(first, &[&large]));
        }
        assert!(tail.read(1, u64::MAX, 1, |_| true).is_none());
        assert_eq!(tail.read(3, u64::MAX, 1, |_| true).expect("the newest stays").0[0].offset, 3);
    }

    #[test]
    fn the_two_newest_commits_stay_however_large_they_are() {
        let mut tail = Tail::starting_at(0);
        let large = "x".repeat(2 * TAIL_BYTES_MAX);
        for first in 0..4 {
            tail.push(commit(first, &[&large]));
        }
        assert!(tail.read(1, u64::MAX, 1, |_| true).is_none());
        assert_eq!(tail.read(2, u64::MAX, 1, |_| true).expect("the newest but one").0[0].offset, 2);
    }
}
