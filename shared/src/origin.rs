//! Where a record was before: the identity that another gateway gave it, by which the second copy
//! is known. It stands before the envelope of a record that came from another gateway:
//!
//! ```text
//! byte 0      version (2)
//! byte 1..    postcard of `Origin`, postcard of `Envelope`
//! ```

use serde::{Deserialize, Serialize};

use crate::envelope::{Envelope, EnvelopeError};

/// The version of a record that has an origin.
pub const VERSION: u8 = 2;

/// Names of user properties of MQTT 5 between gateways; see WIRE.md.
pub mod property {
    /// What all of them begin with.
    pub const PREFIX: &str = "hw.";
    /// The gateway's id; in CONNACK the id that this connection may speak for.
    pub const GATEWAY: &str = "hw.gateway";
    /// Its data directory: offsets are dense within one.
    pub const INCARNATION: &str = "hw.incarnation";
    /// The stream.
    pub const STREAM: &str = "hw.stream";
    /// The topic of the route as it is configured: two routes of a stream are two sequences.
    pub const ROUTE: &str = "hw.route";
    /// The offset in its journal.
    pub const OFFSET: &str = "hw.offset";
    /// The last offset that it stands for, where that is another.
    pub const LAST: &str = "hw.last";
    /// Which row of the record, where it has rows.
    pub const INDEX: &str = "hw.index";
    /// Event time, ms since 1970.
    pub const TIME: &str = "hw.time";
    /// The stream's key.
    pub const KEY: &str = "hw.key";
    /// The topic that it came on, where it goes on another.
    pub const TOPIC: &str = "hw.topic";
    /// It says that something is missing, and why.
    pub const GAP: &str = "hw.gap";
    /// Where it entered its first journal, if that was another's.
    pub const ORIGIN: &str = "hw.origin";
    /// In CONNACK: what of a route is here already.
    pub const REACHED: &str = "hw.reached";
}

/// The identity of a record at the gateway that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin<'a> {
    /// That gateway.
    pub gateway: &'a str,
    /// Its data directory: offsets are dense within one.
    pub incarnation: &'a str,
    /// The stream there.
    pub stream: &'a str,
    /// The topic of its route, as configured there.
    pub route: &'a str,
    /// The offset in its journal.
    pub offset: u64,
    /// The last offset that it stands for.
    pub last: u64,
    /// Which row of the record, where it has rows.
    pub index: Option<u32>,
    /// Where it entered its first journal, if that was another's still.
    #[serde(borrow)]
    pub first: Option<&'a str>,
}

impl<'a> Origin<'a> {
    /// The origin of a record, if it has one.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).ok(),
            _ => None,
        }
    }

    /// Writes the origin and the envelope into `buffer` and returns the bytes used.
    ///
    /// # Errors
    /// [`EnvelopeError::NoRoom`] if `buffer` is too small.
    pub fn encode<'b>(
        &self,
        envelope: &Envelope<'_>,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], EnvelopeError> {
        let (version, rest) = buffer.split_first_mut().ok_or(EnvelopeError::NoRoom)?;
        *version = VERSION;
        let origin = postcard::to_slice(self, rest).map_err(|_| EnvelopeError::NoRoom)?.len();
        let rest = &mut rest[origin..];
        let used = postcard::to_slice(envelope, rest).map_err(|_| EnvelopeError::NoRoom)?.len();
        Ok(&buffer[..1 + origin + used])
    }

    /// An upper bound of the encoded size, for a buffer.
    pub fn size_max(&self) -> usize {
        const FIXED: usize = 64;
        FIXED
            + self.gateway.len()
            + self.incarnation.len()
            + self.stream.len()
            + self.route.len()
            + self.first.map_or(0, str::len)
    }
}

/// What stands behind the origin in the bytes after the version.
pub(crate) fn skip(rest: &[u8]) -> Result<&[u8], EnvelopeError> {
    postcard::take_from_bytes::<Origin<'_>>(rest)
        .map(|(_, envelope)| envelope)
        .map_err(|_| EnvelopeError::Malformed)
}
