//! The packets of MQTT 3.1.1 and 5 as the sessions see them. The codec makes them of bytes.

use serde::{Deserialize, Serialize};

/// The version that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.
    V5,
}

/// Reason codes of MQTT 5, section 2.4; [`super::codec`] maps them for 3.1.1.
pub(crate) mod reason {
    pub(crate) const SUCCESS: u8 = 0x00;
    pub(crate) const NO_SUBSCRIPTION: u8 = 0x11;
    pub(crate) const UNSPECIFIED: u8 = 0x80;
    pub(crate) const MALFORMED: u8 = 0x81;
    pub(crate) const PROTOCOL_ERROR: u8 = 0x82;
    pub(crate) const UNSUPPORTED_VERSION: u8 = 0x84;
    pub(crate) const CLIENT_ID_INVALID: u8 = 0x85;
    pub(crate) const BAD_CREDENTIALS: u8 = 0x86;
    pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
    pub(crate) const SERVER_UNAVAILABLE: u8 = 0x88;
    pub(crate) const SERVER_BUSY: u8 = 0x89;
    pub(crate) const SHUTTING_DOWN: u8 = 0x8B;
    pub(crate) const BAD_AUTH_METHOD: u8 = 0x8C;
    pub(crate) const KEEP_ALIVE: u8 = 0x8D;
    pub(crate) const TAKEN_OVER: u8 = 0x8E;
    pub(crate) const FILTER_INVALID: u8 = 0x8F;
    pub(crate) const TOPIC_INVALID: u8 = 0x90;
    pub(crate) const PACKET_ID_UNKNOWN: u8 = 0x92;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x93;
    pub(crate) const TOPIC_ALIAS_INVALID: u8 = 0x94;
    pub(crate) const PACKET_TOO_LARGE: u8 = 0x95;
    pub(crate) const QUOTA: u8 = 0x97;
    pub(crate) const CONNECTION_RATE: u8 = 0x9F;
}

/// A connection has to end: the client broke the protocol or a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why} (reason 0x{reason:02X})")]
pub(crate) struct Fault {
    /// The reason code that MQTT 5 has for it.
    pub(crate) reason: u8,
    /// For the log.
    pub(crate) why: String,
}

impl Fault {
    pub(crate) fn new(reason: u8, why: impl Into<String>) -> Self {
        Self { reason, why: why.into() }
    }

    pub(crate) fn malformed(why: impl Into<String>) -> Self {
        Self::new(reason::MALFORMED, why)
    }

    pub(crate) fn protocol(why: impl Into<String>) -> Self {
        Self::new(reason::PROTOCOL_ERROR, why)
    }
}

/// CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client: String,
    /// Clean session (3.1.1), clean start (5).
    pub(crate) clean: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) login: Option<Login>,
    pub(crate) will: Option<Will>,
    /// How long the session outlives the connection; `u32::MAX` for ever.
    pub(crate) expiry_s: u32,
    /// How many QoS 1 and 2 messages the client takes at a time.
    pub(crate) receive_maximum: u16,
    /// The largest packet that the client takes, in bytes.
    pub(crate) packet_bytes_max: u32,
    /// Topic aliases that the client takes.
    pub(crate) alias_max: u16,
    /// The client wants enhanced authentication, which is refused.
    pub(crate) auth_method: bool,
    /// The data directory of a gateway.
    pub(crate) incarnation: Option<String>,
}

/// User name and password of CONNECT; either may be empty.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    /// Bytes, which need be no text.
    pub(crate) password: Vec<u8>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What is published if the client goes without saying so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) delay_s: u32,
    /// Properties that travel with it, encoded as in PUBLISH.
    pub(crate) properties: Vec<u8>,
}

/// A packet after CONNECT.
#[derive(Debug)]
pub(crate) enum Packet<'a> {
    Publish(Publish<'a>),
    PubAck(u16),
    PubRec { id: u16, reason: u8 },
    PubRel(u16),
    PubComp(u16),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    PingReq,
    Disconnect { reason: u8, expiry_s: Option<u32> },
}

/// PUBLISH; everything borrows from the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Empty where an alias stands for it.
    pub(crate) topic: &'a str,
    /// 0 for QoS 0.
    pub(crate) id: u16,
    /// All properties as they came, without their length.
    pub(crate) properties: &'a [u8],
    /// What the properties say to the server.
    pub(crate) alias: Option<u16>,
    pub(crate) payload: &'a [u8],
}

/// SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscribe {
    pub(crate) id: u16,
    /// The subscription identifier, if any.
    pub(crate) identifier: Option<u32>,
    pub(crate) filters: Vec<Filter>,
}

/// One filter of SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) filter: String,
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retain_handling: RetainHandling,
}

/// When retained messages are sent on SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetainHandling {
    Always,
    IfNew,
    Never,
}

/// UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsubscribe {
    pub(crate) id: u16,
    pub(crate) filters: Vec<String>,
}

/// What CONNACK of MQTT 5 says about the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnAck {
    pub(crate) session_present: bool,
    /// The id the server chose, where the client gave none.
    pub(crate) assigned: Option<String>,
    /// The server's choice, where it differs from the client's.
    pub(crate) keep_alive_s: Option<u16>,
    /// The server's choice, where it differs from the client's.
    pub(crate) expiry_s: Option<u32>,
    pub(crate) packet_bytes_max: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) alias_max: u16,
    /// User properties.
    pub(crate) says: Vec<(String, String)>,
}
