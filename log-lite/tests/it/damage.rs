//! Damage: every bit of an image, and what recovery, reader and verify say of it.

use std::collections::BTreeMap;

use log_lite::{Damage, Journal, JournalOptions, ReadError, Reader, Why, verify_storage};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::sim::{Name, SimStorage};

type Image = BTreeMap<u64, Vec<u8>>;

const RECORDS: u64 = 40;

fn options() -> JournalOptions {
    JournalOptions { segment_size: 512, zero_fill_step: 128, ..JournalOptions::default() }
}

fn value(offset: u64) -> Vec<u8> {
    format!("the value of {offset}").into_bytes()
}

/// A log of several segments, and where each batch lies: segment, first byte, bytes, offsets.
fn sample() -> Image {
    let storage = SimStorage::default();
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    for offset in 0..RECORDS {
        journal.append((offset / 2 % 3) as u16, offset as i64, b"k", &value(offset)).unwrap();
        if offset % 4 == 3 {
            journal.commit().unwrap();
        }
    }
    assert!(journal.segments().len() >= 3);
    storage.image()
}

/// What a reader gets: whether each offset is there and right, and the ranges it calls damaged.
fn read(storage: &SimStorage, limit: u64) -> (Vec<bool>, Vec<(u64, u64)>) {
    let mut reader = Reader::open(storage.clone()).unwrap();
    let (mut there, mut damaged) = (vec![false; RECORDS as usize], Vec::new());
    loop {
        match reader.next(limit) {
            Ok(None) => return (there, damaged),
            Ok(Some(batch)) => {
                for record in batch.records() {
                    assert_eq!(record.value, value(record.offset));
                    assert_eq!(record.time_ms, record.offset as i64);
                    assert!(!there[record.offset as usize], "{} came twice", record.offset);
                    there[record.offset as usize] = true;
                }
            }
            Err(ReadError::Damaged { first, end, .. } | ReadError::Lost { first, end, .. }) => {
                damaged.push((first, end));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn flip(image: &Image, segment: u64, bit: usize) -> SimStorage {
    let mut bad = image.clone();
    bad.get_mut(&segment).unwrap()[bit / 8] ^= 1 << (bit % 8);
    SimStorage::from_image(&bad)
}

#[test]
fn any_flipped_bit_costs_at_most_its_batch_and_the_reader_names_the_range() {
    let image = sample();
    for (segment, bytes) in &image {
        for bit in 0..bytes.len() * 8 {
            let storage = flip(&image, *segment, bit);
            let (there, damaged) = read(&storage, RECORDS);
            let lost: Vec<u64> = (0..RECORDS).filter(|n| !there[*n as usize]).collect();
            let named: Vec<u64> = damaged.iter().flat_map(|(first, end)| *first..*end).collect();
            assert_eq!(lost, named, "segment {segment}, bit {bit}");
            assert!(lost.len() <= 2, "segment {segment}, bit {bit}: {lost:?}");
        }
    }
}

#[test]
fn opening_a_log_with_any_flipped_bit_deletes_no_whole_record() {
    let image = sample();
    for (segment, bytes) in &image {
        for bit in 0..bytes.len() * 8 {
            let storage = flip(&image, *segment, bit);
            let (before, _) = read(&storage, RECORDS);
            let (journal, recovery) = Journal::open(storage.clone(), options()).unwrap();
            let (after, damaged) = read(&storage, journal.end());
            assert_eq!(before, after, "segment {segment}, bit {bit}: {recovery:?}");
            if segment == image.keys().last().unwrap() {
                let reported: Vec<_> = recovery.damage.iter().map(|d| (d.first, d.end)).collect();
                assert_eq!(reported, damaged, "bit {bit}");
            }
        }
    }
}

#[test]
fn verify_finds_what_a_reader_finds() {
    let image = sample();
    for (segment, bytes) in &image {
        for bit in (0..bytes.len() * 8).step_by(3) {
            let storage = flip(&image, *segment, bit);
            let report = verify_storage(&storage, &mut |_, _| {}).unwrap();
            let (there, _) = read(&storage, u64::MAX);
            assert_eq!(report.records() as usize, there.iter().filter(|there| **there).count());
            let lost: u64 = report.damage.iter().map(|d| d.end - d.first).sum();
            let end = report.segments.last().unwrap().end;
            assert_eq!(report.records() + lost, end, "segment {segment}, bit {bit}");
            assert!(end == RECORDS || report.torn_tail.is_some(), "bit {bit}");
        }
    }
}

#[test]
fn verify_of_a_whole_log_names_segments_partitions_times_and_progress() {
    let image = sample();
    let mut last = (0, 0);
    let storage = SimStorage::from_image(&image);
    let report = verify_storage(&storage, &mut |done, total| last = (done, total)).unwrap();
    let bytes: u64 = image.values().map(|bytes| bytes.len() as u64).sum();
    assert_eq!(last, (bytes, bytes));
    assert_eq!((report.damage.len(), report.torn_tail), (0, None));
    assert_eq!(report.records(), RECORDS);
    let first = &report.segments[0];
    assert_eq!((first.base, first.times_ms), (0, Some((0, first.end as i64 - 1))));
    assert_eq!(report.segments.iter().map(|s| s.partitions.len()).max(), Some(3));
}

#[test]
fn a_sealed_segment_whose_head_is_gone_is_one_damaged_range() {
    let mut image = sample();
    let bases: Vec<u64> = image.keys().copied().collect();
    image.get_mut(&bases[1]).unwrap()[..64].fill(0);
    let storage = SimStorage::from_image(&image);
    let journal = Journal::open(storage.clone(), options()).unwrap().0;
    assert_eq!(journal.end(), RECORDS);
    assert_eq!(read(&storage, RECORDS).1, [(bases[1], bases[2])]);
    let report = verify_storage(&storage, &mut |_, _| {}).unwrap();
    let (segment, first, end) = (bases[1], bases[1], bases[2]);
    assert_eq!(report.damage, [Damage { segment, byte: 0, first, end, why: Why::SegmentHeader }]);
}

#[test]
fn a_range_that_crosses_the_limit_is_named_in_two_parts() {
    let mut image = sample();
    image.values_mut().next().unwrap()[80] ^= 1;
    let storage = SimStorage::from_image(&image);
    let (_, damaged) = read(&storage, RECORDS);
    assert_eq!(damaged, [(0, 2)]);
    let mut reader = Reader::open(storage).unwrap();
    assert!(matches!(reader.next(1), Err(ReadError::Damaged { first: 0, end: 1, .. })));
    assert!(reader.next(1).unwrap().is_none());
    assert!(matches!(reader.next(2), Err(ReadError::Damaged { first: 1, end: 2, .. })));
    assert_eq!(reader.next(RECORDS).unwrap().unwrap().first(), 2);
}

#[test]
fn a_missing_segment_is_a_range_and_not_an_end() {
    let mut image = sample();
    let bases: Vec<u64> = image.keys().copied().collect();
    image.remove(&bases[1]);
    let storage = SimStorage::from_image(&image);
    let (there, damaged) = read(&storage, RECORDS);
    assert_eq!(damaged, [(bases[1], bases[2])]);
    assert!(there[bases[2] as usize..].iter().all(|there| *there));
}

#[test]
fn a_newest_segment_without_its_head_is_kept_aside_and_its_offsets_are_not_used_again() {
    let mut image = sample();
    let newest = *image.keys().last().unwrap();
    image.get_mut(&newest).unwrap()[..64].fill(0);
    let bytes = image[&newest].clone();
    let storage = SimStorage::from_image(&image);
    let (mut journal, recovery) = Journal::open(storage.clone(), options()).unwrap();
    assert_eq!(recovery.set_aside.len(), 1);
    assert_eq!(storage.others(), [(Name::Damaged(newest, 0), bytes)].into());
    assert_eq!((recovery.damage[0].first, recovery.damage[0].end), (newest, RECORDS));
    assert_eq!(journal.append(0, 0, b"", b"next").unwrap(), RECORDS);
    journal.commit().unwrap();
    assert_eq!(read(&storage, RECORDS).1, [(newest, RECORDS)]);
    let mut reader = Reader::open(storage).unwrap();
    reader.seek(RECORDS);
    assert_eq!(reader.next(u64::MAX).unwrap().unwrap().first(), RECORDS);
}

#[test]
fn a_cut_creation_behind_a_damaged_tail_keeps_the_tails_offsets_from_being_given_away() {
    let mut image = sample();
    let tail = image.values_mut().next_back().unwrap();
    let last = tail.iter().rposition(|byte| *byte != 0).unwrap();
    tail[last] ^= 1;
    for left in [vec![], vec![0; 128], vec![7; 40]] {
        let kept = usize::from(left.contains(&7));
        let mut image = image.clone();
        image.insert(RECORDS, left);
        let storage = SimStorage::from_image(&image);
        for opening in 0..2 {
            let (journal, recovery) = Journal::open(storage.clone(), options()).unwrap();
            assert_eq!((journal.end(), recovery.torn), (RECORDS, None));
            assert_eq!(recovery.set_aside.len(), if opening == 0 { kept } else { 0 });
        }
        assert_eq!(storage.others().len(), kept);
        let (there, damaged) = read(&storage, RECORDS);
        let first = there.iter().position(|there| !there).unwrap() as u64;
        assert_eq!(damaged, [(first, RECORDS)]);
    }
}

#[test]
fn an_owner_that_knows_of_later_positions_gets_no_offset_below_them() {
    let storage = SimStorage::from_image(&sample());
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    journal.advance_to(RECORDS - 3).unwrap();
    assert_eq!(journal.end(), RECORDS);
    journal.advance_to(RECORDS + 10).unwrap();
    assert_eq!(journal.append(0, 0, b"", b"next").unwrap(), RECORDS + 10);
    journal.commit().unwrap();
    let mut reader = Reader::open(storage).unwrap();
    reader.seek(RECORDS);
    let told = reader.next(journal.end());
    assert!(matches!(
        told,
        Err(ReadError::Damaged { first: RECORDS, end, why: Why::Missing, .. }) if end == RECORDS + 10
    ));
    assert_eq!(reader.next(journal.end()).unwrap().unwrap().first(), RECORDS + 10);
}

#[test]
fn a_log_of_a_later_format_is_left_alone() {
    let mut image = sample();
    let newest = *image.keys().last().unwrap();
    let bytes = image.get_mut(&newest).unwrap();
    for copy in 0..2 {
        let head = &mut bytes[copy * 32..copy * 32 + 32];
        head[4] = 2;
        let crc = log_lite::crc32c(&head[..28]);
        head[28..].copy_from_slice(&crc.to_le_bytes());
    }
    let storage = SimStorage::from_image(&image);
    let refused = Journal::open(storage.clone(), options());
    assert!(matches!(refused, Err(log_lite::JournalError::Version { found: 2, .. })));
    assert_eq!(storage.image(), image);
}

#[test]
fn a_sector_lost_from_an_earlier_commit_costs_no_later_commit() {
    let storage = SimStorage::default();
    let options = JournalOptions { segment_size: 1 << 16, ..options() };
    let mut journal = Journal::open(storage.clone(), options).unwrap().0;
    for offset in 0..RECORDS {
        journal.append((offset % 2) as u16, offset as i64, b"k", &value(offset)).unwrap();
        if offset % 8 == 7 {
            journal.commit().unwrap();
        }
    }
    drop(journal);
    let mut image = storage.image();
    image.get_mut(&0).unwrap()[..1024][512..].fill(0);
    let storage = SimStorage::from_image(&image);
    let (before, damaged) = read(&storage, RECORDS);
    assert!(damaged.len() == 1 && damaged[0].1 < RECORDS, "{damaged:?}");
    let (journal, recovery) = Journal::open(storage.clone(), options).unwrap();
    assert_eq!((journal.end(), recovery.torn, recovery.damage.len()), (RECORDS, None, 1));
    assert_eq!(read(&storage, RECORDS), (before, damaged));
}

#[test]
fn a_reader_waits_before_a_torn_tail_and_goes_on_once_it_is_cut() {
    let mut image = sample();
    let newest = *image.keys().last().unwrap();
    let bytes = image.get_mut(&newest).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes.resize(bytes.len().max(used + 30), 0);
    bytes[used..used + 30].fill(0xA9);
    let storage = SimStorage::from_image(&image);
    let mut reader = Reader::open(storage.clone()).unwrap();
    while reader.next(u64::MAX).unwrap().is_some() {}
    assert_eq!(reader.position(), RECORDS);
    let (mut journal, recovery) = Journal::open(storage.clone(), options()).unwrap();
    assert_eq!(recovery.torn.map(|torn| (torn.byte, torn.bytes)), Some((used as u64, 30)));
    journal.append(0, 0, b"", b"next").unwrap();
    journal.commit().unwrap();
    let batch = reader.next(journal.end()).unwrap().unwrap();
    assert_eq!(batch.records().next().unwrap().value, b"next");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn no_damage_makes_a_reader_give_a_wrong_record_or_leave_a_loss_unnamed(
        places in vec((0usize..3, 0usize..512, vec(any::<u8>(), 1..60)), 1..6),
    ) {
        let mut image = sample();
        for (segment, at, bytes) in places {
            let file = image.values_mut().nth(segment).unwrap();
            let end = (at + bytes.len()).min(file.len());
            file[at.min(end)..end].copy_from_slice(&bytes[..end.saturating_sub(at)]);
        }
        let storage = SimStorage::from_image(&image);
        let (there, damaged) = read(&storage, RECORDS);
        let lost: Vec<u64> = (0..RECORDS).filter(|n| !there[*n as usize]).collect();
        let named: Vec<u64> = damaged.iter().flat_map(|(first, end)| *first..*end).collect();
        prop_assert_eq!(lost, named);
        let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
        let next = journal.append(0, 0, b"", b"goes on").unwrap();
        journal.commit().unwrap();
        let mut reader = Reader::open(storage).unwrap();
        reader.seek(next);
        let batch = reader.next(journal.end()).unwrap().unwrap();
        prop_assert_eq!(batch.records().next().unwrap().value, b"goes on");
    }
}
