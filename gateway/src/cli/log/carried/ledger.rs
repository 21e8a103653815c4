//! What of each source is imported, so that the same files add nothing a second time.
//!
//! ```text
//!  {done, flight: end of the log} --> append, commit --> {done further, flight: new end} --> ...
//! ```
//!
//! The entry is saved before each commit, so what an import that died had stored lies in the log
//! from `flight` on, in the order of the lines. The next import builds the same records and compares.

use log_lite::{ReadError, Reader};
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Checkpoint};
use crate::cli::log::walk::{disk, owned};
use crate::exit::Failure;
use crate::forward::files::SourceFile;
use crate::journal::Record;

/// Offset and row of a line where it came from.
pub(super) type At = (u64, u32);

/// How far a source is imported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// All lines up to this are in the log.
    pub(super) done: Option<At>,
    /// A commit that may have come about or not.
    pub(super) flight: Option<Flight>,
}

/// A commit under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Flight {
    /// The offset in the log that its first record gets.
    pub(super) offset: u64,
    /// The time of arrival that its records say.
    pub(super) now_ms: i64,
}

/// The entries of all sources.
pub(super) struct Ledger<'a> {
    pub(super) catalog: &'a Catalog,
}

impl Ledger<'_> {
    pub(super) fn load(&self, source: &SourceFile, partition: u16) -> Result<Entry, Failure> {
        let saved = self.catalog.checkpoint(&name(source, partition))?;
        let Some(saved) = saved else { return Ok(Entry::default()) };
        serde_json::from_slice(&saved.state).map_err(|problem| {
            let fault =
                format!("the catalog's entry of {} does not read: {problem}", source.stream);
            Failure::new(crate::exit::Code::Disk, fault)
        })
    }

    pub(super) fn save(
        &self,
        source: &SourceFile,
        partition: u16,
        entry: &Entry,
    ) -> Result<(), Failure> {
        let state = serde_json::to_vec(entry).expect("numbers are JSON");
        let checkpoint = Checkpoint { position: 0, state };
        Ok(self.catalog.save_checkpoints(&[(name(source, partition).as_str(), &checkpoint)])?)
    }
}

fn name(source: &SourceFile, partition: u16) -> String {
    let SourceFile { gateway, incarnation, stream, .. } = source;
    format!("import/{gateway}/{incarnation}/{stream}/{partition}")
}

/// What lies in the log from a flight's offset on.
pub(super) struct Landed {
    reader: Reader<log_lite::DirStorage>,
    batch: std::collections::VecDeque<Record>,
}

impl Landed {
    pub(super) fn from(journal: &std::path::Path, offset: u64) -> Result<Self, Failure> {
        let mut reader = Reader::open_dir(journal).map_err(disk)?;
        reader.seek(offset);
        Ok(Self { reader, batch: std::collections::VecDeque::new() })
    }

    /// The next record; none at the end, and none where the log lost what was there.
    pub(super) fn next(&mut self) -> Result<Option<Record>, Failure> {
        if self.batch.is_empty() {
            match self.reader.next(u64::MAX) {
                Ok(Some(batch)) => self.batch.extend(batch.records().map(|record| owned(&record))),
                Ok(None)
                | Err(
                    ReadError::Trimmed { .. } | ReadError::Damaged { .. } | ReadError::Lost { .. },
                ) => {}
                Err(problem) => return Err(disk(problem)),
            }
        }
        Ok(self.batch.pop_front())
    }
}
