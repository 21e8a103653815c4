//! A log of few keys, and beside it all that was ever appended to it.

use std::collections::BTreeMap;

use log_lite::{
    CompactError, CompactOptions, CompactStats, CompactStep, Compactor, Journal, JournalOptions,
    Reader, verify_storage,
};

use crate::Rng;
use crate::sim::{NOW, SimStorage};

pub(super) const GRACE_MS: i64 = 10_000;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) partition: u16,
    pub(super) time_ms: i64,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// When it was committed, and so at the latest was written.
    pub(super) committed_ms: i64,
}

impl Row {
    pub(super) fn is_old_delete(&self, now_ms: i64) -> bool {
        self.value.is_empty() && self.committed_ms + GRACE_MS < now_ms
    }
}

pub(super) fn options() -> JournalOptions {
    JournalOptions { segment_size: 1024, zero_fill_step: 256, ..JournalOptions::default() }
}

pub(super) fn compact_options() -> CompactOptions {
    CompactOptions {
        tombstone_grace_ms: GRACE_MS as u64,
        min_dirty_percent: 0,
        ..CompactOptions::default()
    }
}

/// A log of few keys, and beside it all that was ever appended.
pub(super) struct Model {
    pub(super) storage: SimStorage,
    pub(super) journal: Option<Journal<SimStorage>>,
    pub(super) rows: Vec<Row>,
    pub(super) rng: Rng,
    pub(super) options: CompactOptions,
}

impl Model {
    pub(super) fn new(seed: u64) -> Self {
        let storage = SimStorage::default();
        storage.with(|disk| disk.seed = seed);
        let journal = Some(Journal::open(storage.clone(), options()).unwrap().0);
        let options = compact_options();
        Self { storage, journal, rows: Vec::new(), rng: Rng::new(seed), options }
    }

    pub(super) fn now(&self) -> i64 {
        self.storage.with(|disk| disk.now_ms)
    }

    pub(super) fn pass_time(&mut self) {
        let ms = self.rng.below(GRACE_MS as u64) as i64;
        self.storage.with(|disk| disk.now_ms += ms);
    }

    pub(super) fn journal(&mut self) -> &mut Journal<SimStorage> {
        self.journal.as_mut().unwrap()
    }

    pub(super) fn commit(&mut self) {
        let committed_ms = self.now();
        let mut partition = self.rng.below(3) as u16;
        for _ in 0..1 + self.rng.below(6) {
            let rng = &mut self.rng;
            if rng.below(3) == 0 {
                partition = rng.below(3) as u16;
            }
            let key = vec![b'k'; rng.below(6) as usize];
            let len = if rng.below(4) == 0 { 0 } else { 1 + rng.below(40) };
            let value = (0..len).map(|_| rng.next() as u8).collect();
            let time_ms = NOW + rng.below(1_000) as i64 - 500;
            let row = Row { partition, time_ms, key, value, committed_ms };
            let offset = self.rows.len() as u64;
            let journal = self.journal.as_mut().unwrap();
            let given = journal.append(partition, time_ms, &row.key, &row.value).unwrap();
            assert_eq!(given, offset);
            self.rows.push(row);
        }
        self.journal().commit().unwrap();
    }

    /// Gives up what the compactor fails at.
    pub(super) fn compact(&mut self) -> Result<Option<CompactStats>, CompactError> {
        let now = self.now();
        let options = self.options;
        let journal = self.journal();
        let mut compactor = journal.compactor(options);
        run(journal, &mut compactor, now)
    }

    pub(super) fn reopen(&mut self) {
        let (journal, recovery) = Journal::open(self.storage.clone(), options()).unwrap();
        assert_eq!((recovery.damage, recovery.torn), (vec![], None));
        assert_eq!(journal.end(), self.rows.len() as u64);
        self.journal = Some(journal);
    }

    /// All records from an offset on, checked against what was appended.
    pub(super) fn read_from(&self, start: u64, limit: u64) -> Vec<u64> {
        let mut reader = Reader::open(self.storage.clone()).unwrap();
        reader.seek(start);
        let mut found = Vec::new();
        while let Some(batch) = reader.next(limit).unwrap() {
            for record in batch.records() {
                assert!(found.last().is_none_or(|last| *last < record.offset));
                let row = &self.rows[record.offset as usize];
                assert_eq!((record.partition, record.time_ms), (row.partition, row.time_ms));
                assert_eq!((record.key, record.value), (&row.key[..], &row.value[..]));
                found.push(record.offset);
            }
        }
        assert_eq!(reader.position(), limit.min(self.rows.len() as u64));
        found
    }

    /// The newest offset of each key below a limit.
    pub(super) fn newest(&self, limit: u64) -> BTreeMap<(u16, &[u8]), u64> {
        let rows = self.rows.iter().zip(0..limit);
        rows.map(|(row, offset)| ((row.partition, &row.key[..]), offset)).collect()
    }

    /// Whatever compaction did or did not do: of each key there is the newest record, or, where
    /// that is an old delete, perhaps none at all. Records without a key are all there.
    pub(super) fn check(&mut self) -> Vec<u64> {
        let found = self.read_from(0, u64::MAX);
        assert_eq!(found, self.read_from(0, self.rows.len() as u64));
        let from = self.rng.below(self.rows.len() as u64 + 1);
        let later: Vec<u64> = found.iter().copied().filter(|offset| *offset >= from).collect();
        assert_eq!(self.read_from(from, u64::MAX), later);
        let earlier: Vec<u64> = found.iter().copied().filter(|offset| *offset < from).collect();
        assert_eq!(self.read_from(0, from), earlier);
        self.check_in_two_parts(from, &found);
        let is_there = |offset: &u64| found.binary_search(offset).is_ok();
        let newest = self.newest(u64::MAX);
        for offset in &found {
            let row = &self.rows[*offset as usize];
            let newest = newest[&(row.partition, &row.key[..])];
            assert!(is_there(&newest), "{offset} is there and its newer {newest} is not");
        }
        for ((_, key), offset) in &newest {
            let row = &self.rows[*offset as usize];
            assert!(is_there(offset) || (!key.is_empty() && row.is_old_delete(self.now())));
        }
        let unkeyed = (0..).zip(&self.rows).filter(|(_, row)| row.key.is_empty());
        assert!(unkeyed.map(|(offset, _)| offset).all(|offset| is_there(&offset)));
        self.check_with_verify(found.len() as u64);
        found
    }

    /// A reader that is let on to an offset, and then to the end, meets everything once.
    pub(super) fn check_in_two_parts(&self, at: u64, all: &[u64]) {
        let mut reader = Reader::open(self.storage.clone()).unwrap();
        let mut found = Vec::new();
        for limit in [at, self.rows.len() as u64] {
            while let Some(batch) = reader.next(limit).unwrap() {
                assert!(batch.first() < batch.end() && batch.end() <= limit);
                found.extend(batch.records().map(|record| record.offset));
            }
        }
        assert_eq!(found, all);
    }

    pub(super) fn check_with_verify(&self, records: u64) {
        let report = verify_storage(&self.storage, &mut |_, _| {}).unwrap();
        assert_eq!((report.damage, report.lost), (vec![], vec![]));
        let counted = report.segments.iter().flat_map(|segment| segment.partitions.values());
        assert_eq!(counted.sum::<u64>(), records);
    }

    /// After a round that took all sealed segments: nothing there is superseded there.
    pub(super) fn check_compacted(&mut self) {
        let newest_segment = self.journal().segments().last().unwrap().base;
        let found = self.check();
        let newest = self.newest(newest_segment);
        for offset in found.iter().filter(|offset| **offset < newest_segment) {
            let row = &self.rows[*offset as usize];
            let superseded = newest[&(row.partition, &row.key[..])] > *offset;
            assert!(row.key.is_empty() || !superseded, "{offset} was superseded and is there");
        }
        assert!(self.storage.others().is_empty(), "nothing is left beside the log");
    }
}

/// A whole round.
pub(super) fn run(
    journal: &mut Journal<SimStorage>,
    compactor: &mut Compactor<SimStorage>,
    now_ms: i64,
) -> Result<Option<CompactStats>, CompactError> {
    let segments: Vec<_> = journal.segments().collect();
    if !compactor.start(&segments, now_ms)? {
        return Ok(None);
    }
    loop {
        match compactor.step()? {
            CompactStep::Working => {}
            CompactStep::Swap(compacted) => {
                let swapped = journal.swap_compacted(&compacted);
                let Ok(true) = swapped else { return Ok(None) };
            }
            CompactStep::Done(stats) => return Ok(Some(stats)),
        }
    }
}
