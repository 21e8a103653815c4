//! Streams: which topic belongs to which, how payloads read, and the way into the journal.
//!
//! [`Streams`] is the routing table, [`Intake`] the one way by which a message becomes a record.
//! [`Rows`] turns a record back into columns, for queries and routes.

mod intake;
mod json;
mod manifest;
mod rows;
mod stats;
mod table;
mod topic;

pub use intake::{Accepted, Incoming, Intake, IntakeError, IntakeMetrics};
pub(crate) use json::TIME_MS;
pub use manifest::{Manifest, ManifestError};
pub(crate) use rows::gap_json;
pub use rows::{Row, Rows, Value};
pub use stats::{PartitionStats, StreamStats};
pub(crate) use table::murmur2;
pub use table::{MQTT_STREAM, PartitionRef, Stream, Streams};
pub use topic::{TopicPattern, filter_matches, is_filter, is_topic};
