//! Durable appends: of one writer, of many, and what they cost the device.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use log_lite::{Journal, JournalOptions};

use crate::{Outcome, line, median_us};

const VALUE: [u8; 64] = [0xA5; 64];
const WRITERS: u64 = 64;
/// Bytes of the floor's file, written over from its start when it is full.
const FLOOR_BYTES: u64 = 8 << 20;

/// One write and one fdatasync on a file that is filled with zeros.
struct Floor {
    file: File,
    at: u64,
}

impl Floor {
    fn new(path: &Path) -> std::io::Result<Self> {
        let file = File::options().create(true).truncate(true).write(true).open(path)?;
        file.write_all_at(&vec![0; FLOOR_BYTES as usize], 0)?;
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.at + bytes.len() as u64 > FLOOR_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.file.sync_data()
    }
}

fn journal(dir: &Path) -> Result<Journal, Box<dyn std::error::Error>> {
    let mut journal = Journal::open_dir(dir, JournalOptions::default())?.0;
    journal.append(0, 0, b"", b"the first commit makes the segment")?;
    journal.commit()?;
    Ok(journal)
}

pub(crate) fn one_writer(dir: &Path) -> Outcome {
    const ROUNDS: usize = 4_000;
    let mut journal = journal(&dir.join("one"))?;
    let mut floor = Floor::new(&dir.join("floor"))?;
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for round in 0..ROUNDS {
        for ours_now in [round % 2 == 0, round % 2 != 0] {
            let start = Instant::now();
            if ours_now {
                journal.append(0, round as i64, b"", &VALUE)?;
                bytes = journal.commit()?.bytes;
                ours.push(start.elapsed());
            } else {
                floor.append(&VALUE)?;
                floors.push(start.elapsed());
            }
        }
    }
    let (here, floor) = (median_us(&mut ours), median_us(&mut floors));
    line(
        &format!("durable append, 1 writer, 64 B ({bytes} B written)"),
        &format!("{here:.1} us"),
        &format!("{floor:.1} us"),
        here / floor,
        "at most 1.10",
    );
    Ok(())
}

/// Appends of 64 writers that each wait for their own, as tasks of one event loop and as threads.
pub(crate) fn many_writers(dir: &Path) -> Outcome {
    const ROUNDS: usize = 12;
    const ROUND: Duration = Duration::from_millis(250);
    let mut floor = Floor::new(&dir.join("floor"))?;
    let mut tasks = journal(&dir.join("tasks"))?;
    let group = Group::new(journal(&dir.join("threads"))?);
    let (mut by_tasks, mut by_threads, mut by_floor) = (0, 0, 0);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        while start.elapsed() < ROUND {
            for writer in 0..WRITERS {
                tasks.append(writer as u16, 0, b"", &VALUE)?;
            }
            by_tasks += tasks.commit()?.records;
        }
        let start = Instant::now();
        while start.elapsed() < ROUND {
            floor.append(&VALUE)?;
            by_floor += 1;
        }
        by_threads += group.run(ROUND);
    }
    let seconds = (ROUND * ROUNDS as u32).as_secs_f64();
    for (what, count) in [("tasks of one loop", by_tasks), ("threads", by_threads)] {
        line(
            &format!("durable appends, 64 writers, {what}"),
            &format!("{:.0} /s", count as f64 / seconds),
            &format!("{:.0} /s", f64::from(by_floor) / seconds),
            count as f64 / f64::from(by_floor),
            "at least 60",
        );
    }
    Ok(())
}

/// Group commit: whoever finds nobody committing takes all that has gathered and commits it.
struct Group {
    gathered: Mutex<Gathered>,
    durable: Condvar,
    journal: Mutex<Journal>,
}

struct Gathered {
    writers: Vec<u16>,
    /// How many were ever appended, and how many of them are durable.
    appended: u64,
    durable: u64,
    committing: bool,
}

impl Group {
    fn new(journal: Journal) -> Self {
        let gathered = Gathered { writers: Vec::new(), appended: 0, durable: 0, committing: false };
        Self {
            gathered: Mutex::new(gathered),
            durable: Condvar::new(),
            journal: Mutex::new(journal),
        }
    }

    fn run(&self, time: Duration) -> u64 {
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|threads| {
            for writer in 0..WRITERS {
                let (stop, done) = (&stop, &done);
                threads.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        self.append(writer as u16);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            std::thread::sleep(time);
            stop.store(true, Ordering::Relaxed);
        });
        done.load(Ordering::Relaxed)
    }

    fn append(&self, writer: u16) {
        let mut gathered = self.gathered.lock().expect("no writer panicked");
        gathered.writers.push(writer);
        gathered.appended += 1;
        let mine = gathered.appended;
        while gathered.durable < mine {
            if gathered.committing {
                gathered = self.durable.wait(gathered).expect("no writer panicked");
                continue;
            }
            gathered.committing = true;
            let writers = std::mem::take(&mut gathered.writers);
            let upto = gathered.appended;
            drop(gathered);
            self.commit(&writers);
            gathered = self.gathered.lock().expect("no writer panicked");
            gathered.durable = upto;
            gathered.committing = false;
            self.durable.notify_all();
        }
    }

    fn commit(&self, writers: &[u16]) {
        let mut journal = self.journal.lock().expect("no writer panicked");
        for writer in writers {
            journal.append(*writer, 0, b"", &VALUE).expect("there is room for it");
        }
        journal.commit().expect("the disk works");
    }
}

/// Bytes that the device of DIR says it wrote, for commits of 64 B and for the floor.
pub(crate) fn device_bytes(dir: &Path) -> Outcome {
    const COMMITS: u64 = 4_000;
    let Some(device) = Device::of(dir) else {
        println!("durable append, 64 B, device bytes: the kernel counts none for this directory");
        return Ok(());
    };
    let mut journal = journal(&dir.join("device"))?;
    let mut floor = Floor::new(&dir.join("floor"))?;
    let mut size = 0;
    let before = device.written()?;
    for round in 0..COMMITS {
        journal.append(0, round as i64, b"", &VALUE)?;
        size = journal.commit()?.bytes.min(100);
    }
    let middle = device.written()?;
    for _ in 0..COMMITS {
        floor.append(&[0xA5; 100][..size as usize])?;
    }
    let after = device.written()?;
    let (here, floor) = (middle - before, after - middle);
    line(
        &format!("device bytes of a 64 B commit ({size} B, zero fill too)"),
        &format!("{:.0} B", here as f64 / COMMITS as f64),
        &format!("{:.0} B", floor as f64 / COMMITS as f64),
        here as f64 / floor as f64,
        "at most 4.1 KB",
    );
    let counted = journal.stats().device_bytes as f64 / journal.stats().commits as f64;
    println!("  as the journal's own counter has it: {counted:.0} B");
    Ok(())
}

/// The kernel's counters of a block device.
struct Device {
    stat: String,
}

impl Device {
    fn of(dir: &Path) -> Option<Self> {
        let number = std::fs::metadata(dir).ok()?.dev();
        // As the kernel packs major and minor for user space.
        let major = (number >> 8) & 0xFFF | (number >> 32) & !0xFFF;
        let minor = number & 0xFF | (number >> 12) & !0xFF;
        let device = Self { stat: format!("/sys/dev/block/{major}:{minor}/stat") };
        device.written().ok().map(|_| device)
    }

    fn written(&self) -> Result<u64, Box<dyn std::error::Error>> {
        const SECTORS_WRITTEN: usize = 6;
        let stat = std::fs::read_to_string(&self.stat)?;
        let field = stat.split_whitespace().nth(SECTORS_WRITTEN).ok_or("a stat without sectors")?;
        Ok(field.parse::<u64>()? * 512)
    }
}
