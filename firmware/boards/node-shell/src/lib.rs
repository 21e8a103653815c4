//! What every board with embassy-net shares: two loops around one node. [`sample`] reads the sensor
//! on its schedule, whatever the link does; [`talk`] brings the node's blocks to its gateway.
#![no_std]

mod mqtt;
mod sampling;
mod shared;

pub use mqtt::{Gateway, TalkBuffers, talk};
pub use sampling::sample;
pub use shared::SharedNode;
