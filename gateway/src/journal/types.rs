//! What goes into the journal, what comes out, and what it says of itself.

use bytes::Bytes;
use headwater_shared::envelope::{Envelope, EnvelopeError};
use headwater_shared::origin::Origin;
use log_lite::Counters;

/// One record of the journal.
#[derive(Clone, Debug)]
pub struct Record {
    /// Dense over the whole journal.
    pub offset: u64,
    /// Which partition of which stream, as the catalog numbers them.
    pub partition: u16,
    /// Event time, ms since 1970.
    pub time_ms: i64,
    /// The stream's key, UTF-8.
    pub key: Bytes,
    /// The encoded envelope.
    pub value: Bytes,
}

impl Record {
    /// The envelope; its texts and payload borrow from the record.
    ///
    /// # Errors
    /// [`EnvelopeError`] for a record that a newer gateway wrote.
    pub fn envelope(&self) -> Result<Envelope<'_>, EnvelopeError> {
        Envelope::decode(&self.value)
    }

    /// Where it was before, if it came from another gateway.
    pub fn origin(&self) -> Option<Origin<'_>> {
        Origin::of(&self.value)
    }

    /// The key as text; a key that is not UTF-8 reads as empty (the gateway writes none).
    pub fn key_str(&self) -> &str {
        std::str::from_utf8(&self.key).unwrap_or_default()
    }
}

/// A record on its way into the journal.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// Which partition.
    pub partition: u16,
    /// Event time, ms since 1970.
    pub time_ms: i64,
    /// The stream's key.
    pub key: &'a str,
    /// What it holds.
    pub envelope: &'a Envelope<'a>,
}

/// The promise of an append: durable once [`Durable::covers`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The record's offset.
    pub offset: u64,
    /// Rises when a commit fails; see [`Durable::lost`].
    pub generation: u64,
}

/// What is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// All offsets below this are synced.
    pub end: u64,
    /// Rises when a commit fails: the records that were waiting are gone, unacknowledged.
    pub generation: u64,
    /// The journal takes no more (disk failed or shutting down).
    pub closed: bool,
}

impl Durable {
    /// The record of `ticket` is on disk.
    pub fn covers(&self, ticket: Ticket) -> bool {
        ticket.generation == self.generation && ticket.offset < self.end
    }

    /// The record of `ticket` may be gone: its sender must not be acknowledged and has to send again.
    pub fn lost(&self, ticket: Ticket) -> bool {
        ticket.generation != self.generation || (self.closed && ticket.offset >= self.end)
    }
}

/// Why nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The journal is shut or its disk failed.
    #[error("the journal takes no more: {0}")]
    Closed(&'static str),
    /// The record is larger than a batch may be.
    #[error("the record of {0} bytes is larger than the journal takes")]
    TooLarge(usize),
    /// More waits for the disk than may; only a publisher that did not [`admit`](super::Journal::admit) sees it.
    #[error("{0} bytes wait for the disk; send again later")]
    Overload(usize),
    /// The log is far beyond its size and may not delete what is not forwarded; only what was not
    /// [admitted](super::Journal::admit) sees it.
    #[error("the log is full until a route has caught up; send again later")]
    Full,
    /// A commit has failed since the generation that was asked for.
    #[error("a commit has failed meanwhile; send again")]
    Lost,
}

/// Offsets and counters for metrics and the page.
#[derive(Clone, Debug, Default)]
pub struct JournalStats {
    /// The oldest offset that is still there.
    pub start: u64,
    /// What log-lite counted.
    pub counters: Counters,
    /// Group commits.
    pub commits: u64,
    /// Records in them.
    pub records: u64,
    /// The last failure of a commit.
    pub last_error: Option<String>,
    /// No commit has succeeded since that failure.
    pub failing: bool,
    /// Records that retention deleted before a reader that keeps had them.
    pub dropped_past_keep: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// How often publishers had to wait for a reader.
    pub blocks: u64,
}

/// How often records were read, by where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The newest, from memory.
    pub memory: u64,
    /// Older ones, from files.
    pub disk: u64,
}
