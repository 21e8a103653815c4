//! The gateway as its users and devices meet it: one binary for all integration tests.

mod acknowledged;
mod auth;
mod cli;
mod door;
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
mod sparkplug;
mod spec;
mod subscribers;
mod ways;
