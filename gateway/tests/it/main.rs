//! The gateway as its users and devices meet it: one binary for all integration tests.

mod acknowledged;
mod auth;
mod carried;
mod cli;
mod door;
#[path = "../../src/forward/format/registry/double.rs"]
mod double;
mod full;
mod log_deep;
mod log_tools;
mod logs;
mod mqtt;
mod mqtt_clients;
mod mqtt_upstream;
mod outbox;
mod peer;
mod placement;
mod power;
mod process;
mod query;
mod raw;
mod registry;
mod sparkplug;
mod spec;
mod subscribers;
mod tables;
mod ways;
