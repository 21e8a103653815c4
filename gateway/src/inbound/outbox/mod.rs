//! The outbox of a local application: a table of its own SQLite database, in which it leaves, in the
//! same transaction as its data, what is to be published. Each row comes in once.
//!
//! ```sql
//! CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, payload NOT NULL);
//! ```
//!
//! The id is the identity. SQLite has one writer at a time, so ids rise in the order of commits, and
//! AUTOINCREMENT never gives one twice. The table is read; rows are deleted only where the
//! configuration asks for that, once they are on disk here.

mod database;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::origin::{Fault, Item, Origin};
use super::run::{Inbound, Surroundings};
use super::template::TopicTemplate;
use crate::config::OutboxConfig;
use database::Database;

pub use database::check_table;

/// Between two looks at the database.
const POLL: Duration = Duration::from_millis(50);

/// An outbox as a source.
pub struct Outbox {
    config: OutboxConfig,
    source: Arc<str>,
    /// `None` until it is open.
    open: Option<Open>,
}

struct Open {
    database: Database,
    /// The first id that was not read.
    next: i64,
    /// The database's version when it was last read to its end.
    seen: Option<i64>,
}

impl Outbox {
    /// The outbox of `config`.
    pub fn source(config: &OutboxConfig, with: Surroundings) -> Inbound {
        let name = format!("outbox/{}", config.name);
        let source = name.as_str().into();
        let origin = Self { config: config.clone(), source, open: None };
        Inbound::new(&name, Box::new(origin), POLL, with)
    }

    fn topic(template: &TopicTemplate, columns: &[(String, String)]) -> String {
        template.fill(|name| {
            let found = columns.iter().find(|(column, _)| column == name);
            found.map_or("", |(_, value)| value.as_str())
        })
    }
}

impl Origin for Outbox {
    fn open(&mut self, next: &dyn Fn(&str) -> Option<u64>) -> Result<(), Fault> {
        self.open = None;
        let OutboxConfig { database, table, topic, delete, .. } = &self.config;
        let known = next(&self.source);
        let next = known.map_or(i64::MIN, |next| i64::try_from(next).unwrap_or(i64::MAX));
        let database = Database::open(Path::new(database), table, topic.names(), *delete)?;
        if let Some(known) = known {
            database.check_not_older(known)?;
        }
        self.open = Some(Open { database, next, seen: None });
        Ok(())
    }

    fn read(&mut self, bytes_max: usize) -> Result<Vec<Item>, Fault> {
        let open = self.open.as_mut().expect("it is opened before it is read");
        let version = open.database.version()?;
        if open.seen == Some(version) {
            return Ok(Vec::new());
        }
        let rows = open.database.rows(open.next, bytes_max)?;
        let Some(last) = rows.last() else {
            open.seen = Some(version);
            return Ok(Vec::new());
        };
        open.next = last.id.saturating_add(1);
        let topic = &self.config.topic;
        let item = |row: database::Row| Item {
            source: Arc::clone(&self.source),
            position: row.id.unsigned_abs(),
            topic: Self::topic(topic, &row.columns),
            payload: row.payload,
            properties: Vec::new(),
            retain: false,
            rejected: None,
        };
        Ok(rows.into_iter().map(item).collect())
    }

    fn settled(&mut self, _source: &str, next: u64) -> Result<(), Fault> {
        match &mut self.open {
            Some(open) if self.config.delete => open.database.delete_below(next),
            _ => Ok(()),
        }
    }
}
