//! What tells that a file has changed, without reading it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file as the system sees it. The time of change cannot be set by programs, so a file that was
/// written with an old date is noticed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let seen = std::fs::metadata(path)?;
        Ok(Self {
            device: seen.dev(),
            inode: seen.ino(),
            bytes: seen.len(),
            modified: (seen.mtime(), seen.mtime_nsec()),
            changed: (seen.ctime(), seen.ctime_nsec()),
        })
    }
}
