//! Gateways in front of this one: which of their records are here, so that each comes in once.
//!
//! A gateway that forwards over MQTT gives each record the identity that it has in its journal, and
//! sends a route in order. That identity is stored with the record here, so what is here follows
//! from the journal. `state` is the pure core; as with nodes it exists twice: the door's view runs
//! ahead with what was appended (`Chain::live`), the projection follows what is durable and is
//! what a restart finds.

mod relayed;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_shared::origin::Origin;

pub use relayed::Relayed;
pub(crate) use relayed::read_gap;
pub(crate) use state::{Reached, Verdict};

use crate::journal::Durable;
use crate::projection::{Entry, Projection};
use state::State;

/// All gateways that send here.
#[derive(Default)]
pub struct Chain {
    live: Mutex<LiveState>,
    projected: Mutex<Projected>,
}

#[derive(Default)]
struct LiveState {
    state: State,
    /// The generation of the journal that `state` is true for; `None` before the first use.
    generation: Option<u64>,
}

#[derive(Default)]
struct Projected {
    state: State,
    position: u64,
}

/// The door's view, held while a record is admitted and appended, so that no other connection of
/// the same gateway comes between.
pub(crate) struct Live<'a> {
    guard: MutexGuard<'a, LiveState>,
}

impl Chain {
    /// The projection that keeps and restores what is here.
    pub fn projection(self: &Arc<Self>) -> Box<dyn Projection> {
        Box::new(ChainProjection { chain: Arc::clone(self) })
    }

    /// Opens the door's view on what the projection restored; before the first message.
    pub fn open(&self, durable: Durable) {
        let mut live = lock(&self.live);
        live.state = lock(&self.projected).state.clone();
        live.generation = Some(durable.generation);
    }

    /// The door's view; `None` while it is not known what a failed commit left on disk.
    pub(crate) fn live(&self, durable: Durable) -> Option<Live<'_>> {
        let mut guard = lock(&self.live);
        if guard.generation != Some(durable.generation) {
            let projected = lock(&self.projected);
            if projected.position < durable.end {
                return None;
            }
            guard.state = projected.state.clone();
            guard.generation = Some(durable.generation);
        }
        Some(Live { guard })
    }

    /// What of a data directory of a gateway is on disk.
    pub(crate) fn reached(&self, gateway: &str, incarnation: &str) -> Vec<Reached> {
        lock(&self.projected).state.reached(gateway, incarnation)
    }
}

impl Live<'_> {
    /// Judges a record; changes nothing.
    pub(crate) fn admit(&self, origin: &Origin<'_>) -> Verdict {
        self.guard.state.judge(origin)
    }

    /// The record of `origin` was appended.
    pub(crate) fn accept(&mut self, origin: &Origin<'_>) {
        self.guard.state.accept(origin);
    }
}

struct ChainProjection {
    chain: Arc<Chain>,
}

impl Projection for ChainProjection {
    fn name(&self) -> &'static str {
        "gateways"
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        lock(&self.chain.projected).state = State::restore(state)?;
        Ok(())
    }

    fn apply(&mut self, entries: &[Entry<'_>]) {
        let mut projected = lock(&self.chain.projected);
        for Entry { record, .. } in entries {
            projected.position = record.offset + 1;
            if let Some(origin) = record.origin() {
                projected.state.accept(&origin);
            }
        }
    }

    fn skip(&mut self, _first: u64, end: u64) {
        lock(&self.chain.projected).position = end;
    }

    fn caught_up(&mut self, position: u64) {
        let mut projected = lock(&self.chain.projected);
        projected.position = projected.position.max(position);
    }

    fn snapshot(&self) -> Vec<u8> {
        lock(&self.chain.projected).state.snapshot()
    }
}

/// Both states are whole between any two calls, so a poisoned lock is still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
