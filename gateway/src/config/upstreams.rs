//! Upstreams and routes, checked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Property;

/// Where routes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamConfig {
    /// A Kafka cluster, exactly once.
    Kafka(KafkaConfig),
    /// An MQTT broker, at least once; another Headwater gateway, exactly once.
    Mqtt(MqttUpstream),
    /// Partitioned NDJSON files.
    Directory {
        /// The directory of the topics.
        path: PathBuf,
        /// When a file gets its name.
        rotation: RotationConfig,
    },
}

/// A Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port`, comma separated.
    pub brokers: String,
    /// How batches are compressed.
    pub compression: Compression,
    /// Transactions come once in this time in the long run.
    pub interval: Duration,
    /// Properties of the client, as librdkafka names them.
    pub properties: BTreeMap<String, Property>,
    /// Where schemas of `avro` routes are registered.
    pub registry: Option<RegistryConfig>,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// With less memory.
    Lz4,
    /// Small, and no slower.
    #[default]
    Zstd,
}

impl Compression {
    /// As the configuration and the client write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The one of that name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd].into_iter().find(|one| one.name() == name)
    }
}

/// A schema registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// `http://host:8081` or `https://...`.
    pub url: String,
    /// Who asks.
    pub login: Option<RegistryLogin>,
    /// A PEM file of the CA of an `https` registry; `None`: the system's CAs.
    pub ca: Option<PathBuf>,
}

/// Who asks a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryLogin {
    /// HTTP's basic authentication.
    Basic {
        /// The user, or an API key.
        username: String,
        /// The password, or its secret.
        password: String,
    },
    /// A bearer token.
    Token(String),
}

/// When files of a directory upstream get their names: what is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationConfig {
    /// Bytes of records since the last time.
    pub size_bytes: u64,
    /// Time since the first of them.
    pub every: Duration,
}

impl Default for RotationConfig {
    fn default() -> Self {
        Self { size_bytes: 16 << 20, every: Duration::from_secs(10) }
    }
}

/// An MQTT broker.
#[derive(Clone, PartialEq, Eq)]
pub struct MqttUpstream {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What is spoken.
    pub version: MqttVersion,
    /// `None`: made of the gateway's id and the upstream's name.
    pub client_id: Option<String>,
    /// Who we are there.
    pub username: Option<String>,
    /// The proof of it.
    pub password: Option<String>,
    /// After this much silence it knows that we are gone, and we look whether it is there.
    pub keep_alive_s: u16,
    /// `None`: plain TCP.
    pub tls: Option<UpstreamTls>,
    /// Nothing is sent to a peer that does not take us for a gateway.
    pub exactly_once: bool,
}

/// The password is nobody's to see.
impl fmt::Debug for MqttUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MqttUpstream({}:{}, {:?})", self.host, self.port, self.version)
    }
}

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttVersion {
    /// 3.1.1.
    V4,
    /// 5.
    V5,
}

/// TLS to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// A PEM file: CAs that may have signed the certificate there.
    pub ca: PathBuf,
    /// PEM files: a certificate of ours and its private key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// How a route writes values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteFormat {
    /// Rows as JSON objects.
    Json,
    /// The payload, byte for byte.
    Original,
    /// A node's series blocks, byte for byte.
    Blocks,
    /// Avro, under a schema of a registry.
    Avro,
}

/// What of a route goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteOrder {
    /// The order of the log.
    Log,
    /// Live data before a backlog; the order holds inside each of both.
    LiveFirst,
}

/// Where a route begins that has sent nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteFrom {
    /// With the oldest record that is there.
    Earliest,
    /// With the first record after the start.
    Latest,
    /// With the first record of this time, ms since 1970.
    Time(i64),
    /// At this offset.
    Offset(u64),
}

/// What a topic of a cluster is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Whether it is made where it is not there.
    pub create: bool,
    /// Its partitions; `None`: as many as the stream has.
    pub partitions: Option<u16>,
    /// Copies of it; `None`: what the cluster takes by default.
    pub replication: Option<u16>,
    /// Its settings, as Kafka names them.
    pub settings: BTreeMap<String, String>,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self { create: true, partitions: None, replication: None, settings: BTreeMap::new() }
    }
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// The stream that it carries.
    pub stream: String,
    /// The name of its upstream.
    pub upstream: String,
    /// The topic there.
    pub topic: String,
    /// What the topic is to be like, where the upstream is a cluster.
    pub topic_config: TopicConfig,
    /// How values are written.
    pub format: RouteFormat,
    /// Higher goes first; 0 by default.
    pub priority: u8,
    /// What goes first.
    pub order: RouteOrder,
    /// Where it begins.
    pub from: RouteFrom,
    /// It sends in quiet hours and beyond the daily budget of its upstream.
    pub urgent: bool,
    /// The peer keeps the last message of each topic. For an MQTT broker.
    pub retain: bool,
}
