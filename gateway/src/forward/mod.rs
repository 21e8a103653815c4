//! Forwarding: carries streams to upstreams, exactly once.
//!
//! One [`Forwarder`] an upstream, on a thread of its own, serves all routes to it. `policy` says
//! when to do what and where a route goes on (pure); `engine` drives it over an `upstream` (`kafka`,
//! `directory`) and what is `local` (journal and catalog); `format` turns records into what travels;
//! `run` is the shell with thread and clock.

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
pub use policy::position::{Position, PositionError, Stored};
pub use run::{ForwardStatus, Forwarder, Identity, Surroundings};
pub use status::{ForwardMetrics, RouteState, RouteStatus};
