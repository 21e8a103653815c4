//! The few things that the directory upstream does to a file system, so that tests can let a power
//! cut come between any two of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A file system.
pub(in crate::forward) trait Disk: Send {
    /// A file being written.
    type File: Send;
    /// Makes a directory and those above it; each is on disk when this returns.
    fn make_dir(&mut self, path: &Path) -> io::Result<()>;
    /// Names in a directory; none if it is not there.
    fn list(&mut self, path: &Path) -> io::Result<Vec<String>>;
    /// A small file's bytes; `None` if it is not there.
    fn read(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// A new, empty file.
    fn create(&mut self, path: &Path) -> io::Result<Self::File>;
    /// A file to append to, which is there.
    fn append(&mut self, path: &Path) -> io::Result<Self::File>;
    /// Reads a file, however large, piece by piece.
    fn scan(&mut self, path: &Path, take: &mut dyn FnMut(&[u8])) -> io::Result<()>;
    /// Appends.
    fn write(&mut self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;
    /// What was written is on disk when this returns.
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()>;
    /// Gives a file its name; on disk after [`Disk::sync_dir`].
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Names in the directory are on disk when this returns.
    fn sync_dir(&mut self, path: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// The machine's own.
pub(in crate::forward) struct RealDisk;

impl Disk for RealDisk {
    type File = File;

    fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        self.make_dir(&parent)?;
        match fs::create_dir(path) {
            Err(problem) if problem.kind() != io::ErrorKind::AlreadyExists => Err(problem),
            _ => self.sync_dir(&parent),
        }
    }

    fn list(&mut self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(path) {
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        // A name that is not UTF-8 is none of ours.
        entries
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn read(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => bytes.map(Some),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    fn append(&mut self, path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).open(path)
    }

    fn scan(&mut self, path: &Path, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut file = File::open(path)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => take(&buffer[..read]),
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Err(problem) => return Err(problem),
            }
        }
    }

    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&mut self, file: &mut File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
