//! Real programs under real faults.

mod full_disk;
mod kafka;
mod kafka_security;
mod kills;
mod node;
mod power_cuts;
mod publisher;
mod stored;
mod whole_path;
mod wire;
