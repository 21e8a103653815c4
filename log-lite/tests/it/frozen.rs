//! The bytes of format version 1, as FORMAT.md draws them. They never change.

use log_lite::{Journal, JournalOptions, Reader, Ring};

use crate::nor::{Nor, PAGE};

const SEGMENT: &str = include_str!("frozen/segment-v1.hex");
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
