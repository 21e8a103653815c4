//! MQTT 5, by chapter.

mod acknowledge;
mod alias_out;
mod auth;
mod connack;
mod connect;
mod data;
mod delivery;
mod disconnect;
mod flow;
mod properties;
mod publish;
mod qos2_out;
mod retain;
mod session;
mod shared;
mod size;
mod subscribe;
mod topics;
mod unsubscribe;
mod will;
