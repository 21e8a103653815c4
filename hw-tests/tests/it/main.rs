//! Real programs under real faults.

mod node;
