//! The wire between a Headwater node and its gateway, for both ends: no_std, no alloc.
//!
//! [`block`] is how a node's readings travel, [`decimal`] what their values are; [`node`] is what
//! node and gateway tell each other beside, [`topic`] where they meet; [`envelope`] is what a record
//! of the gateway's journal holds, [`origin`] where a record was before. `WIRE.md` beside this crate draws the bytes.
#![no_std]

pub mod block;
pub mod decimal;
pub mod envelope;
pub mod node;
pub mod origin;
pub mod topic;
