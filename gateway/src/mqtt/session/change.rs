//! What the journal holds of sessions, and a session as it follows from those records.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A session that never expires.
pub(crate) const FOREVER_S: u32 = u32::MAX;

/// Acknowledged by nobody yet: the offset of the record, and the packet id it was sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InFlight {
    pub(crate) offset: u64,
    pub(crate) id: u16,
}

/// How far a session has read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The offset of the next record to look at.
    pub(crate) next: u64,
    /// Sent and not acknowledged, oldest first.
    pub(crate) in_flight: Vec<InFlight>,
}

/// A subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscription {
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
    Position(Position),
    /// The connection has ended, the session goes on.
    Detach {
        at_ms: i64,
        expiry_s: u32,
        position: Position,
    },
    End,
}

impl Change {
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a Vec takes any length")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// A session that outlives its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) expiry_s: u32,
    /// When its last connection ended; `None` while it is connected, or was when the gateway died.
    pub(crate) detached_ms: Option<i64>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) position: Position,
    /// QoS 2 packet ids whose message is stored and not released.
    pub(crate) open: BTreeSet<u16>,
}

impl Stored {
    /// A session that a [`Change::Begin`] at `offset` starts.
    pub(crate) fn begin(expiry_s: u32, offset: u64) -> Self {
        let position = Position { next: offset, in_flight: Vec::new() };
        Self { expiry_s, position, ..Self::default() }
    }

    /// Takes a change over that is neither begin nor end; `offset` is that of its record.
    pub(crate) fn apply(&mut self, change: Change, offset: u64) {
        match change {
            Change::Begin { .. } | Change::End => {}
            Change::Resume { expiry_s } => {
                self.expiry_s = expiry_s;
                self.detached_ms = None;
            }
            Change::Subscribe(added) => {
                if self.subscriptions.is_empty() {
                    self.position.next = offset;
                }
                for subscription in added {
                    put(&mut self.subscriptions, Subscription { since: offset, ..subscription });
                }
            }
            Change::Unsubscribe(filters) => {
                self.subscriptions.retain(|s| !filters.contains(&s.filter));
            }
            Change::Release(id) => {
                self.open.remove(&id);
            }
            Change::Position(position) => self.position = position,
            Change::Detach { at_ms, expiry_s, position } => {
                self.detached_ms = Some(at_ms);
                self.expiry_s = expiry_s;
                self.position = position;
            }
        }
    }

    /// True once the time that the client asked for has passed since its connection ended.
    pub(crate) fn expired(&self, now_ms: i64) -> bool {
        match self.detached_ms {
            Some(at_ms) if self.expiry_s != FOREVER_S => {
                now_ms.saturating_sub(at_ms) >= i64::from(self.expiry_s) * 1000
            }
            _ => false,
        }
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
mod tests {
    use super::*;

    fn subscription(filter: &str) -> Subscription {
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
        let position = Position { next: 9, in_flight: vec![InFlight { offset: 3, id: 1 }] };
        for change in [
            Change::Begin { expiry_s: 60 },
            Change::Subscribe(vec![subscription("a/+")]),
            Change::Detach { at_ms: -1, expiry_s: FOREVER_S, position },
            Change::End,
        ] {
            assert_eq!(Change::decode(&change.encode()), Some(change));
        }
        assert_eq!(Change::decode(&[200]), None);
    }

    #[test]
    fn frozen_changes_keep_their_bytes() {
        assert_eq!(Change::Release(300).encode(), [4, 0xAC, 0x02]);
        let position = Position { next: 300, in_flight: vec![InFlight { offset: 1, id: 2 }] };
        assert_eq!(Change::Position(position).encode(), [5, 0xAC, 0x02, 1, 1, 2]);
        assert_eq!(
            Change::Subscribe(vec![subscription("a")]).encode(),
            [2, 1, 1, b'a', 1, 0, 0, 1, 7, 0]
        );
    }

    #[test]
    fn a_session_expires_only_after_its_connection_ended() {
        let mut stored = Stored::begin(10, 0);
        assert!(!stored.expired(i64::MAX));
        let position = Position::default();
        stored.apply(Change::Detach { at_ms: 1_000, expiry_s: 10, position }, 5);
        assert!(!stored.expired(10_999) && stored.expired(11_000));
        stored.apply(Change::Resume { expiry_s: 10 }, 6);
        assert!(!stored.expired(i64::MAX));
    }

    #[test]
    fn the_first_subscription_sets_the_position_and_later_ones_leave_it() {
        let mut stored = Stored::begin(10, 0);
        stored.apply(Change::Subscribe(vec![subscription("a")]), 40);
        stored.apply(Change::Subscribe(vec![subscription("b"), subscription("a")]), 50);
        assert_eq!(stored.position.next, 40);
        let since: Vec<u64> = stored.subscriptions.iter().map(|s| s.since).collect();
        assert_eq!(since, [40, 50]);
    }
}
