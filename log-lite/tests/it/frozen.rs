//! The bytes of format versions 1 and 2, as FORMAT.md draws them. They never change.

use log_lite::{
    CompactOptions, CompactStep, Journal, JournalOptions, Lost, ReadError, Reader, Ring, Why,
    verify_storage,
};

use crate::nor::{Nor, PAGE};
use crate::sim::SimStorage;

const SEGMENT: &str = include_str!("frozen/segment-v1.hex");
const COMPACTED: &str = include_str!("frozen/compacted-v2.hex");
const SPARSE: &str = include_str!("frozen/sparse-v2.hex");
const FILLED: &str = include_str!("frozen/filled-v1.hex");
const PAGE_BYTES: &str = include_str!("frozen/page-v1.hex");
const NOON: i64 = 1_763_700_000_000;

type Row = (u16, i64, &'static [u8], &'static [u8]);
const ROWS: [Row; 4] = [
    (3, NOON, b"pump-7", br#"{"t":21.5}"#),
    (3, NOON + 1_000, b"pump-7", br#"{"t":21.6}"#),
    (300, NOON - 1, b"", b"late"),
    (0, NOON + 2_000, b"k", b""),
];
const BODIES: [&[u8]; 2] = [b"\x01\x02\x03\x04\x05", b"123456789"];

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
    bytes.chunks(16).map(|bytes| line(bytes).trim_end().to_owned() + "\n").collect()
}

#[test]
fn a_segment_of_version_1_is_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("00000000000000000000.log"), bytes(SEGMENT)).unwrap();
    let (journal, recovery) = Journal::open_dir(dir.path(), JournalOptions::default()).unwrap();
    assert_eq!((journal.end(), recovery.damage.len(), recovery.torn), (4, 0, None));
    let mut reader = Reader::open_dir(dir.path()).unwrap();
    let mut rows = ROWS.iter();
    while let Some(batch) = reader.next(4).unwrap() {
        for r in batch.records() {
            let row = *rows.next().unwrap();
            assert_eq!((r.partition, r.time_ms, r.key, r.value), row);
        }
    }
    assert_eq!(rows.len(), 0);
}

#[test]
fn a_segment_is_still_written_as_version_1_was() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { zero_fill_step: 0, ..JournalOptions::default() };
    let mut journal = Journal::open_dir(dir.path(), options).unwrap().0;
    for (n, (partition, time_ms, key, value)) in ROWS.into_iter().enumerate() {
        journal.append(partition, time_ms, key, value).unwrap();
        if n >= 2 {
            journal.commit().unwrap();
        }
    }
    let written = std::fs::read(dir.path().join("00000000000000000000.log")).unwrap();
    assert_eq!(hex(&written), SEGMENT);
}

/// A segment whose second commit begins at a block; of the first, only the start is in the file.
fn filled() -> Vec<u8> {
    let (start, behind) = FILLED.split_once("...\n").unwrap();
    [bytes(start), vec![7; 3985], bytes(behind)].concat()
}

#[test]
fn a_segment_with_zeros_before_a_block_is_read_and_the_log_goes_on_in_it() {
    let storage = SimStorage::from_image(&[(0, filled())].into());
    let mut reader = Reader::open(storage.clone()).unwrap();
    assert_eq!(reader.next(3).unwrap().unwrap().records().next().unwrap().value, [7; 3985]);
    for row in [ROWS[1], ROWS[3]] {
        let batch = reader.next(3).unwrap().unwrap();
        let r = batch.records().next().unwrap();
        assert_eq!((r.partition, r.time_ms, r.key, r.value), row);
    }
    let report = verify_storage(&storage, &mut |_, _| {}).unwrap();
    assert_eq!((report.records(), report.damage, report.torn_tail), (3, vec![], None));
    let (mut journal, recovery) = Journal::open(storage, JournalOptions::default()).unwrap();
    assert_eq!((recovery.end, recovery.damage, recovery.torn), (3, vec![], None));
    assert_eq!(journal.append(0, NOON, b"", b"next").unwrap(), 3);
    journal.commit().unwrap();
    assert_eq!(journal.segments().len(), 1);
}

#[test]
fn a_small_commit_still_begins_at_a_block_rather_than_lie_in_two() {
    let storage = SimStorage::default();
    let options = JournalOptions { zero_fill_step: 8192, ..JournalOptions::default() };
    let mut journal = Journal::open(storage.clone(), options).unwrap().0;
    for (partition, time_ms, key, value) in [(0, NOON, &b""[..], &[7; 3985][..]), ROWS[1], ROWS[3]]
    {
        journal.append(partition, time_ms, key, value).unwrap();
        journal.commit().unwrap();
    }
    let written = &storage.image()[&0];
    let used = filled().len();
    assert_eq!(hex(&written[..used]), hex(&filled()));
    assert!(written[used..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_log_of_version_1_takes_more_records_and_is_compacted() {
    let storage = SimStorage::from_image(&[(0, bytes(SEGMENT))].into());
    let options = JournalOptions { segment_size: 512, ..JournalOptions::default() };
    let mut journal = Journal::open(storage.clone(), options).unwrap().0;
    for offset in 4..30 {
        assert_eq!(journal.append(3, NOON, b"pump-7", &[7; 40]).unwrap(), offset);
        journal.commit().unwrap();
    }
    compact(&mut journal);
    let mut reader = Reader::open(storage).unwrap();
    let mut found = Vec::new();
    while let Some(batch) = reader.next(30).unwrap() {
        found.extend(batch.records().map(|record| record.offset));
    }
    assert_eq!((found[..2].to_vec(), found.last()), (vec![2, 3], Some(&29)));
    assert!(found.len() < 15, "{found:?}");
}

/// What stays of [`VERSION_2`], with its offsets.
const KEPT: [(u64, Row); 4] =
    [(1, VERSION_2[1]), (3, VERSION_2[3]), (4, VERSION_2[4]), (5, VERSION_2[5])];
const VERSION_2: [Row; 7] = [
    (3, NOON, b"pump-7", br#"{"t":21.5}"#),
    (3, NOON + 1_000, b"pump-8", br#"{"t":18.0}"#),
    (3, NOON + 2_000, b"pump-7", br#"{"t":21.6}"#),
    (3, NOON + 3_000, b"pump-9", b""),
    (3, NOON + 4_000, b"pump-7", br#"{"t":21.7}"#),
    (300, NOON - 1, b"", b"late"),
    (0, NOON + 2_000, b"k", b"v"),
];

fn compact(journal: &mut Journal<SimStorage>) {
    let mut compactor = journal.compactor(CompactOptions::default());
    let segments: Vec<_> = journal.segments().collect();
    assert!(compactor.start(&segments, NOON + 5_000).unwrap());
    loop {
        match compactor.step().unwrap() {
            CompactStep::Working => {}
            CompactStep::Swap(done) => assert!(journal.swap_compacted(&done).unwrap()),
            CompactStep::Done(_) => return,
        }
    }
}

#[test]
fn a_compacted_segment_of_version_2_is_read_and_the_log_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("00000000000000000000.log"), bytes(COMPACTED)).unwrap();
    let (mut journal, recovery) = Journal::open_dir(dir.path(), JournalOptions::default()).unwrap();
    assert_eq!((journal.end(), recovery.damage.len(), recovery.torn), (7, 0, None));
    assert_eq!(journal.append(1, NOON, b"", b"next").unwrap(), 7);
    journal.commit().unwrap();
    let mut reader = Reader::open_dir(dir.path()).unwrap();
    let mut rows = KEPT.iter();
    loop {
        match reader.next(7) {
            Ok(None) => break,
            Ok(Some(batch)) => {
                for r in batch.records() {
                    let (offset, row) = *rows.next().unwrap();
                    assert_eq!((r.offset, (r.partition, r.time_ms, r.key, r.value)), (offset, row));
                }
            }
            Err(error) => {
                let lost = matches!(
                    error,
                    ReadError::Lost { first: 6, end: 7, segment: 0, why: Why::Body }
                );
                assert!(lost && rows.len() == 0, "{error}");
            }
        }
    }
    assert_eq!(rows.len(), 0);
    assert_eq!(reader.next(8).unwrap().unwrap().first(), 7);
}

#[test]
fn a_compacted_segment_is_still_written_as_version_2_was() {
    let storage = SimStorage::default();
    let options =
        JournalOptions { segment_size: 512, zero_fill_step: 0, ..JournalOptions::default() };
    let mut journal = Journal::open(storage.clone(), options).unwrap().0;
    for (partition, time_ms, key, value) in VERSION_2 {
        journal.append(partition, time_ms, key, value).unwrap();
    }
    journal.commit().unwrap();
    journal.append(0, NOON, b"", &[0; 400]).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let mut image = storage.image();
    *image.get_mut(&0).unwrap().last_mut().unwrap() ^= 1;
    let storage = SimStorage::from_image(&image);
    let mut journal = Journal::open(storage.clone(), options).unwrap().0;
    compact(&mut journal);
    assert_eq!(hex(&storage.image()[&0]), COMPACTED);
    let report = verify_storage(&storage, &mut |_, _| {}).unwrap();
    assert_eq!(report.lost, [Lost { segment: 0, first: 6, end: 7, why: Why::Body }]);
}

#[test]
fn a_page_of_version_1_is_read() {
    let mut flash = Nor::<4>::new(4);
    let page = bytes(PAGE_BYTES);
    flash.bytes[..page.len()].copy_from_slice(&page);
    let mut ring = Ring::mount(flash, 0..4 * PAGE as u32).unwrap();
    assert_eq!((ring.start(), ring.end()), (16, 18));
    let mut buf = [0; 64];
    for (offset, body) in (16..18).zip(BODIES) {
        let record = ring.read(offset, &mut buf).unwrap().unwrap();
        let n = offset as i64 - 16;
        assert_eq!((record.offset, record.partition, record.time_ms), (offset, 7, NOON + n));
        assert_eq!(buf[..4], log_lite::crc32c(body).to_le_bytes());
        assert_eq!(&buf[4..record.len], body);
    }
}

#[test]
fn a_page_is_still_written_as_version_1_was() {
    let mut ring = Ring::mount(Nor::<4>::new(4), 0..4 * PAGE as u32).unwrap();
    for n in 0..16u8 {
        ring.append(0, 0, &[n; 15]).unwrap();
    }
    ring.trim(16).unwrap();
    // The second page: its header, two blocks, nothing else.
    for (n, body) in (0..).zip(BODIES) {
        ring.append(7, NOON + n, body).unwrap();
    }
    let page = &ring.flash().bytes[..];
    let used = page.iter().rposition(|byte| *byte != 0xFF).unwrap() + 1;
    assert_eq!(hex(&page[..used]), PAGE_BYTES);
}

/// What a sparse segment holds, with its offsets.
const SPREAD: [(u64, Row); 4] = [(103, ROWS[0]), (104, ROWS[1]), (110, ROWS[2]), (120, ROWS[3])];

#[test]
fn a_sparse_segment_of_version_2_is_read_and_the_log_goes_on_in_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("00000000000000000100.log"), bytes(SPARSE)).unwrap();
    let (mut journal, recovery) = Journal::open_dir(dir.path(), JournalOptions::default()).unwrap();
    assert_eq!((journal.start(), journal.end()), (100, 121));
    assert_eq!((recovery.damage.len(), recovery.torn), (0, None));
    journal.append_at(200, 1, NOON, b"", b"next").unwrap();
    journal.commit().unwrap();
    assert_eq!(journal.segments().len(), 1);
    let mut reader = Reader::open_dir(dir.path()).unwrap();
    let mut found = Vec::new();
    while let Some(batch) = reader.next(201).unwrap() {
        for r in batch.records() {
            if let Some((offset, row)) = SPREAD.get(found.len()) {
                assert_eq!((r.offset, (r.partition, r.time_ms, r.key, r.value)), (*offset, *row));
            }
            found.push(r.offset);
        }
    }
    assert_eq!(found, [103, 104, 110, 120, 200]);
}

#[test]
fn a_sparse_segment_is_still_written_so() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { zero_fill_step: 0, ..JournalOptions::default() };
    let mut journal = Journal::open_dir(dir.path(), options).unwrap().0;
    journal.skip_to(100).unwrap();
    for (offset, (partition, time_ms, key, value)) in &SPREAD[..3] {
        journal.append_at(*offset, *partition, *time_ms, key, value).unwrap();
    }
    journal.commit().unwrap();
    journal.skip_to(120).unwrap();
    let (_, (partition, time_ms, key, value)) = SPREAD[3];
    journal.append(partition, time_ms, key, value).unwrap();
    journal.commit().unwrap();
    let written = std::fs::read(dir.path().join("00000000000000000100.log")).unwrap();
    assert_eq!(hex(&written), SPARSE);
}
