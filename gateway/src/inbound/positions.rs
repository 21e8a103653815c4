//! How far each source is, read from the records that it brought.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_shared::envelope::Envelope;
use serde::{Deserialize, Serialize};

use super::identity;
use crate::projection::{Entry, Projection};

/// The format of the snapshot.
const SNAPSHOT_VERSION: u8 = 1;

/// The next position of each source.
#[derive(Clone, Default)]
pub struct Positions {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    known: Known,
    /// All records of the journal below are counted.
    caught_up: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct Known {
    next: BTreeMap<String, u64>,
}

impl Known {
    fn reached(&mut self, source: &str, position: u64) {
        let after = position.saturating_add(1);
        match self.next.get_mut(source) {
            Some(next) => *next = after.max(*next),
            None => {
                self.next.insert(source.to_owned(), after);
            }
        }
    }
}

impl Positions {
    /// The projection that keeps them.
    pub fn projection(&self) -> Box<dyn Projection> {
        Box::new(self.clone())
    }

    /// The first position of `source` that the journal does not have; `None` if it has none.
    pub(super) fn next(&self, source: &str) -> Option<u64> {
        self.lock().known.next.get(source).copied()
    }

    /// The offset of the journal below which all is counted.
    pub(super) fn caught_up_to(&self) -> u64 {
        self.lock().caught_up
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Projection for Positions {
    fn name(&self) -> &'static str {
        "inbound"
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let known = match state.split_first() {
            Some((&SNAPSHOT_VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|problem| problem.to_string())?
            }
            _ => return Err("the positions of sources have another version".to_owned()),
        };
        self.lock().known = known;
        Ok(())
    }

    fn apply(&mut self, entries: &[Entry<'_>]) {
        let mut state = self.lock();
        for entry in entries {
            if let Some(Envelope::Publish(publish)) = &entry.envelope
                && let Some((source, position)) = identity::of(publish)
            {
                state.known.reached(source, position);
            }
        }
    }

    fn caught_up(&mut self, position: u64) {
        self.lock().caught_up = position;
    }

    fn snapshot(&self) -> Vec<u8> {
        let state = self.lock();
        postcard::to_extend(&state.known, vec![SNAPSHOT_VERSION]).expect("a Vec takes any length")
    }
}

#[cfg(test)]
mod tests {
    use headwater_shared::envelope::Publish;

    use super::*;
    use crate::journal::Record;

    fn record(source: &str, position: u64) -> Record {
        let mut properties = Vec::new();
        identity::put(&mut properties, source, position);
        let envelope = Envelope::Publish(Publish {
            topic: "t",
            client: "",
            arrival_ms: 0,
            qos: 1,
            retain: false,
            packet_id: None,
            properties: &properties,
            rejected: None,
            payload: b"x",
        });
        let mut value = vec![0; envelope.size_max()];
        let used = envelope.encode(&mut value).expect("an upper bound").len();
        value.truncate(used);
        let key = "".into();
        Record { offset: 0, partition: 1, time_ms: 0, key, value: value.into() }
    }

    #[test]
    fn positions_follow_from_the_records_and_survive_a_snapshot() {
        let mut positions = Positions::default();
        for (source, position) in [("a", 4), ("b", 0), ("a", 5), ("a", 2)] {
            positions.apply(&[Entry::of(&record(source, position))]);
        }
        let mut restored = Positions::default();
        restored.restore(&positions.snapshot()).expect("our own");
        for positions in [&positions, &restored] {
            assert_eq!(positions.next("a"), Some(6));
            assert_eq!(positions.next("b"), Some(1));
            assert_eq!(positions.next("c"), None);
        }
        assert!(restored.restore(&[9]).is_err());
    }
}
