//! Exactly once into files: `<path>/<topic>/<partition>/<first offset>-<last offset>.ndjson`.
//!
//! ```text
//!  open.partial  --write--> --sync--> --rename--> 100-180.ndjson --sync of the directory-->
//! ```
//!
//! A file that has its name is whole, and its name says which offsets it covers, so the names of a
//! partition are its position: what is at or below the last name of its partition is not written
//! again. A file without a name is not there; a start deletes it and reads its records again.

pub(in crate::forward) mod disk;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::forward::engine::batch::{OutRecord, ValueKind};
use crate::forward::policy::position::Position;
use crate::forward::policy::resume::RouteStart;
use crate::forward::upstream::directory::disk::Disk;
use crate::forward::upstream::{Destination, Fault, Progress, SendError, Upstream};

/// The file that is being written.
const PARTIAL: &str = "open.partial";
/// Says whose offsets the names are.
const SOURCE: &str = ".source.json";
/// Lines gather up to this many bytes before they are written.
const BUFFER_BYTES: usize = 16 << 10;

/// Where the offsets of a topic come from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SourceFile {
    v: u32,
    gateway: String,
    incarnation: String,
    stream: String,
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

    fn fault(&self, problem: &std::io::Error) -> Fault {
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

    /// Checks that the names in a topic's directory are offsets of this gateway's journal.
    fn claim(&mut self, index: usize) -> Result<(), Fault> {
        let destination = &self.topics[index].destination;
        let dir = self.path.join(&destination.topic);
        let ours = SourceFile {
            v: 1,
            gateway: self.gateway.clone(),
            incarnation: self.incarnation.clone(),
            stream: destination.stream.clone(),
        };
        let path = dir.join(SOURCE);
        let found = self.disk.read(&path).map_err(|problem| self.fault(&problem))?;
        match found {
            Some(bytes) => match serde_json::from_slice::<SourceFile>(&bytes) {
                Ok(found) if found == ours => Ok(()),
                _ => Err(Fault::refused(format!(
                    "{} holds files of another gateway, stream or data directory (see {SOURCE} \
                     there): move them away, or give the route another topic",
                    dir.display()
                ))),
            },
            None => {
                let bytes = serde_json::to_vec(&ours).expect("texts are always JSON");
                self.place(&dir, SOURCE, &bytes).map_err(|problem| self.fault(&problem))
            }
        }
    }

    fn place(&mut self, dir: &std::path::Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.disk.make_dir(dir)?;
        let aside = dir.join(PARTIAL);
        let mut file = self.disk.create(&aside)?;
        self.disk.write(&mut file, bytes)?;
        self.disk.sync(&mut file)?;
        self.disk.rename(&aside, &dir.join(name))?;
        self.disk.sync_dir(dir)
    }

    /// Reads the names of a topic, deletes what has none, and gives what the names cover.
    fn survey(&mut self, index: usize) -> std::io::Result<RouteStart> {
        let mut start = RouteStart::default();
        let mut next = u64::MAX;
        for partition in &mut self.topics[index].partitions {
            self.disk.make_dir(&partition.dir)?;
            // Names that a crash left unsynced are made to last before they count.
            self.disk.sync_dir(&partition.dir)?;
            partition.end = 0;
            for name in self.disk.list(&partition.dir)? {
                if name == PARTIAL {
                    self.disk.remove(&partition.dir.join(&name))?;
                } else if let Some((_, last)) = offsets(&name) {
                    partition.end = partition.end.max(last.saturating_add(1));
                }
            }
            next = next.min(partition.end);
            start.reach = start.reach.max(partition.end);
        }
        if start.reach > 0 {
            start.position = Some(Position::up_to(next));
        }
        Ok(start)
    }

    fn settle(&mut self) -> std::io::Result<()> {
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            let Some(mut open) = partition.open.take() else { continue };
            self.disk.write(&mut open.file, &open.buffer)?;
            self.disk.sync(&mut open.file)?;
            let name = format!("{}-{}.ndjson", open.first, open.last);
            self.disk.rename(&partition.dir.join(PARTIAL), &partition.dir.join(name))?;
            self.disk.sync_dir(&partition.dir)?;
            partition.end = open.last + 1;
        }
        Ok(())
    }

    fn append(&mut self, route: usize, record: &OutRecord<'_>) -> std::io::Result<()> {
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
                partition.open.insert(Open { file, buffer, first, last })
            }
        };
        line(record, &mut open.buffer);
        open.last = record.last;
        if open.buffer.len() >= BUFFER_BYTES {
            self.disk.write(&mut open.file, &open.buffer)?;
            open.buffer.clear();
            open.buffer.shrink_to(2 * BUFFER_BYTES);
        }
        Ok(())
    }
}

impl<D: Disk> Upstream for Directory<D> {
    fn open(&mut self) -> Result<Vec<RouteStart>, Fault> {
        self.close();
        let mut starts = Vec::new();
        for index in 0..self.topics.len() {
            self.claim(index)?;
            starts.push(self.survey(index).map_err(|problem| self.fault(&problem))?);
        }
        Ok(starts)
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

/// The offsets that a file's name says.
fn offsets(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(".ndjson")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// The record as NDJSON, as the API shows it; `index` for the rows of one record.
fn line(record: &OutRecord<'_>, out: &mut Vec<u8>) {
    use std::io::Write as _;
    const INFALLIBLE: &str = "numbers and texts are written to memory";
    let OutRecord { offset, partition, time_ms, .. } = record;
    write!(out, r#"{{"offset":{offset},"partition":{partition},"time":{time_ms},"key":"#)
        .expect(INFALLIBLE);
    serde_json::to_writer(&mut *out, record.key).expect(INFALLIBLE);
    if let Some(topic) = record.topic {
        out.extend_from_slice(b",\"topic\":");
        serde_json::to_writer(&mut *out, topic).expect(INFALLIBLE);
    }
    if let Some(origin) = record.origin {
        out.extend_from_slice(b",\"origin\":");
        serde_json::to_writer(&mut *out, origin).expect(INFALLIBLE);
    }
    if let Some(index) = record.index {
        write!(out, r#","index":{index}"#).expect(INFALLIBLE);
    }
    out.extend_from_slice(b",\"value\":");
    value(record, out);
    out.extend_from_slice(b"}\n");
}

/// JSON as it is, other text as a string, all else in base64.
fn value(record: &OutRecord<'_>, out: &mut Vec<u8>) {
    let is_json = match record.kind {
        ValueKind::Json => true,
        ValueKind::Payload => serde_json::from_slice::<serde::de::IgnoredAny>(record.value).is_ok(),
        ValueKind::Binary => false,
    };
    if is_json {
        // Strings in JSON hold no raw line ends, so all of these are white space.
        out.extend(record.value.iter().map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            other => *other,
        }));
        return;
    }
    let json = match std::str::from_utf8(record.value) {
        Ok(text) if record.kind == ValueKind::Payload => serde_json::to_writer(out, text),
        _ => {
            use base64::Engine;
            let encoded = base64::engine::general_purpose::STANDARD.encode(record.value);
            serde_json::to_writer(out, &serde_json::json!({ "base64": encoded }))
        }
    };
    json.expect("texts are written to memory");
}
