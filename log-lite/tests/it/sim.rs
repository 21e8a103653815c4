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

/// A name in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Segment(u64),
    Aside(u64),
    Damaged(u64, u32),
}

/// Names that change together, each with the file that it names then.
type DirOp = Vec<(Name, Option<u64>)>;

#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// All files, by number; those without a name are open or were.
    files: BTreeMap<u64, SimData>,
    names: BTreeMap<Name, u64>,
    /// Every state that a summary had. It is never synced: a power cut leaves any of them.
    summaries: BTreeMap<u64, Vec<Option<Vec<u8>>>>,
    durable_names: BTreeMap<Name, u64>,
    dir_ops: Vec<DirOp>,
    pub(crate) calls: u64,
    /// Bytes of segments that were read, and listings of the directory.
    pub(crate) bytes_read: u64,
    pub(crate) listings: u64,
    pub(crate) fault: Option<(u64, Fault)>,
    /// How many calls from the chosen one on are hit.
    pub(crate) fault_calls: u64,
    /// Calls that only read, and the one of them that fails.
    pub(crate) reads: u64,
    pub(crate) read_fault: Option<u64>,
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
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            dir_ops: Vec::new(),
            calls: 0,
            bytes_read: 0,
            listings: 0,
            fault: None,
            fault_calls: 1,
            reads: 0,
            read_fault: None,
            hit_sync: false,
            off: false,
            seed: 0,
            now_ms: NOW,
        }
    }
}

/// An open file: it stays what it was, whatever becomes of its name.
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
            Some((at, fault)) if (at..at + self.fault_calls).contains(&self.calls) => {
                Ok(Some(fault))
            }
            _ => Ok(None),
        }
    }

    /// Counts a call that only reads.
    fn read(&mut self) -> io::Result<()> {
        if self.off {
            return Err(off());
        }
        self.reads += 1;
        if self.read_fault == Some(self.reads) { Err(ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn file(&mut self, number: u64) -> io::Result<&mut SimData> {
        if self.off {
            return Err(off());
        }
        // It is there as long as it is open, but for a restart.
        self.files.get_mut(&number).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn number(&self, name: Name) -> io::Result<u64> {
        if self.off {
            return Err(off());
        }
        self.names.get(&name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Gives names to files and takes them, in one step.
    fn rename(&mut self, op: DirOp) {
        apply(&mut self.names, &op);
        self.dir_ops.push(op);
    }

    fn new_file(&mut self, name: Name, data: SimData) -> u64 {
        let number = self.files.last_key_value().map_or(0, |(last, _)| last + 1);
        self.files.insert(number, data);
        self.rename(vec![(name, Some(number))]);
        number
    }

    fn free_damaged(&self, base: u64) -> Name {
        let mut all = (0..).map(|n| Name::Damaged(base, n));
        all.find(|name| !self.names.contains_key(name)).unwrap()
    }

    fn named(&self) -> impl Iterator<Item = (Name, &SimData)> {
        self.names.iter().map(|(name, number)| (*name, &self.files[number]))
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
            apply(&mut self.durable_names, op);
        }
        self.names = self.durable_names.clone();
        let named: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|number, _| named.contains(number));
        for data in self.files.values_mut() {
            data.lose_power(survives, &mut rng);
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

fn apply(names: &mut BTreeMap<Name, u64>, op: &DirOp) {
    for (name, number) in op {
        match number {
            Some(number) => names.insert(*name, *number),
            None => names.remove(name),
        };
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
        self.with(|disk| {
            let segment = |(name, data): (Name, &SimData)| match name {
                Name::Segment(base) => Some((base, data.current.clone())),
                _ => None,
            };
            disk.named().filter_map(segment).collect()
        })
    }

    /// The files that are no segments.
    pub(crate) fn others(&self) -> BTreeMap<Name, Vec<u8>> {
        self.with(|disk| {
            let other = |(name, _): &(Name, &SimData)| !matches!(name, Name::Segment(_));
            let named = disk.named().filter(other);
            named.map(|(name, data)| (name, data.current.clone())).collect()
        })
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
                disk.new_file(Name::Segment(*base), data);
            }
            disk.dir_ops.clear();
            disk.durable_names = disk.names.clone();
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

    /// Changes the bits of `mask` in a byte of a segment on the disk itself.
    pub(crate) fn flip(&self, base: u64, at: usize, mask: u8) {
        self.with(|disk| {
            let number = disk.names[&Name::Segment(base)];
            let data = disk.files.get_mut(&number).unwrap();
            assert!(data.writes.is_empty(), "what is not synced would be written over it");
            data.current[at] ^= mask;
            data.durable[at] ^= mask;
        });
    }

    pub(crate) fn set_summary(&self, base: u64, bytes: Option<&[u8]>) {
        let state = bytes.map(<[u8]>::to_vec);
        self.with(|disk| disk.summaries.insert(base, vec![state]));
    }

    /// The same disk once more.
    pub(crate) fn fork(&self) -> Self {
        Self(Rc::new(RefCell::new(self.with(|disk| disk.clone()))))
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
            disk.read()?;
            disk.listings += 1;
            let entry = |(name, data): (Name, &SimData)| match name {
                Name::Segment(base) => Some(SegmentEntry {
                    base,
                    bytes: data.current.len() as u64,
                    modified_ms: data.modified_ms,
                }),
                _ => None,
            };
            Ok(disk.named().filter_map(entry).collect())
        })
    }

    fn create(&self, base: u64) -> io::Result<SimFile> {
        let mut number = 0;
        self.dir_call(|disk| {
            if disk.names.contains_key(&Name::Segment(base)) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            let now = disk.now_ms;
            let data = SimData { created_ms: now, modified_ms: now, ..SimData::default() };
            number = disk.new_file(Name::Segment(base), data);
            Ok(())
        })?;
        Ok(SimFile(self.clone(), number))
    }

    fn open(&self, base: u64, _write: bool) -> io::Result<SimFile> {
        self.with(|disk| disk.read())?;
        let number = self.with(|disk| disk.number(Name::Segment(base)))?;
        Ok(SimFile(self.clone(), number))
    }

    fn remove(&self, base: u64) -> io::Result<()> {
        self.dir_call(|disk| {
            disk.number(Name::Segment(base))?;
            disk.rename(vec![(Name::Segment(base), None)]);
            disk.summaries.entry(base).and_modify(|states| states.push(None));
            Ok(())
        })
    }

    fn set_aside(&self, base: u64) -> io::Result<String> {
        self.dir_call(|disk| {
            let number = disk.number(Name::Segment(base))?;
            let kept = disk.free_damaged(base);
            disk.rename(vec![(Name::Segment(base), None), (kept, Some(number))]);
            disk.summaries.entry(base).and_modify(|states| states.push(None));
            Ok(())
        })?;
        Ok(format!("{base}.damaged"))
    }

    fn create_aside(&self, base: u64) -> io::Result<SimFile> {
        let mut number = 0;
        self.dir_call(|disk| {
            let data = SimData { modified_ms: disk.now_ms, ..SimData::default() };
            number = disk.new_file(Name::Aside(base), data);
            Ok(())
        })?;
        Ok(SimFile(self.clone(), number))
    }

    fn asides(&self) -> io::Result<Vec<u64>> {
        self.with(|disk| {
            if disk.off {
                return Err(off());
            }
            let aside = |name: &Name| match name {
                Name::Aside(base) => Some(*base),
                _ => None,
            };
            Ok(disk.names.keys().filter_map(aside).collect())
        })
    }

    fn remove_aside(&self, base: u64) -> io::Result<()> {
        self.dir_call(|disk| {
            disk.number(Name::Aside(base))?;
            disk.rename(vec![(Name::Aside(base), None)]);
            Ok(())
        })
    }

    fn replace(&self, base: u64) -> io::Result<()> {
        self.dir_call(|disk| {
            let number = disk.number(Name::Aside(base))?;
            disk.rename(vec![(Name::Aside(base), None), (Name::Segment(base), Some(number))]);
            Ok(())
        })
    }

    fn keep_copy(&self, base: u64) -> io::Result<String> {
        self.dir_call(|disk| {
            let number = disk.number(Name::Segment(base))?;
            let kept =
                |(name, at): (&Name, &u64)| *at == number && matches!(name, Name::Damaged(..));
            if !disk.names.iter().any(kept) {
                let name = disk.free_damaged(base);
                disk.rename(vec![(name, Some(number))]);
            }
            Ok(())
        })?;
        Ok(format!("{base}.damaged"))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.with(|disk| {
            let fault = disk.call()?;
            if fault.is_none() || (fault == Some(Fault::PowerCut) && disk.seed.is_multiple_of(2)) {
                for op in std::mem::take(&mut disk.dir_ops) {
                    apply(&mut disk.durable_names, &op);
                }
            }
            disk.after(fault, true)
        })
    }

    fn read_summary(&self, base: u64, max: usize) -> io::Result<Option<Vec<u8>>> {
        self.with(|disk| {
            disk.read()?;
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
        self.0.with(|disk| {
            disk.read()?;
            Ok(disk.file(self.1)?.current.len() as u64)
        })
    }

    fn created_ms(&self) -> Option<i64> {
        self.0.with(|disk| disk.file(self.1).ok().map(|data| data.created_ms))
    }

    fn set_modified_ms(&self, modified_ms: i64) -> io::Result<()> {
        self.0.with(|disk| {
            disk.file(self.1)?.modified_ms = modified_ms;
            Ok(())
        })
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.with(|disk| {
            disk.read()?;
            let data = &disk.file(self.1)?.current;
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
