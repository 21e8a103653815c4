//! The whole path under faults: what its tests start, break and read.
//!
//! [`kafka`] runs a real broker, [`gateway`] the binary as users run it, [`qemu`] a node's firmware
//! on an emulated microcontroller; [`journal`] is the least of a gateway that a forwarder needs.
//! [`tokens`] issues what `kafka` takes for a password. [`disk`] cuts the power of real file
//! systems, [`proxy`] the link between two programs. [`random`] makes faults the same for a seed.

mod defmt_log;
pub mod disk;
pub mod gateway;
pub mod journal;
pub mod kafka;
pub mod proxy;
pub mod qemu;
pub mod random;
pub mod tokens;
