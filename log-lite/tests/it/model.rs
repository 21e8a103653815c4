//! Any sequence of operations, beside a model of what they mean.

use std::collections::{BTreeMap, VecDeque};

use log_lite::{Dropped, Journal, JournalOptions, ReadError, Reader, WhenFull};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::sim::{Fault, NOW, SimStorage, Survives};

const HOUR: i64 = 3_600_000;

#[derive(Clone, Debug)]
enum Op {
    Append {
        partition: u16,
        time_ms: i64,
        key: u8,
        bytes: usize,
    },
    Commit,
    /// The power goes at this call of the commit, if it makes so many.
    CutCommit {
        call: u64,
        survives: Survives,
        seed: u64,
    },
    Discard,
    Advance {
        by: u64,
    },
    Keep {
        back: u64,
    },
    Retain {
        hours: i64,
    },
    Reopen,
    Crash {
        survives: Survives,
        seed: u64,
    },
    Seek {
        part: u64,
    },
    SeekTime {
        time_ms: i64,
    },
    Only {
        partitions: Option<Vec<u16>>,
    },
    Read {
        batches: usize,
    },
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    offset: u64,
    partition: u16,
    time_ms: i64,
    key: Vec<u8>,
    value: Vec<u8>,
}

fn survives() -> impl Strategy<Value = Survives> {
    prop_oneof![
        Just(Survives::Nothing),
        Just(Survives::Everything),
        Just(Survives::SomeSectors),
        Just(Survives::Prefix),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let time = -500..500i64;
    let bytes = prop_oneof![4 => 0..60usize, 1 => 200..800usize];
    let append = (0..4u16, time.clone(), any::<u8>(), bytes)
        .prop_map(|(partition, time_ms, key, bytes)| Op::Append { partition, time_ms, key, bytes });
    let cut = (1..8u64, survives(), any::<u64>());
    prop_oneof![
        24 => append,
        12 => Just(Op::Commit),
        3 => cut.prop_map(|(call, survives, seed)| Op::CutCommit { call, survives, seed }),
        1 => Just(Op::Discard),
        2 => (0..5u64).prop_map(|by| Op::Advance { by }),
        2 => (0..12u64).prop_map(|back| Op::Keep { back }),
        4 => (0..30i64).prop_map(|hours| Op::Retain { hours }),
        2 => Just(Op::Reopen),
        2 => (survives(), any::<u64>()).prop_map(|(survives, seed)| Op::Crash { survives, seed }),
        3 => (0..=100u64).prop_map(|part| Op::Seek { part }),
        3 => time.prop_map(|time_ms| Op::SeekTime { time_ms }),
        2 => prop::option::of(vec(0..4u16, 1..3)).prop_map(|partitions| Op::Only { partitions }),
        6 => (1..12usize).prop_map(|batches| Op::Read { batches }),
    ]
}

struct World {
    storage: SimStorage,
    options: JournalOptions,
    journal: Journal<SimStorage>,
    reader: Reader<SimStorage>,
    only: Option<Vec<u16>>,
    /// What is durable and not deleted.
    rows: VecDeque<Row>,
    /// Everything that was ever durable under its offset, deleted or not.
    ever: BTreeMap<u64, Row>,
    pending: Vec<Row>,
    end: u64,
    keep: u64,
    now_ms: i64,
}

impl World {
    fn new(when_full: WhenFull) -> Self {
        let storage = SimStorage::default();
        let options = JournalOptions {
            segment_size: 1024,
            zero_fill_step: 256,
            max_size: Some(4 * 1024),
            max_age_ms: Some(100 * HOUR as u64),
            when_full,
        };
        Self {
            journal: Journal::open(storage.clone(), options).unwrap().0,
            reader: Reader::open(storage.clone()).unwrap(),
            storage,
            options,
            only: None,
            rows: VecDeque::new(),
            ever: BTreeMap::new(),
            pending: Vec::new(),
            end: 0,
            keep: u64::MAX,
            now_ms: NOW,
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append { partition, time_ms, key, bytes } => {
                let key = vec![*key; usize::from(*key % 4)];
                self.append(*partition, *time_ms, key, vec![*bytes as u8; *bytes]);
            }
            Op::Commit => self.commit(),
            Op::CutCommit { call, survives, seed } => self.cut_commit(*call, *survives, *seed),
            Op::Discard => {
                self.journal.discard();
                self.pending.clear();
            }
            Op::Advance { by } => {
                self.journal.advance_to(self.journal.next_offset() + by).unwrap();
                self.committed();
                self.end += by;
            }
            Op::Keep { back } => {
                self.keep = self.end.saturating_sub(*back);
                self.journal.set_keep(self.keep);
            }
            Op::Retain { hours } => self.retain(*hours),
            Op::Reopen => self.open(),
            Op::Crash { survives, seed } => self.crash(*survives, *seed),
            Op::Seek { part } => self.reader.seek(self.end * part / 100),
            Op::SeekTime { time_ms } => self.seek_time(*time_ms),
            Op::Only { partitions } => {
                self.reader.only(partitions.as_deref());
                self.only.clone_from(partitions);
            }
            Op::Read { batches } => self.read(*batches),
        }
        assert_eq!((self.journal.end(), self.journal.next_offset()), (self.end, self.next()));
        assert!(self.rows.front().is_none_or(|oldest| self.journal.start() <= oldest.offset));
    }

    fn next(&self) -> u64 {
        self.end + self.pending.len() as u64
    }

    fn append(&mut self, partition: u16, time_ms: i64, key: Vec<u8>, value: Vec<u8>) {
        let offset = self.journal.append(partition, time_ms, &key, &value).unwrap();
        assert_eq!(offset, self.next());
        self.pending.push(Row { offset, partition, time_ms, key, value });
    }

    fn commit(&mut self) {
        let stats = self.journal.commit().unwrap();
        assert_eq!(stats.records, self.pending.len() as u64);
        self.committed();
    }

    fn committed(&mut self) {
        self.end = self.next();
        for row in self.pending.drain(..) {
            self.ever.insert(row.offset, row.clone());
            self.rows.push_back(row);
        }
    }

    fn cut_commit(&mut self, call: u64, survives: Survives, seed: u64) {
        self.storage.with(|disk| {
            disk.seed = seed;
            disk.calls = 0;
            disk.fault = Some((call, Fault::PowerCut));
        });
        let done = self.journal.commit().is_ok();
        self.storage.with(|disk| disk.fault = None);
        if done {
            self.committed();
        } else {
            self.crash(survives, seed);
        }
    }

    /// What was not acknowledged is there from its beginning on, or not.
    fn crash(&mut self, survives: Survives, seed: u64) {
        self.storage.with(|disk| {
            disk.seed = seed;
            disk.restart(survives);
        });
        let mut tried = VecDeque::from(std::mem::take(&mut self.pending));
        self.open();
        self.reader = Reader::open(self.storage.clone()).unwrap();
        self.reader.only(self.only.as_deref());
        let mut reader = Reader::open(self.storage.clone()).unwrap();
        reader.seek(tried.front().map_or(self.end, |first| first.offset));
        while let Some(batch) = reader.next(u64::MAX).unwrap() {
            for record in batch.records() {
                let row = tried.pop_front().expect("only what was tried is there");
                assert_eq!((record.offset, record.value), (row.offset, &row.value[..]));
                self.ever.insert(row.offset, row.clone());
                self.rows.push_back(row);
            }
        }
        self.end = self.journal.end();
    }

    fn open(&mut self) {
        self.pending.clear();
        let (journal, recovery) = Journal::open(self.storage.clone(), self.options).unwrap();
        assert_eq!(recovery.damage, []);
        self.journal = journal;
        self.journal.set_keep(self.keep);
        // What nothing was stored behind is forgotten: an advance, or a segment that was begun.
        let last = self.rows.back().map_or(0, |row| row.offset + 1);
        assert!(self.journal.end() >= last);
        self.end = self.journal.end();
    }

    fn retain(&mut self, hours: i64) {
        self.now_ms += hours * HOUR;
        self.storage.with(|disk| disk.now_ms = self.now_ms);
        let start = self.journal.start();
        let dropped = self.journal.enforce_retention(self.now_ms).unwrap();
        let mut expected = start;
        for segment in &dropped {
            assert_eq!(segment.first, expected);
            expected = segment.end;
            self.check_dropped(segment);
        }
        assert_eq!(self.journal.start(), expected);
        self.rows.retain(|row| row.offset >= expected);
        let over = self.journal.size() > 4 * 1024 && self.journal.segments().len() > 1;
        assert!(!over || self.options.when_full == WhenFull::Block);
    }

    fn check_dropped(&self, segment: &Dropped) {
        assert_eq!(segment.past_keep, segment.end > self.keep);
        assert!(!segment.past_keep || self.options.when_full == WhenFull::DropOldest);
        let mut counts = BTreeMap::new();
        let range = segment.first.max(self.keep)..segment.end.max(self.keep);
        for row in self.rows.iter().filter(|row| range.contains(&row.offset)) {
            *counts.entry(row.partition).or_insert(0) += 1;
        }
        assert_eq!(segment.counts, counts);
    }

    fn seek_time(&mut self, time_ms: i64) {
        let found = self.reader.seek_time(time_ms, self.end).unwrap();
        let wanted = |row: &&Row| {
            let asked = self.only.as_ref().is_none_or(|only| only.contains(&row.partition));
            row.time_ms >= time_ms && asked
        };
        let first = self.rows.iter().find(wanted).map_or(self.end, |row| row.offset);
        assert_eq!(found, first, "the first at or after {time_ms}");
        assert_eq!(self.reader.position(), first);
    }

    /// Reads on, and finds every row that it should, the right way, once, and in order.
    fn read(&mut self, batches: usize) {
        let from = self.reader.position();
        let (mut found, mut lost) = (Vec::new(), Vec::new());
        for _ in 0..batches {
            let position = self.reader.position();
            match self.reader.next(self.end) {
                Ok(Some(batch)) => found.extend(batch.records().map(|record| Row {
                    offset: record.offset,
                    partition: record.partition,
                    time_ms: record.time_ms,
                    key: record.key.to_vec(),
                    value: record.value.to_vec(),
                })),
                Ok(None) => break,
                Err(ReadError::Damaged { first, end, .. }) => lost.push(first..end),
                Err(ReadError::Trimmed { start }) => lost.push(position..start),
                Err(error) => panic!("{error}"),
            }
        }
        let upto = self.reader.position();
        assert!(found.is_sorted_by(|a, b| a.offset < b.offset));
        assert!(found.iter().all(|row| self.ever.get(&row.offset) == Some(row)));
        let asked = |row: &Row| self.only.as_ref().is_none_or(|only| only.contains(&row.partition));
        for row in self.rows.iter().filter(|row| (from..upto).contains(&row.offset)) {
            assert_eq!(found.contains(row), asked(row), "{row:?} of {from}..{upto}");
            assert!(!lost.iter().any(|range| range.contains(&row.offset)), "{row:?} in {lost:?}");
        }
        if self.only.is_none() {
            let there = |offset| found.iter().any(|row| row.offset == offset);
            let named = |offset| lost.iter().any(|range| range.contains(&offset));
            let silent = (from..upto).find(|offset| !there(*offset) && !named(*offset));
            assert_eq!(silent, None, "of {from}..{upto}, lost {lost:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_sequence_of_operations_means_what_the_model_says(
        ops in vec(op(), 1..120), blocks in any::<bool>(),
    ) {
        let mut world = World::new(if blocks { WhenFull::Block } else { WhenFull::DropOldest });
        for op in &ops {
            world.apply(op);
        }
        world.apply(&Op::Append { partition: 0, time_ms: 0, key: 0, bytes: 0 });
        world.apply(&Op::Commit);
        world.apply(&Op::Only { partitions: None });
        world.apply(&Op::Seek { part: 0 });
        world.apply(&Op::Read { batches: usize::MAX });
        prop_assert_eq!(world.reader.position(), world.end);
    }
}
