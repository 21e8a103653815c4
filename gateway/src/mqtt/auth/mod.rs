//! Who may connect, who may publish and subscribe to what, and how much of it.
//!
//! ```text
//! CONNECT - gate - checks (attempts, line: one password at a time) - pass
//!             |                                                        |
//!           book: users, anonymous  <- reload                rules, seat, toll
//! ```

mod attempts;
mod book;
mod checks;
mod gate;
mod limits;
mod line;
mod pass;
mod password;
mod quota;
mod rules;
mod source;

pub(crate) use gate::Gate;
pub(crate) use pass::{Pass, Shown};
pub use password::{check_password_hash, hash_password};
pub(crate) use rules::Access;
pub use rules::check_rule;
