//! Compaction of a real directory, beside its writer, retention, readers and `verify`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log_lite::{
    CompactOptions, CompactStep, Compactor, Journal, JournalOptions, ReadError, Reader, verify,
};

use crate::sim::NOW;

/// How long it runs at least, and how long it waits for the slowest.
const RUNS: Duration = Duration::from_millis(1_000);
const WAITS: Duration = Duration::from_secs(120);

struct Live {
    journal: Mutex<Journal>,
    /// The offset after the last durable record.
    end: AtomicU64,
    /// Segments that were replaced, and times that the log was read and verified.
    done: [AtomicU64; 3],
    over: AtomicBool,
}

impl Live {
    fn is_busy(&self) -> bool {
        self.done.iter().any(|done| done.load(Ordering::Acquire) < 2)
    }
}

fn write(live: &Live) {
    let start = Instant::now();
    let mut count = 0u64;
    while start.elapsed() < RUNS || (live.is_busy() && start.elapsed() < WAITS) {
        let mut journal = live.journal.lock().unwrap();
        for _ in 0..40 {
            let key = (count % 37).to_le_bytes();
            journal.append((count % 2) as u16, NOW, &key, &count.to_le_bytes()).unwrap();
            count += 1;
        }
        live.end.store(journal.commit().unwrap().end, Ordering::Release);
        journal.enforce_retention(NOW).unwrap();
        drop(journal);
        // A lock is not fair.
        std::thread::sleep(Duration::from_micros(200));
    }
    live.over.store(true, Ordering::Release);
}

/// Rounds without a pause.
fn compact(live: &Live, mut compactor: Compactor) {
    while !live.over.load(Ordering::Acquire) {
        let segments: Vec<_> = live.journal.lock().unwrap().segments().collect();
        if !compactor.start(&segments, NOW).unwrap() {
            std::thread::yield_now();
            continue;
        }
        loop {
            match compactor.step().unwrap() {
                CompactStep::Working => {}
                CompactStep::Swap(done) => {
                    live.journal.lock().unwrap().swap_compacted(&done).unwrap();
                }
                CompactStep::Done(stats) => {
                    assert_eq!(stats.lost, []);
                    live.done[0].fetch_add(stats.segments_in, Ordering::AcqRel);
                    break;
                }
            }
        }
    }
}

/// Reads to the end, over and over.
fn read(live: &Live, dir: &Path) {
    while !live.over.load(Ordering::Acquire) {
        let mut reader = Reader::open_dir(dir).unwrap();
        let mut newest = HashMap::new();
        let mut last = None;
        // To the end as it is then: what is superseded there may be gone before it.
        while reader.position() < live.end.load(Ordering::Acquire) {
            match reader.next(live.end.load(Ordering::Acquire)) {
                Ok(None) => {}
                Ok(Some(batch)) => {
                    for record in batch.records() {
                        assert!(last.is_none_or(|last| last < record.offset));
                        last = Some(record.offset);
                        let value = u64::from_le_bytes(record.value.try_into().unwrap());
                        assert_eq!(value, record.offset);
                        newest.insert(record.key.to_vec(), value);
                    }
                }
                Err(ReadError::Trimmed { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let end = reader.position();
        assert!(newest.len() == 37 || end < 37, "every key was met");
        assert!(newest.values().all(|value| value + 37 >= end), "with its newest value");
        live.done[1].fetch_add(1, Ordering::AcqRel);
    }
}

fn check(live: &Live, dir: &Path) {
    while !live.over.load(Ordering::Acquire) {
        assert_eq!(verify(dir, &mut |_, _| {}).unwrap().damage, []);
        live.done[2].fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn readers_and_verify_see_no_damage_beside_a_writer_a_compactor_and_retention() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        segment_size: 4096,
        zero_fill_step: 1024,
        max_size: Some(64 << 10),
        ..JournalOptions::default()
    };
    let journal = Journal::open_dir(dir.path(), options).unwrap().0;
    let options = CompactOptions { min_dirty_percent: 20, ..CompactOptions::default() };
    let compactor = journal.compactor(options);
    let live = Live {
        journal: Mutex::new(journal),
        end: AtomicU64::new(0),
        done: Default::default(),
        over: AtomicBool::new(false),
    };
    let path = dir.path();
    std::thread::scope(|scope| {
        scope.spawn(|| compact(&live, compactor));
        scope.spawn(|| read(&live, path));
        scope.spawn(|| check(&live, path));
        write(&live);
    });
    assert!(!live.is_busy(), "{:?}", live.done);
    drop(live);
    let journal = Journal::open_dir(path, JournalOptions::default()).unwrap().0;
    let others = std::fs::read_dir(path).unwrap().filter_map(Result::ok).filter(|entry| {
        let name = entry.file_name().into_string().unwrap();
        !name.ends_with(".log") && !name.ends_with(".sum") && name != "lock"
    });
    assert_eq!(others.count(), 0);
    let mut bases: Vec<u64> = journal.segments().map(|segment| segment.base).collect();
    bases.dedup();
    assert_eq!(bases.len(), journal.segments().len());
}
