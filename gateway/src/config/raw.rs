//! The configuration as it is written: serde types, before any check of meaning.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) gateway: Gateway,
    #[serde(default)]
    pub(super) mqtt: Mqtt,
    #[serde(default)]
    pub(super) user: Vec<User>,
    pub(super) anonymous: Option<Rules>,
    #[serde(default)]
    pub(super) http: Http,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) stream: Vec<Stream>,
    #[serde(default)]
    pub(super) query: Vec<Query>,
    #[serde(default)]
    pub(super) upstream: BTreeMap<Text, Upstream>,
    #[serde(default)]
    pub(super) route: Vec<Route>,
    #[serde(default)]
    pub(super) source: Vec<Source>,
    #[serde(default)]
    pub(super) outbox: Vec<Outbox>,
    #[serde(default)]
    pub(super) logs: BTreeMap<Text, NamedLog>,
    #[serde(default)]
    pub(super) table: Vec<Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    pub(super) id: Text,
    pub(super) data_dir: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mqtt {
    pub(super) listen: Option<Text>,
    pub(super) unix: Option<Text>,
    pub(super) max_connections: Option<Spanned<u32>>,
    pub(super) max_packet_size: Option<Text>,
    pub(super) tls: Option<Tls>,
    pub(super) websocket: Option<WebSocket>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) listen: Option<Text>,
    pub(super) certificate: Text,
    pub(super) key: Text,
    pub(super) client_ca: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebSocket {
    pub(super) listen: Option<Text>,
    pub(super) tls: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    pub(super) name: Text,
    pub(super) password: Text,
    #[serde(default)]
    pub(super) publish: Vec<Text>,
    #[serde(default)]
    pub(super) subscribe: Vec<Text>,
    #[serde(default)]
    pub(super) deny: Vec<Text>,
    /// The id of the gateway that this user is.
    pub(super) gateway: Option<Text>,
    pub(super) max_connections: Option<Spanned<u32>>,
    /// Messages a second.
    pub(super) max_rate: Option<Spanned<u32>>,
    /// A size, a second.
    pub(super) max_bytes: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    #[serde(default)]
    pub(super) publish: Vec<Text>,
    #[serde(default)]
    pub(super) subscribe: Vec<Text>,
    #[serde(default)]
    pub(super) deny: Vec<Text>,
    pub(super) max_connections: Option<Spanned<u32>>,
    /// Messages a second.
    pub(super) max_rate: Option<Spanned<u32>>,
    /// A size, a second.
    pub(super) max_bytes: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) listen: Option<Text>,
    pub(super) token: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) segment_size: Option<Text>,
    pub(super) max_size: Option<Text>,
    pub(super) max_age: Option<Text>,
    pub(super) when_full: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedLog {
    pub(super) segment_size: Option<Text>,
    pub(super) max_size: Option<Text>,
    pub(super) max_age: Option<Text>,
    pub(super) compact: Option<bool>,
    pub(super) tombstone_grace: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    pub(super) name: Text,
    pub(super) topic: Text,
    pub(super) key: Option<Text>,
    pub(super) format: Text,
    pub(super) time: Option<Text>,
    pub(super) partitions: Option<Spanned<u16>>,
    pub(super) columns: Option<BTreeMap<Text, Text>>,
    /// How far out of order event times may come.
    pub(super) lateness: Option<Text>,
    /// After this much silence a source no longer holds its windows open.
    pub(super) idle: Option<Text>,
    pub(super) dedupe: Option<Spanned<toml::Value>>,
    /// Where its records go once they are in the journal.
    pub(super) log: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    pub(super) sql: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) kind: Text,
    pub(super) brokers: Option<Text>,
    /// none, lz4 or zstd.
    pub(super) compression: Option<Text>,
    pub(super) interval: Option<Text>,
    #[serde(default)]
    pub(super) properties: BTreeMap<Text, Text>,
    pub(super) path: Option<Text>,
    pub(super) max_rate: Option<Text>,
    pub(super) daily_budget: Option<Text>,
    #[serde(default)]
    pub(super) quiet_hours: Vec<Text>,
    pub(super) registry: Option<SchemaRegistry>,
    pub(super) rotate_size: Option<Text>,
    pub(super) rotate_every: Option<Text>,
    pub(super) broker: Option<Text>,
    pub(super) version: Option<Text>,
    pub(super) client_id: Option<Text>,
    pub(super) username: Option<Text>,
    pub(super) password: Option<Text>,
    pub(super) keep_alive: Option<Text>,
    pub(super) tls: Option<Spanned<UpstreamTls>>,
    pub(super) exactly_once: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SchemaRegistry {
    pub(super) url: Text,
    pub(super) username: Option<Text>,
    pub(super) password: Option<Text>,
    pub(super) token: Option<Text>,
    pub(super) ca: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamTls {
    pub(super) ca: Option<Text>,
    pub(super) certificate: Option<Text>,
    pub(super) key: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) stream: Text,
    pub(super) upstream: Text,
    pub(super) topic: Text,
    pub(super) format: Option<Text>,
    pub(super) priority: Option<u8>,
    pub(super) retain: Option<Spanned<bool>>,
    pub(super) order: Option<Text>,
    pub(super) from: Option<Spanned<toml::Value>>,
    #[serde(default)]
    pub(super) urgent: bool,
    /// Whether the topic is made where it is not there.
    pub(super) create: Option<Spanned<bool>>,
    pub(super) partitions: Option<Spanned<u16>>,
    pub(super) replication: Option<Spanned<u16>>,
    pub(super) topic_config: Option<BTreeMap<Text, Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outbox {
    pub(super) name: Text,
    pub(super) database: Text,
    pub(super) table: Option<Text>,
    pub(super) topic: Text,
    pub(super) delete: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) name: Option<Text>,
    pub(super) upstream: Text,
    pub(super) topic: Text,
    pub(super) publish: Text,
    pub(super) expiry: Option<Text>,
    pub(super) retain: Option<bool>,
    pub(super) from: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub(super) name: Text,
    pub(super) from: Text,
    pub(super) key: Text,
    /// What it may hold in memory.
    pub(super) max_size: Option<Text>,
}
