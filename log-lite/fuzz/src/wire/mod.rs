//! What a node and its gateway read from each other.

mod block;
mod messages;
mod text;

use super::input;
pub use block::{block_bytes, block_rows};
pub use messages::{envelope, node_messages};
pub use text::{decimal, topic};
