//! What reading a log does to the system's memory, on a real file system.

use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::path::Path;

use log_lite::{Journal, JournalOptions, Reader};
use rustix::fs::{Advice, fadvise};
use rustix::io::{ReadWriteFlags, preadv2};

const PAGE: u64 = 4096;

fn files(dir: &Path) -> Vec<File> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let segments = entries.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
    segments.map(|path| File::open(path).unwrap()).collect()
}

/// Pages of the segments that are in memory. Asks for one at a time, without reading ahead.
fn resident(dir: &Path) -> u64 {
    let in_memory = |file: &File, page: u64| {
        let mut byte = [0];
        let mut into = [IoSliceMut::new(&mut byte)];
        preadv2(file, &mut into, page * PAGE, ReadWriteFlags::NOWAIT).is_ok()
    };
    let count = |file: &File| {
        fadvise(file, 0, None, Advice::Random).unwrap();
        let pages = file.metadata().unwrap().len().div_ceil(PAGE);
        (0..pages).filter(|page| in_memory(file, *page)).count() as u64
    };
    files(dir).iter().map(count).sum()
}

fn evict(dir: &Path) {
    for file in files(dir) {
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
}

fn read_all(dir: &Path) -> u64 {
    let mut reader = Reader::open_dir(dir).unwrap();
    let mut bytes = 0;
    while let Some(batch) = reader.next(u64::MAX).unwrap() {
        bytes += batch.records().map(|record| record.value.len() as u64).sum::<u64>();
    }
    bytes
}

#[test]
fn a_cold_reader_leaves_the_systems_memory_as_it_was_and_a_warm_one_too() {
    // In the build directory: a temporary one may be in memory itself.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = JournalOptions { segment_size: 4 << 20, ..JournalOptions::default() };
    let mut journal = Journal::open_dir(dir.path(), options).unwrap().0;
    const BYTES: u64 = 32 << 20;
    for n in 0..BYTES >> 16 {
        journal.append((n % 3) as u16, n as i64, b"", &vec![n as u8; 1 << 16]).unwrap();
        if n % 64 == 63 {
            journal.commit().unwrap();
        }
    }
    drop(journal);
    const IN_MEMORY: i64 = 0x0102_1994;
    if rustix::fs::statfs(dir.path()).unwrap().f_type as i64 == IN_MEMORY {
        println!("the build directory is in memory: there is nothing to see");
        return;
    }
    let all = BYTES / PAGE;
    evict(dir.path());
    assert_eq!(read_all(dir.path()), BYTES);
    let left = resident(dir.path());
    assert!(left < all / 4, "{left} of {all} pages stayed");

    for mut file in files(dir.path()) {
        file.read_to_end(&mut Vec::new()).unwrap();
    }
    assert_eq!(read_all(dir.path()), BYTES);
    let left = resident(dir.path());
    assert!(left > all * 3 / 4, "only {left} of {all} pages stayed");
}
