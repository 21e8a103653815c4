//! Real programs under real faults.

mod chain;
mod commands;
mod feed;
mod formats;
mod forward_rounds;
mod full_disk;
mod kafka;
mod kafka_security;
mod kills;
mod mqtt_upstream;
mod node;
mod power_cuts;
mod publisher;
#[path = "../../../gateway/src/forward/format/registry/double.rs"]
mod registry;
mod stored;
mod tables;
mod whole_path;
mod wire;
