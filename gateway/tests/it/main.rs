//! The gateway as its users and devices meet it.

mod door;
mod mqtt;
mod mqtt_clients;
mod raw;
