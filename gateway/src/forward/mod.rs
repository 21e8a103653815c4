//! Forwarding: carries streams to upstreams, exactly once.
//!
//! One [`Forwarder`] an upstream, on a thread of its own, serves all routes to it. `core` is the
//! policy and `resume` says where a route goes on (both pure); `engine` drives them over an
//! `upstream` (`kafka`, `directory`) and what is `local` (journal and catalog); `format` turns
//! records into what travels, `position` says how far a route is, `run` is the shell with thread
//! and clock.

mod batch;
mod core;
mod directory;
mod disk;
mod engine;
mod format;
mod kafka;
mod lane;
mod local;
mod position;
mod remedy;
mod resume;
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
    kafka::count_committed(brokers, topic)
}

pub use position::{Position, PositionError, Stored};
pub use run::{ForwardStatus, Forwarder, Identity, Surroundings};
pub use status::{ForwardMetrics, RouteState, RouteStatus};
