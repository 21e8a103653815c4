//! The configuration: TOML to checked types. What is here has been checked; the rooms rely on it.

mod changes;
mod check;
mod error;
mod inbound;
mod links;
mod masked;
mod raw;
mod secret;
mod tables;
mod units;
mod upstreams;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use log_lite::WhenFull;

pub use error::{ConfigError, Problem};
pub use inbound::{OutboxConfig, SourceConfig, SourceStart};
pub use links::{LinkConfig, QuietHours};
pub use secret::Property;
pub use tables::{TableConfig, TableFrom};
pub use units::{parse_size, parse_time};
pub use upstreams::{
    Compression, KafkaConfig, MqttUpstream, MqttVersion, RegistryConfig, RegistryLogin,
    RotationConfig, RouteConfig, RouteFormat, RouteFrom, RouteOrder, TopicConfig, UpstreamConfig,
    UpstreamTls,
};

#[cfg(test)]
mod tests;

use crate::stream::TopicPattern;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names this gateway at the cluster.
    pub id: String,
    /// Journal, catalog and lock live here.
    pub data_dir: PathBuf,
    /// The front door.
    pub mqtt: MqttConfig,
    /// Page, API and metrics.
    pub http: HttpConfig,
    /// The journal.
    pub log: LogConfig,
    /// Other logs, by name, for streams with `log = "NAME"`.
    pub logs: BTreeMap<String, NamedLogConfig>,
    /// Streams, in the order of the file, then those of tables; the first that matches a topic takes
    /// the message.
    pub streams: Vec<StreamConfig>,
    /// Queries.
    pub queries: Vec<QueryConfig>,
    /// Where routes go, by name.
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// What their links may carry, where that is bounded.
    pub links: BTreeMap<String, LinkConfig>,
    /// What goes there.
    pub routes: Vec<RouteConfig>,
    /// Topics of clusters that come in.
    pub sources: Vec<SourceConfig>,
    /// Tables of local applications that are read.
    pub outboxes: Vec<OutboxConfig>,
    /// Tables; each has its stream among `streams`, in the log [`TABLES_LOG`].
    pub tables: Vec<TableConfig>,
}

/// The log of all tables.
pub const TABLES_LOG: &str = "tables";

/// The front door.
#[derive(Clone, Debug)]
pub struct MqttConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The file of a Unix socket where it listens too.
    pub unix: Option<PathBuf>,
    /// Where it listens for TLS.
    pub tls: Option<TlsConfig>,
    /// Where it listens for WebSocket.
    pub websocket: Option<WebSocketConfig>,
    /// Connections at a time.
    pub max_connections: u32,
    /// The largest packet that is read, in bytes.
    pub max_packet_bytes: u32,
    /// Who may do what, by name.
    pub users: Vec<UserConfig>,
    /// What a client without a name may do; `None`: everything, on loopback only, unless there are
    /// users.
    pub anonymous: Option<AnonymousConfig>,
}

/// The front door's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A PEM file: our certificate and those between it and a CA that clients know.
    pub certificate: PathBuf,
    /// A PEM file: the private key of the certificate.
    pub key: PathBuf,
    /// A PEM file: CAs of clients, which then need a certificate.
    pub client_ca: Option<PathBuf>,
}

/// MQTT over WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether it comes through TLS, with the certificate of [`TlsConfig`].
    pub tls: bool,
}

/// A user of the front door.
#[derive(Clone, Debug)]
pub struct UserConfig {
    /// The name in CONNECT.
    pub name: String,
    /// An argon2id hash in PHC form.
    pub password_hash: String,
    /// What the user may do.
    pub rules: RulesConfig,
    /// How much of it, over all connections.
    pub limits: LimitsConfig,
}

/// Clients without a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnonymousConfig {
    /// What they may do.
    pub rules: RulesConfig,
    /// How much of it, all of them together.
    pub limits: LimitsConfig,
}

/// How much a user may do; `None`: as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Connections at a time.
    pub max_connections: Option<u32>,
    /// Messages a second.
    pub max_rate: Option<u32>,
    /// Bytes of packets a second.
    pub max_bytes: Option<u64>,
}

/// Topic filters of what is allowed; `deny` wins. `{user}` and `{client}` stand for the names of the
/// client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesConfig {
    /// Topics that may be published to.
    pub publish: Vec<String>,
    /// Topics that may be subscribed to.
    pub subscribe: Vec<String>,
    /// Topics that may not, whatever the others say.
    pub deny: Vec<String>,
    /// The gateway whose records it may bring in as they are there.
    pub gateway: Option<String>,
}

/// Page, API and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The bearer token that requests need; always there beyond loopback.
    pub token: Option<String>,
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Oldest segments are deleted above this.
    pub max_bytes: u64,
    /// And when they were written longer ago than this.
    pub max_age: Option<Duration>,
    /// What happens to publishers or to records that were not forwarded, where the log is full.
    pub when_full: WhenFull,
}

/// Another log, with a retention of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedLogConfig {
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Oldest segments are deleted above this.
    pub max_bytes: Option<u64>,
    /// And when they were written longer ago than this.
    pub max_age: Option<Duration>,
    /// How long a deleted key is remembered, where only the last value of each key is kept; `None`
    /// where every record is.
    pub compact: Option<Duration>,
}

/// How payloads of a stream read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a message.
    Json,
    /// Series blocks of Headwater nodes.
    Blocks,
    /// Anything.
    Bytes,
    /// Payloads of Sparkplug B.
    SparkplugB,
}

impl Format {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Blocks => "blocks",
            Self::Bytes => "bytes",
            Self::SparkplugB => "sparkplug-b",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Json, Self::Blocks, Self::Bytes, Self::SparkplugB];
        all.into_iter().find(|format| format.name() == name)
    }
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// A 64-bit float.
    Double,
    /// A 64-bit integer.
    Integer,
    /// UTF-8.
    Text,
    /// True or false.
    Boolean,
}

/// A stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// Its name, in queries and routes.
    pub name: String,
    /// The topics that it takes; captured levels are columns.
    pub topic: TopicPattern,
    /// The column that is the key; `None`: the topic.
    pub key: Option<String>,
    /// How payloads read.
    pub format: Format,
    /// The column with the event time; `None`: time of arrival.
    pub time: Option<String>,
    /// Its partitions.
    pub partitions: u16,
    /// Columns whose type is checked as messages come in.
    pub columns: BTreeMap<String, ColumnType>,
    /// How far out of order event times may come before a reading is late.
    pub lateness: Duration,
    /// After this much silence a source no longer holds windows open.
    pub idle: Duration,
    /// The name of its log; `None`: the journal alone.
    pub log: Option<String>,
    /// Whether that log keeps only the last value of each key, and an empty payload deletes one.
    pub is_state: bool,
}

/// A query.
#[derive(Clone, Debug)]
pub struct QueryConfig {
    /// `CREATE STREAM name AS SELECT ...`.
    pub sql: String,
    /// The parsed and checked statement.
    pub plan: crate::query::Plan,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`]: every problem found, with file, line, key, fault and remedy.
    pub fn load(path: &std::path::Path) -> Result<Self, ConfigError> {
        check::load(path)
    }

    /// Checks what is to be written to a file, as [`Config::load`] would find it there.
    ///
    /// # Errors
    /// [`ConfigError`], as [`Config::load`].
    pub fn parse_for(path: &std::path::Path, text: &str) -> Result<Self, ConfigError> {
        check::parse_for(path, text)
    }

    /// Checks a configuration that is a text; `name` stands for its file in messages.
    ///
    /// # Errors
    /// [`ConfigError`], as [`Config::load`].
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        check::parse(name, text)
    }
}
