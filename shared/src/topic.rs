//! The topics a node and its gateway meet on, below [`PREFIX`].

use core::fmt::Write;
use heapless::String;

/// Every node topic starts with this: name and version of the wire.
pub const PREFIX: &str = "headwater/v1/";

/// The longest node id, in bytes. Leaves room for the topic within minimq's limits.
pub const NODE_ID_MAX: usize = 32;

/// The longest topic that [`topic`] makes.
pub const TOPIC_MAX: usize = PREFIX.len() + NODE_ID_MAX + 1 + 8;

/// What a node and its gateway talk about; the last level of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Series blocks, QoS 1, node to gateway.
    Blocks,
    /// Retained presence, with a will that says offline.
    Status,
    /// Retained: boot epoch, firmware, channels.
    Announce,
    /// Time request, node to gateway; the response comes on the response topic that MQTT 5 names,
    /// or on `.../time/reply`.
    Time,
    /// The gateway's answer to a time request.
    TimeReply,
    /// defmt frames.
    Logs,
    /// Commands, gateway to node.
    Command,
}

impl Subject {
    /// The levels after the node id.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Status => "status",
            Self::Announce => "announce",
            Self::Time => "time",
            Self::TimeReply => "time/reply",
            Self::Logs => "logs",
            Self::Command => "command",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [
            Self::Blocks,
            Self::Status,
            Self::Announce,
            Self::Time,
            Self::TimeReply,
            Self::Logs,
            Self::Command,
        ]
        .into_iter()
        .find(|subject| subject.as_str() == text)
    }
}

/// True for an id that can be one level of a topic: 1 to [`NODE_ID_MAX`] of `A-Z a-z 0-9 - _ .`.
pub fn is_node_id(id: &str) -> bool {
    (1..=NODE_ID_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The topic of `subject` for `node`; `None` if `node` is not a node id.
pub fn topic(node: &str, subject: Subject) -> Option<String<{ TOPIC_MAX + 4 }>> {
    if !is_node_id(node) {
        return None;
    }
    let mut text = String::new();
    write!(text, "{PREFIX}{node}/{}", subject.as_str()).ok()?;
    Some(text)
}

/// Takes a topic apart; `None` if it is not a node topic.
pub fn parse(topic: &str) -> Option<(&str, Subject)> {
    let (node, subject) = topic.strip_prefix(PREFIX)?.split_once('/')?;
    is_node_id(node).then_some(())?;
    Some((node, Subject::parse(subject)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_made_is_a_topic_parsed() {
        for subject in [Subject::Blocks, Subject::TimeReply, Subject::Announce, Subject::Command] {
            let text = topic("pump-7", subject).unwrap();
            assert_eq!(parse(&text), Some(("pump-7", subject)));
        }
    }

    #[test]
    fn an_id_that_would_split_the_topic_is_refused() {
        for id in ["", "a/b", "a+b", "#", "ümlaut", "123456789012345678901234567890123"] {
            assert_eq!(topic(id, Subject::Blocks), None, "{id}");
        }
        assert_eq!(parse("headwater/v1/a/unknown"), None);
        assert_eq!(parse("headwater/v2/a/blocks"), None);
    }
}
