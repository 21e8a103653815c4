//! The gateway as its users and devices meet it.

mod door;
mod mqtt;
