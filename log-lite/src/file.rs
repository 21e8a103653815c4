//! A segment's file. One that is read from the disk alone takes none of the system's memory for
//! longer than it needs: the pages of the tail, and of everything else on the machine, stay.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, UNIX_EPOCH};

use crate::storage::{SegmentFile, ms_since_1970};

/// Bytes that are given up at once. The system keeps pages together in aligned groups, and gives up
/// whole groups only.
const DROP_STEP: u64 = 1 << 20;
/// Shorter reads are of heads and tails, and say nothing of how a file is read.
const SHORT: usize = 4096;

/// An open segment of a directory.
#[derive(Debug)]
pub struct DirFile {
    file: File,
    memory: Cell<Memory>,
}

/// What a file's pages in the system's memory are to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// It has not read much yet.
    Unknown,
    /// They were there before, or it writes: they are not its own to give up.
    Shared,
    /// It brought them, and gives up what lies behind it from here on.
    Own { from: u64 },
}

impl Memory {
    /// A read at `at`: the state behind it, and the pages to give up before it.
    fn read(self, at: u64) -> (Self, Option<(u64, u64)>) {
        match self {
            Self::Own { from } if at < from => (Self::Own { from: step_before(at) }, None),
            Self::Own { from } if at - from >= DROP_STEP => {
                let upto = step_before(at);
                (Self::Own { from: upto }, Some((from, upto)))
            }
            other => (other, None),
        }
    }
}

fn step_before(at: u64) -> u64 {
    at / DROP_STEP * DROP_STEP
}

impl DirFile {
    pub(crate) fn for_writing(file: File) -> Self {
        Self { file, memory: Cell::new(Memory::Shared) }
    }

    /// For a file that is written once, from its start, and not read soon.
    pub(crate) fn for_rewriting(file: File) -> Self {
        Self { file, memory: Cell::new(Memory::Own { from: 0 }) }
    }

    pub(crate) fn for_reading(file: File) -> Self {
        Self { file, memory: Cell::new(Memory::Unknown) }
    }

    fn note_read(&self, at: u64, len: usize) {
        if len < SHORT {
            return;
        }
        let mut memory = self.memory.get();
        if memory == Memory::Unknown {
            memory = if is_on_disk_alone(&self.file) {
                Memory::Own { from: step_before(at) }
            } else {
                Memory::Shared
            };
        }
        let (memory, behind) = memory.read(at);
        self.memory.set(memory);
        if let Some((from, upto)) = behind {
            give_up(&self.file, from, upto - from);
        }
    }
}

impl Drop for DirFile {
    fn drop(&mut self) {
        if let Memory::Own { from } = self.memory.get() {
            give_up(&self.file, from, 0);
        }
    }
}

impl SegmentFile for DirFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn created_ms(&self) -> Option<i64> {
        self.file.metadata().ok()?.created().ok().map(ms_since_1970)
    }

    fn set_modified_ms(&self, modified_ms: i64) -> io::Result<()> {
        let since = u64::try_from(modified_ms).unwrap_or(0);
        self.file.set_modified(UNIX_EPOCH + Duration::from_millis(since))
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.note_read(at, buf.len());
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], at + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Whether none of a few pages, spread over the file, is in memory.
#[cfg(target_os = "linux")]
fn is_on_disk_alone(file: &File) -> bool {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let Ok(len) = file.metadata().map(|metadata| metadata.len()) else { return false };
    let mut byte = [0];
    (1..=3).all(|quarter| {
        let mut into = [io::IoSliceMut::new(&mut byte)];
        preadv2(file, &mut into, len / 4 * quarter, ReadWriteFlags::NOWAIT) == Err(Errno::AGAIN)
    })
}

/// Gives up the pages from `from` on; `len` 0: to the end of the file.
#[cfg(target_os = "linux")]
fn give_up(file: &File, from: u64, len: u64) {
    use rustix::fs::{Advice, fadvise};
    // Advice that is not taken costs only memory.
    let _ = fadvise(file, from, std::num::NonZeroU64::new(len), Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn is_on_disk_alone(_file: &File) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn give_up(_file: &File, _from: u64, _len: u64) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_a_reader_is_given_up_in_steps_and_nothing_twice() {
        let mut memory = Memory::Own { from: 0 };
        let mut given = Vec::new();
        for at in (0..5 << 20).step_by(64 << 10) {
            let behind;
            (memory, behind) = memory.read(at);
            given.extend(behind);
        }
        assert_eq!(
            given,
            [(0, 1 << 20), (1 << 20, 2 << 20), (2 << 20, 3 << 20), (3 << 20, 4 << 20)]
        );
    }

    #[test]
    fn a_reader_that_goes_back_gives_up_from_there() {
        let (memory, behind) = Memory::Own { from: 8 << 20 }.read(3 << 20);
        assert_eq!((memory, behind), (Memory::Own { from: 3 << 20 }, None));
    }

    #[test]
    fn pages_that_were_there_before_stay() {
        assert_eq!(Memory::Shared.read(9 << 20), (Memory::Shared, None));
    }
}
