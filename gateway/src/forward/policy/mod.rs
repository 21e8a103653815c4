//! When to do what, and where to go on: pure.
//!
//! `core` opens, begins, sends, commits, waits and gives up; `position` is the set of offsets that
//! an upstream has, `stored` how it stands there; `resume` says where a route goes on after a start.

pub(in crate::forward) mod core;
pub(in crate::forward) mod position;
pub(in crate::forward) mod resume;
pub(in crate::forward) mod stored;
