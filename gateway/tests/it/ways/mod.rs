//! The ways in beside plain TCP, over real sockets.

mod check;
mod pki;
mod tls;
