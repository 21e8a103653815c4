//! The crate from outside.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod cold;
mod compact;
mod compact_live;
mod crash;
mod damage;
mod faults;
mod fill;
mod frozen;
mod fuzz;
mod journal;
mod model;
mod nor;
mod repair;
mod retention;
mod ring;
mod ring_async;
mod ring_cuts;
mod rng;
mod sim;
mod spread;
mod summary;
mod tmpfs;

use rng::Rng;
