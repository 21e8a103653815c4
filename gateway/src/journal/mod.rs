//! The journal: one log for everything that enters, with group commit over log-lite.
//!
//! Any thread appends; the record gets its offset at once and a [`Ticket`]. One thread of its own
//! writes and syncs all that has gathered, and the next commit starts when the last has returned:
//! the batch grows while the disk works, no timer is involved. [`Journal::watch`] says what is
//! durable. Readers ([`Reader`]) see durable records only, the newest from memory.

mod blocked;
mod committer;
mod history;
mod metrics;
mod pending;
mod reader;
mod tail;
mod types;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use headwater_shared::origin::Origin;
use log_lite::WhenFull;
use tokio::sync::{Notify, watch};

pub use blocked::Blocked;
pub(crate) use committer::retention_gap;
pub use history::{Extent, History};
pub use log_lite::{Counters, JournalError, JournalOptions, Recovery};
pub use metrics::register;
pub use reader::{ReadError, Reader};
pub use types::{AppendError, Durable, JournalStats, NewRecord, Reads, Record, Ticket};

use history::HistoryReader;
use pending::{Fullness, Pending};
use tail::Tail;

/// The partition that holds what belongs to no stream: session changes and ticks.
pub const SYSTEM_PARTITION: u16 = 0;

/// Appended and not yet taken by the committer; above this publishers wait ([`Journal::admit`]).
const PENDING_BYTES_MAX: usize = 1 << 20;

/// What admitted publishers may still add; one commit of log-lite holds it.
const PENDING_BYTES_LIMIT: usize = 12 << 20;

const _: () = assert!(PENDING_BYTES_LIMIT + (1 << 20) <= log_lite::MAX_PENDING);

/// Retention deletes nothing while the journal is smaller: no configuration allows less.
const OUTGROWN_BYTES_MIN: u64 = 2 << 20;

/// Key and envelope of a record at most. The smallest segment that the configuration allows, and a
/// batch of log-lite, hold it.
pub const RECORD_BYTES_MAX: usize = 1000 << 10;

const _: () = assert!(RECORD_BYTES_MAX + 64 <= log_lite::MAX_BODY);

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
    blocks_when_full: bool,
    blocked: watch::Sender<Option<Blocked>>,
    reads_memory: AtomicU64,
    reads_disk: AtomicU64,
    /// Other logs that hold records of these partitions too.
    histories: OnceLock<BTreeMap<u16, Arc<History>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
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
            blocks_when_full: log.options().when_full == WhenFull::Block,
            blocked: watch::Sender::new(None),
            reads_memory: AtomicU64::new(0),
            reads_disk: AtomicU64::new(0),
            histories: OnceLock::new(),
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
        self.append_with(record, None, None)
    }

    /// Appends a record that another gateway had. What it sent before has to be here still: if a
    /// commit has failed since `generation`, nothing is appended.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended.
    pub fn append_from(
        &self,
        origin: &Origin<'_>,
        record: &NewRecord<'_>,
        generation: u64,
    ) -> Result<Ticket, AppendError> {
        self.append_with(record, Some(origin), Some(generation))
    }

    fn append_with(
        &self,
        record: &NewRecord<'_>,
        origin: Option<&Origin<'_>>,
        generation: Option<u64>,
    ) -> Result<Ticket, AppendError> {
        let mut pending = lock(&self.shared.pending);
        if let Some(why) = pending.closed {
            return Err(AppendError::Closed(why));
        }
        if generation.is_some_and(|generation| generation != pending.generation) {
            return Err(AppendError::Lost);
        }
        let size = record.envelope.size_max() + origin.map_or(0, Origin::size_max);
        if size + record.key.len() > RECORD_BYTES_MAX {
            return Err(AppendError::TooLarge(size));
        }
        if pending.fullness == Fullness::Brim && !blocked::is_derived(record.envelope) {
            return Err(AppendError::Full);
        }
        let waiting = pending.arena.used();
        if waiting + record.key.len() + size > PENDING_BYTES_LIMIT {
            return Err(AppendError::Overload(waiting));
        }
        let ticket = pending.put(record, origin, size);
        if pending.arena.count() == 1 {
            self.shared.work.notify_one();
        }
        Ok(ticket)
    }

    /// Returns when publishers may send more: what waits for the disk is bounded, and a log that
    /// blocks when it is full has room.
    pub async fn admit(&self) {
        self.admitted(|pending| pending.fullness == Fullness::Room).await;
    }

    /// Returns when the gateway itself may write more: it waits for the disk, never for readers,
    /// because it is one.
    pub async fn admit_own(&self) {
        self.admitted(|_| true).await;
    }

    async fn admitted(&self, may: impl Fn(&Pending) -> bool) {
        loop {
            let notified = self.shared.room.notified();
            {
                let pending = lock(&self.shared.pending);
                let waiting = pending.arena.used() + pending.committing;
                if pending.closed.is_some() || (waiting < PENDING_BYTES_MAX && may(&pending)) {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Why publishers wait for a reader, now and whenever it changes; `None` where they do not.
    /// A reader that keeps and has something to save does so soon, to let them go on.
    pub fn blocked(&self) -> watch::Receiver<Option<Blocked>> {
        self.shared.blocked.subscribe()
    }

    /// The offset of the first record, in the order of the log, whose time is at or after
    /// `time_ms`; where these partitions are in another log too, also of what only that one has.
    /// Reads files.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn offset_at(&self, partitions: &[u16], time_ms: i64) -> Result<u64, ReadError> {
        let io = |problem: log_lite::ReadError| ReadError::Io(problem.to_string());
        if let Some(history) = self.history_of(partitions) {
            let to = history.extent().end.min(self.stats().start);
            let mut disk = log_lite::Reader::open_dir(history.dir()).map_err(io)?;
            disk.only(Some(partitions));
            let found = disk.seek_time(time_ms, to).map_err(io)?;
            if found < to {
                return Ok(found);
            }
        }
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
        Reader::new(Arc::clone(&self.shared), None, from)
    }

    /// A reader that starts at `from`, of a stream with these partitions: where their records are
    /// in another log too, it gives those that the journal has deleted. Of other partitions it
    /// gives what the journal has.
    pub fn reader_of(&self, partitions: &[u16], from: u64) -> Reader {
        let history = self.history_of(partitions);
        let history = history.map(|history| HistoryReader::new(Arc::clone(history), partitions));
        Reader::new(Arc::clone(&self.shared), history, from)
    }

    /// The first offset that [`Journal::reader_of`] these partitions can give.
    pub fn start_of(&self, partitions: &[u16]) -> u64 {
        let start = lock(&self.shared.stats).start;
        match self.history_of(partitions).map(|history| history.extent()) {
            Some(extent) if extent.start < extent.end => start.min(extent.start),
            _ => start,
        }
    }

    /// [`Journal::keep`] for a reader of these partitions alone: where their records are in another
    /// log too, it is that log that keeps them.
    pub fn keep_of(&self, name: &str, partitions: &[u16], position: Option<u64>) {
        match self.history_of(partitions) {
            Some(history) => history.keep(name, position),
            None => self.keep(name, position),
        }
    }

    /// The records of these partitions go to other logs too. Said once, before they are read.
    ///
    /// # Panics
    /// If it was said before.
    pub fn set_histories(&self, histories: BTreeMap<u16, Arc<History>>) {
        let set = self.shared.histories.set(histories);
        assert!(set.is_ok(), "the gateway names its logs once, when it starts");
    }

    /// All partitions of a stream are in the same log.
    fn history_of(&self, partitions: &[u16]) -> Option<&Arc<History>> {
        self.shared.histories.get()?.get(partitions.first()?)
    }

    /// Publishers wait rather than that something is deleted which a reader keeps.
    pub fn blocks_when_full(&self) -> bool {
        self.shared.blocks_when_full
    }

    /// Publishers wait for a reader at the moment.
    pub fn is_blocked(&self) -> bool {
        self.shared.blocked.borrow().is_some()
    }

    /// `name` still needs what is at or above `position`; `None` gives it up. Retention reports
    /// what it has to delete in spite of that, or blocks publishers rather than delete it.
    pub fn keep(&self, name: &str, position: Option<u64>) {
        let before = {
            let mut keep = lock(&self.shared.keep);
            match position {
                Some(position) => keep.insert(name.to_owned(), position),
                None => keep.remove(name),
            }
        };
        if before != position {
            self.look(|pending| pending.fullness != Fullness::Room);
        }
    }

    /// Until [`Journal::readers_are_known`], retention deletes nothing: at a start readers say one
    /// after the other what they need.
    pub fn await_readers(&self) {
        lock(&self.shared.pending).readers_missing = true;
    }

    /// Whoever needs something has called [`Journal::keep`].
    pub fn readers_are_known(&self) {
        self.look(|pending| std::mem::take(&mut pending.readers_missing));
    }

    /// Wakes the committer to look at retention, if `needed`.
    fn look(&self, needed: impl FnOnce(&mut Pending) -> bool) {
        let mut pending = lock(&self.shared.pending);
        if needed(&mut pending) {
            pending.look = true;
            self.shared.work.notify_one();
        }
    }

    /// How often records came from memory and from files.
    pub fn reads(&self) -> Reads {
        Reads {
            memory: self.shared.reads_memory.load(Ordering::Relaxed),
            disk: self.shared.reads_disk.load(Ordering::Relaxed),
        }
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
