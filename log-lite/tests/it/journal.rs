//! The file journal and its reader on a real directory.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use log_lite::{AppendError, Journal, JournalError, JournalOptions, ReadError, Reader};

use crate::sim::NOW;

type Row = (u64, u16, i64, Vec<u8>, Vec<u8>);

fn options(segment_size: u32) -> JournalOptions {
    JournalOptions { segment_size, zero_fill_step: 4096, ..JournalOptions::default() }
}

fn open(dir: &Path, segment_size: u32) -> Journal {
    Journal::open_dir(dir, options(segment_size)).unwrap().0
}

fn rows(reader: &mut Reader, limit: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    while let Some(batch) = reader.next(limit).unwrap() {
        for r in batch.records() {
            rows.push((r.offset, r.partition, r.time_ms, r.key.to_vec(), r.value.to_vec()));
        }
    }
    rows
}

fn fill(journal: &mut Journal, count: u64) {
    for _ in 0..count {
        let n = journal.next_offset();
        journal.append((n % 3) as u16, n as i64, b"key", format!("value {n}").as_bytes()).unwrap();
        if n % 5 == 4 {
            journal.commit().unwrap();
        }
    }
    journal.commit().unwrap();
}

#[test]
fn what_was_committed_is_read_back_in_order_across_segments_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1024);
    fill(&mut journal, 200);
    drop(journal);
    let mut journal = open(dir.path(), 1024);
    assert_eq!(journal.end(), 200);
    fill(&mut journal, 100);
    assert!(journal.segments().len() > 5);
    let rows = rows(&mut Reader::open_dir(dir.path()).unwrap(), journal.end());
    assert_eq!(rows.len(), 300);
    for (n, row) in (0u64..).zip(rows) {
        let value = format!("value {n}").into_bytes();
        assert_eq!(row, (n, (n % 3) as u16, n as i64, b"key".to_vec(), value));
    }
}

#[test]
fn one_write_and_one_sync_serve_every_partition_of_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1 << 20);
    journal.append(0, 0, b"", b"the first commit makes the segment").unwrap();
    journal.commit().unwrap();
    for partition in 0..64 {
        journal.append(partition, 1, b"k", &[7; 20]).unwrap();
    }
    let stats = journal.commit().unwrap();
    assert_eq!((stats.writes, stats.syncs, stats.records, stats.batches), (1, 1, 64, 64));
}

#[test]
fn a_small_commit_into_zero_filled_space_issues_only_its_own_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1 << 20);
    journal.append(0, 0, b"", b"x").unwrap();
    assert_eq!(journal.commit().unwrap().bytes, 4096);
    journal.append(0, 1, b"", &[1; 64]).unwrap();
    assert_eq!(journal.commit().unwrap().bytes, 64 + 3 + 12);
}

#[test]
fn a_commit_of_nothing_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1024);
    let stats = journal.commit().unwrap();
    assert_eq!((stats.writes, stats.syncs, stats.end), (0, 0, 0));
    assert_eq!(journal.segments().len(), 0);
}

#[test]
fn a_reader_sees_nothing_at_or_above_its_limit_and_goes_on_in_the_middle_of_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 4096);
    for n in 0..10 {
        journal.append(0, n, b"", &[n as u8]).unwrap();
    }
    journal.commit().unwrap();
    let mut reader = Reader::open_dir(dir.path()).unwrap();
    assert_eq!(rows(&mut reader, 4).len(), 4);
    assert_eq!(reader.position(), 4);
    let rest = rows(&mut reader, journal.end());
    assert_eq!(rest.iter().map(|row| row.0).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_reader_at_the_end_sees_what_is_committed_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1024);
    let mut reader = Reader::open_dir(dir.path()).unwrap();
    let mut seen = 0;
    for round in 1..60 {
        fill(&mut journal, round);
        seen += rows(&mut reader, journal.end()).len() as u64;
        assert_eq!(seen, journal.end());
        assert!(reader.next(u64::MAX).unwrap().is_none());
    }
}

#[test]
fn a_partition_filter_gives_its_records_and_moves_past_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1024);
    fill(&mut journal, 90);
    let mut reader = Reader::open_dir(dir.path()).unwrap();
    reader.only(Some(&[2]));
    let rows = rows(&mut reader, journal.end());
    assert_eq!(rows.len(), 30);
    assert!(rows.iter().all(|row| row.1 == 2));
    assert_eq!(reader.position(), 90);
}

#[test]
fn seeking_by_offset_and_by_time_finds_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1024);
    for n in 0..200i64 {
        journal.append(0, n * 10, b"", &[n as u8; 9]).unwrap();
        if n % 7 == 0 {
            journal.commit().unwrap();
        }
    }
    journal.commit().unwrap();
    let mut reader = Reader::open_dir(dir.path()).unwrap();
    for offset in [150, 3, 199, 0, 77] {
        reader.seek(offset);
        let batch = reader.next(journal.end()).unwrap().unwrap();
        assert_eq!(batch.first(), offset);
        assert_eq!(batch.records().next().unwrap().time_ms, offset as i64 * 10);
    }
    for (time, offset) in [(0, 0), (-5, 0), (1_234, 124), (1_990, 199), (1_991, 200)] {
        assert_eq!(reader.seek_time(time, journal.end()).unwrap(), offset, "time {time}");
        assert_eq!(reader.position(), offset);
    }
}

#[test]
fn retention_deletes_the_oldest_segments_and_names_what_nobody_had_read() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { max_size: Some(3 * 1024), ..options(1024) };
    let mut journal = Journal::open_dir(dir.path(), options).unwrap().0;
    fill(&mut journal, 200);
    let bases: Vec<_> = journal.segments().map(|segment| segment.base).collect();
    let keep = bases[1] + 2;
    journal.set_keep(keep);
    let dropped = journal.enforce_retention(NOW).unwrap();
    assert!(journal.size() <= 3 * 1024);
    assert_eq!((dropped[0].first, dropped[0].end, dropped[0].past_keep), (0, bases[1], false));
    assert!(dropped[0].counts.is_empty());
    let lost: u64 = dropped.iter().flat_map(|segment| segment.counts.values()).sum();
    assert_eq!(lost, journal.start() - keep);
    assert!(dropped[1..].iter().all(|segment| segment.past_keep));
    let mut reader = Reader::open_dir(dir.path()).unwrap();
    reader.seek(0);
    let start = journal.start();
    assert!(matches!(reader.next(200), Err(ReadError::Trimmed { start: s }) if s == start));
    assert_eq!(rows(&mut reader, 200).len() as u64, 200 - start);
}

#[test]
fn a_second_writer_is_turned_away_and_a_reader_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1024);
    fill(&mut journal, 3);
    let second = Journal::open_dir(dir.path(), options(1024));
    assert!(matches!(second, Err(JournalError::Locked { .. })));
    assert_eq!(rows(&mut Reader::open_dir(dir.path()).unwrap(), u64::MAX).len(), 3);
    drop(journal);
    assert!(Journal::open_dir(dir.path(), options(1024)).is_ok());
}

#[test]
fn a_record_larger_than_a_segment_is_refused_and_costs_no_offset() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1024);
    let refused = journal.append(0, 0, b"", &[0; 1000]);
    assert!(matches!(refused, Err(AppendError::TooLarge { max: 924, .. })), "{refused:?}");
    assert_eq!(journal.append(0, 0, b"", &[9; 900]).unwrap(), 0);
    assert_eq!(journal.append(0, 0, b"", &[9; 900]).unwrap(), 1);
    journal.commit().unwrap();
    assert_eq!(rows(&mut Reader::open_dir(dir.path()).unwrap(), 2).len(), 2);
}

#[test]
fn what_was_discarded_is_not_stored_and_its_offsets_are_given_away_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 1024);
    journal.append(0, 0, b"", b"gone").unwrap();
    journal.discard();
    assert_eq!(journal.append(0, 0, b"", b"stays").unwrap(), 0);
    journal.commit().unwrap();
    let rows = rows(&mut Reader::open_dir(dir.path()).unwrap(), journal.end());
    assert_eq!(rows[0].4, b"stays");
}

#[test]
fn a_reader_whose_segment_is_deleted_reads_it_to_its_end_and_is_then_told() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { max_size: Some(2 * 1024), ..options(1024) };
    let mut journal = Journal::open_dir(dir.path(), options).unwrap().0;
    fill(&mut journal, 5);
    let mut reader = Reader::open_dir(dir.path()).unwrap();
    assert_eq!(reader.next(journal.end()).unwrap().unwrap().first(), 0);
    fill(&mut journal, 200);
    let first_end = journal.segments().nth(1).unwrap().base;
    journal.enforce_retention(NOW).unwrap();
    let start = journal.start();
    assert!(start > first_end);
    let mut next = 1;
    let told = loop {
        match reader.next(journal.end()) {
            Ok(Some(batch)) => next = batch.end(),
            Ok(None) => panic!("the end, though {next} is not it"),
            Err(error) => break error,
        }
    };
    assert_eq!(next, first_end);
    assert!(matches!(told, ReadError::Trimmed { start: s } if s == start), "{told}");
    assert_eq!(rows(&mut reader, journal.end()).len() as u64, journal.end() - start);
}

#[test]
fn readers_in_other_threads_follow_a_live_journal_through_retention() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { max_size: Some(64 * 1024), ..options(8192) };
    let mut journal = Journal::open_dir(dir.path(), options).unwrap().0;
    let end = AtomicU64::new(0);
    const RECORDS: u64 = 20_000;
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let mut reader = Reader::open_dir(dir.path()).unwrap();
                reader.seek(0);
                while reader.position() < RECORDS {
                    let position = reader.position();
                    match reader.next(end.load(Ordering::Acquire)) {
                        Ok(Some(batch)) => {
                            assert_eq!(batch.first(), position);
                            for r in batch.records() {
                                assert_eq!(r.value, r.offset.to_le_bytes());
                            }
                        }
                        Ok(None) => std::thread::yield_now(),
                        Err(ReadError::Trimmed { start }) => assert!(start > position),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        while journal.end() < RECORDS {
            for _ in 0..RECORDS / 100 {
                let n = journal.next_offset();
                journal.append((n / 3 % 4) as u16, 0, b"", &n.to_le_bytes()).unwrap();
            }
            journal.commit().unwrap();
            end.store(journal.end(), Ordering::Release);
            journal.enforce_retention(NOW).unwrap();
        }
    });
    assert!(journal.start() > 0);
}
