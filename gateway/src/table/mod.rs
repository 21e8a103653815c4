//! Tables: the last value of each key of what they are made from.
//!
//! A table is a state stream on topics of its own, `$table/NAME/KEY`, which only the gateway writes:
//! a source of [`crate::inbound`] brings its rows in, an empty payload deletes one. All are in one
//! compacted log, so that log has every row for good, and it is read at the start: there is no
//! second copy of the rows that could differ. After that they follow the journal as projections do.
//!
//! `state` is the pure core of one table, `topic` how keys stand in topics.

mod state;
mod topic;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_shared::envelope::Envelope;
use serde_json::{Map, Value as Json, json};
use tracing::{info, warn};

pub(crate) use state::{Change, size_of_row};
pub(crate) use topic::{TOPIC_ROOT, is_table_topic, pattern_of, value_of};

use crate::catalog::{Catalog, CatalogError, Checkpoint};
use crate::config::TableConfig;
use crate::inbound::InboundStatus;
use crate::journal::{Journal, ReadError};
use crate::projection::{Entry, Projection};
use crate::stream::Streams;
use state::Table;

/// The name of the checkpoint, which is a position without a state.
const NAME: &str = "tables";
/// Bytes of records that are taken at a time at the start.
const READ_BYTES: usize = 256 << 10;

/// All tables of a gateway.
pub struct Tables {
    /// Key columns, by name.
    keys: BTreeMap<String, String>,
    /// Names, by the number of their partition in the journal.
    partitions: BTreeMap<u16, String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tables: BTreeMap<String, Table>,
    /// All records below are in the tables.
    position: u64,
}

/// How much a table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Keys that have a value.
    pub keys: u64,
    /// What they and their values take in memory.
    pub bytes: u64,
    /// The offset in the journal of the record that changed it last.
    pub position: Option<u64>,
}

impl Tables {
    /// The tables of `configs`, without rows.
    pub fn new(configs: &[TableConfig], streams: &Streams) -> Self {
        let keys = configs.iter().map(|table| (table.name.clone(), table.key.clone())).collect();
        let streams = configs.iter().filter_map(|table| streams.get(&table.name));
        let partitions = streams.flat_map(|stream| {
            stream.partitions.iter().map(|number| (*number, stream.name.clone()))
        });
        let tables = configs.iter().map(|table| (table.name.clone(), Table::default())).collect();
        let state = Mutex::new(State { tables, position: 0 });
        Self { keys, partitions: partitions.collect(), state }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Reads all rows from their log and the journal, and lets the projection go on behind. Blocks.
    ///
    /// # Errors
    /// [`CatalogError`] where the position cannot be saved.
    pub fn load(&self, journal: &Journal, catalog: &Catalog) -> Result<(), CatalogError> {
        let partitions: Vec<u16> = self.partitions.keys().copied().collect();
        let start = journal.start_of(&partitions);
        let mut reader = journal.reader_of(&partitions, start).only(&partitions);
        loop {
            match reader.read(READ_BYTES) {
                Ok(records) if records.is_empty() => break,
                Ok(records) => {
                    let entries: Vec<Entry<'_>> = records.iter().map(Entry::of).collect();
                    self.take(&entries);
                }
                Err(problem @ ReadError::Io(_)) => {
                    warn!(%problem, "tables may lack rows; restart the gateway");
                    break;
                }
                // What is gone or damaged is named by gaps and by `log verify`.
                Err(problem) => warn!(%problem, "tables have to go on without these records"),
            }
        }
        let position = reader.position();
        self.lock().position = position;
        let keys: u64 = self.lock().tables.values().map(|table| table.extent().keys).sum();
        info!(tables = self.keys.len(), keys, to = position, "tables read from their log");
        catalog.save_checkpoints(&[(NAME, &Checkpoint { position, state: Vec::new() })])
    }

    /// The projection that keeps them up to date; after [`Tables::load`].
    pub fn projection(self: &Arc<Self>) -> Box<dyn Projection> {
        Box::new(TablesProjection(Arc::clone(self)))
    }

    /// How much a table holds; nothing of one that is not there.
    pub fn extent(&self, table: &str) -> Extent {
        self.lock().tables.get(table).map(Table::extent).unwrap_or_default()
    }

    /// A table as API and page show it; `source` is how that does which brings its rows in.
    pub fn status(&self, table: &TableConfig, source: &InboundStatus) -> Json {
        let Extent { keys, bytes, position } = self.extent(&table.name);
        json!({
            "name": table.name,
            "from": table.from.to_string(),
            "key": table.key,
            "keys": keys,
            "bytes": bytes,
            "max_bytes": table.max_bytes,
            "position": position,
            "state": source.state,
            "last_error": source.last_error,
        })
    }

    /// What has to change in a table so that it holds exactly `wanted`: payloads by key.
    pub(crate) fn changes(&self, table: &str, wanted: BTreeMap<String, String>) -> Vec<Change> {
        self.lock().tables.get(table).map(|table| table.changes(wanted)).unwrap_or_default()
    }

    /// True for the name of a table.
    pub fn contains(&self, table: &str) -> bool {
        self.keys.contains_key(table)
    }

    /// The row of a key, as JSON.
    pub fn row(&self, table: &str, key: &str) -> Option<Json> {
        let column = self.keys.get(table)?;
        Some(row_json(column, key, self.lock().tables.get(table)?.get(key)?))
    }

    /// Rows in the order of their keys, those behind `after`, with their keys.
    pub fn rows(&self, table: &str, after: Option<&str>, limit: usize) -> Vec<(String, Json)> {
        let Some(column) = self.keys.get(table) else { return Vec::new() };
        let state = self.lock();
        let rows = state.tables.get(table).into_iter().flat_map(|table| table.after(after));
        rows.take(limit).map(|(key, row)| (key.to_owned(), row_json(column, key, row))).collect()
    }

    fn take(&self, entries: &[Entry<'_>]) {
        let mut state = self.lock();
        for Entry { record, envelope } in entries {
            if record.offset < state.position {
                continue;
            }
            if let Some(table) = self.partitions.get(&record.partition)
                && let Some(Envelope::Publish(publish)) = envelope
                && let Some(table) = state.tables.get_mut(table)
            {
                table.set(record.key_str(), record.offset, publish.payload);
            }
            state.position = record.offset + 1;
        }
    }

    /// A table is whole between any two calls, so a poisoned lock is still sound.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row with its key as a column.
fn row_json(column: &str, key: &str, payload: &[u8]) -> Json {
    // The stream takes nothing else.
    let mut row: Map<String, Json> = serde_json::from_slice(payload).unwrap_or_default();
    row.insert(column.to_owned(), Json::String(key.to_owned()));
    Json::Object(row)
}

struct TablesProjection(Arc<Tables>);

impl Projection for TablesProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn restore(&mut self, _state: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn apply(&mut self, entries: &[Entry<'_>]) {
        self.0.take(entries);
    }

    fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }
}
