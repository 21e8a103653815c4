//! A topic of the cluster as a source: commands to devices, reference data. Each record comes in
//! once, as a message on a local topic, or as a row of a table.
//!
//! Where to begin is settled once and kept in the catalog, so that a restart before the first record
//! does not move it. After that the records in the journal say how far each partition is.

mod message;
mod place;
mod room;
mod row;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::origin::{Fault, Item, Origin, Skipped};
use super::run::{Inbound, Surroundings};
use super::table::{self, Claim};
use super::template::TopicTemplate;
use crate::catalog::Catalog;
use crate::config::{KafkaConfig, SourceConfig, SourceStart, TableConfig};
use crate::forward::{self, TopicFeed};
use crate::mqtt::unix_ms;
use crate::table::Tables;
use place::{Known, Place, place};
use room::Room;

/// After a read without records the next comes at once: the client itself waits.
const POLL: Duration = Duration::ZERO;
/// Between two looks at whether a table has what is on its way to it.
const LOOK: Duration = Duration::from_millis(20);

/// A topic as a source.
pub struct Topic {
    /// As status and positions name it.
    name: String,
    from: SourceStart,
    target: Target,
    feed: TopicFeed,
    catalog: Arc<Catalog>,
    /// The sources of its partitions, as [`super::identity`] names them.
    partitions: Vec<Arc<str>>,
    skipped: Skipped,
}

/// What becomes of the records.
enum Target {
    Messages(SourceConfig),
    Rows(Rows),
}

struct Rows {
    table: String,
    /// What the table is made from.
    from: String,
    topic: TopicTemplate,
    room: Room,
}

/// A topic as the source of a table.
pub struct TopicTable<'a> {
    /// The table.
    pub table: &'a TableConfig,
    /// The topic.
    pub topic: &'a str,
    /// All tables.
    pub tables: Arc<Tables>,
}

impl Topic {
    /// The source of `config`, from a cluster, for the gateway of this id.
    pub fn source(
        config: &SourceConfig,
        cluster: &KafkaConfig,
        gateway: &str,
        catalog: Arc<Catalog>,
        with: Surroundings,
    ) -> Inbound {
        let origin = Self {
            // Names of outboxes and tables begin in another way.
            name: format!("source/{}", config.name),
            from: config.from,
            target: Target::Messages(config.clone()),
            feed: TopicFeed::new(cluster, gateway, &config.topic),
            catalog,
            partitions: Vec::new(),
            skipped: Skipped::default(),
        };
        origin.inbound(with)
    }

    /// The source of a table, from a cluster, for the gateway of this id.
    pub fn table(
        what: TopicTable<'_>,
        cluster: &KafkaConfig,
        gateway: &str,
        catalog: Arc<Catalog>,
        with: Surroundings,
    ) -> Inbound {
        let TopicTable { table, topic, tables } = what;
        let rows = Rows {
            table: table.name.clone(),
            from: table.from.to_string(),
            topic: TopicTemplate::of_table(&table.name),
            room: Room::new(table, tables, with.positions.clone()),
        };
        let origin = Self {
            name: table::name_of(&table.name),
            from: SourceStart::Earliest,
            target: Target::Rows(rows),
            feed: TopicFeed::new(cluster, gateway, topic),
            catalog,
            partitions: Vec::new(),
            skipped: Skipped::default(),
        };
        origin.inbound(with)
    }

    fn inbound(self, with: Surroundings) -> Inbound {
        Inbound::new(&self.name.clone(), Box::new(self), POLL, with)
    }

    /// Where partitions begin that nothing has come from: settled at the first time.
    fn begin(&self, extents: &[forward::Extent], is_new: bool) -> Result<Vec<i64>, Fault> {
        let offsets: Vec<i64> = match (self.from, is_new) {
            (SourceStart::Latest, true) => extents.iter().map(|extent| extent.high).collect(),
            (SourceStart::Time(time_ms), true) => self.feed.offsets_at(time_ms, extents)?,
            // A partition that was added to a topic is read from its first record.
            _ => extents.iter().map(|extent| extent.low).collect(),
        };
        let settle = |(source, offset): (&Arc<str>, i64)| {
            let settled = self.catalog.fact(&format!("inbound/{source}"), || offset.to_string());
            let settled = settled.map_err(|problem| Fault::retry(problem.to_string()))?;
            Ok(settled.parse().unwrap_or(offset))
        };
        self.partitions.iter().zip(offsets).map(settle).collect()
    }

    /// Where to go on in the partition `index`.
    fn place(&mut self, index: usize, known: Known, extent: forward::Extent) -> Result<i64, Fault> {
        let source = &self.partitions[index];
        match place(known, extent) {
            Place::At(offset) => Ok(offset),
            Place::Missed { from: low, missed } => {
                warn!(
                    %source,
                    missed,
                    "the cluster deleted records before they were read here: raise the topic's \
                     retention.ms"
                );
                self.skipped.missed += u64::try_from(missed).unwrap_or_default();
                Ok(low)
            }
            Place::WentBack => {
                let kind = match self.target {
                    Target::Messages(_) => "source",
                    Target::Rows(_) => "table",
                };
                Err(Fault::stopped(format!(
                    "{source}: read up to {}, and the partition ends at {}: the topic was made \
                     anew. Its records would be taken for read. Give the {kind} another name",
                    known.next.unwrap_or_default(),
                    extent.high
                )))
            }
        }
    }
}

impl Origin for Topic {
    fn open(&mut self, next: &dyn Fn(&str) -> Option<u64>) -> Result<(), Fault> {
        if let Target::Rows(rows) = &mut self.target {
            rows.room.reset();
            table::claim(&self.catalog, &rows.table, &Claim::Topic(&rows.from))?;
            rows.room.is_free()?;
        }
        let extents = self.feed.connect()?;
        let name = &self.name;
        self.partitions =
            (0..extents.len()).map(|index| format!("{name}/{index}").into()).collect();
        let known: Vec<Option<u64>> = self.partitions.iter().map(|source| next(source)).collect();
        let is_new = known.iter().all(Option::is_none);
        let begins = self.begin(&extents, is_new)?;
        let mut from = Vec::new();
        for (index, extent) in extents.iter().enumerate() {
            let known = Known { next: known[index], begin: begins[index] };
            from.push(self.place(index, known, *extent)?);
        }
        self.feed.start(&from)?;
        Ok(())
    }

    fn read(&mut self, bytes_max: usize) -> Result<Vec<Item>, Fault> {
        if let Target::Rows(rows) = &mut self.target
            && !rows.room.is_free()?
        {
            std::thread::sleep(LOOK);
            return Ok(Vec::new());
        }
        let records = self.feed.read(bytes_max)?;
        let read = records.len();
        let items: Vec<Item> = match &mut self.target {
            Target::Messages(config) => {
                let now_ms = unix_ms();
                let item = |record| message::item(config, &self.partitions, record, now_ms);
                records.into_iter().filter_map(item).collect()
            }
            Target::Rows(Rows { topic, room, .. }) => {
                let item = |record| row::item(topic, &self.partitions, record);
                let items: Vec<Item> = records.into_iter().filter_map(item).collect();
                room.sent(&items);
                items
            }
        };
        self.skipped.expired += (read - items.len()) as u64;
        Ok(items)
    }

    fn settled(&mut self, _source: &str, _next: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn skipped(&mut self) -> Skipped {
        mem::take(&mut self.skipped)
    }
}

impl From<forward::Fault> for Fault {
    fn from(fault: forward::Fault) -> Self {
        match fault.kind {
            forward::FaultKind::Retry => Self::retry(fault.message),
            forward::FaultKind::Refused | forward::FaultKind::Fenced => {
                Self::stopped(fault.message)
            }
        }
    }
}
