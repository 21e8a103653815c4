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
mod policy;
mod run;
mod status;
mod upstream;

#[cfg(test)]
mod simulation;

/// How many records of `topic` a `read_committed` reader finds; 0 where there is no such topic.
/// Blocks.
///
/// # Errors
/// What the client says.
pub fn count_committed(brokers: &str, topic: &str) -> Result<u64, String> {
    upstream::kafka::count_committed(brokers, topic)
}

pub(crate) use upstream::mqtt::topic::{Names as TopicNames, check as check_mqtt_topic};
pub(crate) use upstream::mqtt::wire::client_config as check_upstream_tls;

pub use control::RouteControl;
pub use engine::ForwardError;
pub use policy::position::Position;
pub use policy::stored::{PositionError, Stored, Witness};
pub use run::{ForwardStatus, Forwarder, Identity, Surroundings};
pub use status::{ForwardMetrics, RouteState, RouteStatus};
