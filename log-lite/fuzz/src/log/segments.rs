//! Segments of any bytes: read, verified, recovered, appended to.

use std::collections::BTreeMap;

use log_lite::{
    ChunkHeader, Journal, JournalError, JournalOptions, ReadError, Reader, repair_storage,
    verify_storage,
};

use super::input::Input;
use super::reading::{Reading, Row, read_on};
use super::script::{self, Script};
use crate::sim::SimStorage;

const SEGMENTS_MAX: usize = 8;
const STEPS_MAX: usize = 400;

/// Any bytes give a header or an error, and each header comes back.
pub fn chunk_header(input: &[u8]) {
    let mut bytes = [0; ChunkHeader::LEN];
    let len = input.len().min(bytes.len());
    bytes[..len].copy_from_slice(&input[..len]);
    let _ = ChunkHeader::decode(&bytes);
    script::seal(&mut bytes);
    if let Ok(header) = ChunkHeader::decode(&bytes) {
        assert_eq!(ChunkHeader::decode(&header.encode()), Ok(header));
    }
}

/// A log of any segments is read without a gap, `verify` agrees, opening it keeps what was read
/// and takes new records, and opening it again changes nothing.
pub fn segments(input: &[u8]) {
    let mut input = Input::new(input);
    let (place, time) = (input.number(), input.signed());
    let (image, orderly) = image(&mut input);
    let bytes: usize = image.values().map(Vec::len).sum();
    let steps = bytes + 100;
    let storage = SimStorage::from_image(&image);
    let Some(before) = read_all(&storage, u64::MAX, steps) else { return };
    check_verify(&storage, &before, orderly);
    check_places(&storage, &before, (place, time), steps);

    let (journal, recovery) = match Journal::open(storage.clone(), options()) {
        Ok(opened) => opened,
        Err(JournalError::Version { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let (start, end) = (journal.start(), journal.end());
    assert_eq!((recovery.start, recovery.end), (start, end));
    let after = read_all(&storage, end, steps).expect("the version was looked at");
    if orderly {
        check_opened(&before, &after, (start, end));
    }
    drop(journal);
    let (mut journal, same) = Journal::open(storage.clone(), options()).expect("it was just open");
    if orderly {
        assert_eq!((same.start, same.end), (start, end), "{recovery:?}, then {same:?}");
        assert_eq!((same.torn, same.set_aside), (None, vec![]));
    }
    let (start, end) = (same.start, same.end);
    let after = read_all(&storage, end, steps).expect("the version was looked at");
    if end > u64::MAX - 2 {
        assert_eq!(journal.append(3, time, b"key", b"value").is_ok(), end < u64::MAX);
        journal.commit().expect("there is room");
        drop(journal);
        let again = read_all(&storage, u64::MAX, steps).expect("the version was looked at");
        return check_repaired(&storage, &again, u64::MAX, steps, false);
    }
    assert_eq!(journal.append(3, time, b"key", b"value").ok(), Some(end));
    journal.commit().expect("there is room");
    drop(journal);
    let again = read_all(&storage, end + 1, steps).expect("the version was looked at");
    if orderly {
        let told = (&again.lost, again.rows.len());
        assert_eq!(told, (&after.lost, after.rows.len() + 1));
        let (key, value) = (b"key".to_vec(), b"value".to_vec());
        assert_eq!(again.rows[&end], Row { partition: 3, time_ms: time, key, value });
    }
    let (journal, second) = Journal::open(storage.clone(), options()).expect("it was just open");
    assert_eq!((second.end, second.torn, second.set_aside), (end + 1, None, vec![]));
    assert_eq!(journal.start(), start);
    drop(journal);
    check_repaired(&storage, &again, end + 1, steps, orderly);
}

/// Repair leaves every record, names what is lost, and has nothing to do the next time.
fn check_repaired(storage: &SimStorage, again: &Reading, end: u64, steps: usize, orderly: bool) {
    let Ok(report) = repair_storage(storage, &mut |_, _| ()) else { return };
    // Of forged ranges that may be more than there are offsets.
    let _ = report.lost();
    if !orderly {
        return;
    }
    let repaired = read_all(storage, end, steps).expect("the version was looked at");
    assert_eq!((&repaired.rows, &repaired.lost), (&again.rows, &again.lost));
    let second = repair_storage(storage, &mut |_, _| ()).expect("it was just repaired");
    assert_eq!(second.repaired, []);
}

/// What was there before opening is there after it, up to the end that it found.
fn check_opened(before: &Reading, after: &Reading, (start, end): (u64, u64)) {
    assert!(start == end || after.span == (start, end), "{start} to {end}, but {after:?}");
    assert!(after.rows.iter().all(|(offset, row)| before.rows.get(offset) == Some(row)));
    let kept = before.rows.range(start..).take_while(|(offset, _)| **offset < end).count();
    assert_eq!(after.rows.len(), kept, "{before:?}, then {after:?}");
}

fn options() -> JournalOptions {
    JournalOptions { segment_size: 4096, zero_fill_step: 512, ..JournalOptions::default() }
}

/// Segments by their names, which their headers may contradict; and whether none lays claim to an
/// offset of another, as no journal and no damage makes one do, and none was compacted.
fn image(input: &mut Input) -> (BTreeMap<u64, Vec<u8>>, bool) {
    let (mut image, mut reaches) = (BTreeMap::new(), BTreeMap::new());
    let (mut next, mut steps, mut compacted) = (0u64, 0, false);
    while image.len() < SEGMENTS_MAX && !input.is_empty() {
        let op = input.byte();
        let base = match op {
            0..=191 | 240.. => next,
            192..=223 => next.wrapping_add(input.number()),
            _ => input.number(),
        };
        let is_compacted = op >= 240;
        let chunk = match is_compacted {
            true => script::compacted(base, input.signed(), u32::from(op)),
            false => script::segment(base, input.signed()),
        };
        let mut script = Script::new(chunk, 1);
        for _ in 0..2 {
            script.head(input);
        }
        if is_compacted {
            script.extent(input);
            compacted = true;
        }
        for _ in 0..input.byte() % 32 {
            steps += 1;
            if steps < STEPS_MAX {
                script.step(input);
            }
        }
        next = script.next;
        reaches.insert(base, script.reaches);
        image.insert(base, script.bytes);
    }
    let bases = reaches.keys().skip(1).chain([&(u64::MAX - 1)]);
    let orderly = !compacted && reaches.values().zip(bases).all(|(end, next)| end <= next);
    (image, orderly)
}

fn read_all(storage: &SimStorage, limit: u64, steps: usize) -> Option<Reading> {
    let mut reader = Reader::open(storage.clone()).expect("a disk without faults");
    read_on(&mut reader, limit, steps, true)
}

fn check_verify(storage: &SimStorage, reading: &Reading, orderly: bool) {
    let mut told = 0;
    let report = match verify_storage(storage, &mut |done, all| {
        assert!(told <= done && done <= all);
        told = done;
    }) {
        Ok(report) => report,
        Err(ReadError::Version { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    if orderly {
        let (rows, lost) = (reading.rows.len() as u64, &reading.lost);
        let damaged: u64 = lost.iter().map(|(first, end)| end - first).sum();
        let (first, last) = reading.span;
        assert!(rows + damaged == last - first || rows == 0, "the readers' ranges have no gap");
        assert_eq!(report.records(), reading.rows.len() as u64);
        let damage: u64 = report.damage.iter().map(|damage| damage.end - damage.first).sum();
        let lost: u64 = report.lost.iter().map(|lost| lost.end - lost.first).sum();
        let told: u64 = reading.lost.iter().map(|(first, end)| end - first).sum();
        assert_eq!(damage + lost, told, "{report:?}, but {:?}", reading.lost);
    }
}

/// From anywhere, and of some partitions only, the same is read.
fn check_places(storage: &SimStorage, all: &Reading, (place, time): (u64, i64), steps: usize) {
    let mut reader = Reader::open(storage.clone()).expect("a disk without faults");
    reader.seek(place);
    let _ = read_on(&mut reader, u64::MAX, steps, true);
    let _ = reader.seek_time(time, u64::MAX);
    let _ = read_on(&mut reader, u64::MAX, steps, true);
    let partition = place as u16;
    reader.only(Some(&[partition]));
    reader.seek(all.span.0);
    if let Some(some) = read_on(&mut reader, u64::MAX, steps, true) {
        assert!(some.rows.values().all(|row| row.partition == partition));
    }
}
