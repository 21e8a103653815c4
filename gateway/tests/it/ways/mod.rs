//! The ways in beside plain TCP, over real sockets.

mod check;
mod frames;
pub(crate) mod pki;
mod tls;
mod unix;
mod websocket;
