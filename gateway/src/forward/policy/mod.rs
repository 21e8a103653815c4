//! When to do what, and where to go on: pure.
//!
//! `core` opens, begins, sends, commits, waits and gives up, at the intervals and sizes of `pace`;
//! `position` is the set of offsets that an upstream has, `stored` how it stands there; `resume`
//! says where a route goes on after a start; `allowance` is what a metered link may carry;
//! `dead` finds records that are refused for good.

pub(in crate::forward) mod allowance;
pub(in crate::forward) mod core;
pub(in crate::forward) mod dead;
pub(in crate::forward) mod pace;
pub(in crate::forward) mod position;
pub(in crate::forward) mod resume;
pub(in crate::forward) mod stored;
