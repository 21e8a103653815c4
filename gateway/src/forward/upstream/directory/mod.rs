//! Exactly once into files: `<path>/<topic>/<partition>/<first offset>-<last offset>.ndjson`.
//!
//! ```text
//!  open.partial  --write--> --sync--> --rename--> 100-180.ndjson --sync of the directory-->
//! ```
//!
//! A file that has its name is whole, and its name says which offsets it covers, so the names of a
//! partition are its position: what is at or below the last name of its partition is not written
//! again. A file without a name is not there; a start deletes it and reads its records again. The
//! manifest beside the files lets others check them, see [`manifest`].

pub(in crate::forward) mod disk;
mod line;
pub(crate) mod manifest;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use self::line::line;
use self::manifest::{Entry, MANIFEST, Manifest, Sum, offsets};
use crate::forward::engine::batch::OutRecord;
use crate::forward::policy::position::Position;
use crate::forward::policy::resume::RouteStart;
use crate::forward::upstream::directory::disk::Disk;
use crate::forward::upstream::{Destination, Fault, Opening, Progress, SendError, Upstream};

/// The file that is being written.
const PARTIAL: &str = "open.partial";
/// The manifest while it is written anew.
const MANIFEST_PARTIAL: &str = "manifest.partial";
/// Says whose offsets the names are.
pub(crate) const SOURCE: &str = ".source.json";
/// Lines gather up to this many bytes before they are written.
const BUFFER_BYTES: usize = 16 << 10;

/// Where the offsets of a topic come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceFile {
    pub(crate) v: u32,
    pub(crate) gateway: String,
    pub(crate) incarnation: String,
    pub(crate) stream: String,
}

/// A directory of topics.
pub(in crate::forward) struct Directory<D: Disk> {
    disk: D,
    path: PathBuf,
    gateway: String,
    incarnation: String,
    topics: Vec<Topic<D::File>>,
}

struct Topic<F> {
    destination: Destination,
    partitions: Vec<Partition<F>>,
}

struct Partition<F> {
    dir: PathBuf,
    /// Named files cover what is below.
    end: u64,
    open: Option<Open<F>>,
}

struct Open<F> {
    file: F,
    buffer: Vec<u8>,
    sum: Sum,
    first: u64,
    last: u64,
}

impl<D: Disk> Directory<D> {
    pub(in crate::forward) fn new(
        disk: D,
        path: PathBuf,
        gateway: &str,
        incarnation: &str,
        destinations: Vec<Destination>,
    ) -> Self {
        let topic = |destination: Destination| {
            let dir = path.join(&destination.topic);
            let partitions = (0..destination.partitions)
                .map(|index| Partition { dir: dir.join(index.to_string()), end: 0, open: None })
                .collect();
            Topic { destination, partitions }
        };
        let topics = destinations.into_iter().map(topic).collect();
        let (gateway, incarnation) = (gateway.to_owned(), incarnation.to_owned());
        Self { disk, path, gateway, incarnation, topics }
    }

    fn fault(&self, problem: &io::Error) -> Fault {
        use std::io::ErrorKind;
        let path = self.path.display();
        match problem.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Fault::refused(format!(
                "{path} cannot be written ({problem}): give the gateway's user the right to"
            )),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Fault::retry(format!(
                "{path} is full ({problem}): carry files away or delete them; the journal holds \
                 what is not written"
            )),
            _ => Fault::retry(format!(
                "{path} cannot be written ({problem}): is the disk still there?"
            )),
        }
    }

    /// Checks that the names in a topic's directory are offsets of this gateway's journal; if not,
    /// only its route has to wait.
    fn claim(&mut self, index: usize) -> io::Result<Result<(), Fault>> {
        let destination = &self.topics[index].destination;
        let dir = self.path.join(&destination.topic);
        let ours = SourceFile {
            v: 1,
            gateway: self.gateway.clone(),
            incarnation: self.incarnation.clone(),
            stream: destination.stream.clone(),
        };
        let path = dir.join(SOURCE);
        match self.disk.read(&path)? {
            Some(bytes) => Ok(match serde_json::from_slice::<SourceFile>(&bytes) {
                Ok(found) if found == ours => Ok(()),
                _ => Err(Fault::refused(format!(
                    "{} holds files of another gateway, stream or data directory (see {SOURCE} \
                     there): move them away, or give the route another topic",
                    dir.display()
                ))),
            }),
            None => {
                let bytes = serde_json::to_vec(&ours).expect("texts are always JSON");
                self.place(&dir, SOURCE, &bytes).map(Ok)
            }
        }
    }

    fn start(&mut self, index: usize) -> io::Result<Opening> {
        match self.claim(index)? {
            Ok(()) => self.survey(index).map(Ok),
            Err(foreign) => Ok(Err(foreign)),
        }
    }

    fn place(&mut self, dir: &std::path::Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.disk.make_dir(dir)?;
        let aside = dir.join(PARTIAL);
        let mut file = self.disk.create(&aside)?;
        self.disk.write(&mut file, bytes)?;
        self.disk.sync(&mut file)?;
        self.disk.rename(&aside, &dir.join(name))?;
        self.disk.sync_dir(dir)
    }

    /// Reads the names of a topic, deletes what has none, and gives what the names cover.
    fn survey(&mut self, index: usize) -> io::Result<RouteStart> {
        let mut start = RouteStart::default();
        let mut next = u64::MAX;
        for partition in &mut self.topics[index].partitions {
            self.disk.make_dir(&partition.dir)?;
            // Names that a crash left unsynced are made to last before they count.
            self.disk.sync_dir(&partition.dir)?;
            partition.end = 0;
            let mut files = BTreeSet::new();
            for name in self.disk.list(&partition.dir)? {
                if name == PARTIAL {
                    self.disk.remove(&partition.dir.join(&name))?;
                } else if let Some((_, last)) = offsets(&name) {
                    partition.end = partition.end.max(last.saturating_add(1));
                    files.insert(name);
                }
            }
            partition.mend(&mut self.disk, &files)?;
            next = next.min(partition.end);
            start.reach = start.reach.max(partition.end);
        }
        if start.reach > 0 {
            start.position = Some(Position::up_to(next));
        }
        Ok(start)
    }

    fn settle(&mut self) -> io::Result<()> {
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if let Some(open) = partition.open.take() {
                partition.close(&mut self.disk, open)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, route: usize, record: &OutRecord<'_>) -> io::Result<()> {
        let partition = &mut self.topics[route].partitions[usize::from(record.partition)];
        if record.last < partition.end {
            return Ok(());
        }
        let open = match &mut partition.open {
            Some(open) => open,
            None => {
                let file = self.disk.create(&partition.dir.join(PARTIAL))?;
                let buffer = Vec::with_capacity(BUFFER_BYTES);
                // A gap may reach back behind what this partition has.
                let (first, last) = (record.offset.max(partition.end), record.last);
                partition.open.insert(Open { file, buffer, sum: Sum::default(), first, last })
            }
        };
        let before = open.buffer.len();
        line(record, &mut open.buffer);
        open.sum.add(&open.buffer[before..]);
        open.last = record.last;
        if open.buffer.len() >= BUFFER_BYTES {
            self.disk.write(&mut open.file, &open.buffer)?;
            open.buffer.clear();
            open.buffer.shrink_to(2 * BUFFER_BYTES);
        }
        Ok(())
    }
}

impl<F> Partition<F> {
    /// Gives the open file its name, then its line in the manifest.
    fn close<D: Disk<File = F>>(&mut self, disk: &mut D, mut open: Open<F>) -> io::Result<()> {
        disk.write(&mut open.file, &open.buffer)?;
        disk.sync(&mut open.file)?;
        let entry = Entry::new((open.first, open.last), open.sum);
        disk.rename(&self.dir.join(PARTIAL), &self.dir.join(&entry.file))?;
        disk.sync_dir(&self.dir)?;
        self.end = open.last + 1;
        let mut manifest = disk.append(&self.dir.join(MANIFEST))?;
        disk.write(&mut manifest, &entry.line())?;
        disk.sync(&mut manifest)
    }

    /// Makes the manifest say what is there, if it does not: after a power cut, or where an older
    /// version wrote none.
    fn mend<D: Disk<File = F>>(&self, disk: &mut D, files: &BTreeSet<String>) -> io::Result<()> {
        let bytes = disk.read(&self.dir.join(MANIFEST))?;
        let mut manifest = Manifest::parse(bytes.as_deref().unwrap_or_default());
        let mut is_whole = bytes.is_some() && manifest.unreadable == 0;
        for name in files {
            let Some(covers) = offsets(name).filter(|_| !manifest.has(name)) else { continue };
            let mut sum = Sum::default();
            disk.scan(&self.dir.join(name), &mut |bytes| sum.add(bytes))?;
            manifest.entries.push(Entry::new(covers, sum));
            is_whole = false;
        }
        manifest.entries.sort_by_key(|entry| entry.first);
        if manifest.fold(files) || !is_whole {
            let aside = self.dir.join(MANIFEST_PARTIAL);
            let mut file = disk.create(&aside)?;
            disk.write(&mut file, &manifest.render())?;
            disk.sync(&mut file)?;
            disk.rename(&aside, &self.dir.join(MANIFEST))?;
            return disk.sync_dir(&self.dir);
        }
        // A line that a kill left unsynced is made to last before it counts.
        let mut file = disk.append(&self.dir.join(MANIFEST))?;
        disk.sync(&mut file)
    }
}

impl<D: Disk> Upstream for Directory<D> {
    fn open(&mut self) -> Result<Vec<Opening>, Fault> {
        self.close();
        let topics = 0..self.topics.len();
        let start = |index| self.start(index).map_err(|problem| self.fault(&problem));
        topics.map(start).collect()
    }

    fn look(&mut self, barred: &[usize]) -> Vec<Result<(), Fault>> {
        let look = |index: &usize| match self.claim(*index) {
            Ok(is_ours) => is_ours,
            Err(problem) => Err(self.fault(&problem)),
        };
        barred.iter().map(look).collect()
    }

    fn begin(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn send(&mut self, route: usize, record: &OutRecord<'_>) -> Result<(), SendError> {
        self.append(route, record).map_err(|problem| SendError::Fault(self.fault(&problem)))
    }

    fn commit(&mut self, _progress: &[Progress], _now_ms: i64) -> Result<(), Fault> {
        self.settle().map_err(|problem| self.fault(&problem))
    }

    fn close(&mut self) {
        for topic in &mut self.topics {
            for partition in &mut topic.partitions {
                partition.open = None;
            }
        }
    }
}
