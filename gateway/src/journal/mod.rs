//! The journal: one log for everything that enters, with group commit over log-lite.
//!
//! Any thread appends; the record gets its offset at once and a [`Ticket`]. One thread of its own
//! writes and syncs all that has gathered, and the next commit starts when the last has returned:
//! the batch grows while the disk works, no timer is involved. [`Journal::watch`] says what is
//! durable. Readers ([`Reader`]) see durable records only, the newest from memory.

mod committer;
mod metrics;
mod reader;
mod tail;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use headwater_shared::envelope::{Envelope, EnvelopeError};
use tokio::sync::{Notify, watch};

pub use log_lite::{Counters, JournalError, JournalOptions, Recovery};
pub use metrics::register;
pub use reader::{ReadError, Reader};

use tail::Tail;

/// The partition that holds what belongs to no stream: session changes and ticks.
pub const SYSTEM_PARTITION: u16 = 0;

/// Appended and not yet taken by the committer; above this publishers wait ([`Journal::admit`]).
const PENDING_BYTES_MAX: usize = 4 << 20;

/// What admitted publishers may still add; one commit of log-lite holds it.
const PENDING_BYTES_LIMIT: usize = 12 << 20;

const _: () = assert!(PENDING_BYTES_LIMIT + (1 << 20) <= log_lite::MAX_PENDING);

/// Retention deletes nothing while the journal is smaller: no configuration allows less.
const OUTGROWN_BYTES_MIN: u64 = 2 << 20;

/// Key and envelope of a record at most. The smallest segment that the configuration allows, and a
/// batch of log-lite, hold it.
pub const RECORD_BYTES_MAX: usize = 1000 << 10;

const _: () = assert!(RECORD_BYTES_MAX + 64 <= log_lite::MAX_BODY);

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
    /// More waits for the disk than may; only a publisher that did not [`Journal::admit`] sees it.
    #[error("{0} bytes wait for the disk; send again later")]
    Overload(usize),
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
}

/// A handle; clones share the journal.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    pending: Mutex<Pending>,
    work: Condvar,
    room: Notify,
    durable: watch::Sender<Durable>,
    tail: Mutex<Tail>,
    stats: Mutex<JournalStats>,
    keep: Mutex<BTreeMap<String, u64>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What has gathered for the next commit: one arena, so an append allocates nothing.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    records: Vec<tail::Meta>,
    first: u64,
    generation: u64,
    closed: Option<&'static str>,
    /// Bytes that the committer holds at the moment.
    committing: usize,
}

impl Pending {
    fn next_offset(&self) -> u64 {
        self.first + self.records.len() as u64
    }
}

impl Journal {
    /// Opens or creates the journal in `dir` and starts its committer.
    ///
    /// # Errors
    /// [`JournalError`] where the disk cannot be read, or another process holds the directory.
    pub fn open(dir: &Path, options: JournalOptions) -> Result<(Self, Recovery), JournalError> {
        let (log, recovery) = log_lite::Journal::open_dir(dir, options)?;
        Ok((Self::on(log, dir), recovery))
    }

    /// Starts the committer of `log`, whose segments are in `dir`: there readers find what is no
    /// longer in memory.
    pub fn on<S>(log: log_lite::Journal<S>, dir: &Path) -> Self
    where
        S: log_lite::Storage + Send + 'static,
        S::File: Send,
    {
        let end = log.end();
        let durable = Durable { end, generation: 0, closed: false };
        let shared = Arc::new(Shared {
            dir: dir.to_path_buf(),
            pending: Mutex::new(Pending { first: end, ..Pending::default() }),
            work: Condvar::new(),
            room: Notify::new(),
            durable: watch::Sender::new(durable),
            tail: Mutex::new(Tail::starting_at(end)),
            stats: Mutex::new(JournalStats {
                start: log.start(),
                counters: *log.stats(),
                ..JournalStats::default()
            }),
            keep: Mutex::new(BTreeMap::new()),
            thread: Mutex::new(None),
        });
        let thread = committer::spawn(Arc::clone(&shared), log);
        *lock(&shared.thread) = Some(thread);
        Self { shared }
    }

    /// Appends a record. It has its offset now and is on disk once [`Journal::watch`] covers it.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended.
    pub fn append(&self, record: &NewRecord<'_>) -> Result<Ticket, AppendError> {
        let mut pending = lock(&self.shared.pending);
        if let Some(why) = pending.closed {
            return Err(AppendError::Closed(why));
        }
        let size = record.envelope.size_max();
        if size + record.key.len() > RECORD_BYTES_MAX {
            return Err(AppendError::TooLarge(size));
        }
        let start = pending.bytes.len();
        if start + size > PENDING_BYTES_LIMIT {
            return Err(AppendError::Overload(start));
        }
        pending.bytes.extend_from_slice(record.key.as_bytes());
        let value_start = pending.bytes.len();
        pending.bytes.resize(value_start + size, 0);
        let used = record
            .envelope
            .encode(&mut pending.bytes[value_start..])
            .expect("size_max is an upper bound of the encoded envelope")
            .len();
        pending.bytes.truncate(value_start + used);
        let ticket = Ticket { offset: pending.next_offset(), generation: pending.generation };
        let meta = tail::Meta {
            partition: record.partition,
            time_ms: record.time_ms,
            start,
            value_start,
            end: value_start + used,
        };
        pending.records.push(meta);
        if pending.records.len() == 1 {
            self.shared.work.notify_one();
        }
        Ok(ticket)
    }

    /// Returns when publishers may send more: what waits for the disk is bounded.
    pub async fn admit(&self) {
        loop {
            let notified = self.shared.room.notified();
            {
                let pending = lock(&self.shared.pending);
                let waiting = pending.bytes.len() + pending.committing;
                if waiting < PENDING_BYTES_MAX || pending.closed.is_some() {
                    return;
                }
            }
            notified.await;
        }
    }

    /// The offset of the first record, in the order of the log, whose time is at or after
    /// `time_ms`. Reads files.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn offset_at(&self, time_ms: i64) -> Result<u64, ReadError> {
        let io = |problem: log_lite::ReadError| ReadError::Io(problem.to_string());
        let mut disk = log_lite::Reader::open_dir(&self.shared.dir).map_err(io)?;
        disk.seek_time(time_ms, self.durable().end).map_err(io)
    }

    /// What is durable, now and whenever it changes.
    pub fn watch(&self) -> watch::Receiver<Durable> {
        self.shared.durable.subscribe()
    }

    /// What is durable now.
    pub fn durable(&self) -> Durable {
        *self.shared.durable.borrow()
    }

    /// Waits until the record of `ticket` is on disk.
    ///
    /// # Errors
    /// [`AppendError::Closed`] if the commit failed: the record is not in the journal.
    pub async fn wait(&self, ticket: Ticket) -> Result<(), AppendError> {
        let mut watch = self.watch();
        let durable = watch
            .wait_for(|durable| durable.covers(ticket) || durable.lost(ticket))
            .await
            .map(|durable| *durable);
        match durable {
            Ok(durable) if durable.covers(ticket) => Ok(()),
            _ => Err(AppendError::Closed("the commit failed")),
        }
    }

    /// The offset that the next append gets.
    pub fn end(&self) -> u64 {
        lock(&self.shared.pending).next_offset()
    }

    /// A reader of durable records that starts at `from`.
    pub fn reader(&self, from: u64) -> Reader {
        Reader::new(Arc::clone(&self.shared), from)
    }

    /// `name` still needs what is at or above `position`; `None` gives it up. Retention reports
    /// what it has to delete in spite of that.
    pub fn keep(&self, name: &str, position: Option<u64>) {
        let mut keep = lock(&self.shared.keep);
        match position {
            Some(position) => keep.insert(name.to_owned(), position),
            None => keep.remove(name),
        };
    }

    /// Whether a state that is saved for the records below `saved` has to be saved again, however
    /// short ago that was: a quarter of the journal came since, and retention must not overtake it.
    pub fn outgrows(&self, saved: u64) -> bool {
        let end = self.durable().end;
        let stats = lock(&self.shared.stats);
        stats.bytes >= OUTGROWN_BYTES_MIN
            && end.saturating_sub(saved) >= end.saturating_sub(stats.start) / 4
    }

    /// Offsets and counters.
    pub fn stats(&self) -> JournalStats {
        lock(&self.shared.stats).clone()
    }

    /// The directory of its segments.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Commits what has gathered, then takes no more. Blocks until the committer is done.
    pub fn close(&self) {
        lock(&self.shared.pending).closed.get_or_insert("the gateway is shutting down");
        self.shared.work.notify_one();
        let thread = lock(&self.shared.thread).take();
        if let Some(thread) = thread {
            // A panic of the committer has closed the journal already and shows in the log.
            drop(thread.join());
        }
    }
}

/// No lock of the journal is held over code that can leave its data half changed, so a poisoned
/// lock is still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
