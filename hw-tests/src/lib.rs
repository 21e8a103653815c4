//! The whole path under faults: what its tests start, break and read.
//!
//! [`kafka`] runs a real broker, [`gateway`] the binary as users run it, [`qemu`] a node's firmware
//! on an emulated microcontroller; [`journal`] is the least of a gateway that a forwarder needs.

mod defmt_log;
pub mod gateway;
pub mod journal;
pub mod kafka;
pub mod qemu;
