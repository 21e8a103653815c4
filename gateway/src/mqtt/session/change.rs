//! What the journal holds of sessions.

use serde::{Deserialize, Serialize};

use super::old;
use super::position::Position;
use crate::mqtt::packet::Will;

/// A subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscription {
    /// As the client wrote it, `$share/...` included.
    pub(crate) filter: String,
    /// The QoS that was granted.
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) identifier: Option<u32>,
    /// Records from this offset on are for it; what was retained before is sent on SUBSCRIBE.
    pub(crate) since: u64,
}

/// A change of a session, as it stands in the journal: postcard of this enum. Variants and fields
/// are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// A new session; whatever was there under this client id is gone.
    Begin {
        expiry_s: u32,
    },
    /// The client is back.
    Resume {
        expiry_s: u32,
    },
    /// Its `since` is the offset of this record.
    Subscribe(Vec<Subscription>),
    Unsubscribe(Vec<String>),
    /// PUBREL: the packet id may be used again.
    Release(u16),
    /// Version 1 of [`Change::Reached`].
    Reached1(old::Position),
    /// Version 1 of [`Change::Detach`].
    Detach1 {
        at_ms: i64,
        expiry_s: u32,
        position: old::Position,
    },
    End,
    /// PUBREC: the client has the message of the record at this offset, which is not sent again.
    Received(u64),
    /// How far the session has come.
    Reached(Position),
    /// The connection has ended, the session goes on.
    Detach {
        at_ms: i64,
        expiry_s: u32,
        position: Position,
    },
    /// What is published if the client goes without saying so; `None`: it said so, or it is
    /// published.
    Will(Option<StoredWill>),
}

/// A will, as it waits for its client to go or for its delay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredWill {
    pub(crate) will: Will,
    /// When it is to be published, ms since 1970; `None` while its client is connected, or was when
    /// the gateway died.
    pub(crate) due_ms: Option<i64>,
    /// How long the session outlives the connection, which bounds the delay.
    pub(crate) expiry_s: u32,
}

impl StoredWill {
    /// Seconds from the end of the connection to the publication (5, 3.1.3.2.2).
    pub(crate) fn delay_s(&self) -> u32 {
        self.will.delay_s.min(self.expiry_s)
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.will.topic.len() + self.will.payload.len() + self.will.properties.len()
    }
}

impl Change {
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a Vec takes any length")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// Adds a subscription or replaces the one of the same filter; true if there was none.
pub(crate) fn put(subscriptions: &mut Vec<Subscription>, added: Subscription) -> bool {
    match subscriptions.iter_mut().find(|s| s.filter == added.filter) {
        Some(known) => {
            // What was not delivered yet under the old one still is: the position is older.
            *known = Subscription { since: known.since.min(added.since), ..added };
            false
        }
        None => {
            subscriptions.push(added);
            true
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::mqtt::session::position::{InFlight, Phase};
    use crate::mqtt::session::stored::FOREVER_S;

    pub(crate) fn subscription(filter: &str) -> Subscription {
        Subscription {
            filter: filter.to_owned(),
            qos: 1,
            no_local: false,
            retain_as_published: false,
            identifier: Some(7),
            since: 0,
        }
    }

    #[test]
    fn changes_read_back_as_they_were_written() {
        let in_flight = vec![InFlight::new(3, Phase::Sent, true)];
        let position = Position { next: 9, in_flight };
        for change in [
            Change::Begin { expiry_s: 60 },
            Change::Subscribe(vec![subscription("a/+")]),
            Change::Detach { at_ms: -1, expiry_s: FOREVER_S, position },
            Change::Will(None),
            Change::End,
        ] {
            assert_eq!(Change::decode(&change.encode()), Some(change));
        }
        assert_eq!(Change::decode(&[200]), None);
    }

    #[test]
    fn frozen_changes_keep_their_bytes() {
        assert_eq!(Change::Release(300).encode(), [4, 0xAC, 0x02]);
        let in_flight = vec![InFlight::new(1, Phase::Released, true)];
        let position = Position { next: 300, in_flight };
        assert_eq!(Change::Reached(position).encode(), [9, 0xAC, 0x02, 1, 1, 2, 2, 1]);
        assert_eq!(Change::Received(300).encode(), [8, 0xAC, 0x02]);
        assert_eq!(
            Change::Subscribe(vec![subscription("a")]).encode(),
            [2, 1, 1, b'a', 1, 0, 0, 1, 7, 0]
        );
        let will = Will {
            topic: "w".to_owned(),
            payload: b"x".to_vec(),
            qos: 1,
            retain: true,
            delay_s: 300,
            properties: vec![1, 0],
        };
        let stored = StoredWill { will, due_ms: None, expiry_s: 5 };
        assert_eq!(
            Change::Will(Some(stored)).encode(),
            [11, 1, 1, b'w', 1, b'x', 1, 1, 0xAC, 0x02, 2, 1, 0, 0, 5]
        );
    }

    #[test]
    fn frozen_changes_of_version_1_still_read() {
        let old = old::Position { next: 300, in_flight: vec![old::InFlight { offset: 1, id: 2 }] };
        let change = Change::decode(&[5, 0xAC, 0x02, 1, 1, 2]);
        assert_eq!(change, Some(Change::Reached1(old.clone())));
        let in_flight = vec![InFlight::new(1, Phase::Once, false)];
        assert_eq!(Position::from(old), Position { next: 300, in_flight });
    }
}
