//! Summaries of sealed segments: what they spare a reader, and that they are never believed wrongly.

use log_lite::{
    CompactOptions, CompactStep, Journal, JournalOptions, ReadError, Reader, survey_storage,
    verify_storage,
};

use crate::sim::{NOW, SimStorage};

const RECORDS: u64 = 4_000;
const RARE: u16 = 77;

fn options() -> JournalOptions {
    JournalOptions {
        segment_size: 256 << 10,
        zero_fill_step: 64 << 10,
        max_size: None,
        ..JournalOptions::default()
    }
}

/// Times go up and down by minutes; one record, early in the log, is from the future.
fn time(offset: u64) -> i64 {
    let wander = (offset as i64 * 7_919) % 1_000 * 60;
    NOW + offset as i64 * 100 + wander + if offset == 900 { 1 << 40 } else { 0 }
}

fn partition(offset: u64) -> u16 {
    if offset == 1_234 { RARE } else { (offset / 8 % 5) as u16 }
}

/// A log of about 4 MiB, its records a kilobyte each.
fn sample() -> (SimStorage, Journal<SimStorage>) {
    let storage = SimStorage::default();
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    fill(&mut journal, RECORDS);
    (storage, journal)
}

fn fill(journal: &mut Journal<SimStorage>, until: u64) {
    for offset in journal.end()..until {
        let value = vec![offset as u8; 1_000];
        journal.append(partition(offset), time(offset), b"key", &value).unwrap();
        if offset % 16 == 15 {
            journal.commit().unwrap();
        }
    }
    journal.commit().unwrap();
}

fn bytes_read<T>(storage: &SimStorage, work: impl FnOnce() -> T) -> (T, u64) {
    storage.with(|disk| disk.bytes_read = 0);
    let result = work();
    (result, storage.with(|disk| disk.bytes_read))
}

fn offsets_of(storage: &SimStorage, only: &[u16], limit: u64) -> Vec<u64> {
    let mut reader = Reader::open(storage.clone()).unwrap();
    reader.only(Some(only));
    let mut found = Vec::new();
    while let Some(batch) = reader.next(limit).unwrap() {
        found.extend(batch.records().map(|record| record.offset));
    }
    assert_eq!(reader.position(), limit);
    found
}

#[test]
fn what_a_sealed_segment_holds_is_known_without_reading_it() {
    let (storage, journal) = sample();
    let reader = Reader::open(storage.clone()).unwrap();
    let report = verify_storage(&storage, &mut |_, _| {}).unwrap();
    let sealed = journal.segments().len() - 1;
    let (infos, read) = bytes_read(&storage, || {
        let segments = journal.segments().take(sealed);
        segments.map(|segment| reader.segment_info(segment).unwrap()).collect::<Vec<_>>()
    });
    let known: Vec<_> = infos.into_iter().map(|info| info.expect("it is sealed")).collect();
    assert_eq!(known, report.segments[..sealed]);
    assert!(read < 1024 * sealed as u64, "{read} bytes of {sealed} segments");
    let newest = journal.segments().last().unwrap();
    assert_eq!(reader.segment_info(newest).unwrap(), None);
}

#[test]
fn a_reader_of_a_rare_partition_reads_only_the_segment_that_has_it() {
    let (storage, journal) = sample();
    let total = journal.size();
    let (found, read) = bytes_read(&storage, || offsets_of(&storage, &[RARE], RECORDS));
    assert_eq!(found, [1_234]);
    // The segment that has it, the newest, which has no summary yet, and little of the others.
    let two = 2 * u64::from(options().segment_size);
    let others = journal.segments().len() as u64 * 320;
    assert!(read <= two + others && read * 3 < total, "{read} of {total} bytes");
    for base in storage.summaries().into_keys() {
        storage.set_summary(base, None);
    }
    let (found, read) = bytes_read(&storage, || offsets_of(&storage, &[RARE], RECORDS));
    assert_eq!(found, [1_234]);
    assert!(read > total / 2, "without summaries it reads everything, and read {read}");
}

#[test]
fn a_seek_into_the_middle_of_a_segment_reads_a_stretch_of_it() {
    let (storage, _journal) = sample();
    let mut reader = Reader::open(storage.clone()).unwrap();
    for offset in [230, 1_111, 57, 3_333, 2_048] {
        reader.seek(offset);
        let (first, read) = bytes_read(&storage, || reader.next(RECORDS).unwrap().unwrap().first());
        assert_eq!(first, offset);
        assert!(read <= 4 * (64 << 10), "{read} bytes for offset {offset}");
    }
}

#[test]
fn seeking_a_time_is_right_for_times_in_no_order_and_passes_segments_by() {
    let (storage, journal) = sample();
    let mut reader = Reader::open(storage.clone()).unwrap();
    for offset in (0..RECORDS).step_by(171) {
        let wanted = time(offset);
        let first = (0..RECORDS).find(|offset| time(*offset) >= wanted).unwrap();
        let (found, read) = bytes_read(&storage, || reader.seek_time(wanted, RECORDS).unwrap());
        assert_eq!(found, first, "for the time of {offset}");
        assert!(read <= u64::from(options().segment_size), "{read} of {} bytes", journal.size());
        assert_eq!(reader.next(RECORDS).unwrap().unwrap().first(), first);
    }
    assert_eq!(reader.seek_time(i64::MAX, RECORDS).unwrap(), RECORDS);
    assert_eq!(reader.seek_time(i64::MIN, RECORDS).unwrap(), 0);
}

#[test]
fn a_sequential_reader_lists_the_directory_once() {
    let (storage, journal) = sample();
    assert!(journal.segments().len() > 10);
    let mut reader = Reader::open(storage.clone()).unwrap();
    storage.with(|disk| disk.listings = 0);
    while reader.next(RECORDS).unwrap().is_some() {}
    assert_eq!(reader.position(), RECORDS);
    assert_eq!(storage.with(|disk| disk.listings), 1);
}

#[test]
fn a_summary_with_any_bad_byte_or_of_another_segment_is_not_believed() {
    let (storage, _journal) = sample();
    let summaries = storage.summaries();
    assert!(summaries.len() > 10);
    let (holds, bytes) = summaries.range(..=1_234).next_back().unwrap();
    let (other, other_bytes) = summaries.range(2_000..).next().unwrap();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        storage.set_summary(*holds, Some(&bad));
        assert_eq!(offsets_of(&storage, &[RARE], RECORDS), [1_234], "byte {at}");
    }
    storage.set_summary(*holds, Some(other_bytes));
    assert_eq!(offsets_of(&storage, &[RARE], RECORDS), [1_234]);
    storage.set_summary(*holds, Some(&bytes[..bytes.len() / 2]));
    assert_eq!(offsets_of(&storage, &[RARE], RECORDS), [1_234]);
    storage.set_summary(*holds, Some(bytes));
    storage.set_summary(*other, Some(&vec![0; 1 << 20]));
    assert_eq!(offsets_of(&storage, &[RARE], RECORDS), [1_234]);
}

#[test]
fn a_summary_with_another_end_than_its_segment_is_not_believed_though_its_checksum_is_right() {
    let (storage, _journal) = sample();
    for (base, bytes) in storage.summaries() {
        for end in [0, base, base + 1, RECORDS, u64::MAX] {
            let mut forged = bytes.clone();
            let (checked, crc) = forged.split_last_chunk_mut().unwrap();
            checked[32..40].copy_from_slice(&end.to_le_bytes());
            *crc = log_lite::crc32c(checked).to_le_bytes();
            storage.set_summary(base, Some(&forged));
            assert_eq!(offsets_of(&storage, &[RARE], RECORDS), [1_234], "{base} to {end}");
        }
        storage.set_summary(base, Some(&bytes));
    }
}

#[test]
fn a_summary_from_before_its_segment_went_on_is_not_believed() {
    let storage = SimStorage::default();
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    fill(&mut journal, 100);
    // Seals the segment, with a summary, and opens it again.
    journal.advance_to(101).unwrap();
    let mut journal = Journal::open(storage.clone(), options()).unwrap().0;
    let summaries = storage.summaries();
    assert_eq!((summaries.len(), journal.end()), (1, 100));
    journal.append(RARE, 0, b"", b"later").unwrap();
    journal.commit().unwrap();
    assert_eq!(storage.summaries(), summaries);
    assert_eq!(offsets_of(&storage, &[RARE], 101), [100]);
    let mut reader = Reader::open(storage).unwrap();
    assert_eq!(reader.seek_time(NOW + (1 << 50), 101).unwrap(), 101);
}

#[test]
fn damage_in_a_segment_with_a_summary_is_named_or_costs_the_reader_nothing() {
    let (storage, _journal) = sample();
    let image = storage.image();
    let summaries = storage.summaries();
    let (damaged_base, bytes) = image.iter().nth(2).unwrap();
    for at in (0..bytes.len()).step_by(1_499) {
        let mut bad = image.clone();
        bad.get_mut(damaged_base).unwrap()[at] ^= 0x40;
        let bad = SimStorage::from_image(&bad);
        for (base, summary) in &summaries {
            bad.set_summary(*base, Some(summary));
        }
        let mut reader = Reader::open(bad).unwrap();
        reader.only(Some(&[3]));
        let mut there = vec![false; RECORDS as usize];
        loop {
            match reader.next(RECORDS) {
                Ok(Some(batch)) => batch.records().for_each(|r| there[r.offset as usize] = true),
                Err(ReadError::Damaged { first, end, .. }) => {
                    there[first as usize..end as usize].fill(true);
                }
                Ok(None) => break,
                Err(error) => panic!("{error}"),
            }
        }
        let silent = (0..RECORDS).find(|n| partition(*n) == 3 && !there[*n as usize]);
        assert_eq!(silent, None, "byte {at}");
    }
}

/// A few small segments with their summaries, and what a reader of one partition makes of them.
fn small() -> (SimStorage, u64) {
    let storage = SimStorage::default();
    let options = JournalOptions { segment_size: 512, zero_fill_step: 128, ..options() };
    let mut journal = Journal::open(storage.clone(), options).unwrap().0;
    for n in 0..54u64 {
        journal.append((n / 9 % 3) as u16, n as i64, b"k", &[n as u8; 20]).unwrap();
        if n % 3 == 2 {
            journal.commit().unwrap();
        }
    }
    assert!(storage.summaries().len() > 1);
    (storage, 54)
}

#[test]
fn any_flipped_bit_beside_or_in_a_summary_leaves_no_loss_unnamed() {
    let (storage, end) = small();
    let (image, summaries) = (storage.image(), storage.summaries());
    for (base, bytes) in &image {
        for bit in 0..bytes.len() * 8 {
            let mut bad = image.clone();
            bad.get_mut(base).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let storage = SimStorage::from_image(&bad);
            for (base, summary) in &summaries {
                storage.set_summary(*base, Some(summary));
            }
            check_partition(storage, end, &format!("segment {base}, bit {bit}"));
        }
    }
    for (base, summary) in &summaries {
        for bit in 0..summary.len() * 8 {
            let mut bad = summary.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let storage = SimStorage::from_image(&image);
            storage.set_summary(*base, Some(&bad));
            check_partition(storage, end, &format!("summary {base}, bit {bit}"));
        }
    }
}

/// Every record of partition 1 is read, and right, or in a range that is called damaged.
fn check_partition(storage: SimStorage, end: u64, what: &str) {
    let mut reader = Reader::open(storage).unwrap();
    reader.only(Some(&[1]));
    let (mut there, mut named) = (Vec::new(), Vec::new());
    loop {
        match reader.next(end) {
            Ok(Some(batch)) => there.extend(batch.records().map(|record| {
                assert_eq!(record.value, [record.offset as u8; 20], "{what}");
                record.offset
            })),
            Err(ReadError::Damaged { first, end, .. }) => named.extend(first..end),
            Ok(None) => break,
            Err(error) => panic!("{what}: {error}"),
        }
    }
    for offset in (0..end).filter(|offset| offset / 9 % 3 == 1) {
        let (read, lost) = (there.contains(&offset), named.contains(&offset));
        assert!(read != lost, "{what}: offset {offset} is read {read}, named {lost}");
    }
}

#[test]
fn retention_counts_what_it_drops_from_the_summary() {
    let storage = SimStorage::default();
    let options = JournalOptions { max_size: Some(1 << 20), ..options() };
    let mut journal = Journal::open(storage.clone(), options).unwrap().0;
    fill(&mut journal, RECORDS);
    journal.set_keep(0);
    let (dropped, read) = bytes_read(&storage, || journal.enforce_retention(NOW).unwrap());
    let counted: u64 = dropped.iter().flat_map(|segment| segment.counts.values()).sum();
    assert_eq!(counted, journal.start());
    assert!(dropped.len() > 5 && read <= dropped.len() as u64 * 256, "{read} bytes");
}

#[test]
fn opening_reads_the_newest_segment_and_no_other() {
    let (storage, journal) = sample();
    let newest = journal.segments().last().unwrap().bytes;
    drop(journal);
    let (opened, read) = bytes_read(&storage, || Journal::open(storage.clone(), options()));
    assert_eq!(opened.unwrap().1.records(), RECORDS);
    assert!(read <= 4 * newest, "{read} bytes, of which the newest segment has {newest}");
}

#[test]
fn a_survey_says_what_verify_says_and_reads_little() {
    let (storage, journal) = sample();
    let total = journal.size();
    let verified = verify_storage(&storage, &mut |_, _| {}).unwrap();
    let (surveyed, read) =
        bytes_read(&storage, || survey_storage(&storage, &mut |_, _| {}).unwrap());
    assert_eq!(surveyed, verified);
    assert_eq!(surveyed.records(), RECORDS);
    assert!(read <= 2 * u64::from(options().segment_size), "{read} of {total} bytes");
    let (first, _) = storage.summaries().pop_first().unwrap();
    storage.set_summary(first, Some(b"no summary"));
    assert_eq!(survey_storage(&storage, &mut |_, _| {}).unwrap(), verified);
}

#[test]
fn a_survey_of_compacted_segments_says_what_verify_says() {
    let storage = SimStorage::default();
    let options = JournalOptions { segment_size: 4096, ..options() };
    let mut journal = Journal::open(storage.clone(), options).unwrap().0;
    for n in 0..1_000u64 {
        journal.append((n % 3) as u16, n as i64, &[n as u8 % 50], &[n as u8; 40]).unwrap();
        if n % 10 == 9 {
            journal.commit().unwrap();
        }
    }
    let mut compactor = journal.compactor(CompactOptions::default());
    assert!(compactor.start(&journal.segments().collect::<Vec<_>>(), NOW).unwrap());
    loop {
        match compactor.step().unwrap() {
            CompactStep::Working => {}
            CompactStep::Swap(compacted) => {
                journal.swap_compacted(&compacted).unwrap();
            }
            CompactStep::Done(_) => break,
        }
    }
    let verified = verify_storage(&storage, &mut |_, _| {}).unwrap();
    assert!(verified.segments.iter().any(|segment| segment.compacted));
    assert_eq!(survey_storage(&storage, &mut |_, _| {}).unwrap(), verified);
}
