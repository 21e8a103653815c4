//! The life of a journal: appends, commits, retention, readers, faults and power cuts, against what
//! its caller was told.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use log_lite::{
    AppendError, DropCause, Dropped, Journal, JournalError, JournalOptions, Reader, WhenFull,
};

use super::input::Input;
use super::reading::{Reading, Row, read_on};
use crate::sim::{Fault, NOW, SimStorage, Survives};

const STEPS_MAX: usize = 200;
/// More than any reading of so short a life takes.
const READS_MAX: usize = 1 << 16;

/// What was acknowledged is there after everything, once and in order; what was not is there whole
/// or not at all; and every reader sees it so.
pub fn journal_ops(input: &[u8]) {
    let mut input = Input::new(input);
    let mut life = Life::new(&mut input);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        life.step(&mut input);
        if life.storage.with(|disk| disk.off) {
            life.start_again(&mut input);
        }
    }
    life.storage.with(|disk| disk.fault = None);
    life.check();
}

struct Life {
    storage: SimStorage,
    options: JournalOptions,
    journal: Journal<SimStorage>,
    /// Reads on whenever it is told to.
    follower: Reader<SimStorage>,
    /// What was acknowledged, by offset; `None` where offsets were passed over.
    acked: Vec<Option<Row>>,
    /// What waits for a commit, or was in the one that failed.
    waiting: Vec<Row>,
    keep: u64,
    /// Below this, retention may have deleted.
    may_start: u64,
}

fn options(input: &mut Input) -> JournalOptions {
    let flags = input.byte();
    let segment_size = 512 + input.below(16 << 10) as u32;
    let max_size = 2 * u64::from(segment_size) + input.below(1 << 20);
    JournalOptions {
        segment_size,
        max_size: (flags & 1 != 0).then_some(max_size),
        max_age_ms: (flags & 2 != 0).then_some(100_000),
        when_full: if flags & 4 == 0 { WhenFull::DropOldest } else { WhenFull::Block },
        zero_fill_step: input.below(8192) as u32,
    }
}

impl Life {
    fn new(input: &mut Input) -> Self {
        let (storage, options) = (SimStorage::default(), options(input));
        let (journal, _) = Journal::open(storage.clone(), options).expect("a new log");
        let follower = Reader::open(storage.clone()).expect("a disk without faults");
        let (acked, waiting) = (Vec::new(), Vec::new());
        Self { storage, options, journal, follower, acked, waiting, keep: u64::MAX, may_start: 0 }
    }

    fn step(&mut self, input: &mut Input) {
        match input.byte() {
            0..=99 => self.append(input),
            100..=159 => self.commit(input),
            160..=167 => {
                self.journal.discard();
                self.waiting.clear();
            }
            168..=175 => self.advance(input),
            176..=191 => self.retain(input),
            192..=207 => self.follow(),
            208..=215 => self.check(),
            216..=223 => self.check_places(input),
            224..=231 => self.open_again(input),
            232..=239 => self.start_again(input),
            kind => {
                let fault = match kind % 4 {
                    0 | 1 => Fault::PowerCut,
                    2 => Fault::Error(ErrorKind::StorageFull),
                    _ => Fault::Error(ErrorKind::Other),
                };
                let (calls, seed) = (1 + input.below(16), input.number());
                self.storage.with(|disk| {
                    disk.fault = Some((disk.calls + calls, fault));
                    disk.seed = seed;
                });
            }
        }
    }

    fn append(&mut self, input: &mut Input) {
        let row = Row {
            partition: input.below(5) as u16,
            time_ms: input.signed(),
            key: vec![b'k'; input.byte() as usize % 3],
            value: vec![self.waiting.len() as u8; input.number() as usize % 3000],
        };
        let appended = self.journal.append(row.partition, row.time_ms, &row.key, &row.value);
        match appended {
            Ok(offset) => {
                assert_eq!(offset, (self.acked.len() + self.waiting.len()) as u64);
                self.waiting.push(row);
            }
            Err(AppendError::TooLarge { bytes, max }) => {
                assert!(bytes > max && max < self.options.segment_size as usize);
            }
            // Retention met a failed sync.
            Err(AppendError::Poisoned) => self.commit(input),
            Err(error) => panic!("{error}"),
        }
    }

    fn commit(&mut self, input: &mut Input) {
        match self.journal.commit() {
            Ok(stats) => {
                assert_eq!(stats.records, self.waiting.len() as u64);
                self.acked.extend(self.waiting.drain(..).map(Some));
                assert_eq!(stats.end, self.acked.len() as u64);
            }
            Err(error) => self.fail(&error, input),
        }
    }

    fn advance(&mut self, input: &mut Input) {
        let to = self.acked.len() as u64 + input.below(40);
        match self.journal.advance_to(to) {
            Ok(()) => {
                self.acked.extend(self.waiting.drain(..).map(Some));
                let len = self.acked.len().max(to as usize);
                self.acked.resize(len, None);
                assert_eq!(self.journal.next_offset(), len as u64);
            }
            Err(error) => self.fail(&error, input),
        }
    }

    fn fail(&mut self, error: &JournalError, input: &mut Input) {
        if self.storage.with(|disk| disk.off) {
            return;
        }
        match error {
            JournalError::Poisoned { .. } => {
                let stopped = self.journal.commit();
                assert!(matches!(stopped, Err(JournalError::Poisoned { source: None, .. })));
                if input.byte().is_multiple_of(2) {
                    self.open_again(input);
                } else {
                    self.start_again(input);
                }
            }
            JournalError::DiskFull { .. } | JournalError::Io { .. } => {
                self.waiting.clear();
                assert_eq!(self.journal.next_offset(), self.acked.len() as u64);
            }
            error => panic!("{error}"),
        }
    }

    fn retain(&mut self, input: &mut Input) {
        self.keep = match input.byte() {
            0 => u64::MAX,
            back => self.journal.end().saturating_sub(u64::from(back)),
        };
        self.journal.set_keep(self.keep);
        let now_ms = NOW + input.below(1 << 20) as i64 * 1000;
        self.storage.with(|disk| disk.now_ms = now_ms);
        let (start, room) = (self.journal.start(), self.journal.room());
        assert!(room == u64::MAX || self.options.max_size.is_some());
        self.may_start = self.journal.segments().last().map_or(start, |newest| newest.base);
        let dropped = match self.journal.enforce_retention(now_ms) {
            Ok(dropped) => dropped,
            Err(error @ JournalError::Poisoned { .. }) => return self.fail(&error, input),
            // What the disk says is told, and the next call goes on.
            Err(_) => return,
        };
        let mut next = start;
        for range in &dropped {
            self.check_dropped(range, next);
            next = range.end;
        }
        assert_eq!(self.journal.start(), next);
    }

    fn check_dropped(&self, range: &Dropped, next: u64) {
        let Dropped { first, end, cause, past_keep, counts } = range;
        assert_eq!(*first, next);
        let limit = match cause {
            DropCause::Size => self.options.max_size,
            DropCause::Age => self.options.max_age_ms,
        };
        assert!(limit.is_some());
        assert_eq!(*past_keep, *end > self.keep);
        assert!(!*past_keep || self.options.when_full == WhenFull::DropOldest);
        let mut unread = BTreeMap::<u16, u64>::new();
        for row in self.rows(self.keep.max(*first), *end).rows.values() {
            *unread.entry(row.partition).or_default() += 1;
        }
        assert_eq!(*counts, unread);
    }

    fn follow(&mut self) {
        let from = self.follower.position();
        let end = self.journal.end();
        let reading = read_on(&mut self.follower, end, READS_MAX, false).expect("this version");
        // Retention may have overtaken it.
        let (first, last) = reading.skipped.unwrap_or((from, from));
        assert!(last == from || last == self.journal.start());
        let mut expected = self.rows(from, end);
        expected.rows.retain(|offset, _| *offset < first || *offset >= last);
        assert_eq!(reading.rows, expected.rows);
    }

    /// The process ends and another opens the log.
    fn open_again(&mut self, input: &mut Input) {
        let journal = loop {
            match Journal::open(self.storage.clone(), self.options) {
                Ok((journal, recovery)) => {
                    assert_eq!(recovery.damage, []);
                    break journal;
                }
                // The fault that waited hits only once.
                Err(_) => self.storage.with(|disk| {
                    if disk.off {
                        disk.restart(survives(input));
                    }
                }),
            }
        };
        let (start, end) = (journal.start(), journal.end() as usize);
        // A row that was acknowledged is there; what was passed over is forgotten, unless what
        // came behind it was stored, or begun to be.
        let durable = self.acked.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let tried = self.acked.len();
        assert!((durable..=tried + self.waiting.len()).contains(&end), "{end}");
        self.acked.truncate(end);
        self.acked.extend(self.waiting.drain(..).take(end.saturating_sub(tried)).map(Some));
        assert_eq!(self.acked.len(), end);
        assert!(start <= self.may_start.max(self.journal.start()), "{start}");
        self.may_start = start;
        self.journal = journal;
        self.keep = u64::MAX;
        self.follower = Reader::open(self.storage.clone()).expect("the power is on");
        self.check();
    }

    /// The power goes and comes back.
    fn start_again(&mut self, input: &mut Input) {
        let (left, how) = (input.byte(), survives(input));
        self.storage.with(|disk| {
            disk.restart(how);
            // And goes again while the log is opened.
            disk.fault = (left % 16 > 0).then_some((u64::from(left % 16), Fault::PowerCut));
        });
        self.open_again(input);
        self.storage.with(|disk| disk.fault = None);
    }

    fn rows(&self, from: u64, to: u64) -> Reading {
        let mut reading = Reading { span: (from, to), ..Reading::default() };
        let there = self.acked.iter().enumerate().skip(from as usize);
        for (offset, row) in there.take_while(|(offset, _)| (*offset as u64) < to) {
            match row {
                Some(row) => _ = reading.rows.insert(offset as u64, row.clone()),
                None => reading.lose(offset as u64, offset as u64 + 1),
            }
        }
        reading
    }

    fn check(&mut self) {
        let (start, end) = (self.journal.start(), self.journal.end());
        assert_eq!(end, self.acked.len() as u64);
        let mut reader = Reader::open(self.storage.clone()).expect("the power is on");
        reader.seek(start);
        let reading = read_on(&mut reader, end, READS_MAX, false).expect("this version");
        assert_eq!(reading, self.rows(start, end));
    }

    /// Readers that pass by what they do not want find what those find that read everything.
    fn check_places(&mut self, input: &mut Input) {
        let (start, end) = (self.journal.start(), self.journal.end());
        if start == end {
            return;
        }
        let (from, time) = (start + input.below(end - start + 1), input.signed());
        let partition = input.below(5) as u16;
        let all = self.rows(start, end);
        let mut reader = Reader::open(self.storage.clone()).expect("the power is on");
        let at = all.rows.iter().find(|(_, row)| row.time_ms >= time).map_or(end, |found| *found.0);
        assert_eq!(reader.seek_time(time, end).ok(), Some(at));
        reader.only(Some(&[partition]));
        reader.seek(from);
        let reading = read_on(&mut reader, end, READS_MAX, true).expect("this version");
        let mut wanted = self.rows(from, end);
        wanted.rows.retain(|_, row| row.partition == partition);
        assert_eq!(reading.rows, wanted.rows);
        assert_eq!(reader.position(), end);
    }
}

fn survives(input: &mut Input) -> Survives {
    match input.byte() % 4 {
        0 => Survives::Nothing,
        1 => Survives::Everything,
        2 => Survives::SomeSectors,
        _ => Survives::Prefix,
    }
}
