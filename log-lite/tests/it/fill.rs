//! Commits that make way for a block of the disk, and the zeros that they leave.

use std::io::ErrorKind;
use std::ops::Range;

use log_lite::{Journal, JournalOptions, ReadError, Reader, verify_storage};

use crate::sim::{Fault, SimStorage, Survives};

const BLOCK: u64 = 4096;
/// Ends so near before a block that no other commit fits.
const FIRST: usize = 3985;
const VALUE: [u8; 64] = [7; 64];

fn options() -> JournalOptions {
    JournalOptions { segment_size: 8500, zero_fill_step: 8500, ..JournalOptions::default() }
}

fn open(storage: &SimStorage) -> Journal<SimStorage> {
    let (journal, recovery) = Journal::open(storage.clone(), options()).unwrap();
    assert_eq!(recovery.damage, []);
    journal
}

fn commit(journal: &mut Journal<SimStorage>, value: &[u8], records: u16) -> bool {
    for partition in 0..records {
        journal.append(partition, 0, b"", value).unwrap();
    }
    journal.commit().is_ok()
}

/// A log in which the second of four commits made way.
fn sample() -> SimStorage {
    let storage = SimStorage::default();
    let mut journal = open(&storage);
    assert!(commit(&mut journal, &[1; FIRST], 1));
    for _ in 0..3 {
        assert!(commit(&mut journal, &VALUE, 1));
    }
    storage
}

/// The bytes of each batch.
fn batches(storage: &SimStorage) -> Vec<Range<u64>> {
    let mut reader = Reader::open(storage.clone()).unwrap();
    let mut found = Vec::new();
    while let Some(batch) = reader.next(u64::MAX).unwrap() {
        found.push(batch.bytes());
    }
    found
}

/// Offsets that are there, and ranges that are not.
fn read(storage: &SimStorage, limit: u64) -> (Vec<u64>, Vec<(u64, u64)>) {
    let mut reader = Reader::open(storage.clone()).unwrap();
    let (mut there, mut lost) = (Vec::new(), Vec::new());
    loop {
        match reader.next(limit) {
            Ok(Some(batch)) => there.extend(batch.records().map(|record| record.offset)),
            Ok(None) => return (there, lost),
            Err(ReadError::Damaged { first, end, .. }) => lost.push((first, end)),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_small_commit_that_would_lie_in_two_blocks_begins_at_the_next_and_takes_one() {
    let storage = SimStorage::default();
    let mut journal = open(&storage);
    let mut follower = Reader::open(storage.clone()).unwrap();
    assert!(commit(&mut journal, &[1; FIRST], 1));
    for _ in 0..60 {
        let before = journal.stats().device_bytes;
        assert!(commit(&mut journal, &VALUE, 1));
        let grown = journal.segments().len() > 1;
        assert!(grown || journal.stats().device_bytes - before == BLOCK);
        while follower.position() < journal.end() {
            assert!(follower.next(journal.end()).unwrap().is_some());
        }
    }
    let all = batches(&storage);
    assert!(all[0].end < BLOCK && all[0].end + 64 > BLOCK && all[1].start == BLOCK, "{all:?}");
    let zeros = &storage.image()[&0][all[0].end as usize..BLOCK as usize];
    assert!(zeros.iter().all(|byte| *byte == 0));
    let report = verify_storage(&storage, &mut |_, _| {}).unwrap();
    assert_eq!((report.damage, report.torn_tail), (vec![], None));
    assert_eq!(read(&storage, 61), ((0..61).collect(), vec![]));
    let mut reader = Reader::open(storage.clone()).unwrap();
    for entry in journal.segments().take(journal.segments().len() - 1) {
        assert!(reader.segment_info(entry).unwrap().is_some(), "a summary is believed");
    }
    reader.seek(1);
    assert_eq!(reader.next(u64::MAX).unwrap().unwrap().first(), 1);
    assert_eq!(open(&storage).end(), 61);
}

#[test]
fn a_longer_commit_and_one_of_several_batches_stay_where_they_are() {
    for (value, records) in [(&[7; 400][..], 1), (&[7; 20], 3)] {
        let storage = SimStorage::default();
        let mut journal = open(&storage);
        assert!(commit(&mut journal, &[1; FIRST], 1));
        assert!(commit(&mut journal, value, records));
        let all = batches(&storage);
        assert_eq!(all[1].start, all[0].end);
    }
}

#[test]
fn any_flipped_bit_at_a_fill_costs_at_most_its_batch() {
    let (storage, all) = (sample(), batches(&sample()));
    for bit in (all[0].end - 20) * 8..(all[3].end + 40) * 8 {
        let (byte, image) = (bit / 8, storage.image());
        let hit = all.iter().position(|bytes| bytes.contains(&byte)).map(|hit| hit as u64);
        let damaged = SimStorage::from_image(&image);
        damaged.flip(0, byte as usize, 1 << (bit % 8));
        let there: Vec<u64> = (0..4).filter(|offset| Some(*offset) != hit).collect();
        let lost: Vec<_> = hit.map(|hit| (hit, hit + 1)).into_iter().collect();
        assert_eq!(read(&damaged, 4), (there.clone(), lost.clone()), "bit {bit}");
        // The next opening takes damage to the last commit for a torn one.
        let (journal, recovery) = Journal::open(damaged.clone(), options()).unwrap();
        let end = if hit == Some(3) { 3 } else { 4 };
        let told = if end == 3 { 0 } else { lost.len() };
        assert_eq!((journal.end(), recovery.damage.len()), (end, told));
        assert_eq!(read(&damaged, end).0, there, "bit {bit}");
    }
}

/// Commits one after the other until one fails; how many were acknowledged, in offsets.
fn live(storage: &SimStorage) -> u64 {
    let Ok((mut journal, _)) = Journal::open(storage.clone(), options()) else { return 0 };
    let steps: [(&[u8], u16); 5] =
        [(&[1; FIRST], 1), (&VALUE, 1), (&VALUE, 1), (&[9; 30], 4), (&VALUE, 1)];
    for (value, records) in steps {
        if !commit(&mut journal, value, records) {
            break;
        }
    }
    journal.end()
}

#[test]
fn a_power_cut_at_any_call_around_a_fill_keeps_what_was_acknowledged() {
    let survivals =
        [Survives::Nothing, Survives::Everything, Survives::SomeSectors, Survives::Prefix];
    let calls = {
        let storage = SimStorage::default();
        assert_eq!(live(&storage), 8);
        storage.with(|disk| disk.calls)
    };
    for call in 1..=calls {
        for (how, seed) in survivals.into_iter().flat_map(|how| (0..8).map(move |seed| (how, seed)))
        {
            let storage = SimStorage::default();
            storage.with(|disk| (disk.fault, disk.seed) = (Some((call, Fault::PowerCut)), seed));
            let acked = live(&storage);
            storage.with(|disk| disk.restart(how));
            let mut journal = open(&storage);
            assert!(journal.end() >= acked, "call {call}, {how:?}, seed {seed}");
            let end = journal.end();
            assert_eq!(read(&storage, end), ((0..end).collect(), vec![]));
            assert!(commit(&mut journal, &VALUE, 1));
            drop(journal);
            assert_eq!(open(&storage).end(), end + 1);
            assert_eq!(read(&storage, end + 1), ((0..=end).collect(), vec![]));
        }
    }
}

#[test]
fn a_commit_that_fails_behind_a_fill_is_taken_back() {
    for seed in 0..50 {
        let storage = SimStorage::default();
        let mut journal = open(&storage);
        assert!(commit(&mut journal, &[1; FIRST], 1));
        storage.with(|disk| {
            disk.fault = Some((disk.calls + 1, Fault::Error(ErrorKind::StorageFull)));
            disk.seed = seed;
        });
        assert!(!commit(&mut journal, &VALUE, 1));
        assert!(storage.image()[&0][BLOCK as usize..].iter().all(|byte| *byte == 0));
        assert!(commit(&mut journal, &VALUE, 1));
        assert_eq!(batches(&storage)[1].start, BLOCK);
        assert_eq!(read(&storage, 2), (vec![0, 1], vec![]));
    }
}
