//! Records of some partitions in a log of their own, whose power goes at every step, and again.

use headwater::journal::Record;
use headwater::placement::Placer;
use log_lite::{Journal, JournalOptions, Reader};

use crate::power::Disk;

/// Of every seven records two belong to the log.
const OURS: [u16; 2] = [3, 5];
const RECORDS: u64 = 300;

fn options() -> JournalOptions {
    JournalOptions { segment_size: 1024, zero_fill_step: 128, ..JournalOptions::default() }
}

fn record(offset: u64) -> Record {
    let partition = u16::try_from(offset % 7).expect("below 7");
    let key = format!("k{}", offset % 3).into_bytes().into();
    let value = format!("value {offset} {}", "x".repeat(offset as usize % 50)).into_bytes().into();
    Record { offset, partition, time_ms: 1_000 + offset as i64, key, value }
}

/// Follows a journal of all records from where the log stands; saves its position now and then.
/// Ends early where the power goes.
fn follow(disk: &Disk, saved: &mut u64) -> Option<()> {
    let log = Journal::open(disk.clone(), options()).ok()?.0;
    let mut placer = Placer::new(log, OURS.to_vec(), *saved, 0).ok()?;
    assert!(placer.position() >= *saved);
    while placer.position() < RECORDS {
        let from = placer.position();
        let records: Vec<Record> = (from..(from + 9).min(RECORDS)).map(record).collect();
        placer.take(&records).ok()?;
        if from % 2 == 0 || placer.position() == RECORDS {
            placer.commit().ok()?;
        }
        assert!(placer.placed() <= placer.position());
        if from % 3 == 0 {
            *saved = placer.placed();
        }
    }
    Some(())
}

fn stored(disk: &Disk) -> Vec<Record> {
    let mut reader = Reader::open(disk.clone()).expect("it can be read");
    let mut out = Vec::new();
    while let Some(batch) = reader.next(u64::MAX).expect("nothing is missing") {
        for record in batch.records() {
            out.push(Record {
                offset: record.offset,
                partition: record.partition,
                time_ms: record.time_ms,
                key: record.key.to_vec().into(),
                value: record.value.to_vec().into(),
            });
        }
    }
    out
}

fn assert_same(found: &[Record], wanted: &[Record], cut: &str) {
    let offsets = |records: &[Record]| records.iter().map(|r| r.offset).collect::<Vec<_>>();
    assert_eq!(offsets(found), offsets(wanted), "{cut}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!((found.partition, found.time_ms), (wanted.partition, wanted.time_ms), "{cut}");
        assert_eq!((&found.key, &found.value), (&wanted.key, &wanted.value), "{cut}");
    }
}

#[test]
fn every_record_is_placed_once_under_its_offset_whenever_the_power_goes() {
    let wanted: Vec<Record> =
        (0..RECORDS).map(record).filter(|record| OURS.contains(&record.partition)).collect();
    let whole = Disk::default();
    follow(&whole, &mut 0).expect("the power stays");
    assert_same(&stored(&whole), &wanted, "without a cut");
    let steps = whole.calls();
    assert!(steps > 30, "{steps}");
    for first in 0..steps {
        let disk = Disk::cut_at(first);
        let mut saved = 0;
        assert!(follow(&disk, &mut saved).is_none(), "cut at {first}");
        // The second cut comes at each step of the way back, as far as there are that many.
        for second in (0..6).chain([10, 25]) {
            let again = disk.survivor().and_cut_at(second);
            let mut saved = saved;
            let _ = follow(&again, &mut saved);
            let last = again.survivor();
            follow(&last, &mut saved).expect("the power stays");
            assert_same(&stored(&last), &wanted, &format!("cut at {first}, then at {second}"));
        }
    }
}

#[test]
fn what_the_journal_cannot_read_cannot_be_read_in_the_log_either() {
    let disk = Disk::default();
    let log = Journal::open(disk.clone(), options()).expect("a log").0;
    let mut placer = Placer::new(log, OURS.to_vec(), 0, 0).expect("a placer");
    placer.take(&(0..20).map(record).collect::<Vec<_>>()).expect("taken");
    placer.lose(20, 40).expect("noted");
    placer.take(&(40..60).map(record).collect::<Vec<_>>()).expect("taken");
    placer.commit().expect("committed");
    assert_eq!(placer.placed(), 60);
    drop(placer);
    let mut reader = Reader::open(disk).expect("it can be read");
    let (mut offsets, mut lost) = (Vec::new(), Vec::new());
    loop {
        match reader.next(u64::MAX) {
            Ok(Some(batch)) => offsets.extend(batch.records().map(|record| record.offset)),
            Ok(None) => break,
            Err(log_lite::ReadError::Damaged { first, end, .. }) => lost.push((first, end)),
            Err(problem) => panic!("{problem}"),
        }
    }
    let ours = |offset: &u64| OURS.contains(&record(*offset).partition);
    let wanted: Vec<u64> = (0..20).chain(40..60).filter(ours).collect();
    assert_eq!(offsets, wanted);
    assert_eq!(lost, [(20, 40)]);
}

#[test]
fn a_new_log_begins_where_the_journal_does_and_an_old_one_goes_on_where_it_ended() {
    let disk = Disk::default();
    let open = |saved| {
        let log = Journal::open(disk.clone(), options()).expect("a log").0;
        Placer::new(log, OURS.to_vec(), saved, 7).expect("a placer")
    };
    let mut placer = open(0);
    assert_eq!(placer.position(), 7);
    placer.take(&(7..20).map(record).collect::<Vec<_>>()).expect("taken");
    placer.commit().expect("committed");
    drop(placer);
    assert_eq!(open(0).position(), 20, "the last that is ours, 19, and one");
    assert_eq!(open(1_000).position(), 1_000, "what was looked at and is not ours");
    let start = Reader::open(disk).expect("it can be read").start().expect("a segment");
    assert_eq!(start, 7, "so that a reader from there is not told that something is gone");
}
