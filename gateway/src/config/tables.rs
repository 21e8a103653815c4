//! Tables, checked.

use std::fmt;
use std::path::PathBuf;

/// A table: the last value of each key of what it is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableConfig {
    /// Its name, which is that of its stream too.
    pub name: String,
    /// The column that is the key.
    pub key: String,
    /// Where its rows come from.
    pub from: TableFrom,
    /// What its rows may take in memory, and its file on disk.
    pub max_bytes: u64,
}

/// Where the rows of a table come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableFrom {
    /// A file that is read again when it changes.
    File(PathBuf),
    /// A compacted topic of a cluster.
    Topic {
        /// The upstream, which is a cluster.
        upstream: String,
        /// The topic there.
        topic: String,
    },
}

impl fmt::Display for TableFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Topic { upstream, topic } => write!(f, "{upstream}:{topic}"),
        }
    }
}
