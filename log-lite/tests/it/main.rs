//! The crate from outside.

mod journal;
