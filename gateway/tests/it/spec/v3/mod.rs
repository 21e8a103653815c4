//! MQTT 3.1.1, by chapter.

mod connect;
mod data;
mod delivery;
mod publish;
mod qos2_out;
mod session;
mod subscribe;
mod topics;
mod will;
