//! Retention by size and by age, and what it does for readers that are behind.

use std::io::ErrorKind;

use log_lite::{DropCause, Dropped, Journal, JournalError, JournalOptions, Reader, WhenFull};

use crate::sim::{Fault, NOW, SimStorage, Survives};

const DAY: i64 = 24 * 60 * 60 * 1000;

fn options() -> JournalOptions {
    JournalOptions { segment_size: 1024, zero_fill_step: 256, ..JournalOptions::default() }
}

fn a_week() -> JournalOptions {
    JournalOptions { max_age_ms: Some(7 * DAY as u64), ..options() }
}

fn open(storage: &SimStorage, options: JournalOptions) -> Journal<SimStorage> {
    Journal::open(storage.clone(), options).unwrap().0
}

/// Commits one record, whose own time is nobody's.
fn put(journal: &mut Journal<SimStorage>, bytes: usize) -> u64 {
    let offset = journal.append(0, i64::MAX, b"k", &vec![1; bytes]).unwrap();
    journal.commit().unwrap();
    offset
}

fn at(storage: &SimStorage, now_ms: i64) -> i64 {
    storage.with(|disk| disk.now_ms = now_ms);
    now_ms
}

fn first_to_last(dropped: &[Dropped]) -> Option<(u64, u64)> {
    Some((dropped.first()?.first, dropped.last()?.end))
}

#[test]
fn a_segment_goes_when_its_last_write_is_older_than_the_limit() {
    let storage = SimStorage::default();
    let mut journal = open(&storage, a_week());
    for day in 0..12 {
        let now = at(&storage, NOW + day * DAY);
        put(&mut journal, 600);
        let dropped = journal.enforce_retention(now).unwrap();
        assert!(dropped.iter().all(|segment| segment.cause == DropCause::Age));
        let oldest = (day - 7).max(0) as u64;
        assert_eq!(journal.start(), oldest, "on day {day}: {dropped:?}");
    }
}

#[test]
fn a_slow_log_ages_though_its_segment_never_fills() {
    let storage = SimStorage::default();
    let mut journal = open(&storage, a_week());
    for hour in 0..24 * 10 {
        let now = at(&storage, NOW + hour * DAY / 24);
        if hour % 12 == 0 {
            put(&mut journal, 1);
        }
        journal.enforce_retention(now).unwrap();
        if hour % 30 == 29 {
            // What a restart rewrites does not make the segment younger.
            drop(journal);
            journal = open(&storage, a_week());
        }
    }
    let days = journal.end().div_ceil(2) as i64;
    let kept = (journal.end() - journal.start()) / 2;
    assert!((7..=9).contains(&kept), "{kept} of {days} days");
}

#[test]
fn ages_survive_a_restart() {
    let storage = SimStorage::default();
    let mut journal = open(&storage, a_week());
    for day in 0..3 {
        at(&storage, NOW + day * DAY);
        put(&mut journal, 600);
    }
    drop(journal);
    let now = at(&storage, NOW + 8 * DAY - 1);
    let mut journal = open(&storage, a_week());
    assert_eq!(first_to_last(&journal.enforce_retention(now).unwrap()), Some((0, 1)));
    assert_eq!(first_to_last(&journal.enforce_retention(now + 1 + DAY).unwrap()), Some((1, 2)));
}

#[test]
fn a_log_that_nobody_writes_to_any_more_is_emptied_and_keeps_its_end() {
    let storage = SimStorage::default();
    let mut journal = open(&storage, a_week());
    for _ in 0..3 {
        put(&mut journal, 600);
    }
    journal.enforce_retention(NOW).unwrap();
    for day in 1..7 {
        // Restarts do not make it younger.
        at(&storage, NOW + day * DAY);
        journal = open(&storage, a_week());
    }
    let dropped = journal.enforce_retention(at(&storage, NOW + 7 * DAY + 1)).unwrap();
    assert_eq!(first_to_last(&dropped), Some((0, 3)));
    assert!(dropped.iter().all(|segment| segment.cause == DropCause::Age));
    assert_eq!((journal.start(), journal.end(), journal.segments().len()), (3, 3, 1));
    assert_eq!(journal.enforce_retention(NOW + 30 * DAY).unwrap(), []);
    storage.with(|disk| disk.restart(Survives::Nothing));
    let mut journal = open(&storage, a_week());
    assert_eq!((journal.start(), journal.end()), (3, 3));
    let mut reader = Reader::open(storage.clone()).unwrap();
    assert!(reader.next(3).unwrap().is_none() && reader.next(u64::MAX).unwrap().is_none());
    assert_eq!(put(&mut journal, 10), 3);
    assert_eq!(reader.next(4).unwrap().unwrap().first(), 3);
}

#[test]
fn a_segment_that_is_not_read_stays_however_old_where_the_log_blocks() {
    let storage = SimStorage::default();
    let mut journal = open(&storage, JournalOptions { when_full: WhenFull::Block, ..a_week() });
    put(&mut journal, 10);
    journal.set_keep(0);
    assert_eq!(journal.enforce_retention(NOW + 99 * DAY).unwrap(), []);
    journal.set_keep(1);
    journal.enforce_retention(NOW + 99 * DAY).unwrap();
    let dropped = journal.enforce_retention(NOW + 200 * DAY).unwrap();
    assert_eq!(first_to_last(&dropped), Some((0, 1)));
}

#[test]
fn a_disk_without_room_for_the_empty_segment_keeps_the_old_one_and_says_so() {
    for call in 1..=3 {
        let storage = SimStorage::default();
        let mut journal = open(&storage, a_week());
        put(&mut journal, 10);
        journal.enforce_retention(NOW).unwrap();
        storage.with(|disk| {
            disk.fault = Some((disk.calls + call, Fault::Error(ErrorKind::StorageFull)));
        });
        let later = NOW + 8 * DAY;
        let told = journal.enforce_retention(later);
        if call == 1 {
            // The summary of the old segment; readers do without.
            assert_eq!(first_to_last(&told.unwrap()), Some((0, 1)));
            continue;
        }
        assert!(matches!(told, Err(JournalError::DiskFull { .. })), "call {call}: {told:?}");
        let mut reader = Reader::open(storage.clone()).unwrap();
        assert_eq!(reader.next(1).unwrap().unwrap().end(), 1);
        assert_eq!(first_to_last(&journal.enforce_retention(later).unwrap()), Some((0, 1)));
        assert_eq!(put(&mut journal, 10), 1);
    }
}

#[test]
fn a_clock_that_was_not_set_makes_nothing_old() {
    let storage = SimStorage::default();
    let mut journal = open(&storage, a_week());
    for hour in 0..5 {
        let now = at(&storage, hour * DAY / 24);
        put(&mut journal, 600);
        assert_eq!(journal.enforce_retention(now).unwrap(), []);
    }
    assert_eq!(journal.enforce_retention(400 * DAY).unwrap(), []);
    // The clock is set: what was written before has the age of that moment.
    let now = at(&storage, NOW);
    assert_eq!(journal.enforce_retention(now).unwrap(), []);
    assert_eq!(journal.enforce_retention(now + 7 * DAY).unwrap(), []);
    let dropped = journal.enforce_retention(now + 7 * DAY + 1).unwrap();
    assert_eq!(first_to_last(&dropped), Some((0, 5)));
}

#[test]
fn records_that_age_before_they_are_read_are_named() {
    let storage = SimStorage::default();
    let mut journal = open(&storage, a_week());
    for _ in 0..5 {
        put(&mut journal, 600);
    }
    journal.set_keep(2);
    journal.enforce_retention(NOW).unwrap();
    let dropped = journal.enforce_retention(NOW + 8 * DAY).unwrap();
    let past: Vec<_> = dropped.iter().map(|segment| (segment.first, segment.past_keep)).collect();
    assert_eq!(past, [(0, false), (1, false), (2, true), (3, true), (4, true)]);
    assert!(dropped[2..].iter().all(|segment| segment.counts[&0] == 1));
}

#[test]
fn a_log_that_blocks_deletes_nothing_that_is_not_read_and_says_when_it_has_room() {
    let storage = SimStorage::default();
    let options =
        JournalOptions { max_size: Some(3 * 1024), when_full: WhenFull::Block, ..a_week() };
    let mut journal = open(&storage, options);
    journal.set_keep(0);
    assert_eq!(journal.room(), 3 * 1024);
    while journal.room() > 0 {
        put(&mut journal, 600);
        assert_eq!(journal.enforce_retention(NOW).unwrap(), []);
    }
    let end = journal.end();
    assert!(journal.size() <= 4 * 1024, "{}", journal.size());
    assert_eq!(journal.enforce_retention(NOW + 100 * DAY).unwrap(), []);
    assert_eq!((journal.start(), journal.room()), (0, 0));
    // A reader has passed two segments.
    journal.set_keep(2);
    let dropped = journal.enforce_retention(NOW + 100 * DAY).unwrap();
    assert_eq!(first_to_last(&dropped), Some((0, 2)));
    assert!(dropped.iter().all(|segment| !segment.past_keep));
    assert!(journal.room() > 0);
    assert_eq!(put(&mut journal, 600), end);
}

#[test]
fn a_log_that_blocks_in_its_only_segment_goes_on_once_all_is_read() {
    let storage = SimStorage::default();
    let options = JournalOptions { max_size: Some(512), when_full: WhenFull::Block, ..options() };
    let mut journal = open(&storage, options);
    journal.set_keep(0);
    while journal.room() > 0 {
        put(&mut journal, 100);
    }
    let end = journal.end();
    journal.set_keep(end - 1);
    journal.enforce_retention(NOW).unwrap();
    assert_eq!(journal.room(), 0);
    journal.set_keep(end);
    journal.enforce_retention(NOW).unwrap();
    assert_eq!(journal.room(), 512);
    assert_eq!(put(&mut journal, 100), end);
    assert_eq!(first_to_last(&journal.enforce_retention(NOW).unwrap()), Some((0, end)));
    let mut reader = Reader::open(storage).unwrap();
    assert_eq!(reader.next(end + 1).unwrap().unwrap().first(), end);
}

#[test]
fn a_segment_of_which_a_cut_left_half_a_head_has_room_and_takes_records() {
    let storage = SimStorage::default();
    put(&mut open(&storage, options()), 1);
    let mut image = storage.image();
    image.get_mut(&0).unwrap().truncate(40);
    let storage = SimStorage::from_image(&image);
    let limited = JournalOptions { max_size: Some(4096), ..options() };
    let mut journal = open(&storage, limited);
    assert_eq!(journal.room(), 4096 - 64, "the head was written anew");
    assert_eq!(put(&mut journal, 100), 0);
    let mut reader = Reader::open(storage).unwrap();
    assert_eq!(reader.next(1).unwrap().unwrap().records().count(), 1);
}
