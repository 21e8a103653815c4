//! The shell: a thread that follows the journal, one that compacts, and what others ask.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log_lite::{CompactError, CompactStats, Counters, DirStorage, JournalError, JournalOptions};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use super::core::{PlaceError, Placer};
use super::{PlacementStatus, compact};
use crate::catalog::{Catalog, CatalogError, Checkpoint};
use crate::config::NamedLogConfig;
use crate::journal::{History, Journal, NewRecord, ReadError, Reader, retention_gap};

/// Bytes of records that are taken from the journal at a time.
const READ_BYTES: usize = 256 << 10;
/// What was taken is committed after this time: the records are safe in the journal, and a sync of
/// its own for each would wear the disk.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// Or when so much waits.
const COMMIT_BYTES: usize = 1 << 20;
/// How often the position is saved while it changes, for a log whose streams are rare.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// How often while publishers wait for a reader of the journal.
const SAVE_BLOCKED_EVERY: Duration = Duration::from_secs(1);
/// How often retention looks at the clock.
const RETAIN_EVERY: Duration = Duration::from_secs(30);
/// After a fault the log is opened again this much later.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a placement works with.
pub struct Around {
    /// What is followed.
    pub journal: Journal,
    /// Where positions are kept.
    pub catalog: Arc<Catalog>,
}

/// Follows the journal into one log.
pub struct Placement {
    shared: Arc<Shared>,
    worker: Worker,
    /// How long deletes are remembered, where the log is compacted.
    grace: Option<Duration>,
}

/// What the two threads and those who ask share.
pub(super) struct Shared {
    history: Arc<History>,
    journal: Journal,
    /// `None` while the log is opened again.
    placer: Mutex<Option<Placer<DirStorage>>>,
    facts: Mutex<PlacementStatus>,
    /// Of the logs before it was opened again.
    before: Mutex<Counters>,
    signals: Mutex<Signals>,
    signal: Condvar,
}

#[derive(Default)]
struct Signals {
    stop: bool,
    /// Segments that were sealed.
    sealed: u64,
}

struct Worker {
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    reader: Reader,
    options: JournalOptions,
    partitions: Vec<u16>,
    /// When the oldest record that waits for a commit was taken.
    waits_since: Option<Instant>,
    saved: Instant,
    saved_position: u64,
    retained: Instant,
    segments: u64,
}

/// What a turn ran into; the log is opened again.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Log(#[from] JournalError),
    #[error("{0}")]
    Read(ReadError),
    #[error("the log is closed; it is opened again")]
    Closed,
}

impl Placement {
    /// The options of a log.
    pub fn options(config: &NamedLogConfig) -> JournalOptions {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        JournalOptions {
            segment_size: config.segment_bytes,
            max_size: config.max_bytes,
            max_age_ms: config.max_age.map(millis),
            ..JournalOptions::default()
        }
    }

    /// Places records of `partitions` into `log`, which is in `dir`.
    ///
    /// # Errors
    /// Where the catalog cannot be read or the log not be written.
    pub fn new(
        name: &str,
        config: &NamedLogConfig,
        (dir, log): (PathBuf, log_lite::Journal<DirStorage>),
        partitions: Vec<u16>,
        with: Around,
    ) -> Result<Self, PlacementError> {
        let Around { journal, catalog } = with;
        let saved = catalog.checkpoint(&keep_name(name))?;
        let compacted = saved.as_ref().and_then(|saved| saved.state.as_slice().try_into().ok());
        let compacted = compacted.map_or(0, u64::from_le_bytes);
        let saved = saved.map_or(0, |saved| saved.position);
        let placer = Placer::new(log, partitions.clone(), saved, journal.stats().start)?;
        let position = placer.position();
        journal.keep(&keep_name(name), Some(position));
        let facts = PlacementStatus {
            log: name.to_owned(),
            compact: config.compact.is_some(),
            ..PlacementStatus::default()
        };
        let shared = Arc::new(Shared {
            history: Arc::new(History::new(name, &dir)),
            journal: journal.clone(),
            placer: Mutex::new(Some(placer)),
            facts: Mutex::new(facts),
            before: Mutex::default(),
            signals: Mutex::default(),
            signal: Condvar::new(),
        });
        shared.history.is_compacted_below(compacted);
        shared.note();
        let worker = Worker {
            shared: Arc::clone(&shared),
            catalog,
            reader: journal.reader(position),
            options: Self::options(config),
            partitions,
            waits_since: None,
            saved: Instant::now(),
            saved_position: saved,
            retained: Instant::now(),
            segments: 0,
        };
        Ok(Self { shared, worker, grace: config.compact })
    }

    /// The log as readers of its streams see it.
    pub fn history(&self) -> Arc<History> {
        Arc::clone(&self.shared.history)
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Places until `shutdown` turns true, then commits what it took.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let Self { shared, mut worker, grace } = self;
        let name = shared.name().to_owned();
        let (done, ended) = oneshot::channel();
        let runtime = Handle::current();
        let compacting = grace.and_then(|grace| {
            let shared = Arc::clone(&shared);
            spawn(&format!("compact {name}"), move || compact::run(&shared, grace))
        });
        let thread = spawn(&format!("log {name}"), move || {
            worker.drive(&runtime, shutdown);
            shared.end();
            if let Some(compacting) = compacting {
                // A panic there has been reported by its thread, and left the log whole.
                drop(compacting.join());
            }
            *shared.placer() = None;
            // The receiver is gone where nobody waits any more.
            let _ = done.send(());
        });
        if thread.is_some() && ended.await.is_err() {
            error!(log = name, "placing into the log broke down; restart the gateway");
        }
    }
}

/// Why a log beside the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// Its position cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// It cannot be written.
    #[error(transparent)]
    Log(#[from] PlaceError),
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Option<std::thread::JoinHandle<()>> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|problem| error!(name, %problem, "no thread for the log; restart")).ok()
}

impl Worker {
    fn drive(&mut self, runtime: &Handle, mut shutdown: watch::Receiver<bool>) {
        loop {
            // A sender that is gone cannot ask any more: that is the end too.
            let stop = *shutdown.borrow() || shutdown.has_changed().is_err();
            let is_open = self.shared.placer().is_some();
            let turned = match (stop, is_open) {
                (true, _) => self.commit().map(|()| true),
                (false, true) => self.turn(),
                (false, false) => self.open().map(|()| false),
            };
            let wait = match turned {
                Ok(false) => continue,
                Ok(true) => self.wait(),
                Err(problem) => {
                    self.shared.failed(&problem);
                    RETRY_AFTER
                }
            };
            if stop {
                self.save();
                return;
            }
            let is_open = self.shared.placer().is_some();
            let mut durable = self.shared.journal.watch();
            let position = self.reader.position();
            runtime.block_on(async {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = durable.wait_for(|now| now.end > position), if is_open => {}
                    // Looked at above.
                    _ = shutdown.changed() => {}
                }
            });
        }
    }

    /// The time until something has to be done without a new record.
    fn wait(&self) -> Duration {
        let commit = self.waits_since.map(|since| COMMIT_EVERY.saturating_sub(since.elapsed()));
        let save = self.save_every().saturating_sub(self.saved.elapsed());
        commit.map_or(save, |commit| commit.min(save)).max(Duration::from_millis(1))
    }

    fn save_every(&self) -> Duration {
        if self.shared.journal.is_blocked() { SAVE_BLOCKED_EVERY } else { SAVE_EVERY }
    }

    /// Takes the next records. True when caught up.
    fn turn(&mut self) -> Result<bool, Fault> {
        let first = self.reader.position();
        let read = self.reader.read(READ_BYTES);
        let caught_up = matches!(&read, Ok(records) if records.is_empty());
        self.shared.place(|placer| match read {
            Ok(records) => Ok(placer.take(&records)?),
            Err(ReadError::Trimmed { end, .. }) => {
                placer.pass(end);
                Ok(())
            }
            Err(ReadError::Damaged { end, .. }) => Ok(placer.lose(first, end)?),
            Err(problem @ ReadError::Io(_)) => Err(Fault::Read(problem)),
        })?;
        let pending = self.shared.place(|placer| Ok(placer.pending_bytes()))?;
        if pending > 0 {
            let since = *self.waits_since.get_or_insert_with(Instant::now);
            if pending >= COMMIT_BYTES || since.elapsed() >= COMMIT_EVERY {
                self.commit()?;
            }
        } else {
            self.shared.note();
        }
        if self.saved.elapsed() >= self.save_every() {
            self.save();
        }
        self.retain()?;
        Ok(caught_up)
    }

    fn commit(&mut self) -> Result<(), Fault> {
        self.waits_since = None;
        self.shared.place(|placer| Ok(placer.commit()?))?;
        self.shared.note();
        Ok(())
    }

    /// Saves the position, so that a start reads the journal from there. It is no promise: the end
    /// of the log counts where it is higher.
    fn save(&mut self) {
        self.saved = Instant::now();
        let position = self.shared.facts().position;
        if position == self.saved_position {
            return;
        }
        let compacted = self.shared.history.extent().compacted;
        let checkpoint = Checkpoint { position, state: compacted.to_le_bytes().to_vec() };
        let name = keep_name(self.shared.name());
        match self.catalog.save_checkpoints(&[(name.as_str(), &checkpoint)]) {
            Ok(()) => self.saved_position = position,
            Err(problem) => warn!(%problem, "position not saved; the next start reads more"),
        }
    }

    /// Retention runs when a segment was added, and by time.
    fn retain(&mut self) -> Result<(), Fault> {
        let kept = self.shared.history.kept().unwrap_or(u64::MAX);
        let is_time = self.retained.elapsed() >= RETAIN_EVERY;
        let before = self.segments;
        let (dropped, segments) = self.shared.place(|placer| {
            let log = placer.log_mut();
            let segments = log.stats().segments_created;
            if segments == before && !is_time {
                return Ok((Vec::new(), segments));
            }
            log.set_keep(kept);
            Ok((log.enforce_retention(jiff::Timestamp::now().as_millisecond())?, segments))
        })?;
        if segments != before || is_time {
            self.segments = segments;
            self.retained = Instant::now();
            self.shared.sealed_now(segments);
            self.shared.note();
        }
        for range in dropped.iter().filter(|range| range.past_keep) {
            self.shared.note_gap(range);
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), Fault> {
        let (log, _) = log_lite::Journal::open_dir(self.shared.history.dir(), self.options)?;
        let start = self.shared.journal.stats().start;
        let placer = Placer::new(log, self.partitions.clone(), self.saved_position, start)?;
        self.reader.seek(placer.position());
        self.waits_since = None;
        self.segments = 0;
        *self.shared.placer() = Some(placer);
        self.shared.facts().last_error = None;
        self.shared.note();
        info!(log = self.shared.name(), "the log was opened again");
        Ok(())
    }
}

impl Shared {
    pub(super) fn name(&self) -> &str {
        self.history.name()
    }

    fn placer(&self) -> MutexGuard<'_, Option<Placer<DirStorage>>> {
        lock(&self.placer)
    }

    fn facts(&self) -> MutexGuard<'_, PlacementStatus> {
        lock(&self.facts)
    }

    /// Works on the log; after a fault it is closed, to be opened again.
    fn place<T>(
        &self,
        work: impl FnOnce(&mut Placer<DirStorage>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut open = self.placer();
        let Some(placer) = open.as_mut() else { return Err(Fault::Closed) };
        let worked = work(placer);
        if worked.is_err()
            && let Some(placer) = open.take()
        {
            add(&mut lock(&self.before), placer.log().stats());
        }
        worked
    }

    /// What the log holds, for readers and for whoever asks; the journal may delete what is there.
    fn note(&self) {
        let placer = self.placer();
        let Some(placer) = placer.as_ref() else { return };
        let log = placer.log();
        let before = *lock(&self.before);
        let (start, placed) = (log.start(), placer.placed());
        self.history.holds(start, log.end(), placed);
        let stats = log.stats();
        let mut facts = self.facts();
        facts.start = start;
        facts.position = placed;
        facts.bytes = log.size();
        facts.records = before.records + stats.records;
        facts.bytes_asked = before.bytes_asked + stats.bytes_asked;
        facts.device_bytes = before.device_bytes + stats.device_bytes;
        drop(facts);
        self.journal.keep(&keep_name(self.name()), Some(placed));
    }

    fn failed(&self, problem: &Fault) {
        let problem = problem.to_string();
        let mut facts = self.facts();
        if facts.last_error.as_ref() != Some(&problem) {
            warn!(log = self.name(), problem, "nothing is placed into the log; it is tried again");
        }
        facts.last_error = Some(problem);
    }

    /// What the log's own retention deleted before every route had it becomes a gap record in each
    /// partition that lost something.
    fn note_gap(&self, range: &log_lite::Dropped) {
        let (first, end, log) = (range.first, range.end, self.name());
        warn!(log, first, end, "retention deleted records that were not forwarded yet");
        for (partition, count) in &range.counts {
            self.facts().dropped_past_keep += count;
            let envelope = retention_gap(range, *count);
            let time_ms = jiff::Timestamp::now().as_millisecond();
            let record = NewRecord { partition: *partition, time_ms, key: "", envelope: &envelope };
            if let Err(problem) = self.journal.append(&record) {
                warn!(%problem, "a gap record was not stored");
            }
        }
    }

    pub(super) fn with_log<T>(
        &self,
        work: impl FnOnce(&mut log_lite::Journal<DirStorage>) -> T,
    ) -> Option<T> {
        self.placer().as_mut().map(|placer| work(placer.log_mut()))
    }

    pub(super) fn compacted(&self, stats: &CompactStats, below: u64) {
        self.history.is_compacted_below(below);
        let mut facts = self.facts();
        facts.last_error = None;
        facts.compactions += 1;
        facts.compaction_bytes_in += stats.bytes_in;
        facts.compaction_bytes_out += stats.bytes_out;
        drop(facts);
        self.note();
    }

    pub(super) fn compaction_failed(&self, problem: &CompactError) {
        self.facts().last_error = Some(problem.to_string());
    }

    pub(super) fn status(&self) -> PlacementStatus {
        let mut status = self.facts().clone();
        status.lag = self.journal.durable().end.saturating_sub(status.position);
        status
    }

    fn sealed_now(&self, sealed: u64) {
        lock(&self.signals).sealed = sealed;
        self.signal.notify_all();
    }

    fn end(&self) {
        lock(&self.signals).stop = true;
        self.signal.notify_all();
    }

    /// Rests so long, or until more segments are sealed than were `seen`. `None`: the placement
    /// ends. Else how many are sealed.
    pub(super) fn rest(&self, at_most: Duration, seen: u64) -> Option<u64> {
        let signals = lock(&self.signals);
        let waited = self.signal.wait_timeout_while(signals, at_most, |signals| {
            !signals.stop && signals.sealed <= seen
        });
        let signals = waited.unwrap_or_else(PoisonError::into_inner).0;
        (!signals.stop).then_some(signals.sealed)
    }
}

fn add(before: &mut Counters, more: &Counters) {
    before.records += more.records;
    before.bytes_asked += more.bytes_asked;
    before.device_bytes += more.device_bytes;
}

/// The name of the checkpoint, and under which it holds back the journal's retention.
fn keep_name(log: &str) -> String {
    format!("log:{log}")
}

/// No lock is held over code that can leave its data half changed, so a poisoned one is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
