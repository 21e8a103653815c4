//! The crate from outside.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod cold;
mod compact;
mod compact_live;
mod crash;
mod damage;
mod faults;
mod frozen;
mod journal;
mod model;
mod nor;
mod repair;
mod retention;
mod ring;
mod ring_async;
mod ring_cuts;
mod sim;
mod summary;
mod tmpfs;

/// A small generator, so that a failure names the seed that shows it again.
#[derive(Clone, Debug)]
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}
