//! The Headwater sensor node without its board: no I/O but the flash and the bus it is given, no
//! clock. A board asks [`Sampler`] when to read and [`Sensor`] for a reading, gives it to [`Node`],
//! and does what [`Node::step`] says.
#![no_std]

mod blocks;
mod epoch;
mod node;
mod outbox;
mod sampler;
mod sensor;
mod session;
pub mod sim_chip;

pub use blocks::SealPolicy;
pub use epoch::EPOCH_PAGES;
pub use node::{
    Action, BLOCK_BYTES_MAX, BootError, ChannelConfig, Counters, Node, NodeConfig,
    PAYLOAD_BYTES_MAX, Publish,
};
pub use outbox::OutboxError;
pub use sampler::{JITTER_MS, Sampler};
pub use sensor::{Climate, SCALE, Sensor, SensorError};
pub use session::{Event, SessionPolicy, Ticket, WINDOW_MAX};
