//! What comes in beside MQTT, checked.

use std::path::PathBuf;

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
