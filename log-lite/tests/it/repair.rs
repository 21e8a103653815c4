//! Repair, and the bytes of version 2 under damage.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use log_lite::{
    CompactOptions, CompactStep, Journal, JournalOptions, ReadError, Reader, repair_storage,
    verify_storage,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::sim::{Fault, NOW, Name, SimStorage, Survives};

type Image = BTreeMap<u64, Vec<u8>>;

const RECORDS: u64 = 108;
/// Of the log with segments of version 2.
const FEWER: u64 = 60;

fn options() -> JournalOptions {
    JournalOptions { segment_size: 512, zero_fill_step: 128, ..JournalOptions::default() }
}

fn value(offset: u64) -> Vec<u8> {
    format!("the value of {offset}").into_bytes()
}

fn no_progress() -> impl FnMut(u64, u64) {
    |_, _| {}
}

fn append(journal: &mut Journal<SimStorage>, offsets: std::ops::Range<u64>) {
    for offset in offsets {
        let key = [b'a' + (offset % 13) as u8];
        let partition = (offset / 3 % 2) as u16;
        let given = journal.append(partition, offset as i64, &key, &value(offset)).unwrap();
        assert_eq!(given, offset);
        if offset % 3 == 2 {
            journal.commit().unwrap();
        }
    }
}

fn compact(journal: &mut Journal<SimStorage>) {
    let options = CompactOptions { min_dirty_percent: 0, ..CompactOptions::default() };
    let mut compactor = journal.compactor(options);
    let segments: Vec<_> = journal.segments().collect();
    assert!(compactor.start(&segments, NOW).unwrap());
    loop {
        match compactor.step().unwrap() {
            CompactStep::Working => {}
            CompactStep::Swap(done) => assert!(journal.swap_compacted(&done).unwrap()),
            CompactStep::Done(_) => return,
        }
    }
}

/// A log of ordinary segments.
fn version_1() -> Image {
    let storage = SimStorage::default();
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    append(&mut journal, 0..RECORDS);
    assert!(journal.segments().len() >= 4);
    storage.image()
}

/// A log of compacted segments with left out, lost and whole ranges, and ordinary ones behind.
fn version_2() -> Image {
    let storage = SimStorage::default();
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    append(&mut journal, 0..30);
    compact(&mut journal);
    append(&mut journal, 30..45);
    drop(journal);
    let mut image = storage.image();
    let damaged = image.values_mut().rev().nth(1).unwrap();
    damaged[90] ^= 1;
    let storage = SimStorage::from_image(&image);
    assert_eq!(repair_storage(&storage, &mut no_progress()).unwrap().repaired.len(), 1);
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    append(&mut journal, 45..FEWER);
    let kinds: Vec<_> = storage.image().values().map(|bytes| bytes[4..6].to_vec()).collect();
    assert!(kinds.contains(&vec![1, 1]) && kinds.contains(&vec![2, 3]), "{kinds:?}");
    storage.image()
}

/// What a reader gets.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    there: Vec<u64>,
    damaged: Vec<(u64, u64)>,
    lost: Vec<(u64, u64)>,
}

impl Seen {
    fn of(storage: &SimStorage) -> Self {
        Self::below(storage, RECORDS)
    }

    fn below(storage: &SimStorage, limit: u64) -> Self {
        let mut reader = Reader::open(storage.clone()).unwrap();
        let mut seen = Self::default();
        loop {
            match reader.next(limit) {
                Ok(None) => return seen,
                Ok(Some(batch)) => {
                    for record in batch.records() {
                        assert_eq!(record.value, value(record.offset));
                        assert_eq!(record.time_ms, record.offset as i64);
                        assert_eq!(record.partition, (record.offset / 3 % 2) as u16);
                        assert!(seen.there.last().is_none_or(|last| *last < record.offset));
                        seen.there.push(record.offset);
                    }
                }
                Err(ReadError::Damaged { first, end, .. }) => seen.damaged.push((first, end)),
                Err(ReadError::Lost { first, end, .. }) => seen.lost.push((first, end)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn names(&self, offset: u64) -> bool {
        let mut all = self.damaged.iter().chain(&self.lost);
        all.any(|(first, end)| (*first..*end).contains(&offset))
    }

    /// The ranges that cannot be read, whoever says so, with neighbours joined.
    fn unread(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<_> = self.damaged.iter().chain(&self.lost).copied().collect();
        all.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (first, end) in all {
            match joined.last_mut() {
                Some(last) if first <= last.1 => last.1 = last.1.max(end),
                _ => joined.push((first, end)),
            }
        }
        joined
    }
}

fn flip(image: &Image, segment: u64, bit: usize) -> SimStorage {
    let mut bad = image.clone();
    bad.get_mut(&segment).unwrap()[bit / 8] ^= 1 << (bit % 8);
    SimStorage::from_image(&bad)
}

#[test]
fn any_flipped_bit_of_version_2_costs_at_most_its_batch_and_the_reader_names_the_range() {
    let image = version_2();
    let whole = Seen::below(&SimStorage::from_image(&image), FEWER);
    assert!(whole.there.len() > 25 && whole.damaged.is_empty() && whole.lost.len() == 1);
    for (segment, bytes) in &image {
        for bit in 0..bytes.len() * 8 {
            let seen = Seen::below(&flip(&image, *segment, bit), FEWER);
            let gone: Vec<_> =
                whole.there.iter().filter(|offset| !seen.there.contains(offset)).collect();
            assert!(gone.len() <= 3, "segment {segment}, bit {bit}: {gone:?}");
            assert!(gone.iter().all(|offset| seen.names(**offset)), "segment {segment}, bit {bit}");
            assert!(!seen.there.iter().any(|offset| seen.names(*offset)), "bit {bit}");
            let was_lost = whole.lost[0].0..whole.lost[0].1;
            assert!(was_lost.clone().all(|offset| seen.names(offset)), "bit {bit}");
        }
    }
}

#[test]
fn repair_of_any_flipped_bit_of_version_2_loses_what_the_reader_named_and_no_more() {
    let image = version_2();
    for (segment, bytes) in &image {
        for bit in (0..bytes.len() * 8).step_by(5) {
            let storage = flip(&image, *segment, bit);
            let found = verify_storage(&storage, &mut no_progress()).unwrap();
            let (journal, _) = Journal::open(storage.clone(), options()).unwrap();
            let end = journal.end();
            drop(journal);
            let before = Seen::below(&storage, end);
            let report = repair_storage(&storage, &mut no_progress()).unwrap();
            let after = Seen::below(&storage, end);
            let place = format!("segment {segment}, bit {bit}");
            assert_eq!(after.there, before.there, "{place}");
            assert_eq!((after.damaged.len(), after.unread()), (0, before.unread()), "{place}");
            let named: u64 = before.damaged.iter().map(|(first, end)| end - first).sum();
            assert_eq!(report.lost(), named, "{place}");
            let newest = segment == image.keys().last().unwrap();
            assert!(newest || report.repaired.len() == usize::from(!found.damage.is_empty()));
            let checked = verify_storage(&storage, &mut no_progress()).unwrap();
            assert_eq!((checked.damage.len(), checked.torn_tail), (0, None), "{place}");
        }
    }
}

/// Damage of every kind: a body, a header, a head, zeros at the end, a segment that is gone.
fn damaged() -> Image {
    let mut image = version_1();
    let bases: Vec<u64> = image.keys().copied().collect();
    assert!(bases.len() >= 6, "{bases:?}");
    let mut at = |nth: usize, change: &dyn Fn(&mut Vec<u8>)| {
        change(image.get_mut(&bases[nth]).unwrap());
    };
    at(0, &|bytes| bytes[90] ^= 1);
    at(1, &|bytes| bytes[66] ^= 1);
    at(2, &|bytes| bytes[..64].fill(0));
    at(3, &|bytes| bytes[200..].fill(0));
    at(bases.len() - 1, &|bytes| bytes[80] ^= 1);
    image.remove(&bases[4]);
    image
}

/// Every damaged segment is there still, under one name or another.
fn assert_kept(storage: &SimStorage, damaged: &Image, all: bool) {
    let (image, others) = (storage.image(), storage.others());
    for (base, bytes) in damaged {
        let aside = (0..9).any(|n| others.get(&Name::Damaged(*base, n)) == Some(bytes));
        assert!(aside || (!all && image.get(base) == Some(bytes)), "segment {base}");
    }
}

#[test]
fn a_repair_keeps_damage_aside_records_what_is_lost_and_has_nothing_to_do_twice() {
    let image = damaged();
    let storage = SimStorage::from_image(&image);
    let before = Seen::of(&storage);
    assert!(before.damaged.len() >= 5, "{before:?}");
    let mut last = (0, 0);
    let report = repair_storage(&storage, &mut |done, all| last = (done, all)).unwrap();
    assert_eq!(last.0, last.1);
    assert_eq!(report.repaired.len(), 5);
    let after = Seen::of(&storage);
    assert_eq!(after.there, before.there);
    assert_eq!((after.damaged.len(), after.unread()), (0, before.unread()));
    let kept: u64 = report.repaired.iter().map(|repaired| repaired.records).sum();
    assert!(kept > 0 && report.lost() + before.there.len() as u64 == RECORDS);
    let damaged = report.repaired.iter().map(|repaired| repaired.segment);
    let damaged: Image = damaged.map(|base| (base, image[&base].clone())).collect();
    assert_kept(&storage, &damaged, true);
    let (files, others) = (storage.image(), storage.others());
    assert_eq!(others.len(), 5);
    let again = repair_storage(&storage, &mut no_progress()).unwrap();
    assert_eq!((again.repaired, again.recovery.damage), (vec![], vec![]));
    assert_eq!((storage.image(), storage.others()), (files, others));
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    append(&mut journal, RECORDS..RECORDS + 3);
    assert_eq!(Seen::below(&storage, RECORDS + 3).there.len(), before.there.len() + 3);
    // What is left of a log of states can still be compacted, and stays lost.
    compact(&mut journal);
    assert_eq!(Seen::of(&storage).unread(), before.unread());
}

#[test]
fn a_power_cut_at_any_call_of_a_repair_and_another_in_recovery_lose_nothing_that_is_whole() {
    let image = damaged();
    let storage = SimStorage::from_image(&image);
    let whole = Seen::of(&storage);
    let report = repair_storage(&storage, &mut no_progress()).unwrap();
    let damaged = report.repaired.iter().map(|repaired| repaired.segment);
    let damaged: Image = damaged.map(|base| (base, image[&base].clone())).collect();
    let calls = storage.with(|disk| disk.calls);
    assert!(calls > 40, "{calls}");
    for call in 1..=calls {
        for survives in
            [Survives::Nothing, Survives::Everything, Survives::SomeSectors, Survives::Prefix]
        {
            for again_at in 1..6 {
                let storage = SimStorage::from_image(&image);
                storage.with(|disk| {
                    disk.fault = Some((call, Fault::PowerCut));
                    disk.seed = call ^ (again_at << 8);
                });
                repair_storage(&storage, &mut no_progress()).unwrap_err();
                storage.with(|disk| {
                    disk.restart(survives);
                    disk.fault = Some((again_at, Fault::PowerCut));
                });
                assert_kept(&storage, &damaged, false);
                let _ = repair_storage(&storage, &mut no_progress());
                storage.with(|disk| disk.restart(survives));
                assert_kept(&storage, &damaged, false);
                let journal = Journal::open(storage.clone(), options()).unwrap().0;
                assert_eq!(journal.end(), RECORDS);
                drop(journal);
                let seen = Seen::of(&storage);
                assert_eq!(
                    (seen.there.clone(), seen.unread()),
                    (whole.there.clone(), whole.unread())
                );
                repair_storage(&storage, &mut no_progress()).unwrap();
                assert_kept(&storage, &damaged, true);
                assert_eq!(Seen::of(&storage).damaged, []);
                let report = verify_storage(&storage, &mut no_progress()).unwrap();
                assert_eq!(report.damage, []);
            }
        }
    }
}

#[test]
fn a_repair_that_fails_at_any_call_can_be_made_again() {
    let image = damaged();
    for call in 1.. {
        let storage = SimStorage::from_image(&image);
        storage.with(|disk| disk.fault = Some((call, Fault::Error(ErrorKind::StorageFull))));
        let result = repair_storage(&storage, &mut no_progress());
        if result.is_ok() && storage.with(|disk| disk.calls) < call {
            return;
        }
        repair_storage(&storage, &mut no_progress()).unwrap();
        let whole = Seen::of(&SimStorage::from_image(&image));
        let seen = Seen::of(&storage);
        assert_eq!((seen.there.clone(), seen.unread()), (whole.there.clone(), whole.unread()));
        assert_eq!(seen.damaged, []);
    }
}

#[test]
fn the_end_of_a_log_survives_the_loss_of_its_newest_head_and_a_restart() {
    let mut image = version_1();
    let newest = *image.keys().last().unwrap();
    image.get_mut(&newest).unwrap()[..64].fill(0);
    let bytes = image[&newest].clone();
    let calls = {
        let storage = SimStorage::from_image(&image);
        assert_eq!(Journal::open(storage.clone(), options()).unwrap().0.end(), RECORDS);
        storage.with(|disk| disk.calls)
    };
    for call in 1..=calls {
        for survives in [Survives::Nothing, Survives::Everything, Survives::Prefix] {
            let storage = SimStorage::from_image(&image);
            storage.with(|disk| {
                disk.fault = Some((call, Fault::PowerCut));
                disk.seed = call;
            });
            assert!(Journal::open(storage.clone(), options()).is_err());
            storage.with(|disk| disk.restart(survives));
            for _ in 0..2 {
                let (journal, _) = Journal::open(storage.clone(), options()).unwrap();
                assert_eq!(journal.end(), RECORDS, "call {call}");
            }
            assert_eq!(Seen::of(&storage).unread(), [(newest, RECORDS)]);
            assert_kept(&storage, &[(newest, bytes.clone())].into(), true);
        }
    }
    // Nor is the end forgotten where what stands there now loses its head, too.
    let storage = SimStorage::from_image(&image);
    drop(Journal::open(storage.clone(), options()).unwrap());
    let mut image = storage.image();
    image.get_mut(&newest).unwrap()[..64].fill(0);
    let storage = SimStorage::from_image(&image);
    assert_eq!(Journal::open(storage.clone(), options()).unwrap().0.end(), RECORDS);
    assert_eq!(Journal::open(storage, options()).unwrap().0.end(), RECORDS);
}

#[test]
fn a_spare_copy_that_is_damaged_costs_no_record_and_is_told_and_repaired() {
    let image = version_2();
    for (segment, bytes) in &image {
        let spares = if bytes[4] == 2 { vec![5, 40, 70, 85] } else { vec![5, 40] };
        for byte in spares {
            let storage = flip(&image, *segment, byte * 8);
            let report = verify_storage(&storage, &mut no_progress()).unwrap();
            let [damage] = &report.damage[..] else { panic!("{:?}", report.damage) };
            assert_eq!((damage.first, damage.end, damage.segment), (*segment, *segment, *segment));
            assert!(damage.to_string().starts_with("no record"), "{damage}");
            let report = repair_storage(&storage, &mut no_progress()).unwrap();
            assert_eq!((report.repaired.len(), report.lost()), (1, 0));
            assert_eq!(verify_storage(&storage, &mut no_progress()).unwrap().damage, []);
            assert_eq!(
                Seen::below(&storage, FEWER),
                Seen::below(&SimStorage::from_image(&image), FEWER)
            );
        }
    }
}

#[test]
fn a_compacted_segment_that_is_cut_short_names_what_may_be_missing() {
    let image = version_2();
    let (segment, bytes) = image.iter().next().unwrap();
    let whole = Seen::below(&SimStorage::from_image(&image), FEWER);
    for len in 96..bytes.len() {
        let mut bad = image.clone();
        bad.get_mut(segment).unwrap().truncate(len);
        let storage = SimStorage::from_image(&bad);
        let seen = Seen::below(&storage, FEWER);
        let report = verify_storage(&storage, &mut no_progress()).unwrap();
        assert_eq!(report.damage.len(), 1, "{len} bytes");
        let gone = whole.there.iter().filter(|offset| !seen.there.contains(offset));
        assert!(gone.clone().all(|offset| seen.names(*offset)), "{len} bytes");
    }
}

/// Puts bytes at places of segments.
fn scribble(image: &mut Image, places: &[(usize, usize, Vec<u8>)]) {
    for (segment, at, bytes) in places {
        let nth = segment % image.len();
        let file = image.values_mut().nth(nth).unwrap();
        let end = (at + bytes.len()).min(file.len());
        file[*at.min(&end)..end].copy_from_slice(&bytes[..end.saturating_sub(*at)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..Default::default() })]
    #[test]
    fn after_any_damage_a_repair_keeps_what_can_be_read_and_names_the_rest(
        places in vec((0usize..6, 0usize..512, vec(any::<u8>(), 1..60)), 1..6), second in any::<bool>(),
    ) {
        let mut image = if second { version_2() } else { version_1() };
        scribble(&mut image, &places);
        let storage = SimStorage::from_image(&image);
        let end = Journal::open(storage.clone(), options()).unwrap().0.end();
        let before = Seen::below(&storage, end);
        repair_storage(&storage, &mut no_progress()).unwrap();
        let after = Seen::below(&storage, end);
        prop_assert_eq!(&after.there, &before.there);
        prop_assert_eq!((after.damaged.len(), after.unread()), (0, before.unread()));
        let again = repair_storage(&storage, &mut no_progress()).unwrap();
        prop_assert_eq!(again.repaired, vec![]);
        prop_assert_eq!(Journal::open(storage, options()).unwrap().0.end(), end);
    }

    #[test]
    fn after_any_damage_a_compaction_keeps_the_newest_that_can_be_read_and_names_the_rest(
        places in vec((0usize..6, 0usize..512, vec(any::<u8>(), 1..60)), 1..6), second in any::<bool>(),
    ) {
        let mut image = if second { version_2() } else { version_1() };
        scribble(&mut image, &places);
        let storage = SimStorage::from_image(&image);
        let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
        let end = journal.end();
        let before = Seen::below(&storage, end);
        let options = CompactOptions { min_dirty_percent: 0, ..CompactOptions::default() };
        let mut compactor = journal.compactor(options);
        let segments: Vec<_> = journal.segments().collect();
        if compactor.start(&segments, NOW).unwrap() {
            loop {
                match compactor.step().unwrap() {
                    CompactStep::Working => {}
                    CompactStep::Swap(done) => assert!(journal.swap_compacted(&done).unwrap()),
                    CompactStep::Done(_) => break,
                }
            }
        }
        let after = Seen::below(&storage, end);
        prop_assert_eq!(after.unread(), before.unread());
        prop_assert!(after.there.iter().all(|offset| before.there.contains(offset)));
        let key = |offset: &u64| (offset % 13, offset / 3 % 2);
        let newest: BTreeMap<_, _> = before.there.iter().map(|at| (key(at), *at)).collect();
        prop_assert!(newest.values().all(|offset| after.there.contains(offset)));
        prop_assert_eq!(Journal::open(storage, self::options()).unwrap().0.end(), end);
    }
}

#[test]
fn an_empty_segment_with_half_a_head_gets_the_other_half_on_opening() {
    let storage = SimStorage::default();
    append(&mut Journal::open(storage.clone(), options()).unwrap().0, 0..3);
    let mut image = storage.image();
    let bytes = image.get_mut(&0).unwrap();
    bytes.truncate(64);
    bytes[40] ^= 1;
    let storage = SimStorage::from_image(&image);
    let report = repair_storage(&storage, &mut no_progress()).unwrap();
    assert_eq!((report.repaired, report.recovery.set_aside), (vec![], vec![]));
    append(&mut Journal::open(storage.clone(), options()).unwrap().0, 0..3);
    assert!(verify_storage(&storage, &mut no_progress()).unwrap().damage.is_empty());
}
