//! Windowed queries over streams.
//!
//! [`Plan`] is a checked statement. Its rows go through a pure engine (expressions, windows,
//! watermarks) whose state is saved in the catalog; [`QueryRunner`] follows the journal, writes what
//! the engine says and sees to it that a crash neither loses nor doubles a row.

mod engine;
mod expr;
mod follow;
mod ledger;
mod number;
mod plan;
mod run;
mod sql;
mod status;
mod types;
mod window;

pub use plan::Plan;
pub use run::{QueryHandle, QueryRunner};
pub use status::{QueryLabel, QueryMetrics, QueryStatus};
pub use types::{Output, OutputType};
