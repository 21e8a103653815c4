//! Compaction: what stays, what goes, who reads meanwhile, and a power cut at every call of it.

mod model;

use log_lite::{
    CompactError, CompactStep, Journal, JournalOptions, ReadError, Reader, verify_storage,
};
use proptest::prelude::*;

use self::model::{GRACE_MS, Model, Row, compact_options, options, run};
use crate::Rng;
use crate::sim::{Fault, NOW, Name, SimStorage, Survives};

#[test]
fn of_each_key_the_newest_record_stays_and_the_log_shrinks() {
    let mut model = Model::new(7);
    for _ in 0..300 {
        model.commit();
    }
    let before = model.journal().size();
    let stats = model.compact().unwrap().unwrap();
    model.check_compacted();
    let after = model.journal().size();
    assert!(after * 2 < before, "{after} of {before} bytes");
    assert_eq!(before - after, stats.bytes_in - stats.bytes_out);
    assert!(stats.superseded > 0 && !stats.abandoned && stats.lost.is_empty());
    assert!(model.compact().unwrap().is_none(), "nothing is dirty");
    model.reopen();
    assert_eq!(model.journal().size(), after);
    assert!(model.compact().unwrap().is_none(), "nothing is dirty after a restart");
    model.commit();
    model.check_compacted();
}

#[test]
fn a_delete_stays_for_its_grace_and_then_goes_without_what_it_deleted() {
    let storage = SimStorage::default();
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    let fill = |journal: &mut Journal<SimStorage>| {
        for n in 0..40u8 {
            journal.append(1, NOW, &[n], &[n; 20]).unwrap();
            journal.commit().unwrap();
        }
    };
    let values = || -> Vec<Vec<u8>> {
        let mut reader = Reader::open(storage.clone()).unwrap();
        let mut found = Vec::new();
        while let Some(batch) = reader.next(u64::MAX).unwrap() {
            let of_key = batch.records().filter(|record| record.key == b"key");
            found.extend(of_key.map(|record| record.value.to_vec()));
        }
        found
    };
    journal.append(1, NOW, b"key", b"value").unwrap();
    fill(&mut journal);
    journal.append(1, NOW, b"key", b"").unwrap();
    fill(&mut journal);
    let mut compactor = journal.compactor(compact_options());
    assert_eq!(values(), [&b"value"[..], b""]);
    run(&mut journal, &mut compactor, NOW + GRACE_MS).unwrap().unwrap();
    assert_eq!(values(), [b""]);
    // Its age is that of the write, however often it is written anew.
    fill(&mut journal);
    storage.with(|disk| disk.now_ms += 2 * GRACE_MS);
    let stats = run(&mut journal, &mut compactor, NOW + GRACE_MS).unwrap().unwrap();
    assert_eq!((stats.expired, values().len()), (0, 1));
    fill(&mut journal);
    let stats = run(&mut journal, &mut compactor, NOW + GRACE_MS + 1).unwrap().unwrap();
    assert_eq!((stats.expired, values().len()), (1, 0));
}

#[test]
fn a_map_that_is_full_ends_the_round_early_and_the_next_goes_on() {
    let mut model = Model::new(3);
    model.options.memory_bytes = 24 * 32;
    let storage = model.storage.clone();
    for n in 0..400u16 {
        let journal = model.journal();
        let (key, value) = (n.to_be_bytes().to_vec(), vec![7; 30]);
        journal.append(0, NOW, &key, &value).unwrap();
        journal.commit().unwrap();
        model.rows.push(Row { partition: 0, time_ms: NOW, key, value, committed_ms: NOW });
    }
    let mut rounds = 0;
    while model.compact().unwrap().is_some() {
        rounds += 1;
        model.check();
    }
    assert!(rounds > 10, "{rounds}");
    model.check_compacted();
    model.options.memory_bytes = 1;
    model.commit();
    model.commit();
    for n in 0..100u16 {
        let journal = model.journal();
        journal.append(0, NOW, &n.to_be_bytes(), b"").unwrap();
        journal.commit().unwrap();
    }
    let refused = model.compact();
    assert!(matches!(refused, Err(CompactError::Memory { .. })), "{refused:?}");
    drop(storage);
}

#[test]
fn a_reader_in_the_middle_of_what_is_replaced_goes_on_without_a_hole() {
    for taken in 0..60 {
        let mut model = Model::new(11);
        for _ in 0..120 {
            model.commit();
        }
        let end = model.rows.len() as u64;
        let mut reader = Reader::open(model.storage.clone()).unwrap();
        let mut last = None;
        let check = |last: &mut Option<u64>, batch: log_lite::BatchView<'_>| {
            for record in batch.records() {
                assert!(last.is_none_or(|last| last < record.offset));
                *last = Some(record.offset);
            }
        };
        for _ in 0..taken * 2 {
            let Some(batch) = reader.next(end).unwrap() else { break };
            check(&mut last, batch);
        }
        model.compact().unwrap().unwrap();
        let wanted = model.check();
        let mut got = 0;
        while let Some(batch) = reader.next(end).unwrap() {
            got += batch.records().count();
            check(&mut last, batch);
        }
        assert_eq!(reader.position(), end);
        assert!(got > 0 || wanted.last() == last.as_ref());
    }
}

#[test]
fn a_segment_that_retention_deleted_meanwhile_is_not_put_back() {
    let mut model = Model::new(5);
    for _ in 0..120 {
        model.commit();
    }
    let journal = model.journal.take().unwrap();
    let mut compactor = journal.compactor(compact_options());
    let segments: Vec<_> = journal.segments().collect();
    assert!(compactor.start(&segments, NOW).unwrap());
    let compacted = loop {
        match compactor.step().unwrap() {
            CompactStep::Working => {}
            CompactStep::Swap(compacted) => break compacted,
            CompactStep::Done(_) => panic!("there is much to do"),
        }
    };
    drop(journal);
    // The same log, of which retention deletes the oldest segment.
    let max_size = Some(segments.iter().map(|segment| segment.bytes).sum::<u64>() - 1);
    let storage = SimStorage::from_image(&model.storage.image());
    let mut journal = Journal::open(storage, JournalOptions { max_size, ..options() }).unwrap().0;
    assert_eq!(journal.enforce_retention(NOW).unwrap().len(), 1);
    assert!(!journal.swap_compacted(&compacted).unwrap());
    assert_eq!(journal.start(), segments[1].base);
}

#[test]
fn what_was_merged_away_is_gone_before_retention_deletes_what_it_was_merged_into() {
    let mut model = Model::new(6);
    for _ in 0..200 {
        model.commit();
    }
    let options = JournalOptions { max_age_ms: Some(1), ..options() };
    let mut journal = Journal::open(model.storage.clone(), options).unwrap().0;
    let mut compactor = journal.compactor(compact_options());
    let segments: Vec<_> = journal.segments().collect();
    assert!(compactor.start(&segments, NOW).unwrap());
    let mut merged = 0;
    while merged == 0 {
        match compactor.step().unwrap() {
            CompactStep::Working => {}
            CompactStep::Swap(compacted) => {
                let before = journal.segments().len();
                assert!(journal.swap_compacted(&compacted).unwrap());
                merged = before - journal.segments().len();
            }
            CompactStep::Done(_) => panic!("nothing was merged"),
        }
    }
    // The compactor has not come to remove them yet.
    let mut bases: Vec<u64> = model.storage.image().into_keys().collect();
    let listed: Vec<u64> = journal.segments().map(|segment| segment.base).collect();
    bases.retain(|base| !listed.contains(base));
    assert_eq!(bases.len(), merged);
    // All is too old, so an empty segment is left.
    assert_eq!(journal.enforce_retention(NOW + 10_000).unwrap().len(), listed.len());
    let end = journal.end();
    for survives in [Survives::Nothing, Survives::Everything] {
        let storage = model.storage.fork();
        storage.with(|disk| disk.restart(survives));
        let journal = Journal::open(storage.clone(), options).unwrap().0;
        assert_eq!((journal.start(), journal.end()), (end, end));
    }
    // And the compactor, which comes too late, does no harm.
    let _ = compactor.step();
    let journal = Journal::open(model.storage, options).unwrap().0;
    assert_eq!((journal.start(), journal.end()), (end, end));
}

const SURVIVALS: [Survives; 4] =
    [Survives::Nothing, Survives::Everything, Survives::SomeSectors, Survives::Prefix];

/// A log with segments that were compacted before, and some that were not.
fn before_the_cut(seed: u64) -> Model {
    let mut model = Model::new(seed);
    for round in 0..3 {
        for _ in 0..30 {
            model.commit();
        }
        model.pass_time();
        if round < 2 {
            model.compact().unwrap();
        }
    }
    model.journal = None;
    model
}

impl Model {
    /// The same log on a disk of its own.
    fn fork(&self) -> Self {
        let storage = self.storage.fork();
        let rng = Rng::new(storage.with(|disk| disk.seed));
        let (rows, options) = (self.rows.clone(), self.options);
        let mut model = Self { storage, journal: None, rows, rng, options };
        model.reopen();
        model.storage.with(|disk| disk.calls = 0);
        model
    }
}

fn cut_at(before: &Model, call: u64, survives: Survives, again_at: u64) {
    let mut model = before.fork();
    let seed = model.storage.with(|disk| disk.seed);
    model.storage.with(|disk| {
        disk.fault = Some((call, Fault::PowerCut));
        disk.seed = seed ^ (call << 8);
    });
    let _ = model.compact();
    assert!(model.storage.with(|disk| disk.off), "the power went");
    model.storage.with(|disk| {
        disk.restart(survives);
        disk.fault = Some((again_at, Fault::PowerCut));
        disk.seed = seed ^ (call << 16) ^ again_at;
    });
    if Journal::open(model.storage.clone(), options()).is_err() {
        model.storage.with(|disk| disk.restart(survives));
    }
    model.storage.with(|disk| disk.fault = None);
    model.reopen();
    assert!(model.storage.others().is_empty(), "nothing is left beside the log");
    model.check();
    for _ in 0..20 {
        model.commit();
    }
    model.compact().unwrap().unwrap();
    model.check_compacted();
}

#[test]
fn a_power_cut_at_any_call_of_a_compaction_and_another_in_recovery_lose_no_newest_record() {
    for seed in 1..3 {
        let before = before_the_cut(seed);
        let mut model = before.fork();
        model.compact().unwrap().unwrap();
        for call in 1..=model.storage.with(|disk| disk.calls) {
            for survives in SURVIVALS {
                for again_at in 1..4 {
                    cut_at(&before, call, survives, again_at);
                }
            }
        }
    }
}

#[test]
fn any_failing_call_of_a_compaction_leaves_a_log_that_can_be_compacted() {
    let before = before_the_cut(9);
    for call in 1.. {
        let mut model = before.fork();
        model.storage.with(|disk| {
            disk.seed = call;
            disk.fault = Some((call, Fault::Error(std::io::ErrorKind::StorageFull)));
        });
        let result = model.compact();
        if model.storage.with(|disk| disk.calls) < call {
            assert!(call > 10);
            return;
        }
        if let Err(error) = &result {
            assert!(matches!(error, CompactError::DiskFull { .. }), "{error}");
        }
        model.check();
        for _ in 0..30 {
            model.commit();
        }
        model.compact().unwrap().unwrap();
        model.check_compacted();
        model.storage.with(|disk| disk.restart(Survives::Nothing));
        model.reopen();
        model.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_run_of_commits_rounds_and_restarts_keeps_the_newest_of_each_key(seed in any::<u32>()) {
        let mut model = Model::new(u64::from(seed));
        if seed % 3 == 0 {
            model.options.memory_bytes = 24 * 40;
        }
        for _ in 0..model.rng.below(150) {
            match model.rng.below(20) {
                0 => model.reopen(),
                1 => model.pass_time(),
                2 => {
                    model.compact().unwrap();
                    model.check();
                }
                3 => {
                    model.storage.with(|disk| disk.restart(Survives::Nothing));
                    model.reopen();
                }
                _ => model.commit(),
            }
        }
        model.check();
    }
}

type Ranges = Vec<(u64, u64)>;

/// What a reader of a damaged log gets: the offsets that are there, and those that it names.
fn read_damaged(model: &Model) -> (Vec<u64>, Ranges, Ranges) {
    let mut reader = Reader::open(model.storage.clone()).unwrap();
    let (mut there, mut damaged, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match reader.next(model.rows.len() as u64) {
            Ok(None) => return (there, damaged, lost),
            Ok(Some(batch)) => there.extend(batch.records().map(|record| {
                assert_eq!(record.value, model.rows[record.offset as usize].value);
                record.offset
            })),
            Err(ReadError::Damaged { first, end, .. }) => damaged.push((first, end)),
            Err(ReadError::Lost { first, end, .. }) => lost.push((first, end)),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_is_damaged_in_a_source_is_kept_aside_and_carried_as_lost() {
    for (at, len) in [(64 + 3, 1), (64 + 20, 1), (300, 40), (0, 64)] {
        let mut model = Model::new(13);
        for _ in 0..60 {
            model.commit();
        }
        let mut image = model.storage.image();
        let second = *image.keys().nth(1).unwrap();
        for byte in &mut image.get_mut(&second).unwrap()[at..at + len] {
            *byte ^= 0x55;
        }
        let bytes = image[&second].clone();
        model.storage = SimStorage::from_image(&image);
        model.reopen();
        let (_, damaged, _) = read_damaged(&model);
        assert_eq!(damaged.len(), 1);
        let stats = model.compact().unwrap().unwrap();
        let lost: Vec<_> = stats.lost.iter().map(|lost| (lost.first, lost.end)).collect();
        assert_eq!(lost, damaged);
        assert_eq!(model.storage.others(), [(Name::Damaged(second, 0), bytes)].into());
        let (there, none, lost) = read_damaged(&model);
        assert_eq!((none, &lost), (vec![], &damaged));
        let newest = model.newest(u64::MAX);
        for offset in newest.values().filter(|at| !(lost[0].0..lost[0].1).contains(at)) {
            assert!(there.contains(offset));
        }
        let report = verify_storage(&model.storage, &mut |_, _| {}).unwrap();
        assert_eq!((report.damage.len(), report.lost.len()), (0, 1));
        // It is carried on, and kept aside once.
        for _ in 0..60 {
            model.commit();
        }
        model.compact().unwrap().unwrap();
        assert_eq!(read_damaged(&model).2, damaged);
        assert_eq!(model.storage.others().len(), 1);
    }
}
