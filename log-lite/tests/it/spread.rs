//! Records under offsets that the owner gives, with others left out between.

use log_lite::{AppendError, Journal, JournalOptions, ReadError, Reader, verify_storage};

use crate::sim::{Fault, SimStorage, Survives};

fn options() -> JournalOptions {
    JournalOptions { segment_size: 1024, zero_fill_step: 256, ..JournalOptions::default() }
}

fn open(storage: &SimStorage) -> Journal<SimStorage> {
    Journal::open(storage.clone(), options()).unwrap().0
}

fn value(offset: u64) -> Vec<u8> {
    vec![offset as u8; 40]
}

fn put(journal: &mut Journal<SimStorage>, offset: u64) {
    let partition = (offset % 3) as u16;
    journal.append_at(offset, partition, offset as i64, b"key", &value(offset)).unwrap();
}

/// Offsets that are there, and ranges that readers are told of.
fn read(storage: &SimStorage, limit: u64) -> (Vec<u64>, Vec<(u64, u64)>) {
    let mut reader = Reader::open(storage.clone()).unwrap();
    let (mut offsets, mut lost) = (Vec::new(), Vec::new());
    loop {
        match reader.next(limit) {
            Ok(Some(batch)) => {
                for record in batch.records() {
                    assert_eq!(record.partition, (record.offset % 3) as u16);
                    assert_eq!(record.time_ms, record.offset as i64);
                    assert_eq!(record.value, value(record.offset));
                    offsets.push(record.offset);
                }
            }
            Ok(None) => return (offsets, lost),
            Err(ReadError::Damaged { first, end, .. }) => lost.push((first, end)),
            Err(problem) => panic!("{problem}"),
        }
    }
}

/// Some near, some far, some beyond what one batch can span.
fn given() -> Vec<u64> {
    let mut offsets = vec![7, 8, 20, 21, 22, 500];
    offsets.extend((0..60).map(|n| 1_000 + n * n));
    offsets.extend([3_000_000, 3_000_001, 20_000_000_000]);
    offsets
}

#[test]
fn records_come_back_under_the_offsets_that_were_given() {
    let storage = SimStorage::default();
    let mut journal = open(&storage);
    for offset in given() {
        put(&mut journal, offset);
        if offset % 2 == 0 {
            journal.commit().unwrap();
        }
    }
    journal.commit().unwrap();
    let end = *given().last().unwrap() + 1;
    assert_eq!(journal.end(), end);
    assert_eq!(journal.stats().records, given().len() as u64);
    assert!(journal.segments().len() > 3, "over several segments");
    for limit in [end, u64::MAX] {
        assert_eq!(read(&storage, limit), (given(), vec![]), "up to {limit}");
    }
    drop(journal);
    let (journal, recovery) = Journal::open(storage.clone(), options()).unwrap();
    assert_eq!((journal.end(), recovery.damage), (end, vec![]));
    let report = verify_storage(&storage, &mut |_, _| {}).unwrap();
    assert_eq!((report.damage, report.torn_tail), (vec![], None));
    let records: u64 = report.segments.iter().flat_map(|segment| segment.partitions.values()).sum();
    assert_eq!(records, given().len() as u64);
}

#[test]
fn a_reader_goes_to_any_offset_and_to_any_partition() {
    let storage = SimStorage::default();
    let mut journal = open(&storage);
    for offset in given() {
        put(&mut journal, offset);
        journal.commit().unwrap();
    }
    for from in [0, 7, 9, 23, 501, 1_002, 2_999_999, 4_000_000] {
        let mut reader = Reader::open(storage.clone()).unwrap();
        reader.only(Some(&[2]));
        reader.seek(from.max(7));
        let mut found = Vec::new();
        while let Some(batch) = reader.next(journal.end()).unwrap() {
            found.extend(batch.records().map(|record| record.offset));
        }
        let wanted: Vec<u64> =
            given().into_iter().filter(|offset| *offset >= from && offset % 3 == 2).collect();
        assert_eq!(found, wanted, "from {from}");
    }
}

#[test]
fn an_offset_is_given_once() {
    let storage = SimStorage::default();
    let mut journal = open(&storage);
    put(&mut journal, 10);
    let again = journal.append_at(10, 0, 0, b"", b"");
    assert!(matches!(again, Err(AppendError::Taken { given: 10, next: 11 })), "{again:?}");
    let far = journal.append_at(u64::MAX - 1, 0, 0, b"", b"");
    assert!(matches!(far, Err(AppendError::Far { next: 11, .. })), "{far:?}");
    assert_eq!(journal.append(2, 11, b"key", &value(11)).unwrap(), 11, "the next is free");
    journal.skip_to(30).unwrap();
    journal.skip_to(20).unwrap();
    assert_eq!(journal.append(0, 30, b"key", &value(30)).unwrap(), 30);
    journal.commit().unwrap();
    assert_eq!(read(&storage, u64::MAX), (vec![10, 11, 30], vec![]));
}

#[test]
fn what_is_skipped_is_no_damage_and_what_is_passed_is() {
    let storage = SimStorage::default();
    let mut journal = open(&storage);
    put(&mut journal, 1);
    journal.skip_to(100).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let mut journal = open(&storage);
    assert_eq!(journal.end(), 100, "it was durable");
    journal.advance_to(200).unwrap();
    put(&mut journal, 300);
    journal.commit().unwrap();
    assert_eq!(read(&storage, journal.end()), (vec![1, 300], vec![(100, 200)]));
}

#[test]
fn a_journal_that_was_dense_goes_on_with_offsets_left_out() {
    let storage = SimStorage::default();
    let mut journal = open(&storage);
    for offset in 0..5 {
        let partition = (offset % 3) as u16;
        assert_eq!(journal.append(partition, offset as i64, b"key", &value(offset)), Ok(offset));
    }
    journal.commit().unwrap();
    put(&mut journal, 9);
    journal.commit().unwrap();
    drop(journal);
    let mut journal = open(&storage);
    assert_eq!(journal.append(1, 10, b"key", &value(10)), Ok(10));
    put(&mut journal, 20);
    journal.commit().unwrap();
    assert_eq!(read(&storage, u64::MAX), (vec![0, 1, 2, 3, 4, 9, 10, 20], vec![]));
}

/// Appends all from `next` on and commits now and then; returns what was acknowledged last.
fn run(storage: &SimStorage, mut acknowledged: u64) -> u64 {
    let Ok((mut journal, _)) = Journal::open(storage.clone(), options()) else {
        return acknowledged;
    };
    assert!(journal.end() >= acknowledged);
    for offset in given().into_iter().filter(|offset| *offset >= journal.end()).collect::<Vec<_>>()
    {
        put(&mut journal, offset);
        if offset % 2 == 0 {
            match journal.commit() {
                Ok(stats) => acknowledged = stats.end,
                Err(_) => return acknowledged,
            }
        }
    }
    match journal.commit() {
        Ok(stats) => stats.end,
        Err(_) => acknowledged,
    }
}

#[test]
fn a_power_cut_at_every_call_and_another_in_recovery_keep_what_was_acknowledged() {
    let whole = SimStorage::default();
    assert_eq!(run(&whole, 0), *given().last().unwrap() + 1);
    for call in 1..=whole.with(|disk| disk.calls) {
        for survives in
            [Survives::Nothing, Survives::Everything, Survives::SomeSectors, Survives::Prefix]
        {
            for again_at in 1..4 {
                let storage = SimStorage::default();
                storage.with(|disk| disk.fault = Some((call, Fault::PowerCut)));
                let mut acknowledged = run(&storage, 0);
                storage.with(|disk| {
                    disk.seed = call * 31 + again_at;
                    disk.restart(survives);
                    disk.fault = Some((again_at, Fault::PowerCut));
                });
                acknowledged = run(&storage, acknowledged);
                storage.with(|disk| disk.restart(survives));
                let (journal, recovery) = Journal::open(storage.clone(), options()).unwrap();
                let cut = format!("cut at {call}, then {again_at}, {survives:?}");
                assert_eq!(recovery.damage, vec![], "{cut}");
                let end = journal.end();
                assert!(end >= acknowledged, "{cut}");
                drop(journal);
                let wanted = given().into_iter().filter(|offset| *offset < end).collect();
                assert_eq!(read(&storage, end), (wanted, vec![]), "{cut}");
                run(&storage, end);
                assert_eq!(read(&storage, u64::MAX), (given(), vec![]), "{cut}");
            }
        }
    }
}

/// A dense log that age has emptied goes on with offsets left out.
fn emptied_goes_on(storage: &SimStorage) -> Result<u64, log_lite::JournalError> {
    const NOW: i64 = 1_763_700_000_000;
    let aging = JournalOptions { max_age_ms: Some(1_000), ..options() };
    storage.with(|disk| disk.now_ms = NOW);
    let (mut journal, _) = Journal::open(storage.clone(), aging)?;
    if journal.end() == 0 {
        journal.append(0, 0, b"key", &value(0)).unwrap();
        journal.commit()?;
    }
    journal.enforce_retention(NOW)?;
    storage.with(|disk| disk.now_ms = NOW + 60_000);
    journal.enforce_retention(NOW + 60_000)?;
    assert_eq!((journal.start(), journal.end()), (1, 1), "empty, and its end is known");
    put(&mut journal, 9);
    Ok(journal.commit()?.end)
}

#[test]
fn a_log_that_age_has_emptied_goes_on_with_offsets_left_out() {
    let whole = SimStorage::default();
    assert_eq!(emptied_goes_on(&whole).unwrap(), 10);
    assert_eq!(read(&whole, 10), (vec![9], vec![]));
    for call in 1..=whole.with(|disk| disk.calls) {
        for (seed, survives) in
            [Survives::Nothing, Survives::Everything, Survives::SomeSectors, Survives::Prefix]
                .into_iter()
                .enumerate()
        {
            let storage = SimStorage::default();
            storage.with(|disk| {
                disk.fault = Some((call, Fault::PowerCut));
                disk.seed = call + seed as u64;
            });
            let acknowledged = emptied_goes_on(&storage).unwrap_or(0);
            storage.with(|disk| disk.restart(survives));
            let (mut journal, recovery) = Journal::open(storage.clone(), options()).unwrap();
            assert_eq!(recovery.damage, vec![], "cut at {call}");
            assert!(journal.end() >= acknowledged, "cut at {call}");
            if journal.end() < 30 {
                put(&mut journal, 30);
                journal.commit().unwrap();
            }
            let (offsets, lost) = read(&storage, journal.end());
            assert_eq!((offsets.last(), lost), (Some(&30), vec![]), "cut at {call}");
        }
    }
}
