//! What is known of each edge node: pure, in the order of the journal.
//!
//! A session of an edge node begins with its NBIRTH and ends with the NDEATH that has the same
//! `bdSeq`; another NDEATH is the will of a session that is over, and changes nothing. In a session
//! each message has the next sequence number.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::payload::Payload;
use super::table::{Births, Table};
use super::topic::{Kind, Topic};

/// The format of [`State::snapshot`].
const SNAPSHOT_VERSION: u8 = 1;

/// What an edge node or a device takes in memory beside its name and its tables.
const SOURCE_BYTES: usize = 128;

/// What a gateway remembers at most; the birth of what comes above is rejected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Edge nodes.
    pub(super) nodes: usize,
    /// Bytes of all births, about.
    pub(super) bytes: usize,
}

pub(super) const LIMITS: Limits = Limits { nodes: 10_000, bytes: 64 << 20 };

/// All edge nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    nodes: BTreeMap<String, Node>,
    bytes: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Node {
    bd_seq: Option<u64>,
    /// The sequence number of its newest message. Not saved: a connection does not outlive the
    /// gateway, so what comes after a restart begins anew, and births alone seldom change.
    #[serde(skip)]
    seq: Option<u8>,
    own: Births,
    devices: BTreeMap<String, Births>,
}

/// What a message is.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    /// Why its stream cannot take it.
    pub(super) refused: Option<String>,
    /// First and last sequence number that are missing before it.
    pub(super) missing: Option<(u8, u8)>,
    /// Its edge node has to say its births again.
    pub(super) rebirth: bool,
    /// There is no room for its birth.
    pub(super) is_full: bool,
    /// For [`State::accept`].
    pub(super) change: Change,
}

/// What a message changes.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    Nothing,
    NodeBirth { bd_seq: Option<u64>, seq: Option<u8>, table: Table },
    DeviceBirth { seq: Option<u8>, table: Table },
    NodeDeath,
    DeviceDeath { seq: Option<u8> },
    Data { seq: Option<u8> },
}

impl Verdict {
    fn new(change: Change) -> Self {
        Self { refused: None, missing: None, rebirth: false, is_full: false, change }
    }

    fn refused(reason: String, change: Change) -> Self {
        Self { refused: Some(reason), ..Self::new(change) }
    }
}

impl State {
    pub(super) fn restore(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&SNAPSHOT_VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|problem| problem.to_string())
            }
            _ => Err("the state of Sparkplug edge nodes has another version".to_owned()),
        }
    }

    pub(super) fn snapshot(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![SNAPSHOT_VERSION]).expect("a Vec takes any length")
    }

    /// Judges the next message, whose payload may be none; changes nothing.
    pub(super) fn judge(
        &self,
        topic: &Topic<'_>,
        payload: Result<&Payload, &String>,
        limits: Limits,
    ) -> Verdict {
        let node = self.nodes.get(&topic.node());
        let payload = match payload {
            Ok(payload) => payload,
            Err(reason) => return Verdict::refused(reason.clone(), without(topic, None)),
        };
        let verdict = self.judge_payload(node, topic, payload, limits);
        // Who has no room is not asked for what would be refused.
        let has_room = node.is_some() || self.nodes.len() < limits.nodes;
        Verdict { rebirth: verdict.rebirth && has_room, ..verdict }
    }

    fn judge_payload(
        &self,
        node: Option<&Node>,
        topic: &Topic<'_>,
        payload: &Payload,
        limits: Limits,
    ) -> Verdict {
        match topic.kind {
            Kind::NodeBirth | Kind::DeviceBirth => self.judge_birth(node, topic, payload, limits),
            Kind::NodeDeath => {
                let ends =
                    node.is_some_and(|node| node.own.is_alive && node.bd_seq == payload.bd_seq());
                Verdict::new(if ends { Change::NodeDeath } else { Change::Nothing })
            }
            Kind::DeviceDeath => {
                judge_order(node, payload, Verdict::new(Change::DeviceDeath { seq: payload.seq }))
            }
            Kind::NodeData | Kind::DeviceData => {
                let change = Change::Data { seq: payload.seq };
                judge_order(node, payload, judge_names(node, topic, payload, change))
            }
            // A command is a host's, which does not count in its edge node's sequence.
            Kind::NodeCommand | Kind::DeviceCommand => {
                judge_names(node, topic, payload, Change::Nothing)
            }
        }
    }

    fn judge_birth(
        &self,
        node: Option<&Node>,
        topic: &Topic<'_>,
        payload: &Payload,
        limits: Limits,
    ) -> Verdict {
        let table = match Table::of(&payload.metrics) {
            Ok(table) => table,
            Err(reason) => return Verdict::refused(reason, without(topic, payload.seq)),
        };
        let more = table.bytes() + SOURCE_BYTES + topic.source().len();
        if node.is_none() && self.nodes.len() >= limits.nodes || self.bytes + more > limits.bytes {
            let reason = "the gateway knows as many births as it may already".to_owned();
            let refused = Verdict::refused(reason, without(topic, payload.seq));
            return Verdict { is_full: true, ..refused };
        }
        let seq = payload.seq;
        if topic.device.is_none() {
            return Verdict::new(Change::NodeBirth { bd_seq: payload.bd_seq(), seq, table });
        }
        judge_order(node, payload, Verdict::new(Change::DeviceBirth { seq, table }))
    }

    /// The message that was judged has been appended at `offset`.
    pub(super) fn accept(&mut self, topic: &Topic<'_>, change: Change, offset: u64) {
        match change {
            Change::Nothing => {}
            Change::NodeBirth { bd_seq, seq, table } => {
                let name = topic.node();
                if !self.nodes.contains_key(&name) {
                    self.bytes += SOURCE_BYTES + name.len();
                }
                let node = self.nodes.entry(name).or_default();
                node.end();
                (node.bd_seq, node.seq) = (bd_seq, seq);
                let (taken, freed) = node.own.bear(offset, table);
                self.bytes = (self.bytes + taken).saturating_sub(freed);
            }
            known => self.accept_of_known(topic, known, offset),
        }
    }

    fn accept_of_known(&mut self, topic: &Topic<'_>, change: Change, offset: u64) {
        let Some(node) = self.nodes.get_mut(&topic.node()) else { return };
        if let Change::NodeDeath = change {
            node.end();
            return;
        }
        // Between sessions nothing counts but the next NBIRTH.
        if !node.own.is_alive {
            return;
        }
        let device = topic.device.unwrap_or_default();
        let seq = match change {
            Change::DeviceBirth { seq, table } => {
                if !node.devices.contains_key(device) {
                    self.bytes += SOURCE_BYTES + device.len();
                }
                let births = node.devices.entry(device.to_owned()).or_default();
                let (taken, freed) = births.bear(offset, table);
                self.bytes = (self.bytes + taken).saturating_sub(freed);
                seq
            }
            Change::DeviceDeath { seq } => {
                if let Some(births) = node.devices.get_mut(device) {
                    births.is_alive = false;
                }
                seq
            }
            Change::Data { seq } => seq,
            Change::Nothing | Change::NodeBirth { .. } | Change::NodeDeath => None,
        };
        node.seq = seq.or(node.seq);
    }

    /// The table by which the record at `offset` reads.
    pub(super) fn table(&self, topic: &Topic<'_>, offset: u64) -> Option<Arc<Table>> {
        self.nodes.get(&topic.node())?.births(topic)?.at(offset)
    }

    /// As it is found after a restart.
    #[cfg(test)]
    fn saved(mut self) -> Self {
        self.nodes.values_mut().for_each(|node| node.seq = None);
        self
    }

    /// Edge nodes that are known, and those of them that are alive.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.nodes.len(), self.nodes.values().filter(|node| node.own.is_alive).count())
    }
}

impl Node {
    fn births(&self, topic: &Topic<'_>) -> Option<&Births> {
        match topic.device {
            None => Some(&self.own),
            Some(device) => self.devices.get(device),
        }
    }

    /// The session is over: its devices have to be born again too.
    fn end(&mut self) {
        self.own.is_alive = false;
        for device in self.devices.values_mut() {
            device.is_alive = false;
        }
    }
}

/// Finds what is missing before a message of an edge node; one without a session has to begin it.
fn judge_order(node: Option<&Node>, payload: &Payload, verdict: Verdict) -> Verdict {
    let Some(node) = node.filter(|node| node.own.is_alive) else {
        return Verdict { rebirth: verdict.refused.is_none() || verdict.rebirth, ..verdict };
    };
    let (Some(last), Some(seq)) = (node.seq, payload.seq) else { return verdict };
    let next = last.wrapping_add(1);
    if seq == next {
        return verdict;
    }
    Verdict { missing: Some((next, seq.wrapping_sub(1))), rebirth: true, ..verdict }
}

/// Refuses a message with an alias that no birth defines.
fn judge_names(
    node: Option<&Node>,
    topic: &Topic<'_>,
    payload: &Payload,
    change: Change,
) -> Verdict {
    let table = node.and_then(|node| node.births(topic)).and_then(Births::now);
    // A host may command what is not there; only the data of an edge node says that a birth is due.
    let is_data = change != Change::Nothing;
    let unknown = payload.metrics.iter().find(|metric| {
        metric.name.is_none() && table.and_then(|table| table.find(metric)).is_none()
    });
    let Some(metric) = unknown else {
        return Verdict { rebirth: is_data && table.is_none(), ..Verdict::new(change) };
    };
    let source = topic.source();
    let reason = match (metric.alias, table) {
        (None, _) => "a metric has neither a name nor an alias".to_owned(),
        (Some(alias), Some(_)) => format!("the birth of {source} does not define alias {alias}"),
        (Some(alias), None) => {
            format!("alias {alias}: {source} has no birth, or has died since")
        }
    };
    Verdict { rebirth: metric.alias.is_some(), ..Verdict::refused(reason, change) }
}

/// What a message changes that is refused. A birth takes the one before with it: what its source
/// sends from now on does not mean what that one said.
fn without(topic: &Topic<'_>, seq: Option<u8>) -> Change {
    match topic.kind {
        Kind::NodeBirth => Change::NodeDeath,
        Kind::DeviceBirth => Change::DeviceDeath { seq },
        Kind::NodeData | Kind::DeviceData => Change::Data { seq },
        _ => Change::Nothing,
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
