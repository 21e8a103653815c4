//! What has gathered for the next commit.

use bytes::Bytes;
use headwater_shared::origin::Origin;

use super::tail::{Commit, Meta};
use super::{NewRecord, PENDING_BYTES_MAX, Ticket};

/// An arena that had to grow beyond this for one commit is given back.
const KEEP_BYTES_MAX: usize = 2 * PENDING_BYTES_MAX;

/// Records in one piece of memory. The committer has one while the next fills, and both are used
/// again and again: an append allocates nothing, and nothing is zeroed but what an arena grows by.
#[derive(Default)]
pub(super) struct Arena {
    /// The first `used` are taken.
    bytes: Vec<u8>,
    used: usize,
    records: Vec<Meta>,
}

impl Arena {
    /// Bytes of its records.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// How many records it has.
    pub(super) fn count(&self) -> u64 {
        self.records.len() as u64
    }

    /// Adds a record whose envelope takes `size` bytes at most.
    pub(super) fn put(&mut self, record: &NewRecord<'_>, origin: Option<&Origin<'_>>, size: usize) {
        let key = record.key.as_bytes();
        let (start, value_start) = (self.used, self.used + key.len());
        if self.bytes.len() < value_start + size {
            let grown = (2 * self.bytes.len()).max(value_start + size);
            self.bytes.resize(grown, 0);
        }
        self.bytes[start..value_start].copy_from_slice(key);
        let buffer = &mut self.bytes[value_start..value_start + size];
        let value = match origin {
            None => record.envelope.encode(buffer),
            Some(origin) => origin.encode(record.envelope, buffer),
        };
        let value = value.expect("size_max is an upper bound of the encoded envelope");
        self.used = value_start + value.len();
        let (partition, time_ms) = (record.partition, record.time_ms);
        self.records.push(Meta::new(partition, time_ms, start, value_start, self.used));
    }

    /// Its records as a commit, which takes no more memory than they do.
    pub(super) fn commit(&self, first: u64) -> Commit {
        let bytes = Bytes::copy_from_slice(&self.bytes[..self.used]);
        Commit { first, bytes, records: self.records.as_slice().into() }
    }

    /// Empty again; memory of which the records took little is given back.
    pub(super) fn clear(&mut self) {
        if self.bytes.len() > KEEP_BYTES_MAX || self.used < self.bytes.len() / 8 {
            *self = Self::default();
        }
        self.used = 0;
        self.records.clear();
    }
}

/// What has gathered for the next commit, and what may be added.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) arena: Arena,
    pub(super) first: u64,
    pub(super) generation: u64,
    pub(super) closed: Option<&'static str>,
    /// Bytes that the committer holds at the moment.
    pub(super) committing: usize,
    pub(super) fullness: Fullness,
    /// The committer is to look at retention again.
    pub(super) look: bool,
    /// Not all readers have said yet what they need, so nothing may be deleted.
    pub(super) readers_missing: bool,
}

/// What a log that blocks still takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fullness {
    #[default]
    Room,
    /// Publishers wait.
    Full,
    /// Nothing is taken but what follows from what is there.
    Brim,
}

impl Pending {
    pub(super) fn next_offset(&self) -> u64 {
        self.first + self.arena.count()
    }

    /// Adds a record whose envelope takes `size` bytes at most.
    pub(super) fn put(
        &mut self,
        record: &NewRecord<'_>,
        origin: Option<&Origin<'_>>,
        size: usize,
    ) -> Ticket {
        let ticket = Ticket { offset: self.next_offset(), generation: self.generation };
        self.arena.put(record, origin, size);
        ticket
    }

    /// Takes all that has gathered, and leaves the empty `arena` for what comes; returns the first
    /// offset of what was taken.
    pub(super) fn swap(&mut self, arena: &mut Arena) -> u64 {
        std::mem::swap(&mut self.arena, arena);
        let first = self.first;
        self.first += arena.count();
        self.committing = arena.used();
        first
    }
}

#[cfg(test)]
mod tests {
    use headwater_shared::envelope::{Envelope, Session};

    use super::*;

    fn put(arena: &mut Arena, change: &[u8]) {
        let envelope = Envelope::Session(Session { client: "c", change });
        let record = NewRecord { partition: 3, time_ms: 7, key: "key", envelope: &envelope };
        arena.put(&record, None, envelope.size_max());
    }

    fn changes(commit: &Commit) -> Vec<Vec<u8>> {
        let records = (0..commit.records.len()).map(|index| commit.record(index));
        let change = |record: &super::super::Record| match record.envelope() {
            Ok(Envelope::Session(session)) => session.change.to_vec(),
            other => panic!("{other:?}"),
        };
        records.map(|record| change(&record)).collect()
    }

    #[test]
    fn a_commit_is_its_own_and_the_arena_is_used_again() {
        let mut arena = Arena::default();
        put(&mut arena, &[1; 300]);
        put(&mut arena, &[2; 10]);
        let first = arena.commit(5);
        arena.clear();
        put(&mut arena, &[3; 200]);
        let second = arena.commit(7);
        assert_eq!(changes(&first), [vec![1; 300], vec![2; 10]]);
        assert_eq!(changes(&second), [vec![3; 200]], "nothing of the first shines through");
        assert_eq!((first.first, first.end(), second.end()), (5, 7, 8));
    }

    #[test]
    fn memory_that_one_large_commit_took_is_given_back() {
        let mut arena = Arena::default();
        put(&mut arena, &vec![0; KEEP_BYTES_MAX + 1]);
        arena.clear();
        assert_eq!(arena.bytes.capacity(), 0);
        put(&mut arena, &[0; 5000]);
        arena.clear();
        assert!(arena.bytes.capacity() > 5000);
        put(&mut arena, &[0; 1]);
        arena.clear();
        assert_eq!(arena.bytes.capacity(), 0);
    }
}
