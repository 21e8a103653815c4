//! Errors of the disk, one at a time.

use std::io::ErrorKind;

use log_lite::{
    AppendError, ChunkHeader, ChunkKind, Journal, JournalError, JournalOptions, Reader,
    SegmentFile, Storage, crc32c,
};

use crate::sim::{Fault, SimStorage};

fn options() -> JournalOptions {
    JournalOptions { segment_size: 4096, zero_fill_step: 512, ..JournalOptions::default() }
}

fn count(storage: &SimStorage) -> usize {
    let mut reader = Reader::open(storage.clone()).unwrap();
    let mut count = 0;
    while let Some(batch) = reader.next(u64::MAX).unwrap() {
        count += batch.records().count();
    }
    count
}

#[test]
fn a_full_disk_drops_the_commit_and_the_log_goes_on_once_there_is_room() {
    let storage = SimStorage::default();
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    journal.append(0, 0, b"", b"kept").unwrap();
    journal.commit().unwrap();
    let next = storage.with(|disk| disk.calls) + 1;
    storage.with(|disk| disk.fault = Some((next, Fault::Error(ErrorKind::StorageFull))));
    journal.append(0, 0, b"", &[1; 600]).unwrap();
    assert!(matches!(journal.commit(), Err(JournalError::DiskFull { .. })));
    assert_eq!((journal.end(), journal.next_offset(), count(&storage)), (1, 1, 1));
    assert_eq!(journal.append(0, 0, b"", b"later").unwrap(), 1);
    journal.commit().unwrap();
    assert_eq!(count(&storage), 2);
    assert_eq!(journal.stats().failed_commits, 1);
}

#[test]
fn a_failed_sync_stops_the_journal_until_it_is_opened_again() {
    let storage = SimStorage::default();
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    journal.append(0, 0, b"", b"kept").unwrap();
    journal.commit().unwrap();
    let sync = storage.with(|disk| disk.calls) + 2;
    storage.with(|disk| disk.fault = Some((sync, Fault::Error(ErrorKind::Other))));
    journal.append(0, 0, b"", b"unknown").unwrap();
    assert!(matches!(journal.commit(), Err(JournalError::Poisoned { source: Some(_), .. })));
    assert!(matches!(journal.commit(), Err(JournalError::Poisoned { source: None, .. })));
    assert_eq!(journal.append(0, 0, b"", b"refused"), Err(AppendError::Poisoned));
    assert_eq!(journal.end(), 1);
    let journal = Journal::open(storage.clone(), options()).unwrap().0;
    assert_eq!(journal.end() as usize, count(&storage));
}

#[test]
fn a_commit_that_cannot_make_its_second_segment_takes_back_the_first_part_too() {
    let storage = SimStorage::default();
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    for n in 0..3u8 {
        journal.append(u16::from(n), 0, b"", &[n; 1200]).unwrap();
    }
    journal.commit().unwrap();
    for n in 0..4u8 {
        journal.append(u16::from(n), 0, b"", &[n; 300]).unwrap();
    }
    // Write and sync of the first part, its summary, then the creation.
    let creation = storage.with(|disk| disk.calls) + 4;
    storage.with(|disk| disk.fault = Some((creation, Fault::Error(ErrorKind::StorageFull))));
    assert!(matches!(journal.commit(), Err(JournalError::DiskFull { .. })));
    assert_eq!((journal.end(), count(&storage)), (3, 3));
    journal.append(9, 0, b"", &[9; 2000]).unwrap();
    journal.commit().unwrap();
    assert_eq!((journal.end(), count(&storage)), (4, 4));
}

#[test]
fn a_reader_that_met_a_segment_whose_commit_failed_goes_on_where_the_next_commit_is() {
    let storage = SimStorage::default();
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    journal.append(0, 0, b"", b"first").unwrap();
    journal.commit().unwrap();
    let head = ChunkHeader {
        kind: ChunkKind::Segment,
        base_offset: 1,
        base_time_ms: 0,
        epoch: crc32c(&1u64.to_le_bytes()),
    };
    storage.create(1).unwrap().write_at(0, &head.encode()).unwrap();
    let mut reader = Reader::open(storage.clone()).unwrap();
    assert_eq!(reader.next(u64::MAX).unwrap().unwrap().end(), 1);
    assert!(reader.next(u64::MAX).unwrap().is_none());
    storage.remove(1).unwrap();
    assert!(reader.next(u64::MAX).unwrap().is_none());
    journal.append(0, 0, b"", b"second").unwrap();
    journal.commit().unwrap();
    let batch = reader.next(u64::MAX).unwrap().unwrap();
    assert_eq!(batch.records().next().unwrap().value, b"second");
}
