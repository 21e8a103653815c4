//! The life of a log of keys: commits, compaction beside them, retention, faults and power cuts,
//! and, in `mending`, damage and repair.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use log_lite::{
    CompactError, CompactOptions, CompactStep, Compactor, Journal, JournalError, JournalOptions,
    Reader, WhenFull, Why, verify_storage,
};

use super::input::Input;
use super::reading::{Reading, Row, read_on};
use crate::sim::{Fault, NOW, SimStorage, Survives};

const STEPS_MAX: usize = 150;
/// More than any reading or round of so short a life takes.
const READS_MAX: usize = 1 << 16;
const GRACE_MS: i64 = 10_000;
/// Less than the keys of a long segment take.
const LITTLE_MEMORY: usize = 512;

/// Of each key the last record that was acknowledged is there after everything, at its offset, and
/// so is every record without a key; what is gone for good stays gone; what was damaged is named.
pub fn keyed_ops(input: &[u8]) {
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

/// A record that was appended.
#[derive(Clone)]
struct Kept {
    row: Row,
    /// When it was committed, and so at the latest was written.
    committed_ms: i64,
}

/// A round of compaction that is under way.
struct Running {
    compactor: Compactor<SimStorage>,
    /// The segment that it leaves alone.
    newest: u64,
    /// Whether the last step gave something out that took its place.
    swapped: bool,
}

pub(super) struct Life {
    pub(super) storage: SimStorage,
    options: JournalOptions,
    compaction: CompactOptions,
    pub(super) journal: Journal<SimStorage>,
    round: Option<Running>,
    /// Reads on whenever it is told to.
    follower: Reader<SimStorage>,
    /// What was acknowledged, by offset; `None` where offsets were passed over.
    acked: Vec<Option<Kept>>,
    /// What may be there of it, and is where no newer record of its key is.
    pub(super) there: BTreeSet<u64>,
    /// What was passed over or damaged. Readers are told of it, also after it was mended.
    pub(super) lost: BTreeSet<u64>,
    waiting: Vec<Row>,
    /// Whether a power cut cannot undo a swap any more.
    settled: bool,
    /// Damage that was not mended yet: segments, and bytes in them.
    pub(super) hurt: Vec<(u64, u64)>,
}

fn options(input: &mut Input) -> (JournalOptions, CompactOptions) {
    let flags = input.byte();
    let segment_size = 512 + input.below(1024) as u32;
    let max_size = 4 * u64::from(segment_size) + input.below(1 << 14);
    let options = JournalOptions {
        segment_size,
        max_size: (flags & 1 != 0).then_some(max_size),
        max_age_ms: None,
        when_full: WhenFull::DropOldest,
        zero_fill_step: 256,
    };
    let compaction = CompactOptions {
        tombstone_grace_ms: GRACE_MS as u64,
        memory_bytes: if flags & 2 == 0 { 1 << 16 } else { LITTLE_MEMORY },
        min_dirty_percent: if flags & 4 == 0 { 0 } else { 50 },
        ..CompactOptions::default()
    };
    (options, compaction)
}

impl Life {
    fn new(input: &mut Input) -> Self {
        let (storage, (options, compaction)) = (SimStorage::default(), options(input));
        let (journal, _) = Journal::open(storage.clone(), options).expect("a new log");
        let follower = Reader::open(storage.clone()).expect("a disk without faults");
        Self {
            storage,
            options,
            compaction,
            journal,
            round: None,
            follower,
            acked: Vec::new(),
            there: BTreeSet::new(),
            lost: BTreeSet::new(),
            waiting: Vec::new(),
            settled: true,
            hurt: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Input) {
        match input.byte() {
            0..=79 => self.append(input),
            80..=127 => self.commit(input),
            128..=135 => self.advance(input),
            136..=151 => self.begin_round(input),
            152..=175 => self.compact(1 + input.below(8) as usize),
            176..=191 => self.compact(READS_MAX),
            192..=199 => self.pass_time(input),
            200..=207 => self.retain(input),
            208..=215 => self.follow(),
            216..=223 => self.check(),
            224..=231 => self.open_again(input),
            232..=239 => self.start_again(input),
            240..=247 => self.damage(input),
            kind => self.set_fault(kind, 24, input),
        }
    }

    pub(super) fn set_fault(&self, kind: u8, within: u64, input: &mut Input) {
        let fault = match kind % 4 {
            0 | 1 => Fault::PowerCut,
            2 => Fault::Error(ErrorKind::StorageFull),
            _ => Fault::Error(ErrorKind::Other),
        };
        let (calls, seed) = (1 + input.below(within), input.number());
        self.storage.with(|disk| {
            disk.fault = Some((disk.calls + calls, fault));
            disk.seed = seed;
        });
    }

    pub(super) fn is_off(&self) -> bool {
        self.storage.with(|disk| disk.off)
    }

    fn now_ms(&self) -> i64 {
        self.storage.with(|disk| disk.now_ms)
    }

    fn pass_time(&self, input: &mut Input) {
        let ms = input.below(2 * GRACE_MS as u64) as i64;
        self.storage.with(|disk| disk.now_ms += ms);
    }

    fn append(&mut self, input: &mut Input) {
        let shape = input.byte();
        let len = if shape & 0x30 == 0 { 0 } else { input.below(300) as usize };
        let row = Row {
            partition: u16::from(shape & 1),
            time_ms: NOW + input.signed() % 1000,
            key: vec![b'k'; usize::from(shape >> 1 & 7) % 6],
            // No zeros: damage beside them passes for what was never written.
            value: vec![self.acked.len() as u8 | 1; len],
        };
        match self.journal.append(row.partition, row.time_ms, &row.key, &row.value) {
            Ok(offset) => {
                assert_eq!(offset, (self.acked.len() + self.waiting.len()) as u64);
                self.waiting.push(row);
            }
            // Retention met a failed sync.
            Err(_) => self.commit(input),
        }
    }

    fn commit(&mut self, input: &mut Input) {
        match self.journal.commit() {
            Ok(stats) => {
                self.acknowledge(usize::MAX);
                assert_eq!(stats.end, self.acked.len() as u64);
            }
            Err(error) => self.fail(&error, input),
        }
    }

    /// So much of what waits was stored, and the rest is gone.
    fn acknowledge(&mut self, rows: usize) {
        let (first, committed_ms) = (self.acked.len() as u64, self.now_ms());
        let stored = self.waiting.drain(..).take(rows);
        self.acked.extend(stored.map(|row| Some(Kept { row, committed_ms })));
        self.there.extend(first..self.acked.len() as u64);
    }

    fn advance(&mut self, input: &mut Input) {
        let to = self.acked.len() as u64 + input.below(40);
        match self.journal.advance_to(to) {
            Ok(()) => {
                self.acknowledge(usize::MAX);
                self.lost.extend(self.acked.len() as u64..to);
                self.acked.resize(self.acked.len().max(to as usize), None);
            }
            Err(error) => self.fail(&error, input),
        }
    }

    fn fail(&mut self, error: &JournalError, input: &mut Input) {
        match error {
            _ if self.is_off() => {}
            JournalError::Poisoned { .. } => self.open_again(input),
            JournalError::DiskFull { .. } | JournalError::Io { .. } => {
                self.waiting.clear();
                assert_eq!(self.journal.next_offset(), self.acked.len() as u64);
            }
            error => panic!("{error}"),
        }
    }

    fn retain(&mut self, input: &mut Input) {
        let dropped = self.journal.enforce_retention(self.now_ms());
        // What else the disk says is told, and the next call goes on.
        if let Err(error @ JournalError::Poisoned { .. }) = dropped {
            self.fail(&error, input);
        }
    }

    fn begin_round(&mut self, input: &mut Input) {
        let segments: Vec<_> = self.journal.segments().collect();
        let mut compactor = self.journal.compactor(self.compaction);
        self.round = match compactor.start(&segments, self.now_ms()) {
            Ok(true) => {
                let newest = segments.last().expect("there is something to do").base;
                Some(Running { compactor, newest, swapped: false })
            }
            Ok(false) => None,
            Err(error) => self.fail_round(&error),
        };
        if input.byte() & 1 == 0 {
            self.compact(READS_MAX);
        }
    }

    /// So many steps of a round.
    fn compact(&mut self, steps: usize) {
        for _ in 0..steps {
            let Some(round) = self.round.take() else { return };
            self.round = self.compact_on(round);
        }
    }

    fn compact_on(&mut self, mut round: Running) -> Option<Running> {
        let step = match round.compactor.step() {
            Ok(step) => step,
            Err(error) => return self.fail_round(&error),
        };
        // What was swapped is made durable first, unless that was refused.
        self.settled |= round.swapped;
        round.swapped = false;
        match step {
            CompactStep::Working => Some(round),
            CompactStep::Swap(compacted) => {
                self.settled = false;
                round.swapped = self.journal.swap_compacted(&compacted).ok()?;
                Some(round)
            }
            // The power may have gone at a summary, whose failure is not told.
            CompactStep::Done(_) if self.is_off() => None,
            CompactStep::Done(stats) => {
                self.check();
                if !stats.abandoned && self.compaction.memory_bytes > LITTLE_MEMORY {
                    self.check_compacted(round.newest);
                }
                None
            }
        }
    }

    /// The round is over, and the log is whole.
    fn fail_round(&self, error: &CompactError) -> Option<Running> {
        match error {
            CompactError::Memory { memory_bytes, .. } => assert_eq!(*memory_bytes, LITTLE_MEMORY),
            CompactError::DiskFull { .. } | CompactError::Io { .. } => {}
            error @ CompactError::Version { .. } => panic!("{error}"),
        }
        None
    }

    /// Nothing before the newest segment is superseded there.
    fn check_compacted(&self, newest: u64) {
        let of_key = self.newest(self.journal.start(), newest);
        for offset in self.there.range(self.journal.start()..newest.max(self.journal.start())) {
            let row = self.row(*offset);
            let last = of_key[&(row.partition, &row.key[..])];
            assert!(row.key.is_empty() || last == *offset, "{offset} was superseded by {last}");
        }
    }

    fn follow(&mut self) {
        let from = self.follower.position();
        let reading = self.read(from, true);
        for (offset, row) in &reading.rows {
            assert_eq!(self.row(*offset), row);
        }
        let (_, from) = reading.skipped.unwrap_or((from, from));
        self.check_all_there(&reading, from.max(self.journal.start()));
    }

    /// Reads to the end, with the follower or with another.
    fn read(&mut self, from: u64, follows: bool) -> Reading {
        let end = self.journal.end();
        if follows {
            return read_on(&mut self.follower, end, READS_MAX, true).expect("this version");
        }
        let mut reader = Reader::open(self.storage.clone()).expect("the power is on");
        reader.seek(from);
        read_on(&mut reader, end, READS_MAX, true).expect("this version")
    }

    /// What a new reader finds.
    pub(super) fn read_all(&mut self) -> Reading {
        let reading = self.read(self.journal.start(), false);
        for (offset, row) in &reading.rows {
            assert!(self.there.contains(offset), "{offset} was gone and came back");
            assert_eq!(self.row(*offset), row);
        }
        reading
    }

    pub(super) fn check(&mut self) {
        let (start, end) = (self.journal.start(), self.journal.end());
        assert_eq!(end, self.acked.len() as u64);
        let reading = self.read_all();
        self.check_all_there(&reading, start);
        let report = verify_storage(&self.storage, &mut |_, _| {}).expect("this version");
        assert_eq!(report.records(), reading.rows.len() as u64);
        let mended = report.damage.iter().all(|damage| damage.why == Why::Missing);
        assert!(mended || !self.hurt.is_empty(), "{:?}", report.damage);
        if self.settled {
            self.there.retain(|offset| *offset < start || reading.rows.contains_key(offset));
        }
    }

    /// From an offset on, the last record of each key was read, and what is lost was named.
    fn check_all_there(&self, reading: &Reading, from: u64) {
        let end = self.journal.end();
        for ((_, key), offset) in self.newest(from, end) {
            let found = reading.rows.contains_key(&offset);
            assert!(found || (!key.is_empty() && self.is_old_delete(offset)), "{offset}");
        }
        for offset in self.there.range(from.min(end)..end) {
            let row = self.row(*offset);
            assert!(reading.rows.contains_key(offset) || !row.key.is_empty(), "{offset}");
        }
        for offset in self.lost.range(from.min(end)..end) {
            assert!(is_named(reading, *offset), "{offset} is lost and not named: {reading:?}");
        }
    }

    /// The last offset of each key that may be there.
    fn newest(&self, from: u64, to: u64) -> BTreeMap<(u16, &[u8]), u64> {
        let there = self.there.range(from.min(to)..to).map(|offset| (self.row(*offset), *offset));
        there.map(|(row, offset)| ((row.partition, &row.key[..]), offset)).collect()
    }

    fn is_old_delete(&self, offset: u64) -> bool {
        let kept = self.acked[offset as usize].as_ref().expect("it was acknowledged");
        kept.row.value.is_empty() && kept.committed_ms + GRACE_MS < self.now_ms()
    }

    fn row(&self, offset: u64) -> &Row {
        &self.acked[offset as usize].as_ref().expect("only what was acknowledged is read").row
    }

    /// The process ends and another opens the log.
    pub(super) fn open_again(&mut self, input: &mut Input) {
        self.round = None;
        let journal = loop {
            match Journal::open(self.storage.clone(), self.options) {
                Ok((journal, recovery)) => {
                    assert_eq!(recovery.damage, []);
                    break journal;
                }
                // The fault that waited hits only once.
                Err(_) => self.restart_if_off(input),
            }
        };
        let end = journal.end() as usize;
        // What was passed over is forgotten, unless what came behind it was stored.
        let durable = self.acked.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let tried = self.acked.len();
        assert!((durable..=tried + self.waiting.len()).contains(&end), "{end}");
        self.go_on_with(journal, end.saturating_sub(tried));
        self.check();
    }

    /// With a journal that was just opened, and so many of the rows that waited.
    pub(super) fn go_on_with(&mut self, journal: Journal<SimStorage>, stored: usize) {
        let end = journal.end();
        self.acked.truncate(end as usize);
        self.acknowledge(stored);
        assert_eq!(end, self.acked.len() as u64);
        self.there.retain(|offset| *offset < end);
        self.lost.retain(|offset| *offset < end);
        self.journal = journal;
        self.round = None;
        self.follower = Reader::open(self.storage.clone()).expect("the power is on");
    }

    pub(super) fn open(&self) -> Result<Journal<SimStorage>, JournalError> {
        let (journal, recovery) = Journal::open(self.storage.clone(), self.options)?;
        assert_eq!((recovery.damage, recovery.set_aside), (vec![], vec![]));
        Ok(journal)
    }

    /// Turns the power back on, if it went.
    pub(super) fn restart_if_off(&mut self, input: &mut Input) {
        if self.is_off() {
            self.restart(survives(input));
        }
    }

    pub(super) fn restart(&mut self, how: Survives) {
        self.storage.with(|disk| disk.restart(how));
        self.settled = true;
    }

    /// The power goes and comes back.
    fn start_again(&mut self, input: &mut Input) {
        let (left, how) = (input.byte(), survives(input));
        self.restart(how);
        // And goes again while the log is opened.
        let fault = (left % 16 > 0).then_some((u64::from(left % 16), Fault::PowerCut));
        self.storage.with(|disk| disk.fault = fault);
        self.open_again(input);
        self.storage.with(|disk| disk.fault = None);
    }
}

pub(super) fn is_named(reading: &Reading, offset: u64) -> bool {
    reading.lost.iter().any(|(first, end)| (*first..*end).contains(&offset))
}

fn survives(input: &mut Input) -> Survives {
    match input.byte() % 4 {
        0 => Survives::Nothing,
        1 => Survives::Everything,
        2 => Survives::SomeSectors,
        _ => Survives::Prefix,
    }
}
