//! What the front door knows from the journal: retained messages, and the sessions that outlive
//! their connections with their subscriptions, positions and open QoS 2 packet ids.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_shared::envelope::{Envelope, Publish};
use serde::{Deserialize, Serialize};

use super::session::{Change, OldStored, Position, Stored, StoredWill};
use super::share;
use crate::projection::{Entry, Projection};
use crate::stream::filter_matches;

/// Retained messages that are kept, and bytes of them; what comes above is delivered and stored as
/// any message, but not retained.
const RETAINED_MAX: usize = 100_000;
const RETAINED_BYTES_MAX: usize = 64 << 20;

/// Topics that one call looks at while it holds the state.
const SCAN_MAX: usize = 2_000;

/// The format of the snapshot. Version 1 had no wills and no shared subscriptions.
const SNAPSHOT_VERSION: u8 = 2;

/// The last message of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retained {
    /// Of its record.
    pub(crate) offset: u64,
    /// The encoded envelope, so that it outlives the record.
    value: Box<[u8]>,
}

impl Retained {
    /// Calls `with` with the message; not for an envelope that this version does not know.
    pub(crate) fn with<T>(&self, with: impl FnOnce(&Publish<'_>) -> T) -> Option<T> {
        match Envelope::decode(&self.value) {
            Ok(Envelope::Publish(publish)) => Some(with(&publish)),
            _ => None,
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Inner {
    retained: BTreeMap<String, Retained>,
    retained_bytes: usize,
    refused: u64,
    sessions: BTreeMap<String, Stored>,
    /// By client, of connected ones too.
    wills: BTreeMap<String, StoredWill>,
    wills_bytes: usize,
    /// How far shared subscriptions have come, by filter.
    shares: BTreeMap<String, Position>,
}

/// Version 1 of the snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct OldInner {
    retained: BTreeMap<String, Retained>,
    retained_bytes: usize,
    refused: u64,
    sessions: BTreeMap<String, OldStored>,
}

impl From<OldInner> for Inner {
    fn from(old: OldInner) -> Self {
        let sessions = old.sessions.into_iter().map(|(client, stored)| (client, stored.into()));
        Self {
            retained: old.retained,
            retained_bytes: old.retained_bytes,
            refused: old.refused,
            sessions: sessions.collect(),
            ..Self::default()
        }
    }
}

/// Counts for the page and the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StateCounts {
    /// Topics with a retained message.
    pub retained: usize,
    /// Bytes of these.
    pub retained_bytes: usize,
    /// Messages that could not be retained for want of room.
    pub retained_refused: u64,
    /// Sessions that outlive their connections.
    pub sessions: usize,
    /// Those of them that are connected.
    pub sessions_connected: usize,
    /// Their subscriptions.
    pub subscriptions: usize,
}

/// The front door's state; connections and the journal's follower share it.
#[derive(Debug, Default)]
pub struct MqttState {
    inner: Mutex<Inner>,
}

impl MqttState {
    /// The projection that keeps it up to date.
    pub fn projection(self: &Arc<Self>) -> Box<dyn Projection> {
        Box::new(StateProjection(Arc::clone(self)))
    }

    /// Counts for the page and the metrics.
    pub fn counts(&self) -> StateCounts {
        let inner = self.lock();
        StateCounts {
            retained: inner.retained.len(),
            retained_bytes: inner.retained_bytes,
            retained_refused: inner.refused,
            sessions: inner.sessions.len(),
            sessions_connected: inner.sessions.values().filter(|s| s.is_attached()).count(),
            subscriptions: inner.sessions.values().map(|s| s.subscriptions.len()).sum(),
        }
    }

    /// The recorded session of a client.
    pub(crate) fn session(&self, client: &str) -> Option<Stored> {
        self.lock().sessions.get(client).cloned()
    }

    /// The will that is kept for a client.
    pub(crate) fn will(&self, client: &str) -> Option<StoredWill> {
        self.lock().wills.get(client).cloned()
    }

    /// All wills; after a start none of their clients is connected.
    pub(crate) fn wills(&self) -> Vec<(String, StoredWill)> {
        let inner = self.lock();
        inner.wills.iter().map(|(client, will)| (client.clone(), will.clone())).collect()
    }

    /// Bytes of all wills.
    pub(crate) fn wills_bytes(&self) -> usize {
        self.lock().wills_bytes
    }

    /// How far the shared subscription `filter` has come, if that is recorded.
    pub(crate) fn share(&self, filter: &str) -> Option<Position> {
        self.lock().shares.get(filter).cloned()
    }

    /// True if a recorded session other than that of `client` holds the shared subscription
    /// `filter`, whose position is then recorded.
    pub(crate) fn is_share_held(&self, filter: &str, client: &str) -> bool {
        let inner = self.lock();
        inner.shares.contains_key(filter)
            && inner.sessions.iter().any(|(holder, stored)| {
                holder != client && stored.subscriptions.iter().any(|s| s.filter == filter)
            })
    }

    /// The shared subscriptions that are recorded and that no recorded session holds.
    pub(crate) fn unheld_shares(&self) -> Vec<String> {
        let inner = self.lock();
        let held = |filter: &str| {
            inner.sessions.values().any(|s| s.subscriptions.iter().any(|s| s.filter == filter))
        };
        inner.shares.keys().filter(|filter| !held(filter)).cloned().collect()
    }

    /// How many sessions are recorded.
    pub(crate) fn sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Clients whose session is over, or of whom nobody knows since when they are away.
    pub(crate) fn overdue(&self, now_ms: i64) -> Vec<(String, Overdue)> {
        let inner = self.lock();
        let overdue = inner.sessions.iter().filter_map(|(client, stored)| {
            if stored.expired(now_ms) {
                Some((client.clone(), Overdue::Expired))
            } else if stored.detached_ms.is_none() {
                Some((client.clone(), Overdue::Undetached))
            } else {
                None
            }
        });
        overdue.collect()
    }

    /// Retained messages that match `filter`, after the topic `after`, at most `count` and with
    /// offsets below `end`. The topic is where to go on; none at the end.
    pub(crate) fn retained(
        &self,
        filter: &str,
        after: Option<&str>,
        end: u64,
        count: usize,
    ) -> (Vec<Retained>, Option<String>) {
        let inner = self.lock();
        // All that match start with what the filter says before its first wildcard.
        let literal = &filter[..filter.find(['+', '#']).unwrap_or(filter.len())];
        let prefix = literal.strip_suffix('/').unwrap_or(literal);
        let from = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let mut found = Vec::new();
        let range = inner.retained.range::<str, _>((from, Bound::Unbounded));
        for (seen, (topic, retained)) in range.enumerate() {
            if !topic.starts_with(prefix) {
                return (found, None);
            }
            if retained.offset < end && filter_matches(filter, topic) {
                found.push(retained.clone());
            }
            if found.len() >= count || seen >= SCAN_MAX {
                return (found, Some(topic.clone()));
            }
        }
        (found, None)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a session is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Its time is over.
    Expired,
    /// The gateway died while its client was connected.
    Undetached,
}

impl Inner {
    fn retain(&mut self, offset: u64, publish: &Publish<'_>, value: &[u8]) {
        if let Some(old) = self.retained.remove(publish.topic) {
            self.retained_bytes -= old.value.len() + publish.topic.len();
        }
        if publish.payload.is_empty() {
            return;
        }
        let bytes = value.len() + publish.topic.len();
        if self.retained.len() >= RETAINED_MAX || self.retained_bytes + bytes > RETAINED_BYTES_MAX {
            self.refused += 1;
            return;
        }
        self.retained_bytes += bytes;
        self.retained.insert(publish.topic.to_owned(), Retained { offset, value: value.into() });
    }

    fn change(&mut self, client: &str, change: Change, offset: u64) {
        if share::is_shared(client) {
            match change {
                Change::Reached(position) => {
                    self.shares.insert(client.to_owned(), position);
                }
                _ => {
                    self.shares.remove(client);
                }
            }
            return;
        }
        match change {
            Change::Will(will) => self.keep_will(client, will),
            Change::Begin { expiry_s } => {
                self.sessions.insert(client.to_owned(), Stored::begin(expiry_s, offset));
            }
            Change::End => {
                self.sessions.remove(client);
            }
            other => {
                if let Some(stored) = self.sessions.get_mut(client) {
                    stored.apply(other, offset);
                }
            }
        }
    }
}

impl Inner {
    fn keep_will(&mut self, client: &str, will: Option<StoredWill>) {
        if let Some(old) = self.wills.remove(client) {
            self.wills_bytes -= old.bytes();
        }
        if let Some(will) = will {
            self.wills_bytes += will.bytes();
            self.wills.insert(client.to_owned(), will);
        }
    }
}

struct StateProjection(Arc<MqttState>);

impl Projection for StateProjection {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let inner = match state.split_first() {
            Some((&SNAPSHOT_VERSION, rest)) => postcard::from_bytes(rest),
            Some((1, rest)) => postcard::from_bytes::<OldInner>(rest).map(Inner::from),
            _ => return Err("the state of the front door has another version".to_owned()),
        };
        *self.0.lock() = inner.map_err(|problem| problem.to_string())?;
        Ok(())
    }

    fn apply(&mut self, entries: &[Entry<'_>]) {
        let mut inner = self.0.lock();
        for Entry { record, envelope } in entries {
            match envelope {
                Some(Envelope::Publish(publish)) => {
                    if publish.retain {
                        inner.retain(record.offset, publish, &record.value);
                    }
                    if let (2, Some(id)) = (publish.qos, publish.packet_id)
                        && let Some(stored) = inner.sessions.get_mut(publish.client)
                    {
                        stored.open.insert(id);
                    }
                }
                Some(Envelope::Session(session)) => {
                    if let Some(change) = Change::decode(session.change) {
                        inner.change(session.client, change, record.offset);
                    }
                }
                _ => {}
            }
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        postcard::to_extend(&*self.0.lock(), vec![SNAPSHOT_VERSION])
            .expect("a Vec takes any length")
    }
}

#[cfg(test)]
mod tests {
    use headwater_shared::envelope::Session;

    use super::*;
    use crate::journal::Record;
    use crate::mqtt::packet::Will;
    use crate::mqtt::session::{InFlight, Phase};

    struct Bench {
        state: Arc<MqttState>,
        projection: Box<dyn Projection>,
        offset: u64,
    }

    impl Bench {
        fn new() -> Self {
            let state = Arc::new(MqttState::default());
            Self { projection: state.projection(), state, offset: 0 }
        }

        fn apply(&mut self, envelope: &Envelope<'_>) {
            let mut buffer = vec![0; envelope.size_max()];
            let value = envelope.encode(&mut buffer).expect("room").to_vec().into();
            let (key, partition, time_ms) = (bytes::Bytes::new(), 0, 0);
            let record = Record { offset: self.offset, partition, time_ms, key, value };
            self.projection.apply(&[Entry::of(&record)]);
            self.offset += 1;
        }

        fn publish(&mut self, topic: &str, payload: &[u8], packet_id: Option<u16>) {
            self.apply(&Envelope::Publish(Publish {
                topic,
                client: "c",
                arrival_ms: 0,
                qos: if packet_id.is_some() { 2 } else { 1 },
                retain: packet_id.is_none(),
                packet_id,
                properties: &[],
                rejected: None,
                payload,
            }));
        }

        fn change(&mut self, change: &Change) {
            let change = change.encode();
            self.apply(&Envelope::Session(Session { client: "c", change: &change }));
        }

        fn topics(&self, filter: &str, end: u64) -> Vec<String> {
            let mut topics = Vec::new();
            let mut after = None;
            loop {
                let (found, next) = self.state.retained(filter, after.as_deref(), end, 2);
                let names = found.iter().filter_map(|r| r.with(|p| p.topic.to_owned()));
                topics.extend(names);
                after = next;
                if after.is_none() {
                    return topics;
                }
            }
        }
    }

    #[test]
    fn the_last_retained_message_of_a_topic_is_kept_and_an_empty_one_removes_it() {
        let mut bench = Bench::new();
        for topic in ["a/1", "a/2", "b", "a", "a/1", "$SYS/x", "ab/c"] {
            bench.publish(topic, b"x", None);
        }
        assert_eq!(bench.topics("a/#", 100), ["a", "a/1", "a/2"]);
        assert_eq!(bench.topics("#", 100), ["a", "a/1", "a/2", "ab/c", "b"]);
        assert_eq!(bench.topics("+/1", 100), ["a/1"]);
        assert_eq!(bench.topics("a/#", 4), ["a", "a/2"], "a/1 was written again at 4");
        bench.publish("a/1", b"", None);
        assert_eq!(bench.topics("a/+", 100), ["a/2"]);
        assert_eq!(bench.state.counts().retained, 5);
    }

    #[test]
    fn an_open_packet_id_is_known_until_its_release_and_only_to_a_session_that_lasts() {
        let mut bench = Bench::new();
        bench.publish("t", b"x", Some(7));
        assert_eq!(bench.state.session("c"), None);
        bench.change(&Change::Begin { expiry_s: 60 });
        bench.publish("t", b"x", Some(7));
        bench.publish("t", b"x", Some(8));
        bench.change(&Change::Release(7));
        let stored = bench.state.session("c").expect("begun");
        assert_eq!(stored.open.into_iter().collect::<Vec<_>>(), [8]);
        bench.change(&Change::End);
        assert_eq!(bench.state.sessions(), 0);
    }

    #[test]
    fn a_snapshot_restores_all_of_it() {
        let mut bench = Bench::new();
        bench.publish("a", b"x", None);
        bench.change(&Change::Begin { expiry_s: 60 });
        bench.change(&Change::Will(Some(will())));
        bench.publish("t", b"x", Some(7));
        let snapshot = bench.projection.snapshot();
        let other = Arc::new(MqttState::default());
        let mut projection = other.projection();
        projection.restore(&snapshot).expect("our own bytes");
        assert_eq!(*other.lock(), *bench.state.lock());
        assert!(projection.restore(&[9, 9]).is_err());
    }

    #[test]
    fn a_snapshot_of_version_1_still_restores() {
        let mut bytes = vec![1];
        // One retained message, 3 bytes, of topic "a" at offset 2; none refused.
        bytes.extend_from_slice(&[1, 1, b'a', 2, 3, 7, 7, 7, 4, 0]);
        // One session of "c": 60 s, connected, no subscription, next record 9, one message in
        // flight (offset 8, id 5), open packet id 7.
        bytes.extend_from_slice(&[1, 1, b'c', 60, 0, 0, 9, 1, 8, 5, 1, 7]);
        let state = Arc::new(MqttState::default());
        state.projection().restore(&bytes).expect("version 1");
        let counts = state.counts();
        assert_eq!((counts.retained, counts.retained_bytes, counts.sessions), (1, 4, 1));
        let stored = state.session("c").expect("the session");
        let (phase, retain) = (Phase::Once, false);
        let in_flight = vec![InFlight { offset: 8, id: 5, phase, retain }];
        assert_eq!(stored.position, Position { next: 9, in_flight });
        assert!(stored.open.contains(&7));
    }

    fn will() -> StoredWill {
        let (topic, payload) = ("w".to_owned(), b"gone".to_vec());
        let will = Will { topic, payload, qos: 1, retain: false, delay_s: 0, properties: vec![] };
        StoredWill { will, due_ms: None, expiry_s: 0 }
    }

    #[test]
    fn a_will_is_kept_until_it_is_taken_back_and_its_bytes_are_counted() {
        let mut bench = Bench::new();
        bench.change(&Change::Will(Some(will())));
        bench.change(&Change::Will(Some(will())));
        assert_eq!((bench.state.will("c"), bench.state.wills_bytes()), (Some(will()), 5));
        bench.change(&Change::Begin { expiry_s: 60 });
        assert_eq!(bench.state.wills().len(), 1, "a session that begins leaves it");
        bench.change(&Change::Will(None));
        assert_eq!((bench.state.will("c"), bench.state.wills_bytes()), (None, 0));
    }
}
