//! The Headwater sensor node without its board, pure: no I/O but the flash it is given, no clock.
//!
//! [`Sampler`] says when to read, [`Sensor`] reads.
#![no_std]

mod sampler;
mod sensor;
pub mod sim_chip;

pub use sampler::{JITTER_MS, Sampler};
pub use sensor::{Climate, SCALE, Sensor, SensorError};
