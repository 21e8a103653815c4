//! Sparkplug B: edge nodes and devices of industry, whose metrics are named by their births.
//!
//! `state` is the pure core. As with nodes it exists twice: the door's view runs ahead with what was
//! appended ([`Sparkplug::live`]), the projection follows what is durable and is what a restart
//! finds. After a failed commit the door's view is taken from the projection again.
//!
//! A record keeps the payload as it came. Names are found when it is read, by the birth that was
//! true at its offset.

mod payload;
mod requests;
mod rows;
mod state;
mod table;
mod topic;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_shared::envelope::{Envelope, Gap, GapCause, GapUnit, Publish};
use serde_json::{Value as Json, json};

pub use rows::{COLUMNS, MetricRow};

use crate::config::Format;
use crate::journal::Durable;
use crate::projection::{Entry, Projection};
use crate::stream::{Incoming, Streams};
use payload::Payload;
use requests::Requests;
use state::{Change, LIMITS, State};
use topic::{Parsed, Topic};

/// True if a stream of the topic pattern `pattern` gets all that its edge nodes say.
pub fn takes_all(pattern: &str) -> bool {
    topic::takes_all(pattern)
}

/// What the door does with a message: write the gap, then the message, then [`Live::accept`].
#[derive(Debug)]
pub struct Admission<'a> {
    /// Event time, ms since 1970.
    pub time_ms: i64,
    /// Names the edge node, or the device, among all.
    pub source: String,
    /// Names the edge node among all.
    node: String,
    /// The edge node's level of the topic.
    pub edge_node: &'a str,
    /// Why the stream cannot take it.
    pub refused: Option<String>,
    /// First and last sequence number that are missing before it.
    pub missing: Option<(u8, u8)>,
    /// There is no room for its birth.
    pub is_full: bool,
    rebirth: bool,
    effect: Option<(Topic<'a>, Change)>,
}

impl Admission<'_> {
    /// What is missing, as it goes into an envelope.
    pub fn gap(&self) -> Option<Gap<'_>> {
        self.missing.map(|(first, last)| Gap {
            cause: GapCause::Transit,
            source: &self.node,
            unit: GapUnit::Sequences,
            first: first.into(),
            last: last.into(),
            count: None,
            boot_epoch: 0,
        })
    }
}

/// All edge nodes.
#[derive(Default)]
pub struct Sparkplug {
    /// Partitions of the streams that are Sparkplug B, and of what they rejected.
    partitions: BTreeSet<u16>,
    live: Mutex<LiveState>,
    projected: Mutex<Projected>,
}

#[derive(Default)]
struct LiveState {
    state: State,
    /// The generation of the journal that `state` is true for; `None` before the first use.
    generation: Option<u64>,
    requests: Requests,
}

#[derive(Default)]
struct Projected {
    state: State,
    position: u64,
}

impl Projected {
    /// What was rejected counts in the sequence of its edge node too: the same judgement says how.
    fn apply(&mut self, offset: u64, publish: &Publish<'_>) {
        let Ok(Parsed::Message(topic)) = topic::parse(publish.topic) else { return };
        let payload = Payload::decode(publish.payload);
        let verdict = self.state.judge(&topic, payload.as_ref(), LIMITS);
        self.state.accept(&topic, verdict.change, offset);
    }
}

/// The door's view, held while a message is judged and appended, so that no other message comes
/// between.
pub struct Live<'a> {
    guard: MutexGuard<'a, LiveState>,
}

impl Sparkplug {
    /// Follows the Sparkplug B streams of `streams`.
    pub fn new(streams: &Streams) -> Self {
        let own = streams.iter().filter(|s| streams.format(&s.name) == Some(Format::SparkplugB));
        let partitions = own.flat_map(|stream| [stream, streams.rejected(stream)]);
        Self {
            partitions: partitions.flat_map(|stream| stream.partitions.iter().copied()).collect(),
            ..Self::default()
        }
    }

    /// True if a stream is Sparkplug B; else nothing has to be followed.
    pub fn is_used(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// The projection that keeps and restores them.
    pub fn projection(self: &Arc<Self>) -> Box<dyn Projection> {
        Box::new(SparkplugProjection(Arc::clone(self)))
    }

    /// Opens the door's view on what the projection restored; before the first message.
    pub fn open(&self, durable: Durable) {
        let mut live = lock(&self.live);
        live.state = lock(&self.projected).state.clone();
        live.generation = Some(durable.generation);
    }

    /// The door's view; `None` while it is not known what a failed commit left on disk.
    pub fn live(&self, durable: Durable) -> Option<Live<'_>> {
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

    /// The rows of the record at `offset`; `None` if it is not Sparkplug B.
    pub fn rows(
        &self,
        topic: &str,
        offset: u64,
        payload: &[u8],
        arrival_ms: i64,
    ) -> Option<Vec<MetricRow>> {
        match topic::parse(topic).ok()? {
            Parsed::State { host } => {
                rows::state_row(host, payload, arrival_ms).map(|row| vec![row]).ok()
            }
            Parsed::Message(topic) => {
                let payload = Payload::decode(payload).ok()?;
                Some(self.rows_of(&topic, offset, &payload, arrival_ms))
            }
        }
    }

    /// The record at `offset` as JSON, as records show it; `None` if it is not a metric's message.
    pub fn json(&self, topic: &str, offset: u64, payload: &[u8], arrival_ms: i64) -> Option<Json> {
        let Parsed::Message(topic) = topic::parse(topic).ok()? else { return None };
        let payload = Payload::decode(payload).ok()?;
        let rows = self.rows_of(&topic, offset, &payload, arrival_ms);
        Some(rows::json(&topic, &payload, rows))
    }

    fn rows_of(
        &self,
        topic: &Topic<'_>,
        offset: u64,
        payload: &Payload,
        arrival_ms: i64,
    ) -> Vec<MetricRow> {
        let table = self.with_state(|state| state.table(topic, offset));
        rows::rows(topic, payload, table.as_deref(), arrival_ms)
    }

    /// Edge nodes that are known, and those of them that are alive.
    pub fn status(&self) -> Json {
        let (known, alive) = self.with_state(State::counts);
        json!({ "known": known, "alive": alive })
    }

    /// The door knows a birth before the projection does; a tool that only reads has no door.
    fn with_state<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        let live = lock(&self.live);
        if live.generation.is_some() {
            return read(&live.state);
        }
        read(&lock(&self.projected).state)
    }
}

/// Checks that a stored message decodes, whatever births it needs for its names.
///
/// # Errors
/// Why it does not.
pub(crate) fn check_message(topic: &str, payload: &[u8]) -> Result<(), String> {
    match topic::parse(topic)? {
        Parsed::Message(_) => Payload::decode(payload).map(|_| ()),
        Parsed::State { host } => rows::state_row(host, payload, 0).map(|_| ()),
    }
}

impl Live<'_> {
    /// Judges a message; changes nothing.
    ///
    /// # Errors
    /// Why it is not Sparkplug B.
    pub fn admit<'m>(&self, message: &Incoming<'m>) -> Result<Admission<'m>, String> {
        let topic = match topic::parse(message.topic)? {
            Parsed::Message(topic) => topic,
            Parsed::State { host } => {
                let row = rows::state_row(host, message.payload, message.now_ms)?;
                return Ok(Admission {
                    time_ms: row.time_ms,
                    source: host.to_owned(),
                    node: String::new(),
                    edge_node: host,
                    refused: None,
                    missing: None,
                    is_full: false,
                    rebirth: false,
                    effect: None,
                });
            }
        };
        let payload = Payload::decode(message.payload);
        let verdict = self.guard.state.judge(&topic, payload.as_ref(), LIMITS);
        let sent_ms = payload.ok().and_then(|payload| payload.time_ms);
        Ok(Admission {
            time_ms: sent_ms.unwrap_or(message.now_ms),
            source: topic.source(),
            node: topic.node(),
            edge_node: topic.edge_node,
            refused: verdict.refused,
            missing: verdict.missing,
            is_full: verdict.is_full,
            rebirth: verdict.rebirth,
            effect: Some((topic, verdict.change)),
        })
    }

    /// The message of `admission` was appended at `offset`. If its edge node has to be asked for its
    /// births, and may be at `now_ms`: topic and payload of the request.
    pub fn accept(
        &mut self,
        admission: Admission<'_>,
        offset: u64,
        now_ms: i64,
    ) -> Option<(String, Vec<u8>)> {
        let (topic, change) = admission.effect?;
        let LiveState { state, requests, .. } = &mut *self.guard;
        state.accept(&topic, change, offset);
        let asks = admission.rebirth && requests.ask(&admission.node, now_ms);
        asks.then(|| (topic.command(), payload::rebirth_request(now_ms)))
    }
}

struct SparkplugProjection(Arc<Sparkplug>);

impl Projection for SparkplugProjection {
    fn name(&self) -> &'static str {
        "sparkplug"
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        lock(&self.0.projected).state = State::restore(state)?;
        Ok(())
    }

    fn apply(&mut self, entries: &[Entry<'_>]) {
        let mut projected = lock(&self.0.projected);
        for Entry { record, envelope } in entries {
            projected.position = record.offset + 1;
            if self.0.partitions.contains(&record.partition)
                && let Some(Envelope::Publish(publish)) = envelope
            {
                projected.apply(record.offset, publish);
            }
        }
    }

    fn skip(&mut self, _first: u64, end: u64) {
        lock(&self.0.projected).position = end;
    }

    fn caught_up(&mut self, position: u64) {
        let mut projected = lock(&self.0.projected);
        projected.position = projected.position.max(position);
    }

    fn snapshot(&self) -> Vec<u8> {
        lock(&self.0.projected).state.snapshot()
    }
}

/// Both states are whole between any two calls, so a poisoned lock is still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
