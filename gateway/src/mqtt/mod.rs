//! The front door: MQTT 3.1.1 and 5 over the journal.
//!
//! A client is acknowledged once the record of its message is on disk. A subscription is a reader
//! of the journal with a position of its own, a retained message the last record of its topic, and
//! a QoS 2 packet id is stored with the record it belongs to.
//!
//! ```text
//! listen - wire - frame, codec - session (pure core) - intake -> journal
//!            |                        |                            |
//!            <---- acknowledgements, in order, once durable -------|
//!            <---- deliver: the journal from the session's position
//! ```
//!
//! [`MqttServer`] listens; [`MqttState`] is what follows from the journal.

mod auth;
mod bounds;
mod codec;
mod complaints;
mod connection;
mod context;
mod deliver;
mod frame;
mod handshake;
mod listen;
mod lookout;
mod metrics;
mod packet;
mod peer;
mod properties;
mod registry;
mod relay;
mod reload;
mod server;
mod session;
mod share;
mod state;
mod sys;
mod trie;
mod wills;
mod wire;

pub use auth::{check_password_hash, check_rule, hash_password};
pub(crate) use connection::unix_ms;
pub use listen::{Renewal, TlsFault, TlsPart, Way, check_tls};
pub use metrics::{MqttMetrics, ReasonLabel, WayLabel};
pub(crate) use properties::{put_expiry, put_user as put_user_property, user as user_properties};
pub use reload::MqttControl;
pub use server::{MqttServer, MqttStatus, MqttView};
pub use state::{MqttState, StateCounts};
