//! The gateway as its users and devices meet it: one binary for all integration tests.

mod acknowledged;
mod cli;
mod door;
mod mqtt;
mod power;
mod process;
