//! How far a table may be filled from its topic.
//!
//! What is on its way is counted as if it came on top of what the table holds, so that a table never
//! takes more than it may; where that would be too much, the source waits until the table has all.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::origin::{Fault, Item};
use super::super::positions::Positions;
use crate::config::TableConfig;
use crate::table::{Tables, size_of_row};

/// The room of one table.
pub(super) struct Room {
    table: String,
    max_bytes: u64,
    tables: Arc<Tables>,
    positions: Positions,
    /// What may be on its way to the table.
    ahead_bytes: u64,
    /// The next position of each source, with what is on its way.
    next: BTreeMap<Arc<str>, u64>,
}

impl Room {
    pub(super) fn new(table: &TableConfig, tables: Arc<Tables>, positions: Positions) -> Self {
        let (max_bytes, table) = (table.max_bytes, table.name.clone());
        Self { table, max_bytes, tables, positions, ahead_bytes: 0, next: BTreeMap::new() }
    }

    /// Nothing is on its way.
    pub(super) fn reset(&mut self) {
        self.ahead_bytes = 0;
        self.next.clear();
    }

    /// Whether more may be read; if not, that will show by itself.
    ///
    /// # Errors
    /// The table is full.
    pub(super) fn is_free(&mut self) -> Result<bool, Fault> {
        if self.is_reached() {
            self.reset();
        }
        let held = self.tables.extent(&self.table).bytes;
        if held + self.ahead_bytes < self.max_bytes {
            return Ok(true);
        }
        if self.ahead_bytes > 0 {
            return Ok(false);
        }
        let (table, max) = (&self.table, self.max_bytes);
        Err(Fault::stopped(format!(
            "the table {table} takes {held} bytes in memory, and may take {max}: raise max_size of \
             the table, and start the gateway again; nothing is read before"
        )))
    }

    /// These are on their way.
    pub(super) fn sent(&mut self, items: &[Item]) {
        for item in items {
            self.ahead_bytes += size_of_row(&item.topic, &item.payload);
            self.next.insert(Arc::clone(&item.source), item.position + 1);
        }
    }

    /// The table follows the journal before positions do.
    fn is_reached(&self) -> bool {
        let reached =
            |(source, next): (&Arc<str>, &u64)| self.positions.next(source) >= Some(*next);
        self.next.iter().all(reached)
    }
}
