//! `[[table]]`: each has a stream of its own, and all are in one compacted log.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::{
    Format, NamedLogConfig, RouteConfig, StreamConfig, TABLES_LOG, TableConfig, TableFrom,
    UpstreamConfig, parse_size, raw,
};
use super::upstreams::check_kafka_topic;
use super::{Checker, check_new_name};
use crate::inbound::is_row_file;
use crate::stream::TopicPattern;
use crate::table::pattern_of;

const SIZE: RangeInclusive<u64> = (64 << 10)..=(4 << 30);
const SIZE_DEFAULT: u64 = 64 << 20;
/// Small, since only sealed segments are compacted.
const SEGMENT_BYTES: u32 = 4 << 20;
const GRACE: Duration = Duration::from_hours(24);

impl Checker<'_> {
    pub(super) fn tables(
        &mut self,
        raw: &[raw::Table],
        upstreams: &BTreeMap<String, UpstreamConfig>,
        names: &mut BTreeSet<String>,
    ) -> Vec<TableConfig> {
        let mut tables = Vec::new();
        for raw in raw {
            let name = self.take("table.name", &raw.name, |name| check_new_name(name, names));
            let key = self.take("table.key", &raw.key, |key| {
                let fault =
                    format!("{key:?}: write the name of a column, of letters, digits and _");
                TopicPattern::parse(&pattern_of("t", key)).map(|_| key.clone()).map_err(|_| fault)
            });
            let from = self.table_from(raw, upstreams);
            let max_bytes =
                self.take_or("table.max_size", raw.max_size.as_ref(), SIZE_DEFAULT, |text| {
                    let bytes = parse_size(text)?;
                    let fits = SIZE.contains(&bytes);
                    fits.then_some(bytes)
                        .ok_or_else(|| format!("{text:?}: write a size from 64 KiB to 4 GiB"))
                });
            if let (Some(name), Some(key), Some(from)) = (name, key, from) {
                tables.push(TableConfig { name, key, from, max_bytes });
            }
        }
        tables
    }

    fn table_from(
        &mut self,
        raw: &raw::Table,
        upstreams: &BTreeMap<String, UpstreamConfig>,
    ) -> Option<TableFrom> {
        let base = self.base.to_path_buf();
        self.take("table.from", &raw.from, |text| {
            let (kind, rest) = text.split_once(':').ok_or_else(|| {
                format!(
                    "{text:?}: write \"file:PATH\", or \"UPSTREAM:TOPIC\" for a topic of a cluster"
                )
            })?;
            if kind == "file" {
                if is_row_file(rest.as_ref()) {
                    return Ok(TableFrom::File(base.join(rest)));
                }
                return Err(format!(
                    "{rest:?}: name a file that ends with .csv, .ndjson or .jsonl"
                ));
            }
            match upstreams.get(kind) {
                Some(UpstreamConfig::Kafka(_)) => {
                    let topic = check_kafka_topic(rest)?;
                    Ok(TableFrom::Topic { upstream: kind.to_owned(), topic })
                }
                Some(_) => Err(format!("[upstream.{kind}] is no cluster: a table reads kafka")),
                None => {
                    Err(format!("there is no [upstream.{kind}]; add it, or write \"file:PATH\""))
                }
            }
        })
    }

    /// The log of all tables. It may be written out, for its segments and its grace.
    pub(super) fn log_of_tables(
        &mut self,
        raw: &raw::Raw,
        logs: &mut BTreeMap<String, NamedLogConfig>,
    ) {
        if raw.table.is_empty() {
            return;
        }
        let default = NamedLogConfig {
            segment_bytes: SEGMENT_BYTES,
            max_bytes: None,
            max_age: None,
            compact: Some(GRACE),
        };
        let log = logs.entry(TABLES_LOG.to_owned()).or_insert(default);
        if log.compact.is_some() && log.max_bytes.is_none() && log.max_age.is_none() {
            return;
        }
        let written = raw.logs.keys().find(|name| name.get_ref() == TABLES_LOG);
        let fault = "tables are in this log, which has to keep their rows: write compact = true, and \
                     neither max_size nor max_age, or give your log another name";
        self.fault(written.map_or(0, |name| name.span().start), "logs.tables", fault);
    }

    /// A table that a route writes back to its own topic would never come to rest.
    pub(super) fn no_circles(
        &mut self,
        raw: &[raw::Table],
        tables: &[TableConfig],
        routes: &[RouteConfig],
    ) {
        for TableConfig { name, from, .. } in tables {
            let TableFrom::Topic { upstream, topic } = from else { continue };
            let writes =
                |route: &&RouteConfig| route.upstream == *upstream && route.topic == *topic;
            let Some(route) = routes.iter().find(writes).filter(|route| route.stream == *name)
            else {
                continue;
            };
            let at = raw.iter().find(|raw| raw.name.get_ref() == name);
            let fault = format!(
                "a route writes {} to this topic, so its rows would go round for ever: remove one",
                route.stream
            );
            self.fault(at.map_or(0, |raw| raw.from.span().start), "table.from", fault);
        }
    }
}

/// The stream of a table. `None` where the key is no level, which was said.
pub(super) fn stream(table: &TableConfig) -> Option<StreamConfig> {
    let TableConfig { name, key, .. } = table;
    Some(StreamConfig {
        name: name.clone(),
        topic: TopicPattern::parse(&pattern_of(name, key)).ok()?,
        key: Some(key.clone()),
        format: Format::Json,
        time: None,
        partitions: 1,
        columns: BTreeMap::new(),
        lateness: Duration::from_secs(1),
        idle: Duration::from_mins(1),
        log: Some(TABLES_LOG.to_owned()),
        is_state: true,
    })
}
