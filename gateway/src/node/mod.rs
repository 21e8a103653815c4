//! The gateway's side of nodes: who they are, which of their blocks are here, where their clock is.
//!
//! `state` is the pure core. It exists twice: the door's view runs ahead with what was appended
//! ([`Nodes::live`]), the projection follows what is durable and is what a restart finds. After a
//! failed commit the door's view is taken from the projection again.

mod block;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_shared::envelope::{Envelope, Gap, GapCause, GapUnit, Publish};
use headwater_shared::node::{TimeRequest, TimeResponse, decode, encode};
use headwater_shared::topic::{self, Subject};
use serde::Serialize;
use serde_json::Value as Json;

pub use block::{Sample, check as check_block};

use crate::journal::Durable;
use crate::projection::{Entry, Projection};
use crate::stream::Incoming;
use state::{Mark, State, Verdict};

/// A gap that a node's blocks show, to be written before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedGap {
    cause: GapCause,
    source: String,
    unit: GapUnit,
    first: u64,
    last: u64,
    count: Option<u64>,
    boot_epoch: u32,
}

impl OwnedGap {
    /// As it goes into an envelope.
    pub fn as_gap(&self) -> Gap<'_> {
        Gap {
            cause: self.cause,
            source: &self.source,
            unit: self.unit,
            first: self.first,
            last: self.last,
            count: self.count,
            boot_epoch: self.boot_epoch,
        }
    }
}

/// What the door does with a block.
#[derive(Debug)]
pub enum Admission {
    /// Not seen before: write the gaps, then the block, then [`Live::accept`].
    Fresh {
        /// Event time of its first row, ms since 1970.
        time_ms: i64,
        /// What is missing before it.
        gaps: Vec<OwnedGap>,
        /// For [`Live::accept`].
        mark: BlockMark,
    },
    /// A second copy.
    Duplicate,
    /// Not a block, with the reason.
    Rejected(String),
}

/// Names a block that was admitted.
#[derive(Debug)]
pub struct BlockMark {
    node: String,
    mark: Mark,
}

/// A node as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: String,
    /// What it says it runs.
    pub firmware: String,
    /// Its present start.
    pub boot_epoch: u32,
    /// Its newest block.
    pub sequence: u32,
    /// Readings that came in, rows times channels.
    pub readings: u64,
    /// When it was heard last, ms since 1970.
    pub last_seen_ms: i64,
    /// Names of its channels.
    pub channels: Vec<String>,
}

/// All nodes.
#[derive(Default)]
pub struct Nodes {
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

impl Projected {
    fn apply(&mut self, publish: &Publish<'_>) {
        let Some((node, subject)) = topic::parse(publish.topic) else { return };
        if publish.rejected.is_some() {
            return;
        }
        if subject == Subject::Blocks {
            let verdict = self.state.judge(node, publish.payload, publish.arrival_ms);
            if let Verdict::Fresh { mark, .. } = verdict {
                self.state.accept(node, mark, publish.arrival_ms);
            }
        } else {
            self.state.observe(node, subject, publish.payload, publish.arrival_ms);
        }
    }
}

/// The door's view, held while a block is admitted and appended, so that no other connection of
/// the same node comes between.
pub struct Live<'a> {
    guard: MutexGuard<'a, LiveState>,
}

impl Nodes {
    /// The projection that keeps and restores them.
    pub fn projection(self: &Arc<Self>) -> Box<dyn Projection> {
        Box::new(NodesProjection { nodes: Arc::clone(self) })
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

    /// Takes note of a message that is not a block: announce, time request.
    pub fn observe(&self, message: &Incoming<'_>) {
        if let Some((node, subject)) = topic::parse(message.topic) {
            lock(&self.live).state.observe(node, subject, message.payload, message.now_ms);
        }
    }

    /// The answer to a time request: topic and payload.
    pub fn time_reply(&self, message: &Incoming<'_>) -> Option<(String, Vec<u8>)> {
        let (node, Subject::Time) = topic::parse(message.topic)? else { return None };
        let request: TimeRequest = decode(message.payload).ok()?;
        let unix_ms = u64::try_from(message.now_ms).ok()?;
        let TimeRequest { nonce, uptime_ms, .. } = request;
        let mut buffer = [0; 64];
        let reply = encode(&TimeResponse { nonce, uptime_ms, unix_ms }, &mut buffer).ok()?;
        Some((topic::topic(node, Subject::TimeReply)?.to_string(), reply.to_vec()))
    }

    /// The rows of a block; `None` if the payload is not a block.
    pub fn samples(&self, topic: &str, time_ms: i64, payload: &[u8]) -> Option<Vec<Sample>> {
        // A block may come on a topic that is not a node's; its channels then have no names.
        let node = topic::parse(topic).map_or("", |(node, _)| node);
        block::samples(payload, time_ms, |epoch, channels| self.names(node, epoch, channels))
    }

    /// The door knows an announcement before the projection does; a tool that only reads has no door.
    fn names(&self, node: &str, epoch: u32, channels: usize) -> Vec<String> {
        let live = lock(&self.live);
        if live.generation.is_some() {
            return live.state.names(node, epoch, channels);
        }
        lock(&self.projected).state.names(node, epoch, channels)
    }

    /// A block as JSON, as records show it.
    pub fn block_json(&self, topic: &str, time_ms: i64, payload: &[u8]) -> Option<Json> {
        block::json(payload, self.samples(topic, time_ms, payload)?)
    }

    /// All nodes, by id.
    pub fn status(&self) -> Vec<NodeStatus> {
        lock(&self.live).state.status()
    }
}

impl Live<'_> {
    /// Judges a block; changes nothing.
    pub fn admit(&self, message: &Incoming<'_>) -> Admission {
        let node = match topic::parse(message.topic) {
            Some((node, Subject::Blocks)) => node,
            _ => {
                return Admission::Rejected(
                    "blocks come on headwater/v1/{node}/blocks only".to_owned(),
                );
            }
        };
        match self.guard.state.judge(node, message.payload, message.now_ms) {
            Verdict::Fresh { time_ms, gaps, mark } => {
                let mark = BlockMark { node: node.to_owned(), mark };
                Admission::Fresh { time_ms, gaps, mark }
            }
            Verdict::Duplicate => Admission::Duplicate,
            Verdict::Rejected(reason) => Admission::Rejected(reason),
        }
    }

    /// The block of `mark` was appended.
    pub fn accept(&mut self, mark: BlockMark, now_ms: i64) {
        self.guard.state.accept(&mark.node, mark.mark, now_ms);
    }
}

struct NodesProjection {
    nodes: Arc<Nodes>,
}

impl Projection for NodesProjection {
    fn name(&self) -> &'static str {
        "nodes"
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        lock(&self.nodes.projected).state = State::restore(state)?;
        Ok(())
    }

    fn apply(&mut self, entries: &[Entry<'_>]) {
        let mut projected = lock(&self.nodes.projected);
        for Entry { record, envelope } in entries {
            projected.position = record.offset + 1;
            if let Some(Envelope::Publish(publish)) = envelope {
                projected.apply(publish);
            }
        }
    }

    fn skip(&mut self, _first: u64, end: u64) {
        lock(&self.nodes.projected).position = end;
    }

    fn caught_up(&mut self, position: u64) {
        let mut projected = lock(&self.nodes.projected);
        projected.position = projected.position.max(position);
    }

    fn snapshot(&self) -> Vec<u8> {
        lock(&self.nodes.projected).state.snapshot()
    }
}

/// Both states are whole between any two calls, so a poisoned lock is still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
