//! Opening a log of 100 GB. Its segments are sparse: nothing but the newest is read.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use log_lite::{Journal, JournalOptions, Reader};

use crate::{Outcome, line};

/// The arguments that have this program make the segments, and open them, and end.
pub(crate) const MAKE: &str = "--make-segments";
pub(crate) const MEASURE: &str = "--open-segments";

const MIB: f64 = 1_048_576.0;
const SEGMENTS: u64 = 6_400;
const SEGMENT_BYTES: u64 = 16 << 20;

pub(crate) fn run(dir: &Path) -> Outcome {
    let dir = dir.join("open");
    // In processes of their own, so that no memory is there to be used again.
    for step in [MAKE, MEASURE] {
        let done = Command::new(std::env::current_exe()?).arg(step).arg(&dir).status()?;
        assert!(done.success(), "{step} ended well");
    }
    Ok(())
}

/// Opens the segments that were made.
pub(crate) fn measure(dir: &Path) -> Outcome {
    let before = resident_bytes()?;
    let start = Instant::now();
    let names =
        std::fs::read_dir(dir)?.filter_map(Result::ok).filter_map(|entry| entry.metadata().ok());
    let listed = names.count() as u64;
    let floor = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let (journal, recovery) = Journal::open_dir(dir, JournalOptions::default())?;
    let here = start.elapsed().as_secs_f64() * 1e3;
    let grown = resident_bytes()?.saturating_sub(before) as f64 / MIB;
    assert!(listed > SEGMENTS && recovery.segments as u64 == SEGMENTS, "all are there");
    let gb = journal.size() as f64 / 1e9;
    line(
        &format!("open of {gb:.0} GB in {SEGMENTS} segments"),
        &format!("{here:.1} ms"),
        &format!("{floor:.1} ms (list)"),
        here / floor,
        "at most 100 ms",
    );
    println!("  resident memory grew by {grown:.2} MiB (bar: at most 8 MB)");
    reads(dir, journal.end())
}

fn reads(dir: &Path, end: u64) -> Outcome {
    let before = resident_bytes()?;
    let mut reader = Reader::open_dir(dir)?;
    let start = Instant::now();
    reader.seek(end / 2);
    assert!(reader.next(end)?.is_some(), "the middle is there");
    let seek = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    reader.seek_time(end as i64 - 10, end)?;
    let seek_time = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    reader.only(Some(&[9]));
    reader.seek(0);
    while reader.next(end)?.is_some() {}
    assert_eq!(reader.position(), end, "the whole log was passed");
    let rare = start.elapsed().as_secs_f64() * 1e3;
    let grown = resident_bytes()?.saturating_sub(before) as f64 / MIB;
    println!(
        "  seek {seek:.1} ms, seek by time {seek_time:.1} ms, all of a rare partition {rare:.1} ms, {grown:.2} MiB"
    );
    Ok(())
}

/// Segments with one record each, all but the newest made longer, without blocks.
pub(crate) fn make(dir: &Path) -> Outcome {
    let options =
        JournalOptions { segment_size: 512, zero_fill_step: 0, ..JournalOptions::default() };
    let mut journal = Journal::open_dir(dir, options)?.0;
    for n in 0..SEGMENTS {
        journal.append((n % 8) as u16, n as i64, b"", &[1; 300])?;
    }
    journal.commit()?;
    let newest = journal.end() - 1;
    for segment in journal.segments().filter(|segment| segment.base != newest) {
        let name = format!("{:020}.log", segment.base);
        File::options().write(true).open(dir.join(name))?.set_len(SEGMENT_BYTES)?;
    }
    Ok(())
}

/// Memory of this process that is resident, in bytes.
fn resident_bytes() -> Result<u64, Box<dyn std::error::Error>> {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).ok_or("statm without a resident size")?;
    Ok(pages.parse::<u64>()? * PAGE)
}
