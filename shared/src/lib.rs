//! The wire between a Headwater node and its gateway, for both ends: no_std, no alloc.
//!
//! [`envelope`] is what a record of the gateway's journal holds; [`block`] is how a node's readings
//! travel; [`topic`] is where nodes and gateway meet. `WIRE.md` beside this crate draws the bytes.
#![no_std]

pub mod block;
pub mod envelope;
pub mod topic;
