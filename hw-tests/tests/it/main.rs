//! Real programs under real faults.

mod formats;
mod full_disk;
mod kafka;
mod kills;
mod node;
mod power_cuts;
mod publisher;
#[path = "../../../gateway/src/forward/format/registry/double.rs"]
mod registry;
mod stored;
mod whole_path;
mod wire;
