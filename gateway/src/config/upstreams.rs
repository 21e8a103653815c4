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
    /// Where it begins.
    pub from: RouteFrom,
    /// It sends in quiet hours and beyond the daily budget of its upstream.
    pub urgent: bool,
}
