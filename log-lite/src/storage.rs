//! Where segments live: the seam between the journal and the disk, and the directory behind it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::JournalError;
use crate::file::DirFile;

const SEGMENT: &str = ".log";
const ASIDE: &str = ".new";

/// A segment as a directory lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Offset of its first record, which is its name.
    pub base: u64,
    /// Bytes of the file, zero fill included.
    pub bytes: u64,
    /// When it was last written, in ms since 1970 by the system's clock; 0 where nobody knows.
    pub modified_ms: i64,
}

// A journal holds one for each segment.
const _: () = assert!(size_of::<SegmentEntry>() == 24);

/// What a journal needs of the place where its segments are.
pub trait Storage {
    /// An open segment.
    type File: SegmentFile;

    /// All segments, in any order.
    ///
    /// # Errors
    /// Of the place itself.
    fn list(&self) -> io::Result<Vec<SegmentEntry>>;

    /// The bases of all segments, in any order: for readers, who need no more of them.
    ///
    /// # Errors
    /// Of the place itself.
    fn bases(&self) -> io::Result<Vec<u64>> {
        Ok(self.list()?.into_iter().map(|segment| segment.base).collect())
    }

    /// Makes an empty segment that is not there yet.
    ///
    /// # Errors
    /// `AlreadyExists` where it is, and those of the place itself.
    fn create(&self, base: u64) -> io::Result<Self::File>;

    /// Opens a segment, for writing too where `write` says so.
    ///
    /// # Errors
    /// `NotFound` where there is none, and those of the place itself.
    fn open(&self, base: u64, write: bool) -> io::Result<Self::File>;

    /// Removes a segment and its summary.
    ///
    /// # Errors
    /// Of the place itself.
    fn remove(&self, base: u64) -> io::Result<()>;

    /// Takes a segment out of the log and keeps its bytes under another name, which it returns.
    ///
    /// # Errors
    /// Of the place itself.
    fn set_aside(&self, base: u64) -> io::Result<String>;

    /// Makes an empty file beside the log, which can take the place of a segment later. One that
    /// is there from before is emptied.
    ///
    /// # Errors
    /// `Unsupported` where no segment can be replaced, and those of the place itself.
    fn create_aside(&self, base: u64) -> io::Result<Self::File> {
        let _ = base;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The files that [`Storage::create_aside`] made and that are still beside the log.
    ///
    /// # Errors
    /// Of the place itself.
    fn asides(&self) -> io::Result<Vec<u64>> {
        Ok(Vec::new())
    }

    /// Removes a file that [`Storage::create_aside`] made.
    ///
    /// # Errors
    /// Of the place itself.
    fn remove_aside(&self, base: u64) -> io::Result<()> {
        let _ = base;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Puts the file that [`Storage::create_aside`] made in the place of the segment, whether there
    /// is one or not, in one step: at no time, and after no power cut, is there neither. Who has
    /// the old segment open goes on to read it.
    ///
    /// # Errors
    /// Of the place itself; the segment is then as it was.
    fn replace(&self, base: u64) -> io::Result<()> {
        let _ = base;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Keeps the bytes of a segment under a second name, too, and returns that.
    ///
    /// # Errors
    /// Of the place itself.
    fn keep_copy(&self, base: u64) -> io::Result<String> {
        let _ = base;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes what was created, removed and renamed durable.
    ///
    /// # Errors
    /// Of the place itself.
    fn sync_dir(&self) -> io::Result<()>;

    /// The summary beside a segment, if there is one of at most `max` bytes. A place that keeps
    /// none is right too: readers then walk the segments.
    ///
    /// # Errors
    /// Of the place itself.
    fn read_summary(&self, base: u64, max: usize) -> io::Result<Option<Vec<u8>>> {
        let _ = (base, max);
        Ok(None)
    }

    /// Puts a summary beside a segment, in place of the one that is there. It may be lost or torn
    /// by a power cut, and nobody syncs it.
    ///
    /// # Errors
    /// Of the place itself.
    fn write_summary(&self, base: u64, bytes: &[u8]) -> io::Result<()> {
        let _ = (base, bytes);
        Ok(())
    }
}

/// An open segment.
pub trait SegmentFile {
    /// Bytes of the file.
    ///
    /// # Errors
    /// Of the place itself.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// As [`SegmentFile::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// When the file was made, in ms since 1970 by the system's clock, where that is known.
    fn created_ms(&self) -> Option<i64> {
        None
    }

    /// Sets the time at which the file was last written, in ms since 1970, where that can be done.
    ///
    /// # Errors
    /// Of the place itself.
    fn set_modified_ms(&self, modified_ms: i64) -> io::Result<()> {
        let _ = modified_ms;
        Ok(())
    }

    /// Reads at `at` and returns how many bytes there were: fewer than asked only at the end.
    ///
    /// # Errors
    /// Of the place itself.
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `at`.
    ///
    /// # Errors
    /// `StorageFull` where there is no room, and those of the place itself. Some of the bytes may
    /// have been written.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything written is durable.
    ///
    /// # Errors
    /// Of the place itself; nothing is then known about what was written since the last sync.
    fn sync(&self) -> io::Result<()>;
}

/// Segments as files `<base offset, 20 digits>.log` of one directory.
#[derive(Clone, Debug)]
pub struct DirStorage {
    dir: PathBuf,
    /// Held as long as the writer or a clone lives; readers have none.
    _lock: Option<Arc<File>>,
}

impl DirStorage {
    /// The directory for the one writer. Creates it where it is missing and locks it.
    ///
    /// # Errors
    /// [`JournalError::Locked`] while another process writes there; [`JournalError::Io`].
    pub fn for_writing(dir: &Path) -> Result<Self, JournalError> {
        let failed = |action| move |source| JournalError::io(action, None, source);
        create_dir(dir).map_err(failed("create"))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(failed("open the lock in"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: Some(Arc::new(lock)) }),
            Err(TryLockError::WouldBlock) => Err(JournalError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed("lock")(source)),
        }
    }

    /// The directory for a reader, also beside a running writer.
    pub fn for_reading(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), _lock: None }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, base: u64) -> PathBuf {
        self.dir.join(format!("{base:020}.log"))
    }

    fn aside_path(&self, base: u64) -> PathBuf {
        self.dir.join(format!("{base:020}{ASIDE}"))
    }

    fn damaged_path(&self, base: u64, n: u32) -> (String, PathBuf) {
        let name = format!("{base:020}.damaged-{n}");
        let path = self.dir.join(&name);
        (name, path)
    }

    /// A name for a damaged segment that is not used yet.
    fn free_name(&self, base: u64) -> io::Result<(String, PathBuf)> {
        let mut all = (0..u32::MAX).map(|n| self.damaged_path(base, n));
        all.find(|(_, path)| !path.exists()).ok_or_else(|| io::ErrorKind::AlreadyExists.into())
    }

    /// The name under which this very file is kept already.
    fn kept_as(&self, base: u64) -> io::Result<Option<String>> {
        let inode = std::fs::metadata(self.path(base))?.ino();
        for (name, path) in (0..u32::MAX).map(|n| self.damaged_path(base, n)) {
            match std::fs::metadata(path) {
                Ok(meta) if meta.ino() == inode => return Ok(Some(name)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn summary_path(&self, base: u64) -> PathBuf {
        self.dir.join(format!("{base:020}.sum"))
    }

    /// Before its segment goes, so that none stays behind. One that does is not believed.
    fn remove_summary(&self, base: u64) {
        let _ = std::fs::remove_file(self.summary_path(base));
    }
}

impl Storage for DirStorage {
    type File = DirFile;

    fn list(&self) -> io::Result<Vec<SegmentEntry>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Some(base) = entry.file_name().to_str().and_then(|name| parse_name(name, SEGMENT))
            else {
                continue;
            };
            match entry.metadata() {
                Ok(meta) => {
                    let modified_ms = meta.modified().map_or(0, ms_since_1970);
                    found.push(SegmentEntry { base, bytes: meta.len(), modified_ms });
                }
                // Retention took it between the listing and the look.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn bases(&self) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            found.extend(name.to_str().and_then(|name| parse_name(name, SEGMENT)));
        }
        Ok(found)
    }

    fn create(&self, base: u64) -> io::Result<DirFile> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(self.path(base))?;
        Ok(DirFile::for_writing(file))
    }

    fn open(&self, base: u64, write: bool) -> io::Result<DirFile> {
        let file = OpenOptions::new().read(true).write(write).open(self.path(base))?;
        Ok(if write { DirFile::for_writing(file) } else { DirFile::for_reading(file) })
    }

    fn remove(&self, base: u64) -> io::Result<()> {
        self.remove_summary(base);
        std::fs::remove_file(self.path(base))
    }

    fn set_aside(&self, base: u64) -> io::Result<String> {
        let (name, free) = self.free_name(base)?;
        self.remove_summary(base);
        std::fs::rename(self.path(base), free)?;
        Ok(name)
    }

    fn create_aside(&self, base: u64) -> io::Result<DirFile> {
        let mut how = OpenOptions::new();
        how.read(true).write(true).create(true).truncate(true);
        Ok(DirFile::for_rewriting(how.open(self.aside_path(base))?))
    }

    fn asides(&self) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            found.extend(name.to_str().and_then(|name| parse_name(name, ASIDE)));
        }
        Ok(found)
    }

    fn remove_aside(&self, base: u64) -> io::Result<()> {
        std::fs::remove_file(self.aside_path(base))
    }

    fn replace(&self, base: u64) -> io::Result<()> {
        std::fs::rename(self.aside_path(base), self.path(base))
    }

    fn keep_copy(&self, base: u64) -> io::Result<String> {
        if let Some(name) = self.kept_as(base)? {
            return Ok(name);
        }
        let (name, free) = self.free_name(base)?;
        if std::fs::hard_link(self.path(base), &free).is_err() {
            // A file system without links.
            let aside = self.dir.join(format!("{name}.part"));
            std::fs::copy(self.path(base), &aside)?;
            File::open(&aside)?.sync_all()?;
            std::fs::rename(aside, free)?;
        }
        Ok(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn read_summary(&self, base: u64, max: usize) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.summary_path(base)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes).filter(|bytes| bytes.len() <= max))
    }

    fn write_summary(&self, base: u64, bytes: &[u8]) -> io::Result<()> {
        std::fs::write(self.summary_path(base), bytes)
    }
}

/// Creates a directory and what is missing above it, durably.
fn create_dir(dir: &Path) -> io::Result<()> {
    let missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    std::fs::create_dir_all(dir)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        let here = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(here)?.sync_all()?;
    }
    Ok(())
}

pub(crate) fn ms_since_1970(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn parse_name(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_segments_are_taken_for_segments() {
        let parse = |name| parse_name(name, SEGMENT);
        assert_eq!(parse("00000000000000000017.log"), Some(17));
        assert_eq!(parse("17.log"), None);
        assert_eq!(parse("+0000000000000000017.log"), None);
        assert_eq!(parse("99999999999999999999.log"), None);
        assert_eq!(parse("00000000000000000017.new"), None);
        assert_eq!(parse("lock"), None);
    }
}
