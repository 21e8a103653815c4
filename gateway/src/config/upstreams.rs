//! Upstreams and routes, checked.

use std::collections::BTreeMap;
use std::fmt;
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
    /// An MQTT broker, at least once; another Headwater gateway, exactly once.
    Mqtt(MqttUpstream),
    /// Partitioned NDJSON files.
    Directory {
        /// The directory of the topics.
        path: PathBuf,
    },
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
    /// The peer keeps the last message of each topic. For an MQTT broker.
    pub retain: bool,
}
