//! Real programs under real faults.

mod kafka;
mod node;
mod power_cuts;
mod publisher;
mod stored;
mod whole_path;
mod wire;
