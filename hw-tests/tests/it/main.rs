//! Real programs under real faults.

mod kafka;
mod node;
mod whole_path;
