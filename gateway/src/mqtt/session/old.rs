//! Version 1 of what the journal and the snapshots hold of sessions: in flight there was nothing
//! but QoS 1. It is read for ever and no longer written.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::change::Subscription;
use super::position::{self, Phase};
use super::stored;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InFlight {
    pub(crate) offset: u64,
    pub(crate) id: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) next: u64,
    pub(crate) in_flight: Vec<InFlight>,
}

impl From<Position> for position::Position {
    fn from(old: Position) -> Self {
        let entry = |e: InFlight| {
            let (offset, id) = (e.offset, e.id);
            position::InFlight { offset, id, phase: Phase::Once, retain: false }
        };
        Self { next: old.next, in_flight: old.in_flight.into_iter().map(entry).collect() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) expiry_s: u32,
    pub(crate) detached_ms: Option<i64>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) position: Position,
    pub(crate) open: BTreeSet<u16>,
}

impl From<Stored> for stored::Stored {
    fn from(old: Stored) -> Self {
        Self {
            expiry_s: old.expiry_s,
            detached_ms: old.detached_ms,
            subscriptions: old.subscriptions,
            position: old.position.into(),
            open: old.open,
            received: BTreeSet::new(),
        }
    }
}
