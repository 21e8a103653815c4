//! A topic of the cluster as a source: commands to devices, reference data. Each record comes in
//! once, as a message on a local topic.
//!
//! Where to begin is settled once and kept in the catalog, so that a restart before the first record
//! does not move it. After that the records in the journal say how far each partition is.

mod message;
mod place;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::origin::{Fault, Item, Origin, Skipped};
use super::run::{Inbound, Surroundings};
use crate::catalog::Catalog;
use crate::config::{KafkaConfig, SourceConfig, SourceStart};
use crate::forward::{self, TopicFeed};
use crate::mqtt::unix_ms;
use place::{Known, Place, place};

/// After a read without records the next comes at once: the client itself waits.
const POLL: Duration = Duration::ZERO;

/// A topic as a source.
pub struct Topic {
    config: SourceConfig,
    feed: TopicFeed,
    catalog: Arc<Catalog>,
    /// The sources of its partitions, as [`super::identity`] names them.
    partitions: Vec<Arc<str>>,
    skipped: Skipped,
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
        let feed = TopicFeed::new(cluster, gateway, &config.topic);
        let name = name_of(config);
        let origin = Self {
            config: config.clone(),
            feed,
            catalog,
            partitions: Vec::new(),
            skipped: Skipped::default(),
        };
        Inbound::new(&name, Box::new(origin), POLL, with)
    }

    /// Where partitions begin that nothing has come from: settled at the first time.
    fn begin(&self, extents: &[forward::Extent], is_new: bool) -> Result<Vec<i64>, Fault> {
        let offsets: Vec<i64> = match (self.config.from, is_new) {
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
}

/// Names of outboxes begin in another way.
fn name_of(config: &SourceConfig) -> String {
    format!("source/{}", config.name)
}

impl Origin for Topic {
    fn open(&mut self, next: &dyn Fn(&str) -> Option<u64>) -> Result<(), Fault> {
        let extents = self.feed.connect()?;
        let name = name_of(&self.config);
        self.partitions =
            (0..extents.len()).map(|index| format!("{name}/{index}").into()).collect();
        let known: Vec<Option<u64>> = self.partitions.iter().map(|source| next(source)).collect();
        let is_new = known.iter().all(Option::is_none);
        let begins = self.begin(&extents, is_new)?;
        let mut from = Vec::new();
        for (index, extent) in extents.iter().enumerate() {
            let known = Known { next: known[index], begin: begins[index] };
            match place(known, *extent) {
                Place::At(offset) => from.push(offset),
                Place::Missed { from: low, missed } => {
                    warn!(
                        source = %self.partitions[index],
                        missed,
                        "the cluster deleted records before they were read here: raise the topic's \
                         retention.ms"
                    );
                    self.skipped.missed += u64::try_from(missed).unwrap_or_default();
                    from.push(low);
                }
                Place::WentBack => {
                    return Err(Fault::stopped(format!(
                        "{}: read up to {}, and the partition ends at {}: the topic was made anew. \
                         Its records would be taken for read. Give the source another name",
                        self.partitions[index],
                        known.next.unwrap_or_default(),
                        extent.high
                    )));
                }
            }
        }
        self.feed.start(&from)?;
        Ok(())
    }

    fn read(&mut self, bytes_max: usize) -> Result<Vec<Item>, Fault> {
        let records = self.feed.read(bytes_max)?;
        let now_ms = unix_ms();
        let item = |record| message::item(&self.config, &self.partitions, record, now_ms);
        let read = records.len();
        let items: Vec<Item> = records.into_iter().filter_map(item).collect();
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
