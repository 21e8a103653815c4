//! The disk as a file of a FUSE file system: `disk`, and nothing else.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use super::history::History;

const NAME: &str = "disk";
const DISK: INodeNo = INodeNo(2);
/// Nobody but the kernel's own writes changes the file.
const TTL: Duration = Duration::from_secs(3600);

/// A running disk; unmounted when dropped, which whoever uses its file has to have left before.
pub struct LoggedDisk {
    shared: Arc<Shared>,
    at: PathBuf,
    session: Option<BackgroundSession>,
}

struct Shared {
    file: File,
    len: u64,
    history: Mutex<History>,
    /// The length of the history: what happened so far.
    moment: AtomicU64,
}

impl LoggedDisk {
    /// Shows the file `content` as `at/disk`, and remembers in `history` what becomes of it.
    ///
    /// # Errors
    /// Where the file cannot be opened or FUSE not be mounted (it needs root and /dev/fuse).
    pub fn mount(content: &Path, history: History, at: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(content)?;
        let len = file.metadata()?.len();
        let moment = AtomicU64::new(history.len() as u64);
        let shared = Arc::new(Shared { file, len, history: Mutex::new(history), moment });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("logged-disk".to_owned())];
        let served = Served(Arc::clone(&shared));
        let session = fuser::spawn_mount(served, at, &config)?;
        Ok(Self { shared, at: at.to_path_buf(), session: Some(session) })
    }

    /// The file that is the disk.
    pub fn file(&self) -> PathBuf {
        self.at.join(NAME)
    }

    /// A clock that counts what the disk did.
    pub fn clock(&self) -> impl Fn() -> u64 + Clone + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.moment.load(Ordering::SeqCst)
    }

    /// Unmounts it and returns what happened to it.
    ///
    /// # Errors
    /// While the file is still in use.
    pub fn finish(mut self) -> io::Result<History> {
        if let Some(session) = self.session.take() {
            session.umount_and_join()?;
        }
        let shared = Arc::clone(&self.shared);
        drop(self);
        let shared = Arc::into_inner(shared)
            .ok_or_else(|| io::Error::other("a clock of the disk is still held"))?;
        Ok(shared.history.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    /// No step is half done when a thread panics here, so a poisoned lock is sound.
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut history = self.history();
        self.file.write_all_at(bytes, at)?;
        history.write(at, bytes)?;
        self.moment.store(history.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut history = self.history();
        history.flush()?;
        self.moment.store(history.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn attributes(&self, node: INodeNo) -> Option<FileAttr> {
        let (kind, size, perm) = match node {
            INodeNo::ROOT => (FileType::Directory, 0, 0o700),
            DISK => (FileType::RegularFile, self.len, 0o600),
            _ => return None,
        };
        Some(FileAttr {
            ino: node,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

struct Served(Arc<Shared>);

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.0.attributes(DISK) {
            Some(disk) if parent == INodeNo::ROOT && name == NAME => {
                reply.entry(&TTL, &disk, Generation(0));
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.attributes(node) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        at: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = vec![0; self.0.len.saturating_sub(at).min(u64::from(size)) as usize];
        match self.0.file.read_exact_at(&mut bytes, at) {
            Ok(()) => reply.data(&bytes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        at: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.0.write(at, bytes) {
            // The kernel never sends more than fits in 32 bits.
            Ok(()) => reply.written(bytes.len() as u32),
            Err(error) => reply.error(error.into()),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.0.flush() {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error.into()),
        }
    }

    /// Called when a file descriptor is closed; it promises nothing.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
