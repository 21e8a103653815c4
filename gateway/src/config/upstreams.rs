//! Upstreams and routes, checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Property;

/// Where routes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamConfig {
    /// A Kafka cluster, exactly once.
    Kafka(KafkaConfig),
    /// Partitioned NDJSON files.
    Directory {
        /// The directory of the topics.
        path: PathBuf,
    },
}

/// A Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port`, comma separated.
    pub brokers: String,
    /// How batches are compressed.
    pub compression: Compression,
    /// Properties of the client, as librdkafka names them.
    pub properties: BTreeMap<String, Property>,
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

/// How a route writes values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteFormat {
    /// Rows as JSON objects.
    Json,
    /// The payload, byte for byte.
    Original,
    /// A node's series blocks, byte for byte.
    Blocks,
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
}
