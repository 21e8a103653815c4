//! What a node and its gateway tell each other beside blocks.
//!
//! ```text
//! byte 0      version (1)
//! byte 1..    postcard of the message
//! ```
//!
//! The topic says which message it is, see [`Message::SUBJECT`]. Bytes after the last field known
//! here are skipped, so a later wire may add fields at the end without a new version.

use core::ops::RangeInclusive;

use crate::block::{CHANNELS_MAX, SCALE_MAX};
use crate::topic::{NODE_ID_MAX, Subject, is_node_id};
use heapless::{String, Vec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version that [`encode`] writes.
pub const VERSION: u8 = 1;

/// The longest text of a message: a channel's name or unit, a firmware's version; in bytes.
pub const TEXT_MAX: usize = 32;

const U32_MAX: usize = 5;
const U64_MAX: usize = 10;
const TEXT_SIZE_MAX: usize = 1 + TEXT_MAX;

/// A node says what it is; retained, sent at every connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// The node id, as in the topic.
    pub node: String<NODE_ID_MAX>,
    /// Which start of the node this is.
    pub boot_epoch: u32,
    /// Name and version of what it runs.
    pub firmware: String<TEXT_MAX>,
    /// The channels, in the order of a block's values.
    pub channels: Vec<Channel, CHANNELS_MAX>,
}

/// One quantity that a node samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// The column at the gateway.
    pub name: String<TEXT_MAX>,
    /// The unit of the values; empty for a pure number.
    pub unit: String<TEXT_MAX>,
    /// Decimal places of the values, as in a block.
    pub scale: u8,
    /// The nominal time from sample to sample, in ms.
    pub period_ms: u32,
}

/// A node asks for the time; the gateway learns when the node started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRequest {
    /// Which start of the node this is.
    pub boot_epoch: u32,
    /// The node's clock at sending, ms since its start.
    pub uptime_ms: u64,
    /// Ties the response to the request.
    pub nonce: u32,
}

/// The gateway's answer to a [`TimeRequest`].
///
/// The gateway read its clock between the node's request and the arrival of the answer, so the node
/// started at most at `unix_ms - uptime_ms`, and earlier than that by a round trip at most. The way
/// back takes longer as a rule, for the answer waits for a commit: the node takes the latest, which
/// is also where the gateway places blocks of a clock that was not synchronised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeResponse {
    /// Of the request.
    pub nonce: u32,
    /// Of the request.
    pub uptime_ms: u64,
    /// The gateway's clock, ms since 1970.
    pub unix_ms: u64,
}

impl TimeResponse {
    /// When the node started, in ms since 1970, earliest and latest, if the response arrived at
    /// `now_ms` of the node's clock; `None` if the request would lie after its response or the
    /// node's start before 1970.
    pub fn boot_unix_ms(&self, now_ms: u64) -> Option<RangeInclusive<u64>> {
        let round_trip_ms = now_ms.checked_sub(self.uptime_ms)?;
        let latest = self.unix_ms.checked_sub(self.uptime_ms)?;
        Some(latest.saturating_sub(round_trip_ms)..=latest)
    }
}

/// A node's presence; retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Sent at every connect, and again when flash dropped blocks.
    Online {
        /// Which start of the node this is.
        boot_epoch: u32,
        /// Blocks in flash that wait to be acknowledged.
        blocks_waiting: u32,
        /// Blocks that the full flash overwrote since this start.
        blocks_dropped: u32,
        /// The newest run of blocks that it overwrote.
        gap: Option<NodeGap>,
    },
    /// The will: the connection ended without a word.
    Offline {
        /// Of the start that connected.
        boot_epoch: u32,
    },
}

/// A run of blocks of one boot epoch that a full flash ring overwrote before they were
/// acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeGap {
    /// The epoch of the blocks; not always the present one.
    pub boot_epoch: u32,
    /// The first block that is gone.
    pub first_sequence: u32,
    /// The last block that is gone.
    pub last_sequence: u32,
    /// Rows in those blocks.
    pub rows: u32,
}

/// Why bytes are no message, or a message no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// No bytes, or a version that this build does not know.
    Version(Option<u8>),
    /// The bytes after the version are not the message.
    Malformed,
    /// The message is read and breaks this rule.
    Invalid(&'static str),
    /// The buffer is too small; [`Message::SIZE_MAX`] bytes always do.
    NoRoom,
}

impl core::fmt::Display for MessageError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Version(Some(v)) => {
                write!(f, "message version {v} is not known: read it with a newer headwater")
            }
            Self::Version(None) => f.write_str("the message is empty"),
            Self::Malformed => f.write_str("the bytes are not such a message"),
            Self::Invalid(rule) => write!(f, "the message breaks a rule: {rule}"),
            Self::NoRoom => f.write_str("the message does not fit its buffer"),
        }
    }
}

impl core::error::Error for MessageError {}

/// A message with a topic of its own.
pub trait Message: Serialize + DeserializeOwned {
    /// The topic it travels on.
    const SUBJECT: Subject;
    /// The most bytes it takes, its version included.
    const SIZE_MAX: usize;

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// [`MessageError::Invalid`] with the rule.
    fn check(&self) -> Result<(), MessageError> {
        Ok(())
    }
}

impl Message for Announce {
    const SUBJECT: Subject = Subject::Announce;
    const SIZE_MAX: usize = 1
        + (1 + NODE_ID_MAX)
        + U32_MAX
        + TEXT_SIZE_MAX
        + 1
        + CHANNELS_MAX * (2 * TEXT_SIZE_MAX + 1 + U32_MAX);

    fn check(&self) -> Result<(), MessageError> {
        if !is_node_id(&self.node) {
            return Err(MessageError::Invalid("a node id is 1 to 32 of A-Z a-z 0-9 - _ ."));
        }
        if self.channels.is_empty() {
            return Err(MessageError::Invalid("a node has a channel"));
        }
        for (index, channel) in self.channels.iter().enumerate() {
            if channel.scale > SCALE_MAX {
                return Err(MessageError::Invalid("a scale is 0 to 9 decimal places"));
            }
            let is_taken = self.channels[..index].iter().any(|other| other.name == channel.name);
            if channel.name.is_empty() || is_taken {
                return Err(MessageError::Invalid("each channel has a name of its own"));
            }
        }
        Ok(())
    }
}

impl Message for TimeRequest {
    const SUBJECT: Subject = Subject::Time;
    const SIZE_MAX: usize = 1 + U32_MAX + U64_MAX + U32_MAX;
}

impl Message for TimeResponse {
    const SUBJECT: Subject = Subject::TimeReply;
    const SIZE_MAX: usize = 1 + U32_MAX + 2 * U64_MAX;
}

impl Message for Status {
    const SUBJECT: Subject = Subject::Status;
    const SIZE_MAX: usize = 1 + 1 + 3 * U32_MAX + 1 + 4 * U32_MAX;

    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Online { gap: Some(gap), .. } if gap.first_sequence > gap.last_sequence => {
                Err(MessageError::Invalid("a gap ends where it begins or later"))
            }
            _ => Ok(()),
        }
    }
}

/// Writes `message` into `buffer` and returns the bytes used.
///
/// # Errors
/// [`MessageError::Invalid`], [`MessageError::NoRoom`].
pub fn encode<'b, M: Message>(message: &M, buffer: &'b mut [u8]) -> Result<&'b [u8], MessageError> {
    message.check()?;
    let (version, rest) = buffer.split_first_mut().ok_or(MessageError::NoRoom)?;
    *version = VERSION;
    let used = postcard::to_slice(message, rest).map_err(|_| MessageError::NoRoom)?.len();
    Ok(&buffer[..=used])
}

/// Reads a message and checks it.
///
/// # Errors
/// [`MessageError::Version`], [`MessageError::Malformed`], [`MessageError::Invalid`].
pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, MessageError> {
    let message: M = match bytes.split_first() {
        Some((&VERSION, rest)) => {
            postcard::from_bytes(rest).map_err(|_| MessageError::Malformed)?
        }
        other => return Err(MessageError::Version(other.map(|(version, _)| *version))),
    };
    message.check()?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announce() -> Announce {
        let text = "12345678901234567890123456789012";
        let channel = |name| Channel {
            name: String::try_from(name).unwrap(),
            unit: String::try_from(text).unwrap(),
            scale: 9,
            period_ms: u32::MAX,
        };
        let names = ["1", "2", "3", "4", "5", "6", "7", text];
        Announce {
            node: String::try_from(text).unwrap(),
            boot_epoch: u32::MAX,
            firmware: String::try_from(text).unwrap(),
            channels: names.into_iter().map(channel).collect(),
        }
    }

    #[test]
    fn the_largest_messages_fit_their_size_max() {
        let mut largest = announce();
        for (index, channel) in largest.channels.iter_mut().enumerate() {
            channel.name = String::try_from("1234567890123456789012345678901").unwrap();
            channel.name.push(char::from(b'a' + index as u8)).unwrap();
        }
        let mut buffer = [0; Announce::SIZE_MAX];
        let bytes = encode(&largest, &mut buffer).unwrap();
        assert_eq!(bytes.len(), Announce::SIZE_MAX);
        assert_eq!(decode(bytes), Ok(largest));

        let gap = NodeGap {
            boot_epoch: u32::MAX,
            first_sequence: u32::MAX,
            last_sequence: u32::MAX,
            rows: u32::MAX,
        };
        let status = Status::Online {
            boot_epoch: u32::MAX,
            blocks_waiting: u32::MAX,
            blocks_dropped: u32::MAX,
            gap: Some(gap),
        };
        let mut buffer = [0; Status::SIZE_MAX];
        assert_eq!(encode(&status, &mut buffer).unwrap().len(), Status::SIZE_MAX);

        let request = TimeRequest { boot_epoch: u32::MAX, uptime_ms: u64::MAX, nonce: u32::MAX };
        let mut buffer = [0; TimeRequest::SIZE_MAX];
        assert_eq!(encode(&request, &mut buffer).unwrap().len(), TimeRequest::SIZE_MAX);

        let response = TimeResponse { nonce: u32::MAX, uptime_ms: u64::MAX, unix_ms: u64::MAX };
        let mut buffer = [0; TimeResponse::SIZE_MAX];
        assert_eq!(encode(&response, &mut buffer).unwrap().len(), TimeResponse::SIZE_MAX);
        assert_eq!(encode(&response, &mut buffer[1..]), Err(MessageError::NoRoom));
    }

    #[test]
    fn an_announcement_that_no_block_could_match_is_refused() {
        let mut buffer = [0; Announce::SIZE_MAX];
        let breaks: [fn(&mut Announce); 5] = [
            |a| a.node.clear(),
            |a| a.channels.clear(),
            |a| a.channels[0].scale = 10,
            |a| a.channels[1].name.clear(),
            |a| a.channels[1].name = a.channels[0].name.clone(),
        ];
        for breach in breaks {
            let mut message = announce();
            breach(&mut message);
            let bytes = encode(&message, &mut buffer);
            assert!(matches!(bytes, Err(MessageError::Invalid(_))), "{message:?}");
            let foreign = postcard::to_slice(&message, &mut buffer[1..]).unwrap().len();
            buffer[0] = VERSION;
            let read = decode::<Announce>(&buffer[..=foreign]);
            assert!(matches!(read, Err(MessageError::Invalid(_))), "{message:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        assert_eq!(decode::<Status>(&[]), Err(MessageError::Version(None)));
        assert_eq!(decode::<Status>(&[9, 0]), Err(MessageError::Version(Some(9))));
        assert_eq!(decode::<Status>(&[1, 7]), Err(MessageError::Malformed));
        assert_eq!(decode::<Status>(&[1, 1]), Err(MessageError::Malformed));
        // Nine channels, where there is room for eight.
        let mut nine = [0; 64];
        nine[..8].copy_from_slice(&[1, 1, b'a', 0, 0, 9, 0, 0]);
        assert_eq!(decode::<Announce>(&nine), Err(MessageError::Malformed));
    }

    #[test]
    fn fields_that_a_later_wire_adds_are_skipped() {
        let status = Status::Offline { boot_epoch: 5 };
        assert_eq!(decode(&[1, 1, 5, 77, 78]), Ok(status));
    }

    #[test]
    fn the_boot_time_is_known_to_a_round_trip() {
        let response = TimeResponse { nonce: 1, uptime_ms: 5_000, unix_ms: 1_000_000 };
        assert_eq!(response.boot_unix_ms(5_040), Some(994_960..=995_000));
        assert_eq!(response.boot_unix_ms(4_999), None);
        let early = TimeResponse { unix_ms: 4_999, ..response };
        assert_eq!(early.boot_unix_ms(5_040), None);
    }
}
