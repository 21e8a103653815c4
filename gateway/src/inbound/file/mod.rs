//! A file as the source of a table: each line is a row, and what is not in it is deleted.
//!
//! The file is compared with what the table holds, and only what differs is brought in. So a kill in
//! the middle, or a commit that failed, needs no bookkeeping: what is left is found again.

mod content;
mod csv;
mod lines;
mod look;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::origin::{Fault, Item, Origin};
use super::positions::Positions;
use super::run::{Inbound, Surroundings};
use super::table::{self, Claim};
use super::template::TopicTemplate;
use crate::catalog::Catalog;
use crate::config::TableConfig;
use crate::table::{Change, Tables};
use content::Content;
use look::Look;

pub use content::is_row_file;

/// Between two looks at the file; it is read once it was the same in two.
const POLL: Duration = Duration::from_secs(1);

/// A file as the source of a table.
pub struct TableFile {
    table: TableConfig,
    path: PathBuf,
    source: Arc<str>,
    topic: TopicTemplate,
    tables: Arc<Tables>,
    positions: Positions,
    catalog: Arc<Catalog>,
    /// The position of the next record.
    next: u64,
    /// What is to be brought in.
    queue: VecDeque<Change>,
    /// The file at the last look.
    seen: Option<Look>,
    /// The file that the table is brought to.
    taken: Option<Look>,
    /// A file that cannot be taken, and why.
    wrong: Option<(Look, Fault)>,
}

impl TableFile {
    /// The source of `table` from the file `path`.
    pub fn source(
        table: &TableConfig,
        path: &Path,
        tables: Arc<Tables>,
        catalog: Arc<Catalog>,
        with: Surroundings,
    ) -> Inbound {
        let name = table::name_of(&table.name);
        let origin = Self {
            table: table.clone(),
            path: path.to_owned(),
            source: name.as_str().into(),
            topic: TopicTemplate::of_table(&table.name),
            tables,
            positions: with.positions.clone(),
            catalog,
            next: 0,
            queue: VecDeque::new(),
            seen: None,
            taken: None,
            wrong: None,
        };
        Inbound::new(&name, Box::new(origin), POLL, with)
    }

    /// The table holds all that was brought in so far: it follows the journal before positions do.
    fn is_reached(&self) -> bool {
        self.positions.next(&self.source).unwrap_or(0) >= self.next
    }

    /// Looks at the file, and compares it with the table where it has changed and come to rest.
    fn look(&mut self) -> Result<(), Fault> {
        let look = Look::at(&self.path).map_err(|problem| self.absent(&problem))?;
        let is_resting = self.seen.replace(look) == Some(look);
        if !is_resting || self.taken == Some(look) {
            return Ok(());
        }
        match content::read(&self.path, &self.table.key, self.table.max_bytes) {
            // It was written to meanwhile: the next look sees that.
            Ok(_) if Look::at(&self.path).ok() != Some(look) => Ok(()),
            Ok(Content(rows)) => {
                self.queue = self.tables.changes(&self.table.name, rows).into();
                self.taken = Some(look);
                self.wrong = None;
                Ok(())
            }
            Err(why) => {
                let path = self.path.display();
                let fault = Fault::stopped(format!("{path}: {why}; the table stays as it was"));
                self.wrong = Some((look, fault.clone()));
                Err(fault)
            }
        }
    }

    fn absent(&self, problem: &std::io::Error) -> Fault {
        let path = self.path.display();
        Fault::stopped(format!("{path}: {problem}: put the file there; the table stays as it was"))
    }

    fn item(&mut self, change: Change) -> Item {
        let position = self.next;
        self.next += 1;
        Item {
            source: Arc::clone(&self.source),
            position,
            topic: self.topic.fill(|_| &change.key),
            payload: change.payload.unwrap_or_default().into_bytes(),
            properties: Vec::new(),
            retain: false,
            rejected: None,
        }
    }
}

impl Origin for TableFile {
    fn open(&mut self, next: &dyn Fn(&str) -> Option<u64>) -> Result<(), Fault> {
        table::claim(&self.catalog, &self.table.name, &Claim::File)?;
        self.queue.clear();
        self.taken = None;
        self.next = next(&self.source).unwrap_or(0);
        let look = Look::at(&self.path).map_err(|problem| self.absent(&problem))?;
        match &self.wrong {
            Some((wrong, fault)) if *wrong == look => Err(fault.clone()),
            _ => Ok(()),
        }
    }

    fn read(&mut self, bytes_max: usize) -> Result<Vec<Item>, Fault> {
        if self.queue.is_empty() && self.is_reached() {
            self.look()?;
        }
        let (mut items, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max {
            let Some(change) = self.queue.pop_front() else { break };
            let item = self.item(change);
            bytes += item.topic.len() + item.payload.len();
            items.push(item);
        }
        Ok(items)
    }

    fn settled(&mut self, _source: &str, _next: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn is_current(&self) -> bool {
        self.taken.is_some()
            && self.taken == self.seen
            && self.queue.is_empty()
            && self.is_reached()
    }

    fn patience(&self) -> Duration {
        POLL
    }
}

/// Reads the file of a table, for whoever wants to know whether it could be taken; how many rows it
/// has.
///
/// # Errors
/// Why it cannot be taken.
pub fn check_file(path: &Path, table: &TableConfig) -> Result<usize, String> {
    content::read(path, &table.key, table.max_bytes).map(|Content(rows)| rows.len())
}
