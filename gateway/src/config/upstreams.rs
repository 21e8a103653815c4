//! Upstreams and routes, checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where routes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamConfig {
    /// A Kafka cluster, exactly once.
    Kafka {
        /// `host:port`, comma separated.
        brokers: String,
        /// Properties of the client, as librdkafka names them.
        properties: BTreeMap<String, String>,
    },
    /// Partitioned NDJSON files.
    Directory {
        /// The directory of the topics.
        path: PathBuf,
    },
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

/// What of a route goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteOrder {
    /// The order of the log.
    Log,
    /// Live data before a backlog; the order holds inside each of both.
    LiveFirst,
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
    /// How values are written.
    pub format: RouteFormat,
    /// Higher goes first; 0 by default.
    pub priority: u8,
    /// What goes first.
    pub order: RouteOrder,
}
