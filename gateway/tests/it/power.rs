//! A disk that forgets everything that was not synced when its power is cut.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use log_lite::{SegmentEntry, SegmentFile, Storage};

/// What is in the cache and what is on the platter.
#[derive(Clone, Default)]
struct Contents {
    cached: BTreeMap<u64, Vec<u8>>,
    synced: BTreeMap<u64, Vec<u8>>,
    /// Names that a sync of the directory made durable.
    names: Vec<u64>,
    /// Calls that change something, so far.
    calls: u64,
    /// The call at which the power goes; nothing works from then on.
    cut_at: Option<u64>,
}

/// A disk; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Contents>>);

pub(crate) struct File {
    disk: Disk,
    base: u64,
}

impl Disk {
    /// A disk whose power goes before call `call` changes anything.
    pub(crate) fn cut_at(call: u64) -> Self {
        let disk = Self::default();
        disk.lock().cut_at = Some(call);
        disk
    }

    /// The same disk, whose power goes before call `call` changes anything.
    pub(crate) fn and_cut_at(self, call: u64) -> Self {
        let mut contents = self.lock();
        (contents.calls, contents.cut_at) = (0, Some(call));
        drop(contents);
        self
    }

    /// Calls that changed something.
    pub(crate) fn calls(&self) -> u64 {
        self.lock().calls
    }

    pub(crate) fn is_off(&self) -> bool {
        let contents = self.lock();
        contents.cut_at.is_some_and(|cut| contents.calls >= cut)
    }

    /// The disk that is there when the power is back: what was synced under a synced name.
    pub(crate) fn survivor(&self) -> Self {
        let contents = self.lock();
        let survives = |base: &u64| contents.names.contains(base);
        let files: BTreeMap<u64, Vec<u8>> = contents
            .cached
            .keys()
            .filter(|base| survives(base))
            .map(|base| (*base, contents.synced.get(base).cloned().unwrap_or_default()))
            .collect();
        let names = files.keys().copied().collect();
        let restored =
            Contents { cached: files.clone(), synced: files, names, calls: 0, cut_at: None };
        Self(Arc::new(Mutex::new(restored)))
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().expect("no test panics while it holds the disk")
    }

    /// A call that changes something.
    fn change<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> io::Result<T> {
        let mut contents = self.lock();
        if contents.cut_at.is_some_and(|cut| contents.calls >= cut) {
            return Err(io::Error::other("the power is off"));
        }
        contents.calls += 1;
        Ok(change(&mut contents))
    }
}

impl Storage for Disk {
    type File = File;

    fn list(&self) -> io::Result<Vec<SegmentEntry>> {
        let entry = |(base, bytes): (&u64, &Vec<u8>)| SegmentEntry {
            base: *base,
            bytes: bytes.len() as u64,
            modified_ms: 0,
        };
        Ok(self.lock().cached.iter().map(entry).collect())
    }

    fn create(&self, base: u64) -> io::Result<File> {
        self.change(|contents| contents.cached.insert(base, Vec::new()))?;
        Ok(File { disk: self.clone(), base })
    }

    fn open(&self, base: u64, _write: bool) -> io::Result<File> {
        if self.lock().cached.contains_key(&base) {
            Ok(File { disk: self.clone(), base })
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn remove(&self, base: u64) -> io::Result<()> {
        self.change(|contents| contents.cached.remove(&base)).map(|_| ())
    }

    fn set_aside(&self, base: u64) -> io::Result<String> {
        self.remove(base)?;
        Ok(format!("{base}.aside"))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.change(|contents| contents.names = contents.cached.keys().copied().collect())
    }
}

impl SegmentFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().cached.get(&self.base).map_or(0, |bytes| bytes.len() as u64))
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let contents = self.disk.lock();
        let bytes = contents.cached.get(&self.base).map_or(&[][..], Vec::as_slice);
        let from = bytes.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default();
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.change(|contents| {
            let file = contents.cached.entry(self.base).or_default();
            let at = usize::try_from(at).expect("a test's disk is small");
            file.resize(file.len().max(at + bytes.len()), 0);
            file[at..at + bytes.len()].copy_from_slice(bytes);
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.change(|contents| {
            let bytes = contents.cached.get(&self.base).cloned().unwrap_or_default();
            contents.synced.insert(self.base, bytes);
        })
    }
}
