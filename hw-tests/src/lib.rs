//! The whole path under faults: what its tests start, break and read.

mod defmt_log;
pub mod qemu;
