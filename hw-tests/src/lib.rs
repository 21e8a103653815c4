//! The whole path under faults.
//!
//! [`kafka`] runs a real broker; [`journal`] is the least of a gateway that a forwarder needs.

pub mod journal;
pub mod kafka;
