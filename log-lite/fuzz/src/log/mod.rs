//! What a disk, a flash and their power do to the log.

mod journal;
mod keyed;
mod mending;
mod reading;
mod ring;
mod script;
mod segments;
mod summary;

use super::input;
pub use journal::journal_ops;
pub use keyed::keyed_ops;
pub use ring::{ring_image, ring_ops};
pub use segments::{chunk_header, segments};
pub use summary::summary;
