//! Power cuts at every call: what was acknowledged is there, and of the rest whole batches.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use log_lite::{Journal, JournalError, JournalOptions, Reader, Recovery};
use proptest::prelude::*;

use crate::Rng;
use crate::sim::{Fault, NOW, SimStorage, Survives};

const SURVIVALS: [Survives; 4] =
    [Survives::Nothing, Survives::Everything, Survives::SomeSectors, Survives::Prefix];

/// Steps of the runs that are cut at every call.
const STEPS: usize = 15;
const MAX_AGE: u64 = 3_600_000;

#[derive(Clone, Debug, PartialEq)]
struct Row {
    partition: u16,
    time_ms: i64,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// A log, and beside it what a caller knows of it.
struct Model {
    storage: SimStorage,
    journal: Option<Journal<SimStorage>>,
    /// What was acknowledged, by offset.
    acked: Vec<Row>,
    /// What the last commit held, if it was not acknowledged.
    tried: Vec<Row>,
    rng: Rng,
    steps: u64,
}

fn options() -> JournalOptions {
    JournalOptions {
        segment_size: 1024,
        max_size: Some(2 * 1024),
        max_age_ms: Some(MAX_AGE),
        zero_fill_step: 256,
        ..JournalOptions::default()
    }
}

impl Model {
    fn new(seed: u64) -> Self {
        let storage = SimStorage::default();
        storage.with(|disk| disk.seed = seed);
        Self { storage, journal: None, acked: vec![], tried: vec![], rng: Rng::new(seed), steps: 0 }
    }

    fn open(&mut self) -> Result<Recovery, JournalError> {
        let (journal, recovery) = Journal::open(self.storage.clone(), options())?;
        self.journal = Some(journal);
        Ok(recovery)
    }

    fn row(&mut self) -> Row {
        let rng = &mut self.rng;
        let longest = if rng.below(8) == 0 { 900 } else { 60 };
        let bytes = |rng: &mut Rng, most: u64| {
            let len = rng.below(most);
            (0..len).map(|_| rng.next() as u8).collect::<Vec<u8>>()
        };
        Row {
            partition: rng.below(3) as u16,
            time_ms: rng.below(1_000) as i64 - 500,
            key: bytes(rng, 5),
            value: bytes(rng, longest),
        }
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        let rows: Vec<_> = (0..=self.rng.below(5)).map(|_| self.row()).collect();
        let journal = self.journal.as_mut().unwrap();
        for (n, row) in rows.iter().enumerate() {
            let offset = journal.append(row.partition, row.time_ms, &row.key, &row.value).unwrap();
            assert_eq!(offset, (self.acked.len() + n) as u64);
        }
        self.tried = rows;
        journal.commit()?;
        self.acked.append(&mut self.tried);
        Ok(())
    }

    fn step(&mut self) -> Result<(), JournalError> {
        self.steps += 1;
        if self.steps.is_multiple_of(3) {
            // Now and then all is old, and an empty segment is begun.
            let age = if self.steps.is_multiple_of(9) { 2 * MAX_AGE } else { 0 };
            self.journal.as_mut().unwrap().enforce_retention(NOW + age as i64)?;
        }
        self.commit()
    }

    fn run(&mut self, steps: usize) -> Result<(), JournalError> {
        self.open()?;
        for _ in 0..steps {
            self.step()?;
        }
        Ok(())
    }

    /// Opens after a cut and compares.
    fn check_after_cut(&mut self) {
        let recovery = self.open().unwrap();
        assert_eq!(recovery.damage, []);
        let end = self.journal.as_ref().unwrap().end() as usize;
        let kept = end.checked_sub(self.acked.len()).expect("what was acknowledged is there");
        let tried = std::mem::take(&mut self.tried);
        assert!(kept <= tried.len());
        let whole = kept == 0
            || kept == tried.len()
            || tried[kept - 1].partition != tried[kept].partition
            || tried[..=kept].iter().any(|row| row.value.len() > 60);
        assert!(whole, "{kept} of {} records cut a batch", tried.len());
        self.acked.extend_from_slice(&tried[..kept]);
        self.check_contents();
    }

    fn check_contents(&mut self) {
        let journal = self.journal.as_ref().unwrap();
        assert_eq!(journal.end() as usize, self.acked.len());
        for limit in [journal.end(), u64::MAX] {
            let mut reader = Reader::open(self.storage.clone()).unwrap();
            let mut next = journal.start();
            reader.seek(next);
            while let Some(batch) = reader.next(limit).unwrap() {
                for record in batch.records() {
                    assert_eq!(record.offset, next);
                    let row = &self.acked[next as usize];
                    assert_eq!((record.partition, record.time_ms), (row.partition, row.time_ms));
                    assert_eq!((record.key, record.value), (&row.key[..], &row.value[..]));
                    next += 1;
                }
            }
            assert_eq!(next, journal.end());
        }
        self.check_seeks();
    }

    /// Readers that pass segments by find what those find that read everything.
    fn check_seeks(&mut self) {
        let (start, end) = self.journal.as_ref().map(|log| (log.start(), log.end())).unwrap();
        let partition = self.rng.below(4) as u16;
        let from = start + self.rng.below(end - start + 1);
        let time = self.rng.below(1_100) as i64 - 550;
        let rows = || (start..end).map(|offset| (offset, &self.acked[offset as usize]));
        let mut reader = Reader::open(self.storage.clone()).unwrap();
        let first = rows().find(|(_, row)| row.time_ms >= time).map_or(end, |(offset, _)| offset);
        assert_eq!(reader.seek_time(time, end).unwrap(), first, "the first at or after {time}");
        reader.only(Some(&[partition]));
        reader.seek(from);
        let mut found = Vec::new();
        while let Some(batch) = reader.next(end).unwrap() {
            found.extend(batch.records().map(|record| record.offset));
        }
        let wanted = rows().filter(|(offset, row)| *offset >= from && row.partition == partition);
        assert_eq!(found, wanted.map(|(offset, _)| offset).collect::<Vec<_>>());
        assert_eq!(reader.position(), end);
    }
}

/// How many calls the steps of a seed make.
fn calls_of(seed: u64, steps: usize) -> u64 {
    let mut model = Model::new(seed);
    model.run(steps).unwrap();
    model.check_contents();
    let stats = model.journal.as_ref().unwrap().stats();
    assert!(stats.summaries > 1 && stats.segments_deleted > 0, "seed {seed}: {stats:?}");
    model.storage.with(|disk| disk.calls)
}

/// Returns whether the second cut hit the recovery from the first.
fn cut_at(seed: u64, steps: usize, call: u64, survives: Survives, again_at: u64) -> bool {
    let mut model = Model::new(seed);
    model.storage.with(|disk| {
        disk.fault = Some((call, Fault::PowerCut));
        disk.seed = seed ^ (call << 8);
    });
    model.run(steps).expect_err("the power went");
    model.storage.with(|disk| {
        disk.restart(survives);
        disk.fault = Some((again_at, Fault::PowerCut));
        disk.seed = seed ^ (call << 16) ^ again_at;
    });
    let hit = model.open().is_err();
    if hit {
        model.storage.with(|disk| disk.restart(survives));
    }
    model.storage.with(|disk| disk.fault = None);
    model.check_after_cut();
    for _ in 0..4 {
        model.step().unwrap();
    }
    model.check_contents();
    model.storage.with(|disk| disk.restart(Survives::Nothing));
    model.check_after_cut();
    hit
}

#[test]
fn a_power_cut_at_any_call_and_another_in_recovery_keep_what_was_acknowledged() {
    for seed in 1..5 {
        for call in 1..=calls_of(seed, STEPS) {
            for survives in SURVIVALS {
                // Until recovery is done before the second cut comes.
                for again_at in 1.. {
                    if !cut_at(seed, STEPS, call, survives, again_at) {
                        break;
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_run_of_commits_and_retention_survives_a_cut_anywhere(
        seed in any::<u32>(), at in any::<u64>(), again_at in 1u64..8, survives in 0usize..4,
    ) {
        let seed = u64::from(seed);
        let call = 1 + at % calls_of(seed, 40);
        cut_at(seed, 40, call, SURVIVALS[survives], again_at);
    }
}

#[test]
fn any_failing_call_leaves_the_log_as_it_was_or_stops_it() {
    let mut met = BTreeSet::new();
    for seed in 1..4 {
        for call in 1..=calls_of(seed, STEPS) {
            for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
                for (calls, torn) in [(1, 0), (1, 1), (2, 2), (7, 3)] {
                    let mut model = Model::new(seed);
                    model.storage.with(|disk| {
                        disk.fault = Some((call, Fault::Error(kind)));
                        disk.fault_calls = calls;
                        disk.seed = seed ^ (call << 8) ^ torn;
                    });
                    let survives = SURVIVALS[(call + torn) as usize % SURVIVALS.len()];
                    met.insert(fail_and_go_on(&mut model, survives));
                }
            }
        }
    }
    let all = ["full", "io", "none", "poisoned"];
    assert_eq!(met.into_iter().collect::<Vec<_>>(), all, "every outcome was met");
}

/// Runs into one error, and on from there as the error says.
fn fail_and_go_on(model: &mut Model, survives: Survives) -> &'static str {
    let error = model.run(STEPS).err();
    if let Some(error) = &error {
        let text = error.to_string();
        let where_and_what =
            (text.contains(".log") || text.contains("directory")) && text.contains(';');
        assert!(where_and_what, "{text}");
    }
    let outcome = match &error {
        None => "none",
        Some(JournalError::Poisoned { .. }) => "poisoned",
        Some(JournalError::DiskFull { .. }) => "full",
        Some(_) => "io",
    };
    model.storage.with(|disk| disk.fault = None);
    let hit_sync = model.storage.with(|disk| disk.hit_sync && disk.fault_calls == 1);
    match error {
        Some(JournalError::Poisoned { .. }) => {
            let stopped = model.journal.as_mut().unwrap().commit();
            assert!(matches!(stopped, Err(JournalError::Poisoned { source: None, .. })));
            model.check_after_cut();
        }
        Some(error) => {
            let full = matches!(error, JournalError::DiskFull { .. });
            assert!(full || matches!(error, JournalError::Io { .. }), "{error}");
            if model.journal.is_none() {
                model.open().unwrap();
            }
            assert!(!hit_sync || model.acked.is_empty() || model.tried.is_empty());
            model.tried.clear();
            model.check_contents();
        }
        None => {}
    }
    // An error of retention may have waited for its next call.
    let _ = model.journal.as_mut().unwrap().enforce_retention(NOW);
    for _ in 0..4 {
        model.step().unwrap();
    }
    model.check_contents();
    // Nothing that the journal has since relied on was left in memory only.
    model.storage.with(|disk| disk.restart(survives));
    model.check_after_cut();
    outcome
}
