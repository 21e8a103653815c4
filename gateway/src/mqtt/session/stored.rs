//! A session that outlives its connections, as it follows from the journal's records.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::change::{Change, Subscription, put};
use super::position::Position;

/// A session that never expires.
pub(crate) const FOREVER_S: u32 = u32::MAX;

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
    /// Offsets of QoS 2 messages that the client said it has since the position was recorded.
    pub(crate) received: BTreeSet<u64>,
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
            Change::Begin { .. } | Change::End | Change::Will(_) => {}
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
            Change::Received(offset) => {
                self.received.insert(offset);
            }
            Change::Reached1(position) => self.reach(position.into()),
            Change::Reached(position) => self.reach(position),
            Change::Detach1 { at_ms, expiry_s, position } => {
                self.detach(at_ms, expiry_s);
                self.reach(position.into());
            }
            Change::Detach { at_ms, expiry_s, position } => {
                self.detach(at_ms, expiry_s);
                self.reach(position);
            }
        }
    }

    fn detach(&mut self, at_ms: i64, expiry_s: u32) {
        self.detached_ms = Some(at_ms);
        self.expiry_s = expiry_s;
    }

    /// What a client has of the records below the position, the position says itself.
    fn reach(&mut self, position: Position) {
        self.received.retain(|offset| *offset >= position.next);
        self.position = position;
    }

    /// True while its client is connected, or was when the gateway died.
    pub(crate) fn is_attached(&self) -> bool {
        self.detached_ms.is_none()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::session::change::tests::subscription;

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

    #[test]
    fn what_a_client_has_received_is_known_until_the_position_says_it() {
        let mut stored = Stored::begin(10, 0);
        for offset in [3, 9] {
            stored.apply(Change::Received(offset), 20);
        }
        stored.apply(Change::Reached(Position { next: 5, in_flight: Vec::new() }), 21);
        assert_eq!(stored.received.into_iter().collect::<Vec<_>>(), [9]);
    }
}
