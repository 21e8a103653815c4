//! A disk in memory that keeps apart what was synced and what was only written, and that stops,
//! fails or loses power at a chosen call.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use log_lite::{SegmentEntry, SegmentFile, Storage};

use crate::Rng;

const SECTOR: usize = 512;

/// A time at which a clock is set, in ms since 1970.
pub(crate) const NOW: i64 = 1_763_700_000_000;

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The power goes, with the call done or not done.
    PowerCut,
    /// The call fails; a write has then written some of its bytes.
    Error(ErrorKind),
}

/// What a power cut leaves of that which was not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Survives {
    Nothing,
    Everything,
    /// Any sectors of any writes.
    SomeSectors,
    /// The writes up to some byte.
    Prefix,
}

#[derive(Clone, Debug, Default)]
struct SimData {
    durable: Vec<u8>,
    /// As the running system reads it.
    current: Vec<u8>,
    /// Written since the last sync, in order.
    writes: Vec<(usize, Vec<u8>)>,
    created_ms: i64,
    modified_ms: i64,
}

#[derive(Clone, Debug)]
enum DirOp {
    Create(u64),
    Remove(u64),
}

#[derive(Debug)]
pub(crate) struct Disk {
    files: BTreeMap<u64, SimData>,
    /// Every state that a summary had. It is never synced: a power cut leaves any of them.
    summaries: BTreeMap<u64, Vec<Option<Vec<u8>>>>,
    durable_names: Vec<u64>,
    dir_ops: Vec<DirOp>,
    /// Removed files whose removal is not durable yet.
    ghosts: BTreeMap<u64, SimData>,
    pub(crate) set_aside: Vec<(u64, Vec<u8>)>,
    pub(crate) calls: u64,
    /// Bytes of segments that were read, and listings of the directory.
    pub(crate) bytes_read: u64,
    pub(crate) listings: u64,
    pub(crate) fault: Option<(u64, Fault)>,
    /// Whether the fault that happened hit a sync.
    pub(crate) hit_sync: bool,
    pub(crate) off: bool,
    pub(crate) seed: u64,
    /// The system's clock.
    pub(crate) now_ms: i64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SimStorage(pub(crate) Rc<RefCell<Disk>>);

impl Default for Disk {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            summaries: BTreeMap::new(),
            durable_names: Vec::new(),
            dir_ops: Vec::new(),
            ghosts: BTreeMap::new(),
            set_aside: Vec::new(),
            calls: 0,
            bytes_read: 0,
            listings: 0,
            fault: None,
            hit_sync: false,
            off: false,
            seed: 0,
            now_ms: NOW,
        }
    }
}

pub(crate) struct SimFile(SimStorage, u64);

fn off() -> io::Error {
    io::Error::other("the power is off")
}

impl Disk {
    /// Counts a call that changes something; gives the fault that hits it.
    fn call(&mut self) -> io::Result<Option<Fault>> {
        if self.off {
            return Err(off());
        }
        self.calls += 1;
        match self.fault {
            Some((at, fault)) if at == self.calls => Ok(Some(fault)),
            _ => Ok(None),
        }
    }

    fn file(&mut self, base: u64) -> io::Result<&mut SimData> {
        if self.off {
            return Err(off());
        }
        self.files.get_mut(&base).ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// What an open file shows, though its name may be gone.
    fn opened(&mut self, base: u64) -> io::Result<&SimData> {
        if self.off {
            return Err(off());
        }
        self.files.get(&base).or(self.ghosts.get(&base)).ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Turns the power back on: what was synced is there, and of the rest what `survives`.
    pub(crate) fn restart(&mut self, survives: Survives) {
        let mut rng = Rng::new(self.seed);
        let ops = std::mem::take(&mut self.dir_ops);
        let kept = match survives {
            Survives::Nothing => 0,
            Survives::Everything => ops.len(),
            _ => rng.below(ops.len() as u64 + 1) as usize,
        };
        for op in &ops[..kept] {
            match op {
                DirOp::Create(base) => self.durable_names.push(*base),
                DirOp::Remove(base) => self.durable_names.retain(|name| name != base),
            }
        }
        let mut all = std::mem::take(&mut self.ghosts);
        all.append(&mut self.files);
        for (base, mut data) in all {
            if self.durable_names.contains(&base) {
                data.lose_power(survives, &mut rng);
                self.files.insert(base, data);
            }
        }
        for states in self.summaries.values_mut() {
            let mut left = states.swap_remove(rng.below(states.len() as u64) as usize);
            if let Some(bytes) = left.as_mut().filter(|_| rng.below(3) == 0) {
                let at = rng.below(bytes.len() as u64 + 1) as usize;
                bytes[at..].fill(0);
            }
            *states = vec![left];
        }
        self.off = false;
        self.fault = None;
        self.calls = 0;
    }
}

impl SimData {
    fn put(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
        if bytes.len() < at + new.len() {
            bytes.resize(at + new.len(), 0);
        }
        bytes[at..at + new.len()].copy_from_slice(new);
    }

    fn lose_power(&mut self, survives: Survives, rng: &mut Rng) {
        let writes = std::mem::take(&mut self.writes);
        let total: usize = writes.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut budget = rng.below(total as u64 + 1) as usize;
        for (at, bytes) in writes {
            let mut pos = 0;
            while pos < bytes.len() {
                let sector_end = ((at + pos) / SECTOR + 1) * SECTOR - at;
                let end = sector_end.min(bytes.len());
                let keep = match survives {
                    Survives::Nothing => 0,
                    Survives::Everything => end - pos,
                    Survives::SomeSectors => (end - pos) * rng.below(2) as usize,
                    Survives::Prefix => (end - pos).min(budget),
                };
                budget -= keep.min(budget);
                if keep > 0 {
                    Self::put(&mut self.durable, at + pos, &bytes[pos..pos + keep]);
                }
                pos = end;
            }
        }
        self.current = self.durable.clone();
    }
}

impl SimStorage {
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Disk) -> T) -> T {
        f(&mut self.0.borrow_mut())
    }

    /// The segments' bytes.
    pub(crate) fn image(&self) -> BTreeMap<u64, Vec<u8>> {
        self.with(|disk| disk.files.iter().map(|(k, v)| (*k, v.current.clone())).collect())
    }

    /// A disk that durably holds these segments.
    pub(crate) fn from_image(image: &BTreeMap<u64, Vec<u8>>) -> Self {
        let storage = Self::default();
        storage.with(|disk| {
            for (base, bytes) in image {
                let data = SimData {
                    durable: bytes.clone(),
                    current: bytes.clone(),
                    created_ms: NOW,
                    modified_ms: NOW,
                    ..SimData::default()
                };
                disk.files.insert(*base, data);
                disk.durable_names.push(*base);
            }
        });
        storage
    }

    /// The summaries' bytes.
    pub(crate) fn summaries(&self) -> BTreeMap<u64, Vec<u8>> {
        let newest = |states: &Vec<Option<Vec<u8>>>| states.last()?.clone();
        self.with(|disk| {
            let all = disk.summaries.iter();
            all.filter_map(|(base, states)| Some((*base, newest(states)?))).collect()
        })
    }

    pub(crate) fn set_summary(&self, base: u64, bytes: Option<&[u8]>) {
        let state = bytes.map(<[u8]>::to_vec);
        self.with(|disk| disk.summaries.insert(base, vec![state]));
    }

    /// A call that changes the directory.
    fn dir_call(&self, apply: impl FnOnce(&mut Disk) -> io::Result<()>) -> io::Result<()> {
        self.with(|disk| match disk.call()? {
            None => apply(disk),
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::PowerCut) => {
                if disk.seed.is_multiple_of(2) {
                    apply(disk)?;
                }
                disk.off = true;
                Err(off())
            }
        })
    }
}

impl Storage for SimStorage {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<SegmentEntry>> {
        self.with(|disk| {
            if disk.off {
                return Err(off());
            }
            disk.listings += 1;
            let entry = |(base, data): (&u64, &SimData)| SegmentEntry {
                base: *base,
                bytes: data.current.len() as u64,
                modified_ms: data.modified_ms,
            };
            Ok(disk.files.iter().map(entry).collect())
        })
    }

    fn create(&self, base: u64) -> io::Result<SimFile> {
        self.dir_call(|disk| {
            if disk.files.contains_key(&base) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            let now = disk.now_ms;
            let data = SimData { created_ms: now, modified_ms: now, ..SimData::default() };
            disk.files.insert(base, data);
            disk.dir_ops.push(DirOp::Create(base));
            Ok(())
        })?;
        Ok(SimFile(self.clone(), base))
    }

    fn open(&self, base: u64, _write: bool) -> io::Result<SimFile> {
        self.with(|disk| disk.file(base).map(|_| ()))?;
        Ok(SimFile(self.clone(), base))
    }

    fn remove(&self, base: u64) -> io::Result<()> {
        self.dir_call(|disk| {
            let data = disk.files.remove(&base).ok_or(ErrorKind::NotFound)?;
            disk.ghosts.insert(base, data);
            disk.summaries.entry(base).and_modify(|states| states.push(None));
            disk.dir_ops.push(DirOp::Remove(base));
            Ok(())
        })
    }

    fn set_aside(&self, base: u64) -> io::Result<String> {
        let bytes = self.with(|disk| disk.file(base).map(|data| data.current.clone()))?;
        self.remove(base)?;
        self.with(|disk| disk.set_aside.push((base, bytes)));
        Ok(format!("{base}.damaged"))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.with(|disk| {
            let fault = disk.call()?;
            if fault.is_none() || (fault == Some(Fault::PowerCut) && disk.seed.is_multiple_of(2)) {
                for op in std::mem::take(&mut disk.dir_ops) {
                    match op {
                        DirOp::Create(base) => disk.durable_names.push(base),
                        DirOp::Remove(base) => disk.durable_names.retain(|name| *name != base),
                    }
                }
                disk.ghosts.clear();
            }
            disk.after(fault, true)
        })
    }

    fn read_summary(&self, base: u64, max: usize) -> io::Result<Option<Vec<u8>>> {
        self.with(|disk| {
            if disk.off {
                return Err(off());
            }
            let newest = disk.summaries.get(&base).and_then(|states| states.last()?.as_ref());
            Ok(newest.filter(|bytes| bytes.len() <= max).cloned())
        })
    }

    fn write_summary(&self, base: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|disk| {
            let fault = disk.call()?;
            let len = match fault {
                Some(Fault::Error(_)) => Rng::new(disk.seed).below(bytes.len() as u64 + 1),
                _ => bytes.len() as u64,
            };
            let states = disk.summaries.entry(base).or_insert_with(|| vec![None]);
            states.push(Some(bytes[..len as usize].to_vec()));
            disk.after(fault, false)
        })
    }
}

impl Disk {
    fn after(&mut self, fault: Option<Fault>, sync: bool) -> io::Result<()> {
        self.hit_sync |= fault.is_some() && sync;
        match fault {
            None => Ok(()),
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::PowerCut) => {
                self.off = true;
                Err(off())
            }
        }
    }
}

impl SegmentFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.0.with(|disk| Ok(disk.opened(self.1)?.current.len() as u64))
    }

    fn created_ms(&self) -> Option<i64> {
        self.0.with(|disk| disk.file(self.1).ok().map(|data| data.created_ms))
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.with(|disk| {
            let data = &disk.opened(self.1)?.current;
            let from = (at as usize).min(data.len());
            let len = buf.len().min(data.len() - from);
            buf[..len].copy_from_slice(&data[from..from + len]);
            disk.bytes_read += len as u64;
            Ok(len)
        })
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.with(|disk| {
            let fault = disk.call()?;
            let (seed, now) = (disk.seed, disk.now_ms);
            let data = disk.file(self.1)?;
            data.modified_ms = now;
            let len = match fault {
                Some(Fault::Error(_)) => Rng::new(seed).below(bytes.len() as u64 + 1) as usize,
                _ => bytes.len(),
            };
            if len > 0 {
                SimData::put(&mut data.current, at as usize, &bytes[..len]);
                data.writes.push((at as usize, bytes[..len].to_vec()));
            }
            disk.after(fault, false)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.0.with(|disk| {
            let fault = disk.call()?;
            let done = disk.seed.is_multiple_of(2);
            let data = disk.file(self.1)?;
            match fault {
                Some(Fault::PowerCut) if !done => {}
                None | Some(Fault::PowerCut) => {
                    for (at, bytes) in std::mem::take(&mut data.writes) {
                        SimData::put(&mut data.durable, at, &bytes);
                    }
                }
                // The system drops what it could not write and believes it clean.
                Some(Fault::Error(_)) => data.writes.clear(),
            }
            disk.after(fault, true)
        })
    }
}
