//! When to do what, and where to go on: pure.
//!
//! `core` opens, begins, sends, commits, waits and gives up; `position` is the set of offsets that
//! an upstream has; `resume` says where a route goes on after a start.

pub(in crate::forward) mod core;
pub(in crate::forward) mod position;
pub(in crate::forward) mod resume;
