//! Real file systems on loop devices, and the room where their files are; all of it taken down
//! again, also what a killed run left.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

const PREFIX: &str = "headwater-disk-";

/// A busy file system gets this long to become free.
const FREE: Duration = Duration::from_secs(10);

/// Whether this process may mount; where not, says on stderr which command to run instead.
pub fn may_mount(command: &str) -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if !root {
        // Tests keep what they print to themselves when they pass, which is what this one does.
        writeln!(io::stderr(), "a disk of its own needs root: sudo -E {command}").ok();
    }
    root
}

/// A directory for disks, in memory where the system has room for files there.
pub struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    /// A new directory. What processes that are gone left beside it is unmounted and deleted.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new() -> io::Result<Self> {
        let memory = PathBuf::from("/dev/shm");
        let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
        clear(&base)?;
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(base)?;
        Ok(Self { dir })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a directory in it.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn room(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whoever mounted something has unmounted it, unless a panic came between.
        release(self.dir.path());
    }
}

/// Unmounts and deletes the rooms of processes that are gone.
fn clear(base: &Path) -> io::Result<()> {
    for entry in fs::read_dir(base)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(owner) = owner else { continue };
        if !Path::new("/proc").join(owner).exists() {
            release(&path);
            fs::remove_dir_all(&path).ok();
        }
    }
    Ok(())
}

/// Unmounts all that is mounted below `dir`, the last first.
fn release(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|at| Path::new(at).starts_with(dir));
    for at in below.collect::<Vec<_>>().into_iter().rev() {
        run(Command::new("umount").arg("--lazy").arg(at)).ok();
    }
}

/// A file system of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4, with its journal for metadata.
    Ext4,
    /// XFS.
    Xfs,
}

impl FileSystem {
    /// Its name, as `mount` knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// What a disk has to write whole or not at all for this file system to mend itself, in bytes.
    ///
    /// ext4 writes whole blocks of its journal again, whatever they were. XFS leaves out those whose
    /// header is newer, so it never mends a block of metadata of which only the first part came to
    /// the disk; disks have had sectors of a block's size for years.
    pub fn sector_bytes(self) -> u64 {
        match self {
            Self::Ext4 => 512,
            Self::Xfs => 4096,
        }
    }

    /// Makes a file with an empty file system in it. XFS takes no less than 300 MiB; what is never
    /// written takes no room.
    ///
    /// # Errors
    /// Where the file or the file system cannot be made.
    pub fn make(self, path: &Path) -> io::Result<()> {
        let (mib, program, arguments): (u64, _, &[&str]) = match self {
            Self::Ext4 => (256, "mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0"]),
            Self::Xfs => (320, "mkfs.xfs", &["-q", "-f"]),
        };
        fs::File::create(path)?.set_len(mib << 20)?;
        run(Command::new(program).args(arguments).arg(path))
    }

    /// Mounts the file system in the file `disk`, which is recovered by the kernel as after a power
    /// cut, and never by a repair program.
    ///
    /// # Errors
    /// What `mount` says.
    pub fn mount(self, disk: &Path, at: &Path) -> io::Result<Mounted> {
        fs::create_dir_all(at)?;
        // Two images of one disk have one UUID, which XFS would refuse.
        let options = match self {
            Self::Ext4 => "loop,noatime,errors=remount-ro",
            Self::Xfs => "loop,noatime,nouuid",
        };
        run(Command::new("mount").args(["-t", self.name(), "-o", options]).arg(disk).arg(at))?;
        Ok(Mounted { at: Some(at.to_path_buf()) })
    }
}

/// Mounts a file system in memory that is full at `bytes`.
///
/// # Errors
/// What `mount` says.
pub fn mount_small(bytes: u64, at: &Path) -> io::Result<Mounted> {
    fs::create_dir_all(at)?;
    let size = format!("size={bytes}");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at))?;
    Ok(Mounted { at: Some(at.to_path_buf()) })
}

/// A mounted file system; unmounted when dropped, and the loop device with it.
#[derive(Debug)]
pub struct Mounted {
    at: Option<PathBuf>,
}

impl Mounted {
    /// Unmounts it.
    ///
    /// # Errors
    /// While something in it is in use.
    pub fn unmount(mut self) -> io::Result<()> {
        let end = Instant::now() + FREE;
        let Some(at) = self.at.take() else { return Ok(()) };
        loop {
            match run(Command::new("umount").arg(&at)) {
                Err(error) if Instant::now() > end => {
                    self.at = Some(at);
                    return Err(error);
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
                Ok(()) => return Ok(()),
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(at) = self.at.take() {
            run(Command::new("umount").arg("--lazy").arg(at)).ok();
        }
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {}: {}", output.status, words.trim())))
}
