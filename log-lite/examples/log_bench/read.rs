//! Sequential reads, recovery and the full scan.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use log_lite::{Journal, JournalOptions, Reader, crc32c, verify};

use crate::{Outcome, line};

const VALUE: [u8; 100] = [0x5A; 100];
const RECORDS: u64 = 4_000_000;
const ROUNDS: usize = 5;

pub(crate) fn run(dir: &Path) -> Outcome {
    for (name, a_batch) in [("of 500", 500), ("of 8", 8)] {
        let dir = dir.join(format!("read-{a_batch}"));
        fill(&dir, a_batch)?;
        sequential(&dir, name)?;
        if a_batch == 500 {
            cold(&dir)?;
            full_scan(&dir)?;
        }
        std::fs::remove_dir_all(&dir)?;
    }
    recovery(&dir.join("recovery"))
}

/// Records in batches of `a_batch`, which change the partition, and commits of 4,000.
fn fill(dir: &Path, a_batch: u64) -> Outcome {
    let mut journal = Journal::open_dir(dir, JournalOptions::default())?.0;
    for n in 0..RECORDS {
        journal.append((n / a_batch % 2) as u16, n as i64, b"", &VALUE)?;
        if n % 4_000 == 3_999 {
            journal.commit()?;
        }
    }
    Ok(())
}

fn best<T>(
    mut work: impl FnMut() -> Result<T, Box<dyn std::error::Error>>,
) -> Result<(Duration, T), Box<dyn std::error::Error>> {
    let mut found = None;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let result = work()?;
        let time = start.elapsed();
        if found.as_ref().is_none_or(|(best, _)| time < *best) {
            found = Some((time, result));
        }
    }
    Ok(found.ok_or("no round")?)
}

/// The files read in pieces of 64 KiB, each with its checksum.
fn raw_read(dir: &Path) -> Result<u64, Box<dyn std::error::Error>> {
    let mut bytes = vec![0; 64 << 10];
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|kind| kind != "log") {
            continue;
        }
        let file = File::open(path)?;
        let mut at = 0;
        loop {
            let got = file.read_at(&mut bytes, at)?;
            if got == 0 {
                break;
            }
            black_box(crc32c(&bytes[..got]));
            at += got as u64;
        }
        total += at;
    }
    Ok(total)
}

fn sequential(dir: &Path, name: &str) -> Outcome {
    let (floor, total) = best(|| raw_read(dir))?;
    let (here, records) = best(|| read_all(dir))?;
    assert_eq!(records, RECORDS, "every record was read");
    let gb = total as f64 / 1e9;
    let (here, floor) = (here.as_secs_f64(), floor.as_secs_f64());
    line(
        &format!("sequential read, warm, 100 B in batches {name}"),
        &format!("{:.1} M/s {:.2} GB/s", RECORDS as f64 / here / 1e6, gb / here),
        &format!("{:.2} GB/s", gb / floor),
        floor / here,
        "1 GB/s or 5 M/s",
    );
    Ok(())
}

fn read_all(dir: &Path) -> Result<u64, Box<dyn std::error::Error>> {
    let mut reader = Reader::open_dir(dir)?;
    let mut records = 0u64;
    while let Some(batch) = reader.next(u64::MAX)? {
        for record in batch.records() {
            records += 1;
            black_box(record.value);
        }
    }
    Ok(records)
}

/// Drops the files from the system's memory.
fn evict(dir: &Path) -> Outcome {
    for entry in std::fs::read_dir(dir)? {
        let file = File::open(entry?.path())?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

fn cold(dir: &Path) -> Outcome {
    let (mut here, mut floor, mut total) = (Duration::MAX, Duration::MAX, 0);
    for _ in 0..3 {
        evict(dir)?;
        let start = Instant::now();
        assert_eq!(read_all(dir)?, RECORDS, "every record was read");
        here = here.min(start.elapsed());
        evict(dir)?;
        let start = Instant::now();
        total = raw_read(dir)?;
        floor = floor.min(start.elapsed());
    }
    let gb = total as f64 / 1e9;
    line(
        "sequential read, cold, leaving memory to others",
        &format!("{:.2} GB/s", gb / here.as_secs_f64()),
        &format!("{:.2} GB/s", gb / floor.as_secs_f64()),
        floor.as_secs_f64() / here.as_secs_f64(),
        "none",
    );
    Ok(())
}

fn full_scan(dir: &Path) -> Outcome {
    let (floor, total) = best(|| raw_read(dir))?;
    let (here, report) = best(|| Ok(verify(dir, &mut |_, _| {})?))?;
    assert_eq!((report.records(), report.damage.len()), (RECORDS, 0), "all is whole");
    let gb = total as f64 / 1e9;
    line(
        "full scan (verify), warm, a GB",
        &format!("{:.3} s", here.as_secs_f64() / gb),
        &format!("{:.3} s", floor.as_secs_f64() / gb),
        here.as_secs_f64() / floor.as_secs_f64(),
        "at most 1 s",
    );
    Ok(())
}

/// Opening a log whose only segment is full, in commits of 16 records.
fn recovery(dir: &Path) -> Outcome {
    let options = JournalOptions::default();
    let mut journal = Journal::open_dir(dir, options)?.0;
    while journal.size() + 4_096 < u64::from(options.segment_size) {
        for n in 0..512 {
            journal.append(n / 16, i64::from(n), b"key", &VALUE)?;
        }
        journal.commit()?;
    }
    let records = journal.end();
    drop(journal);
    let (floor, _) = best(|| {
        let bytes = raw_read(dir)?;
        File::open(dir)?.sync_all()?;
        Ok(bytes)
    })?;
    let (here, found) = best(|| {
        let (journal, recovery) = Journal::open_dir(dir, options)?;
        drop(journal);
        Ok(recovery.records())
    })?;
    assert_eq!(found, records, "all is there");
    line(
        "recovery of a full 16 MiB segment",
        &format!("{:.1} ms", here.as_secs_f64() * 1e3),
        &format!("{:.1} ms", floor.as_secs_f64() * 1e3),
        here.as_secs_f64() / floor.as_secs_f64(),
        "at most 20 ms",
    );
    Ok(())
}
