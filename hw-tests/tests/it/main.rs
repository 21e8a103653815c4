//! Integration tests over real processes.

mod kafka;
