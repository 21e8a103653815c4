//! What comes in beside MQTT, checked.

use std::path::PathBuf;
use std::time::Duration;

use crate::inbound::TopicTemplate;

/// The outbox of a local application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxConfig {
    /// Names its position in the journal.
    pub name: String,
    /// The application's SQLite database.
    pub database: PathBuf,
    /// The table in it.
    pub table: String,
    /// Where its rows are published; `{x}` stands for the column `x`.
    pub topic: TopicTemplate,
    /// Whether rows are deleted once they are stored here.
    pub delete: bool,
}

/// A topic of the cluster that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Names its position in the journal.
    pub name: String,
    /// The upstream, which is a cluster.
    pub upstream: String,
    /// The topic there.
    pub topic: String,
    /// Where its records are published; `{key}`, `{partition}` and `{x}` for the header `x`.
    pub publish: TopicTemplate,
    /// The time to live of a record, from its timestamp on.
    pub expiry: Option<Duration>,
    /// Whether the messages are retained.
    pub retain: bool,
    /// Where it begins.
    pub from: SourceStart,
}

/// Where a source begins that has not brought anything yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceStart {
    /// With what comes from its first start on.
    Latest,
    /// With the oldest record that is there.
    Earliest,
    /// With the first record of this time or later, ms since 1970.
    Time(i64),
}
