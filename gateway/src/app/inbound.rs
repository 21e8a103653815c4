//! What comes in beside MQTT, put together.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{House, all_of};
use crate::config::{KafkaConfig, TableConfig, TableFrom, UpstreamConfig};
use crate::http::Ask;
use crate::inbound::{
    Inbound, InboundMetrics, Outbox, Positions, Surroundings, TableFile, Topic, TopicTable,
};
use crate::stream::Intake;

impl House {
    /// What comes in beside MQTT: all of it, and the tables.
    pub(super) fn inbound(
        &mut self,
        intake: &Intake,
        positions: &Positions,
        stop: &watch::Receiver<bool>,
        rooms: &mut JoinSet<(&'static str, Result<(), String>)>,
    ) -> (Ask, Ask) {
        let metrics = InboundMetrics::default();
        metrics.register(&mut self.registry);
        let mut asks: Vec<Ask> = Vec::new();
        let mut tables: Vec<Ask> = Vec::new();
        let with = || Surroundings {
            intake: intake.clone(),
            positions: positions.clone(),
            metrics: metrics.clone(),
        };
        let outboxes = self.config.outboxes.iter().map(|outbox| Outbox::source(outbox, with()));
        let topics = self.config.sources.iter().filter_map(|source| {
            let (cluster, catalog) = (self.cluster(&source.upstream)?, Arc::clone(&self.catalog));
            Some(Topic::source(source, cluster, &self.config.id, catalog, with()))
        });
        let mut sources: Vec<Inbound> = outboxes.chain(topics).collect();
        for table in &self.config.tables {
            let Some(source) = self.table(table, with()) else { continue };
            let (rows, status, table) = (Arc::clone(&self.tables), source.status(), table.clone());
            tables.push(Arc::new(move || rows.status(&table, &status())));
            sources.push(source);
        }
        for source in sources {
            let status = source.status();
            asks.push(Arc::new(move || json!(status())));
            let stop = stop.clone();
            rooms.spawn(async move {
                source.run(stop).await;
                ("inbound", Ok(()))
            });
        }
        (all_of(asks), all_of(tables))
    }

    fn cluster(&self, upstream: &str) -> Option<&KafkaConfig> {
        match self.config.upstreams.get(upstream)? {
            UpstreamConfig::Kafka(cluster) => Some(cluster),
            UpstreamConfig::Mqtt(_) | UpstreamConfig::Directory { .. } => None,
        }
    }

    fn table(&self, table: &TableConfig, with: Surroundings) -> Option<Inbound> {
        let (tables, catalog) = (Arc::clone(&self.tables), Arc::clone(&self.catalog));
        match &table.from {
            TableFrom::File(path) => Some(TableFile::source(table, path, tables, catalog, with)),
            TableFrom::Topic { upstream, topic } => {
                let (what, id) = (TopicTable { table, topic, tables }, &self.config.id);
                Some(Topic::table(what, self.cluster(upstream)?, id, catalog, with))
            }
        }
    }
}
