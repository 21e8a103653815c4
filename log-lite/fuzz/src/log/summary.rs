//! Summaries beside segments, of any content: a reader that finds one never fails for it, and reads
//! the same unless someone forged it.

use log_lite::{Journal, JournalOptions, Reader};

use super::input::Input;
use super::reading::read_on;
use super::script;
use crate::sim::SimStorage;

const RECORDS: u64 = 60;
const STEPS_MAX: usize = 4096;

/// A log of a few sealed segments with the summaries that its journal left.
fn sample() -> SimStorage {
    let storage = SimStorage::default();
    let options =
        JournalOptions { segment_size: 1024, zero_fill_step: 0, ..JournalOptions::default() };
    let (mut journal, _) = Journal::open(storage.clone(), options).expect("a new log");
    for n in 0..RECORDS {
        // Partitions in runs, so that there are segments without some of them.
        let time = (n as i64 * 37) % 50;
        let offset = journal.append((n / 10) as u16, time, b"key", &[n as u8; 40]);
        assert_eq!(offset, Ok(n));
        journal.commit().expect("a disk without faults");
    }
    storage
}

/// One summary is changed, or replaced, and its checksum set right or not.
pub fn summary(input: &[u8]) {
    let mut input = Input::new(input);
    let storage = sample();
    let summaries: Vec<_> = storage.summaries().into_iter().collect();
    let flags = input.byte();
    let (base, whole) = &summaries[usize::from(flags >> 4) % summaries.len()];
    let (from, time) = (input.below(RECORDS + 2), input.signed());
    let partition = input.below(8) as u16;
    let mut bytes = if flags & 1 == 0 { whole.clone() } else { input.take(512).to_vec() };
    while !input.is_empty() && !bytes.is_empty() {
        let at = input.below(bytes.len() as u64) as usize;
        bytes[at] ^= input.byte();
        if input.byte() == 255 {
            bytes.insert(at, input.byte());
        }
    }
    let forged = flags & 2 != 0;
    if forged {
        script::seal(&mut bytes);
    }
    storage.set_summary(*base, Some(&bytes));
    let found = look(&storage, from, time, partition);
    if !forged {
        let plain = SimStorage::from_image(&storage.image());
        assert_eq!(found, look(&plain, from, time, partition));
    }
}

/// What a reader finds that may pass segments by.
fn look(storage: &SimStorage, from: u64, time: i64, partition: u16) -> (u64, u64, Vec<u64>) {
    let mut reader = Reader::open(storage.clone()).expect("a disk without faults");
    let at = reader.seek_time(time, RECORDS).expect("a disk without faults");
    reader.seek(from);
    reader.only(Some(&[partition]));
    let reading = read_on(&mut reader, RECORDS, STEPS_MAX, true).expect("this version");
    (at, reader.position(), reading.rows.into_keys().collect())
}
