//! Forwarding: carries streams to upstreams, exactly once.
//!
//! One [`Forwarder`] an upstream, on a thread of its own, serves all routes to it. `policy` says
//! when to do what and where a route goes on (pure); `engine` drives it over an `upstream` (`kafka`,
//! `mqtt`, `directory`) and what is `local` (journal and catalog); `format` turns records into what travels;
//! `run` is the shell with thread and clock.

mod control;
mod engine;
mod format;
mod local;
mod online;
mod policy;
mod run;
mod status;
mod upstream;

#[cfg(test)]
mod simulation;

use crate::config::KafkaConfig;

/// How many records of `topic` a `read_committed` reader finds; 0 where there is no such topic.
/// Blocks.
///
/// # Errors
/// What the client says.
pub fn count_committed(brokers: &str, topic: &str) -> Result<u64, String> {
    upstream::kafka::count_committed(brokers, topic)
}

/// What is wrong with the properties of a Kafka upstream, by property; nothing is connected.
pub(crate) fn check_kafka(config: &KafkaConfig) -> Vec<(String, String)> {
    upstream::kafka::settings::check(config)
}

pub use online::{Finding, Verdict, check_online};
pub(crate) use upstream::mqtt::topic::{Names as TopicNames, check as check_mqtt_topic};
pub(crate) use upstream::mqtt::wire::client_config as check_upstream_tls;

pub(crate) use upstream::kafka::{Extent, TopicFeed, TopicRecord};
pub(crate) use upstream::{Fault, FaultKind};

pub use control::RouteControl;
pub use engine::ForwardError;
/// What files of a directory upstream say of themselves, for whoever gets them.
pub(crate) mod files {
    pub(crate) use super::upstream::directory::manifest::{
        Entry, MANIFEST, Manifest, Sum, offsets,
    };
    pub(crate) use super::upstream::directory::{SOURCE, SourceFile};
}

pub(crate) use format::check_url as check_registry_url;
pub(crate) use format::{Shape, can_read, subject_of};
pub use policy::position::Position;
pub use policy::stored::{PositionError, Stored, Witness};
pub use run::{ForwardStatus, Forwarder, Identity, Surroundings};
pub use status::{ForwardMetrics, RouteState, RouteStatus};
