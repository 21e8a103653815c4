//! Where the log is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::{ConfigArg, journal_dir};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::node::Nodes;
use crate::placement::log_dir;
use crate::sparkplug::Sparkplug;
use crate::stream::{Manifest, Rows, Stream, Streams};

#[derive(clap::Args)]
pub(in crate::cli) struct Place {
    /// The data directory [default: data_dir of the configuration]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArg,
    /// One of the gateway's other logs, as in `[logs.NAME]` [default: the journal]
    #[arg(long, value_name = "NAME")]
    log: Option<String>,
}

impl Place {
    /// The data directory; its journal is there.
    pub(super) fn dir(&self) -> Result<PathBuf, Failure> {
        let dir = match &self.data {
            Some(dir) => dir.clone(),
            None => Config::load(&self.config.path())?.data_dir,
        };
        if journal_dir(&dir).is_dir() {
            Ok(dir)
        } else {
            let fault =
                format!("{}: there is no journal; name the data_dir of a gateway", dir.display());
            Err(Failure::new(Code::NoInput, fault))
        }
    }

    /// The data directory, where only the journal will do.
    pub(super) fn dir_of_journal(&self) -> Result<PathBuf, Failure> {
        match &self.log {
            None => self.dir(),
            Some(name) => {
                let fault = format!("--log {name}: records go into the journal, and from there on");
                Err(Failure::new(Code::Usage, fault))
            }
        }
    }

    /// The directory of the segments.
    pub(super) fn segments(&self) -> Result<PathBuf, Failure> {
        let data = self.dir()?;
        let Some(name) = &self.log else { return Ok(journal_dir(&data)) };
        let dir = log_dir(&data, name);
        if dir.is_dir() {
            Ok(dir)
        } else {
            let fault = format!("--log {name}: there is no such log in {}", data.display());
            Err(Failure::new(Code::NoInput, fault))
        }
    }

    /// Bytes of a segment, where a configuration says so.
    pub(super) fn segment_size(&self) -> Result<Option<u32>, Failure> {
        match &self.data {
            Some(_) => Ok(None),
            None => Ok(Some(Config::load(&self.config.path())?.log.segment_bytes)),
        }
    }

    /// The log and its streams, to read.
    pub(super) fn open(&self) -> Result<Log, Failure> {
        Ok(Log { journal: self.segments()?, ..Log::open(&self.dir()?)? })
    }
}

/// A log on this machine and what its records mean.
pub(super) struct Log {
    /// The segments.
    pub(super) journal: PathBuf,
    pub(super) streams: Arc<Streams>,
    pub(super) nodes: Arc<Nodes>,
    pub(super) sparkplug: Arc<Sparkplug>,
    pub(super) rows: Rows,
}

impl Log {
    pub(super) fn open(data: &Path) -> Result<Self, Failure> {
        let manifest =
            Manifest::load(data).map_err(|problem| Failure::new(Code::NoInput, problem))?;
        let streams = Arc::new(Streams::from_manifest(manifest));
        let nodes = Arc::new(Nodes::default());
        let sparkplug = Arc::new(Sparkplug::new(&streams));
        let rows = Rows::new(Arc::clone(&streams), Arc::clone(&nodes), Arc::clone(&sparkplug));
        Ok(Self { journal: journal_dir(data), streams, nodes, sparkplug, rows })
    }

    /// A stream by its name.
    pub(super) fn stream(&self, name: &str) -> Result<&Stream, Failure> {
        self.streams.get(name).ok_or_else(|| {
            let known: Vec<_> = self.streams.iter().map(|stream| stream.name.as_str()).collect();
            let fault = format!("there is no stream {name:?}; there are: {}", known.join(", "));
            Failure::new(Code::Usage, fault)
        })
    }

    /// The name of a partition of the journal, as `stream/partition`.
    pub(super) fn label(&self, number: u16) -> String {
        match self.streams.partition(number) {
            Some(place) => format!("{}/{}", place.stream, place.partition),
            None => SYSTEM.to_owned(),
        }
    }
}

/// How records that belong to no stream are shown: session changes and ticks.
pub(super) const SYSTEM: &str = "-";
