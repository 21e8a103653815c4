//! Real programs under real faults.

mod chain;
mod feed;
mod full_disk;
mod kafka;
mod kills;
mod mqtt_upstream;
mod node;
mod power_cuts;
mod publisher;
mod stored;
mod whole_path;
mod wire;
