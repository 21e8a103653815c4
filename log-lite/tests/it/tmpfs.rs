//! A disk that is really full: a small file system in memory.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use log_lite::{Journal, JournalError, JournalOptions, Reader, verify};

const BYTES: u64 = 2 << 20;
const BALLAST: usize = 512 << 10;

/// A file system of its own, for as long as this lives.
struct Small {
    dir: tempfile::TempDir,
}

impl Small {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={BYTES}");
        let args = ["-t", "tmpfs", "-o", &size, "none"];
        let done = Command::new("mount").args(args).arg(dir.path()).output();
        done.is_ok_and(|done| done.status.success()).then_some(Self { dir })
    }

    fn ballast(&self) -> PathBuf {
        self.dir.path().join("ballast")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path()).status();
    }
}

fn count(dir: &Path) -> u64 {
    let mut reader = Reader::open_dir(dir).unwrap();
    let mut next = 0;
    while let Some(batch) = reader.next(u64::MAX).unwrap() {
        for record in batch.records() {
            assert_eq!(record.offset, next);
            assert_eq!(record.value, vec![next as u8; 300]);
            next += 1;
        }
    }
    next
}

/// Appends until the disk is full, `a_commit` at a time; returns what was acknowledged.
fn fill(journal: &mut Journal, a_commit: u64) -> u64 {
    loop {
        let acknowledged = journal.end();
        for _ in 0..a_commit {
            let offset = journal.next_offset();
            journal.append(0, 0, b"", &vec![offset as u8; 300]).unwrap();
        }
        match journal.commit() {
            Ok(stats) => assert_eq!(stats.end, acknowledged + a_commit),
            Err(JournalError::DiskFull { .. }) => return acknowledged,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_log_on_a_disk_that_fills_up_is_readable_and_goes_on_once_there_is_room() {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let Some(small) = root.then(Small::mount).flatten() else {
        println!(
            "needs to mount a file system; run as root: cargo test -p log-lite --test it tmpfs"
        );
        return;
    };
    let dir = small.dir.path().join("log");
    for (segment_size, zero_fill_step) in [(1 << 20, 64 << 10), (64 << 10, 4096), (1 << 20, 1)] {
        let options = JournalOptions { segment_size, zero_fill_step, ..JournalOptions::default() };
        std::fs::write(small.ballast(), vec![1; BALLAST]).unwrap();
        let mut journal = Journal::open_dir(&dir, options).unwrap().0;
        // Of large commits, part is written when the room ends, and has to go again.
        for a_commit in [97, 1] {
            let acknowledged = fill(&mut journal, a_commit);
            assert_eq!((journal.end(), count(&dir)), (acknowledged, acknowledged));
        }
        let full_at = journal.end();
        assert!(full_at * 300 > BYTES / 2, "{full_at} records");
        // As it is, it is opened and verified.
        drop(journal);
        let mut journal = Journal::open_dir(&dir, options).unwrap().0;
        assert_eq!(journal.end(), full_at);
        assert!(verify(&dir, &mut |_, _| {}).unwrap().damage.is_empty());
        std::fs::remove_file(small.ballast()).unwrap();
        let later = fill(&mut journal, 10);
        assert!(later >= full_at + BALLAST as u64 / 1_000, "{full_at} and then {later}");
        assert_eq!(count(&dir), later);
        drop(journal);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
