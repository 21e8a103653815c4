//! What a forwarder needs of the other end. All calls block; they run on the forwarder's thread.

pub(in crate::forward) mod directory;
pub(in crate::forward) mod kafka;
pub(in crate::forward) mod mqtt;

use crate::config::TopicConfig;
use crate::forward::engine::batch::OutRecord;
use crate::forward::policy::dead::Refusal;
use crate::forward::policy::position::Position;
use crate::forward::policy::resume::RouteStart;
use crate::forward::policy::stored::Witness;

/// What a fault means for what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Goes away by itself: try again soon.
    Retry,
    /// Needs a human: wrong credentials, a missing right. Tried again at leisure.
    Refused,
    /// Another gateway of this name took over. Never tried again.
    Fenced,
}

/// Why something could not be done; the message says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Fault {
    /// What it means.
    pub(crate) kind: FaultKind,
    /// What happened and what to do.
    pub(crate) message: String,
}

impl Fault {
    /// A fault that goes away by itself.
    pub(in crate::forward) fn retry(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::Retry, message: message.into() }
    }

    /// A fault that a human has to cure.
    pub(in crate::forward) fn refused(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::Refused, message: message.into() }
    }

    /// The end of this forwarder.
    pub(in crate::forward) fn fenced(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::Fenced, message: message.into() }
    }
}

/// What a commit moves a route to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Progress {
    /// The route.
    pub(in crate::forward) route: usize,
    /// What the upstream has from then on.
    pub(in crate::forward) position: Position,
    /// The highest record of it, unless that is a gap.
    pub(in crate::forward) witness: Option<Witness>,
}

/// A record was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::forward) enum SendError {
    /// The upstream takes no record of this size; the transaction is still sound.
    TooLarge,
    /// The transaction is lost.
    Fault(Fault),
}

/// Where a route goes, for the upstream that serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Destination {
    /// The stream that it carries.
    pub(in crate::forward) stream: String,
    /// The topic there.
    pub(in crate::forward) topic: String,
    /// Partitions of the stream.
    pub(in crate::forward) partitions: u16,
    /// What the topic is to be like.
    pub(in crate::forward) wanted: TopicConfig,
}

/// Where a destination stands, or what a human has to cure before it can be used.
pub(in crate::forward) type Opening = Result<RouteStart, Fault>;

/// The other end of routes. After an error of any call the caller drops what it had under way and
/// calls [`Upstream::open`] again.
pub(in crate::forward) trait Upstream: Send {
    /// Connects, fences and settles what a predecessor left, and says for each destination what it
    /// has, or why just this one cannot be used. What an earlier open left is dropped first.
    ///
    /// # Errors
    /// [`Fault`], of all destinations.
    fn open(&mut self) -> Result<Vec<Opening>, Fault>;
    /// Whether each of `barred`, which the last open said cannot be used, can be now; nothing of the
    /// others is touched. Between two transactions.
    fn look(&mut self, barred: &[usize]) -> Vec<Result<(), Fault>> {
        vec![Ok(()); barred.len()]
    }
    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Fault`].
    fn begin(&mut self) -> Result<(), Fault>;
    /// Sends a record to the destination `route`. The upstream may hold it in memory of its own.
    ///
    /// # Errors
    /// [`SendError`].
    fn send(&mut self, route: usize, record: &OutRecord<'_>) -> Result<(), SendError>;
    /// Commits all that was sent since the begin, with where the routes are then: after `Ok` it is
    /// there for good, after an error nobody knows.
    ///
    /// # Errors
    /// [`Fault`].
    fn commit(&mut self, progress: &[Progress], now_ms: i64) -> Result<(), Fault>;
    /// What of the transaction was refused for good, asked once after a call has failed; empty where
    /// that is not why, or not known. With a record those of its batch may be named that are good:
    /// they are told apart by sending them again in smaller transactions.
    fn refusals(&mut self) -> Vec<Refusal> {
        Vec::new()
    }
    /// Bytes that went over the wire since the start, both ways, where it knows; else they are
    /// estimated.
    fn wire_bytes(&self) -> Option<u64> {
        None
    }
    /// Nothing waits to be sent: called at least as often as marks are saved, for an upstream that
    /// has to keep a connection alive.
    ///
    /// # Errors
    /// [`Fault`].
    fn rest(&mut self) -> Result<(), Fault> {
        Ok(())
    }
    /// How often marks are saved while they change, where the mark is all that is known of what the
    /// upstream has.
    fn mark_every_ms(&self) -> Option<u64> {
        None
    }
    /// Drops the connection and what was under way.
    fn close(&mut self);
}
