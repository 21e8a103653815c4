//! The Headwater gateway: acknowledges what is on disk, answers windowed queries over it, serves
//! local subscribers and forwards it exactly once.
//!
//! Rooms, left to right; each may use those before it:
//! [`config`], [`journal`], [`catalog`], [`projection`], [`stream`], [`node`], [`sparkplug`] and
//! [`chain`] (the way in), [`table`], [`query`], [`mqtt`] (the front door and subscribers), [`inbound`] (other
//! ways in), [`forward`] (upstreams), [`http`], [`cli`].

#[cfg(target_env = "musl")]
mod allocator;
pub mod app;
pub mod catalog;
pub mod chain;
pub mod cli;
pub mod config;
pub mod exit;
mod fetch;
pub mod forward;
pub mod http;
pub mod inbound;
pub mod journal;
mod machine;
pub mod mqtt;
pub mod node;
pub mod placement;
pub mod projection;
pub mod query;
pub mod sparkplug;
pub mod stream;
pub mod table;
