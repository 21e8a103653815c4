//! What a record of a gateway's journal holds: one postcard enum behind a version byte.
//!
//! ```text
//! byte 0      version (1; 2: an origin stands before the envelope, see `origin`)
//! byte 1..    postcard of `Envelope`
//! ```
//!
//! The payload is the last field of its variant, so the bytes a device sent stand whole at the end
//! of the record. Variants and fields are only ever added at the end; see WIRE.md.

use serde::{Deserialize, Serialize};

use crate::origin;

/// The version that [`Envelope::encode`] writes.
pub const VERSION: u8 = 1;

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Envelope<'a> {
    /// A message that came in by MQTT.
    #[serde(borrow)]
    Publish(Publish<'a>),
    /// A change of a client's session: QoS 2 release, subscription, end. The bytes are the MQTT
    /// room's own.
    #[serde(borrow)]
    Session(Session<'a>),
    /// A row that a query wrote.
    #[serde(borrow)]
    Output(Output<'a>),
    /// Time passed with nothing from a source: the clock as an input, so that a replay sees it.
    Tick(Tick),
    /// Something that should be here is not, and why.
    #[serde(borrow)]
    Gap(Gap<'a>),
}

/// A message that came in by MQTT, as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Publish<'a> {
    /// The topic it was published to.
    pub topic: &'a str,
    /// The client id of the publisher; empty for the gateway itself.
    pub client: &'a str,
    /// When the gateway took it in, ms since 1970.
    pub arrival_ms: i64,
    /// The quality of service it was published with: 0, 1 or 2.
    pub qos: u8,
    /// The retain flag of the publish.
    pub retain: bool,
    /// The packet id, for QoS 2: with `client` the identity that drops a second copy.
    pub packet_id: Option<u16>,
    /// Properties of MQTT 5 that travel with the message, encoded as in the PUBLISH packet
    /// (section 3.3.2.3, without their length); empty for MQTT 3.1.1.
    #[serde(borrow)]
    pub properties: &'a [u8],
    /// Why the stream could not parse the payload; the record is then in `<stream>.rejected`.
    #[serde(borrow)]
    pub rejected: Option<&'a str>,
    /// The payload, byte for byte.
    #[serde(borrow)]
    pub payload: &'a [u8],
}

/// A change of a client's session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session<'a> {
    /// Whose session.
    pub client: &'a str,
    /// What changed, encoded by the MQTT room.
    #[serde(borrow)]
    pub change: &'a [u8],
}

/// A row that a query wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output<'a> {
    /// The query, which is also the name of its stream.
    pub query: &'a str,
    /// Dense per query; a replay makes the same row with the same number.
    pub sequence: u64,
    /// The record whose arrival made this row.
    pub input_offset: u64,
    /// The row as a JSON object.
    #[serde(borrow)]
    pub payload: &'a [u8],
}

/// Time passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// The gateway's clock, ms since 1970.
    pub now_ms: i64,
}

/// Something that should be here is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap<'a> {
    /// Why it is missing.
    pub cause: GapCause,
    /// The node or device whose data is missing; empty where it is not known.
    pub source: &'a str,
    /// What `first` and `last` count.
    pub unit: GapUnit,
    /// The first that is missing (for times: missing after this).
    pub first: u64,
    /// The last that is missing (for times: missing before this).
    pub last: u64,
    /// How many records or readings, at most; `None` where nobody can know.
    pub count: Option<u64>,
    /// The boot epoch of the node that it concerns, 0 if none.
    pub boot_epoch: u32,
}

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapCause {
    /// Retention deleted it before every reader had it.
    Retention,
    /// A node lost power or was reset with readings in its RAM.
    Reset,
    /// A node's flash ring was full and overwrote its oldest.
    NodeOverflow,
    /// A CRC does not match.
    Damage,
    /// The gateway had no room or was told to drop.
    Overload,
    /// Retention deleted it for its age before every reader had it.
    Expired,
    /// A device sent it and it did not arrive: the numbers of its messages have a hole.
    Transit,
}

/// What a gap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapUnit {
    /// Offsets of this log.
    Offsets,
    /// Block sequence numbers of a boot epoch, or those of a Sparkplug session, 0 to 255 and round.
    Sequences,
    /// Event time in ms since 1970.
    TimesMs,
}

/// A record that is not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeError {
    /// No bytes, or a version that this build does not know.
    Version(Option<u8>),
    /// The bytes after the version are not an envelope.
    Malformed,
    /// The buffer is too small.
    NoRoom,
}

impl core::fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Version(Some(v)) => {
                write!(f, "envelope version {v} is not known: read it with a newer headwater")
            }
            Self::Version(None) => f.write_str("the record is empty"),
            Self::Malformed => f.write_str("the record is not an envelope"),
            Self::NoRoom => f.write_str("the envelope does not fit its buffer"),
        }
    }
}

impl core::error::Error for EnvelopeError {}

impl<'a> Envelope<'a> {
    /// Writes the envelope into `buffer` and returns the bytes used.
    ///
    /// # Errors
    /// [`EnvelopeError::NoRoom`] if `buffer` is too small.
    pub fn encode<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], EnvelopeError> {
        let (version, rest) = buffer.split_first_mut().ok_or(EnvelopeError::NoRoom)?;
        *version = VERSION;
        let used = postcard::to_slice(self, rest).map_err(|_| EnvelopeError::NoRoom)?.len();
        Ok(&buffer[..=used])
    }

    /// Reads an envelope of either version; texts and payload borrow from `bytes`.
    ///
    /// # Errors
    /// [`EnvelopeError::Version`] or [`EnvelopeError::Malformed`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|_| EnvelopeError::Malformed)
            }
            Some((&origin::VERSION, rest)) => {
                postcard::from_bytes(origin::skip(rest)?).map_err(|_| EnvelopeError::Malformed)
            }
            other => Err(EnvelopeError::Version(other.map(|(version, _)| *version))),
        }
    }

    /// An upper bound of the encoded size, for a buffer.
    pub fn size_max(&self) -> usize {
        const FIXED: usize = 64;
        FIXED
            + match self {
                Self::Publish(p) => {
                    p.topic.len()
                        + p.client.len()
                        + p.properties.len()
                        + p.rejected.map_or(0, str::len)
                        + p.payload.len()
                }
                Self::Session(s) => s.client.len() + s.change.len(),
                Self::Output(o) => o.query.len() + o.payload.len(),
                Self::Tick(_) => 0,
                Self::Gap(g) => g.source.len(),
            }
    }
}
