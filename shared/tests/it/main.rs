//! What two ends that know only the wire may rely on.

mod block;
mod foreign;
mod frozen;
mod fuzz;
mod values;
