//! Other logs: streams whose records are kept longer, or only as the last value of each key.
//!
//! Every message is acknowledged in the journal. A *placement*, one a log, follows it and appends
//! the records of the log's streams there **under the same offsets**. So the log's own end says how
//! far it came, a record is never there twice, and one number is a position in both. The journal
//! keeps what was not placed yet; readers of a placed stream find in the log what the journal has
//! deleted ([`crate::journal::History`]).
//!
//! [`Placer`] is the core, without threads or clock; [`Placement`] the shell around it.

mod compact;
mod core;
mod metrics;
mod run;

use std::path::{Path, PathBuf};

pub use self::core::{PlaceError, Placer};
pub use metrics::{PlacementMetrics, PlacementStatus};
pub use run::{Around, Placement, PlacementError};

/// The directory of the other logs in a data directory.
const LOGS_DIR: &str = "logs";

/// The directory of the log `name` in a data directory.
pub fn log_dir(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join(LOGS_DIR).join(name)
}
