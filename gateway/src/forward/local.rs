//! What is local to a forwarder: the journal that it reads and the catalog that keeps its marks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::policy::resume::Mark;
use crate::catalog::{Catalog, CatalogError, Checkpoint};
use crate::journal::{Journal, ReadError, Reader, Record};

/// Reads the journal from a position on.
pub(super) trait Source: Send {
    /// The next records, about `bytes_max`; none when caught up.
    fn read(&mut self, bytes_max: usize) -> Result<Vec<Record>, ReadError>;
}

/// Journal and catalog, as the engine needs them.
pub(super) trait Local: Send {
    type Source: Source;
    /// The offset after the last that is durable.
    fn end(&self) -> u64;
    /// The first offset that can be read of a stream with these partitions.
    fn start(&self, partitions: &[u16]) -> u64;
    /// Reads a stream with these partitions, among others, from `from` on.
    fn source(&self, partitions: &[u16], from: u64) -> Self::Source;
    /// `route` needs what is at or above `position` in these partitions.
    fn keep(&self, route: &str, partitions: &[u16], position: u64);
    /// Publishers wait for a reader to move on.
    fn is_blocked(&self) -> bool;
    /// What was saved for `route`.
    fn mark(&self, route: &str) -> Result<Option<Mark>, CatalogError>;
    /// Saves marks; a mark that is lost costs work, no data.
    fn save_marks(&self, marks: &[(&str, Mark)]) -> Result<(), CatalogError>;
}

impl Source for Reader {
    fn read(&mut self, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        Reader::read(self, bytes_max)
    }
}

/// The gateway's own.
pub(super) struct Gateway {
    pub(super) journal: Journal,
    pub(super) catalog: Arc<Catalog>,
}

/// A mark beside its position, in the catalog.
#[derive(Serialize, Deserialize)]
struct State {
    committed: u64,
    lost: Option<u64>,
}

impl Local for Gateway {
    type Source = Reader;

    fn end(&self) -> u64 {
        self.journal.durable().end
    }

    fn start(&self, partitions: &[u16]) -> u64 {
        self.journal.start_of(partitions)
    }

    fn source(&self, partitions: &[u16], from: u64) -> Reader {
        self.journal.reader_of(partitions, from)
    }

    fn keep(&self, route: &str, partitions: &[u16], position: u64) {
        self.journal.keep_of(route, partitions, Some(position));
    }

    fn is_blocked(&self) -> bool {
        self.journal.is_blocked()
    }

    fn mark(&self, route: &str) -> Result<Option<Mark>, CatalogError> {
        let Some(checkpoint) = self.catalog.checkpoint(route)? else { return Ok(None) };
        match serde_json::from_slice::<State>(&checkpoint.state) {
            Ok(State { committed, lost }) => {
                Ok(Some(Mark { committed, scanned: checkpoint.position, lost }))
            }
            Err(problem) => {
                warn!(route, %problem, "the route's mark is not readable; going on without it");
                Ok(None)
            }
        }
    }

    fn save_marks(&self, marks: &[(&str, Mark)]) -> Result<(), CatalogError> {
        let checkpoints: Vec<(&str, Checkpoint)> = marks
            .iter()
            .map(|(route, mark)| {
                let state = State { committed: mark.committed, lost: mark.lost };
                let state = serde_json::to_vec(&state).expect("numbers are always JSON");
                (*route, Checkpoint { position: mark.scanned, state })
            })
            .collect();
        let entries: Vec<_> = checkpoints.iter().map(|(route, state)| (*route, state)).collect();
        self.catalog.save_checkpoints(&entries)
    }
}
