//! The way in for what comes neither from a device nor from a query: rows that a local application
//! left in its database (`outbox`), records of a topic of the cluster (`topic`), rows of a table from a
//! file (`file`).
//!
//! Each record carries its identity (`identity`: where it comes from and its position there) into the
//! journal, and `positions` reads from the journal how far each source is. So a source goes on exactly
//! behind what is on disk: no second bookkeeping that a crash could part from the records. `flow` is
//! the pure core of one source, `run` its shell with thread and clock; an `origin` says what there is.

mod file;
mod flow;
mod identity;
mod origin;
mod outbox;
mod positions;
mod run;
mod status;
mod table;
mod template;
mod topic;

pub use file::{TableFile, check_file, is_row_file};
pub use outbox::{Outbox, check_table};
pub use positions::Positions;
pub use run::{Inbound, Surroundings};
pub use status::{InboundMetrics, InboundState, InboundStatus};
pub use template::TopicTemplate;
pub use topic::{Topic, TopicTable};
