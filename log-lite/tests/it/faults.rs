//! Errors of the disk, one at a time.

use std::io::ErrorKind;

use log_lite::{
    AppendError, ChunkHeader, ChunkKind, Journal, JournalError, JournalOptions, ReadError, Reader,
    SegmentFile, Storage, crc32c,
};

use crate::sim::{Fault, NOW, SimStorage};

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

/// A log of several segments, of which the oldest may be deleted.
fn sample() -> (SimStorage, JournalOptions) {
    let storage = SimStorage::default();
    let options = JournalOptions { segment_size: 512, max_size: Some(1024), ..options() };
    let mut journal = Journal::open(storage.clone(), options).unwrap().0;
    for n in 0..40u64 {
        journal.append((n % 3) as u16, n as i64, b"key", &[n as u8; 50]).unwrap();
        if n % 4 == 3 {
            journal.commit().unwrap();
        }
    }
    assert!(journal.segments().len() > 3);
    (storage, options)
}

/// Has each read of the work fail once, until the work makes no more reads than that.
fn fail_each_read(storage: &SimStorage, mut work: impl FnMut() -> u64) {
    for read in 1.. {
        storage.with(|disk| (disk.reads, disk.read_fault) = (0, Some(read)));
        let errors = work();
        let reads = storage.with(|disk| {
            disk.read_fault = None;
            disk.reads
        });
        // What reads a summary needs none, and goes on without.
        assert!(errors <= 1, "read {read}");
        if reads < read {
            assert!(read > 10 && errors == 0);
            return;
        }
    }
}

#[test]
fn opening_fails_where_a_read_fails_says_where_and_works_the_next_time() {
    let (storage, options) = sample();
    let before = storage.image();
    fail_each_read(&storage, || {
        let error = Journal::open(storage.clone(), options).err();
        if let Some(error) = &error {
            let text = error.to_string();
            assert!(text.contains(".log") || text.contains("directory"), "{text}");
            assert!(text.contains("check the disk"), "{text}");
        }
        storage.with(|disk| disk.read_fault = None);
        assert_eq!(Journal::open(storage.clone(), options).unwrap().0.end(), 40);
        u64::from(error.is_some())
    });
    assert_eq!(storage.image(), before);
}

#[test]
fn a_reader_goes_on_after_a_read_that_failed_and_misses_nothing() {
    let (storage, _) = sample();
    for only in [None, Some(&[1][..])] {
        fail_each_read(&storage, || {
            let (mut found, mut errors) = (Vec::new(), 0);
            let mut reader = loop {
                match Reader::open(storage.clone()) {
                    Ok(reader) => break reader,
                    Err(error) => errors += said_where(&error),
                }
            };
            reader.only(only);
            loop {
                match reader.next(40) {
                    Ok(Some(batch)) => found.extend(batch.records().map(|record| record.offset)),
                    Ok(None) => break,
                    Err(error) => errors += said_where(&error),
                }
            }
            let wanted = |n: &u64| only.is_none_or(|only| only.contains(&((n % 3) as u16)));
            assert_eq!(found, (0..40).filter(wanted).collect::<Vec<_>>());
            errors
        });
    }
}

fn said_where(error: &ReadError) -> u64 {
    let text = error.to_string();
    assert!(matches!(error, ReadError::Io { .. }), "{text}");
    assert!(text.contains(".log") || text.contains("directory"), "{text}");
    assert!(text.contains("check the disk"), "{text}");
    1
}

#[test]
fn seeking_a_time_after_a_read_that_failed_finds_it() {
    let (storage, _) = sample();
    fail_each_read(&storage, || {
        let Ok(mut reader) = Reader::open(storage.clone()) else { return 1 };
        let mut errors = 0;
        loop {
            match reader.seek_time(33, 40) {
                Ok(found) => {
                    assert_eq!(found, 33);
                    return errors;
                }
                Err(error) => errors += said_where(&error),
            }
        }
    });
}

#[test]
fn retention_that_cannot_read_what_it_would_drop_drops_it_the_next_time() {
    for keep in [0, 3, u64::MAX] {
        let mut read = 0;
        let mut failed = 0;
        loop {
            let (storage, options) = sample();
            let mut journal = Journal::open(storage.clone(), options).unwrap().0;
            journal.set_keep(keep);
            read += 1;
            storage.with(|disk| (disk.reads, disk.read_fault) = (0, Some(read)));
            let mut dropped = Vec::new();
            for _ in 0..3 {
                match journal.enforce_retention(NOW) {
                    Ok(more) => dropped.extend(more),
                    Err(error) => {
                        assert!(error.to_string().contains(".log"), "{error}");
                        failed += 1;
                    }
                }
            }
            assert!(journal.size() <= 1024 && dropped.len() > 2);
            let lost: u64 = dropped.iter().flat_map(|segment| segment.counts.values()).sum();
            assert_eq!(lost, journal.start().saturating_sub(keep), "keep {keep}, read {read}");
            if storage.with(|disk| disk.reads) < read {
                break;
            }
        }
        assert_eq!(failed == 0, keep == u64::MAX, "it reads only what it has to count");
    }
}
