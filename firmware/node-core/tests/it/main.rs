//! The node on the host: its own code, simulated time, simulated flash, a simulated gateway.
#![expect(unreachable_pub, reason = "`pub` marks what a module offers the others of this binary")]

mod boot;
mod delivery;
mod gateway;
mod nor;
mod overflow;
mod sim;
