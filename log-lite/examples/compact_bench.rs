//! What the compaction of a log of 1 GB and a million keys costs: memory, time, and the latency of
//! durable appends meanwhile, beside that of appends while it rests, by turns.
//!
//! ```text
//! compact_bench [DIR [PAUSE]]
//! ```
//!
//! Everything happens in a directory under DIR, which is removed at the end: choose one on the
//! disk that is to be measured. After each step the compactor rests PAUSE times as long as the
//! step took, 1 where nothing is said: that is all that an owner has to do to give way.
#![expect(clippy::print_stdout, reason = "a tool that prints a table")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log_lite::{
    CompactOptions, CompactStats, CompactStep, Compactor, Journal, JournalOptions, Reader,
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The argument that has this program make the log, and end.
const MAKE: &str = "--make-log";

const MIB: f64 = 1_048_576.0;
const LOG_BYTES: u64 = 1_000_000_000;
const KEYS: u64 = 1_000_000;
const VALUE: [u8; 84] = [7; 84];
const APPEND: [u8; 56] = [9; 56];
/// How long the compactor works, and how long it rests, by turns.
const TURN: Duration = Duration::from_millis(400);
/// Between two appends.
const BETWEEN: Duration = Duration::from_micros(200);

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [MAKE, dir] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return make(dir.as_ref());
    }
    let parent = arguments.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let pause = arguments.get(1).map_or(Ok(1.0), |pause| pause.parse())?;
    let dir = tempfile::tempdir_in(parent)?;
    // In a process of its own, so that no memory is there to be used again.
    let made = Command::new(std::env::current_exe()?).arg(MAKE).arg(dir.path()).status()?;
    assert!(made.success(), "the log was made");
    measure(dir.path(), pause)
}

/// Every key in turn, and then at random: each has about ten records.
fn make(dir: &Path) -> Outcome {
    let mut journal = Journal::open_dir(dir, JournalOptions::default())?.0;
    let mut random = 1u64;
    let mut n = 0;
    while journal.size() < LOG_BYTES {
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = if n < KEYS { n } else { (random >> 33) % KEYS };
            journal.append(0, now_ms()?, &key.to_le_bytes(), &VALUE)?;
            n += 1;
        }
        journal.commit()?;
    }
    Ok(())
}

fn measure(dir: &Path, pause: f64) -> Outcome {
    let journal = Journal::open_dir(dir, JournalOptions::default())?.0;
    let before = journal.size();
    // The pages of a fresh journal's first commits are no part of compaction's memory.
    let journal = Mutex::new(journal);
    let mut latencies = [Vec::new(), Vec::new()];
    for _ in 0..200 {
        append(&journal)?;
    }
    let resident = reset_peak()?;
    let (working, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let compactor = lock(&journal).compactor(CompactOptions::default());
    let (stats, busy) = std::thread::scope(|scope| -> Outcome<_> {
        let compaction = scope.spawn(|| {
            let result = compact(&journal, compactor, &working, pause);
            done.store(true, Ordering::Release);
            result
        });
        while !done.load(Ordering::Acquire) {
            for works in [false, true] {
                working.store(works, Ordering::Release);
                let turn = Instant::now();
                while turn.elapsed() < TURN && !done.load(Ordering::Acquire) {
                    latencies[usize::from(works)].push(append(&journal)?);
                    // A lock is not fair, and the compactor needs it for its swaps.
                    std::thread::sleep(BETWEEN);
                }
            }
        }
        compaction.join().expect("the compactor does not panic")
    })?;
    let peak = peak()?.saturating_sub(resident) as f64 / MIB;
    println!("compaction of {:.2} GB, {KEYS} keys, pause {pause}", before as f64 / 1e9);
    println!("  resident memory grew by {peak:.1} MiB at most (bar: 64 MB)");
    println!(
        "  {:.1} s of work in {} segments to {:.1} MB in {}; {} records superseded",
        busy.as_secs_f64(),
        stats.segments_in,
        stats.bytes_out as f64 / 1e6,
        stats.segments_out,
        stats.superseded
    );
    report(&mut latencies);
    check(dir)
}

/// Runs one round, in the turns that are given to it; returns how long it worked.
fn compact(
    journal: &Mutex<Journal>,
    mut compactor: Compactor,
    working: &AtomicBool,
    pause: f64,
) -> Outcome<(CompactStats, Duration)> {
    let mut busy = Duration::ZERO;
    let segments: Vec<_> = lock(journal).segments().collect();
    assert!(compactor.start(&segments, now_ms()?)?, "all of it is dirty");
    loop {
        while !working.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let start = Instant::now();
        let step = compactor.step()?;
        if let CompactStep::Swap(compacted) = &step {
            assert!(lock(journal).swap_compacted(compacted)?, "nothing was deleted");
        }
        busy += start.elapsed();
        if let CompactStep::Done(stats) = step {
            return Ok((stats, busy));
        }
        std::thread::sleep(start.elapsed().mul_f64(pause));
    }
}

fn append(journal: &Mutex<Journal>) -> Outcome<Duration> {
    let time_ms = now_ms()?;
    let start = Instant::now();
    let mut journal = lock(journal);
    journal.append(1, time_ms, b"appended", &APPEND)?;
    journal.commit()?;
    Ok(start.elapsed())
}

fn report(latencies: &mut [Vec<Duration>; 2]) {
    let mut at = |working: usize, percent: usize| {
        let times = &mut latencies[working];
        times.sort_unstable();
        times[times.len() * percent / 100].as_secs_f64() * 1e6
    };
    for percent in [50, 99] {
        let (rests, works) = (at(0, percent), at(1, percent));
        println!(
            "  append p{percent}: {works:.0} us beside compaction, {rests:.0} us while it rests, \
             ratio {:.2}{}",
            works / rests,
            if percent == 99 { " (bar: 2)" } else { "" }
        );
    }
    println!("  of {} and {} appends", latencies[1].len(), latencies[0].len());
}

/// Each key is there, once.
fn check(dir: &Path) -> Outcome {
    let mut seen = vec![false; KEYS as usize];
    let mut reader = Reader::open_dir(dir)?;
    reader.only(Some(&[0]));
    while let Some(batch) = reader.next(u64::MAX)? {
        for record in batch.records() {
            seen[u64::from_le_bytes(record.key.try_into()?) as usize] = true;
        }
    }
    assert!(seen.into_iter().all(|seen| seen), "no key is gone");
    Ok(())
}

fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> Outcome<i64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64)
}

/// Forgets the peak of resident memory; returns what is resident now, in bytes.
fn reset_peak() -> Outcome<u64> {
    std::fs::write("/proc/self/clear_refs", "5")?;
    status("VmRSS:")
}

fn peak() -> Outcome<u64> {
    status("VmHWM:")
}

fn status(name: &str) -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no such line")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}
