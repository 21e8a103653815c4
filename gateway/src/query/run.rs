//! The shell around a query: follows the journal, writes what the query says, saves its state.
//!
//! An output is written when its input was read, and a checkpoint is saved when all outputs of the
//! input before it are on disk. So what stands in the journal behind a checkpoint is all that a
//! replay from there can double, and [`Ledger`](super::ledger::Ledger) leaves that out. When a commit
//! fails, outputs on their way are gone: the query then goes back to its checkpoint, as after a crash.

mod recover;
mod write;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headwater_shared::envelope::{Envelope, GapCause, Tick};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::follow::{Follow, Input, Write};
use super::plan::{Parts, Plan};
use super::status::{QueryLabel, QueryMetrics, QueryStatus, SharedStatus};
use crate::catalog::{Catalog, CatalogError, Checkpoint};
use crate::journal::{
    AppendError, Journal, NewRecord, ReadError, Reader, Record, SYSTEM_PARTITION, Ticket,
};
use crate::stream::{Rows, Streams};

/// Bytes of records that are taken at a time.
const READ_BYTES: usize = 64 << 10;
/// How often the state is saved while records come in, or sooner where the journal is small for what
/// comes ([`Journal::outgrows`]).
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// How often while publishers wait for a reader to move on.
const SAVE_BLOCKED_EVERY: Duration = Duration::from_secs(1);
/// How often it is saved where it is larger than [`LARGE_STATE_BYTES`], which spares the disk.
const SAVE_LARGE_EVERY: Duration = Duration::from_secs(60);
const LARGE_STATE_BYTES: usize = 1 << 20;
/// Ticks come no closer than this.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// What has to be searched for among more than [`FEW_SOURCES`] is shown anew this often.
const SHOW_EVERY: Duration = Duration::from_secs(1);
const FEW_SOURCES: usize = 500;
/// After a fault of the disk it is tried again this much later.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A handle on a running query's status.
#[derive(Clone)]
pub struct QueryHandle {
    status: Arc<SharedStatus>,
    journal: Journal,
}

impl QueryHandle {
    /// How the query stands now.
    pub fn status(&self) -> QueryStatus {
        let mut status = self.status.get();
        status.lag = self.journal.durable().end.saturating_sub(status.position);
        status
    }
}

/// Runs one query.
pub struct QueryRunner {
    plan: Arc<Parts>,
    journal: Journal,
    catalog: Arc<Catalog>,
    rows: Rows,
    metrics: QueryMetrics,
    label: QueryLabel,
    status: Arc<SharedStatus>,
    /// Partitions of the stream that is read, ascending.
    inputs: Vec<u16>,
    windows: u16,
    late: u16,
    late_name: String,
    /// The last append that is not known to be on disk.
    pending: Option<Ticket>,
}

/// Why following ended.
enum End {
    /// Shut down, or the journal takes no more.
    Done,
    /// Outputs were lost by a failed commit, or not taken: go back to the checkpoint.
    Again,
}

/// What a run holds while it follows.
struct Following {
    follow: Follow,
    reader: Reader,
    writes: Vec<Write>,
    started: Instant,
    saved: Instant,
    saved_position: u64,
    /// The last save failed, so the next one has time.
    save_failed: bool,
    state_bytes: usize,
    ticked: Instant,
    /// The tick that was written and not read yet.
    tick: Option<Ticket>,
    /// No source becomes idle before this, by the clock; `None`: find out.
    idle_at_ms: Option<i64>,
    shown: Instant,
}

impl QueryRunner {
    /// Prepares `plan` to run; its streams have to be in `streams`.
    ///
    /// # Errors
    /// [`CatalogError`] if the numbers of partitions cannot be read.
    ///
    /// # Panics
    /// If `streams` was built without this query.
    pub fn new(
        plan: &Plan,
        journal: Journal,
        catalog: Arc<Catalog>,
        streams: &Streams,
        rows: Rows,
        metrics: QueryMetrics,
    ) -> Result<Self, CatalogError> {
        let parts = Arc::clone(&plan.parts);
        let partitions = catalog.all_partitions()?.into_iter();
        let mut inputs: Vec<u16> = partitions
            .filter_map(|(stream, _, number)| (stream == parts.source).then_some(number))
            .collect();
        inputs.sort_unstable();
        let saved = catalog.checkpoint(&keep_name(&parts.name))?;
        let needed = saved.map_or_else(|| journal.start_of(&inputs), |saved| saved.position);
        journal.keep(&keep_name(&parts.name), Some(needed));
        let own = streams.get(&parts.name).expect("streams know every configured query");
        let late = streams.late(&parts.name).expect("streams know the late stream of every query");
        Ok(Self {
            windows: own.partitions[0],
            late: late.partitions[0],
            late_name: late.name.clone(),
            label: QueryLabel { query: parts.name.clone() },
            status: Arc::new(SharedStatus::new(&parts.name, &parts.canonical)),
            plan: parts,
            journal,
            catalog,
            rows,
            metrics,
            inputs,
            pending: None,
        })
    }

    /// A handle on the status, for the API and the page.
    pub fn handle(&self) -> QueryHandle {
        QueryHandle { status: Arc::clone(&self.status), journal: self.journal.clone() }
    }

    /// How the query stands now.
    pub fn status(&self) -> QueryStatus {
        self.handle().status()
    }

    /// Runs until `shutdown` turns true or the journal is shut; saves its state at the end.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            let end = match self.resume().await {
                Ok(following) => self.follow(following, &mut shutdown).await,
                Err(problem) => {
                    self.fault("the query cannot read its checkpoint; it tries again", &problem);
                    End::Again
                }
            };
            if matches!(end, End::Done) || stopped(&shutdown) {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_AFTER) => {}
                () = stop(&mut shutdown) => return,
            }
            if self.journal.durable().closed {
                return;
            }
        }
    }

    /// Returns when outputs on their way were lost.
    async fn lost(&self) {
        let mut watch = self.journal.watch();
        let lost = match self.pending {
            Some(ticket) => watch.wait_for(|now| now.lost(ticket)).await.is_ok(),
            None => false,
        };
        if !lost {
            std::future::pending::<()>().await;
        }
    }

    async fn follow(
        &mut self,
        mut following: Following,
        shutdown: &mut watch::Receiver<bool>,
    ) -> End {
        let mut blocked = self.journal.blocked();
        loop {
            if stopped(shutdown) {
                self.settle(&mut following).await;
                return End::Done;
            }
            let caught_up = match self.step(&mut following).await {
                Ok(caught_up) => caught_up,
                Err(end) => return end,
            };
            if let Err(end) = self.tick(&mut following) {
                return end;
            }
            let is_blocked = blocked.borrow_and_update().is_some();
            let save_at = following.saved + save_every(following.state_bytes, is_blocked);
            let outgrown =
                !following.save_failed && self.journal.outgrows(following.saved_position);
            if outgrown || Instant::now() >= save_at {
                self.settle(&mut following).await;
            }
            if !caught_up {
                tokio::task::yield_now().await;
                continue;
            }
            let wake_at = self.wake_at(&mut following, save_at);
            tokio::select! {
                more = following.reader.wait() => if !more {
                    self.settle(&mut following).await;
                    return End::Done;
                },
                () = tokio::time::sleep_until(wake_at) => {}
                _ = blocked.changed() => {}
                () = self.lost() => {}
                () = stop(shutdown) => {}
            }
        }
    }

    /// Takes the next records. True when caught up.
    async fn step(&mut self, following: &mut Following) -> Result<bool, End> {
        self.journal.admit_own().await;
        let first = following.reader.position();
        let caught_up = match following.reader.read(READ_BYTES) {
            Ok(records) => {
                for record in &records {
                    self.take(record, following).await?;
                }
                records.is_empty()
            }
            Err(ReadError::Io(problem)) => {
                self.fault("the query cannot read the journal; it tries again", &problem);
                tokio::time::sleep(RETRY_AFTER).await;
                false
            }
            Err(problem) => {
                let cause = match problem {
                    ReadError::Trimmed { .. } => GapCause::Retention,
                    _ => GapCause::Damage,
                };
                let end = following.reader.position();
                self.fault("the query goes on without these records", &problem);
                self.metrics.lost.get_or_create(&self.label).inc_by(end.saturating_sub(first));
                self.apply(Input::Lost { first, end, cause }, following).await?;
                false
            }
        };
        self.show(following);
        Ok(caught_up)
    }

    async fn take(&mut self, record: &Record, following: &mut Following) -> Result<(), End> {
        let offset = record.offset;
        if record.partition == SYSTEM_PARTITION {
            // A tick is for the query that asked for it: another's silence may be shorter.
            if record.key == self.plan.name.as_bytes()
                && let Ok(Envelope::Tick(Tick { now_ms })) = record.envelope()
            {
                self.apply(Input::Tick { offset, now_ms }, following).await?;
            }
            return Ok(());
        }
        if self.inputs.binary_search(&record.partition).is_err() {
            return Ok(());
        }
        let Ok(Envelope::Publish(publish)) = record.envelope() else { return Ok(()) };
        let arrival_ms = publish.arrival_ms;
        match self.rows.of(record) {
            Some(rows) => {
                self.apply(Input::Rows { offset, arrival_ms, rows: &rows }, following).await
            }
            None => {
                self.metrics.unusable.get_or_create(&self.label).inc();
                Ok(())
            }
        }
    }

    async fn apply(&mut self, input: Input<'_>, following: &mut Following) -> Result<(), End> {
        loop {
            let more = following.follow.apply(input, &mut following.writes);
            if !following.writes.is_empty() {
                self.journal.admit_own().await;
                for write in following.writes.drain(..) {
                    self.write(&write)?;
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Notices what became of outputs on their way; writes a tick where a source is silent.
    fn tick(&mut self, following: &mut Following) -> Result<(), End> {
        let durable = self.journal.durable();
        match self.pending {
            Some(ticket) if durable.covers(ticket) => self.pending = None,
            Some(ticket) if durable.lost(ticket) => return Err(End::Again),
            _ => {}
        }
        let read = following.reader.position();
        let waits = |tick: Ticket| tick.offset >= read && !durable.lost(tick);
        if following.tick.is_some_and(waits)
            || following.ticked.elapsed() < TICK_EVERY
            || following.started.elapsed() < self.idle()
        {
            return Ok(());
        }
        let now_ms = now_ms();
        if following.idle_at_ms(now_ms).is_none_or(|idle_at_ms| now_ms < idle_at_ms) {
            return Ok(());
        }
        let envelope = Envelope::Tick(Tick { now_ms });
        let record = NewRecord {
            partition: SYSTEM_PARTITION,
            time_ms: now_ms,
            key: &self.plan.name,
            envelope: &envelope,
        };
        following.ticked = Instant::now();
        match self.journal.append(&record) {
            Ok(ticket) => following.tick = Some(ticket),
            // A later look at the clock writes it.
            Err(
                AppendError::TooLarge(_)
                | AppendError::Overload(_)
                | AppendError::Full
                | AppendError::Lost,
            ) => {}
            Err(AppendError::Closed(_)) => return Err(End::Done),
        }
        Ok(())
    }

    /// When there is something to do without a new record.
    fn wake_at(&self, following: &mut Following, save_at: Instant) -> Instant {
        let now_ms = now_ms();
        let Some(idle_at_ms) = following.idle_at_ms(now_ms) else { return save_at };
        let silence_ms = u64::try_from(idle_at_ms.saturating_sub(now_ms)).unwrap_or(0);
        let earliest = (following.started + self.idle()).max(following.ticked + TICK_EVERY);
        let silent_at = Instant::now().checked_add(Duration::from_millis(silence_ms));
        silent_at.map_or(save_at, |silent_at| silent_at.max(earliest).min(save_at))
    }

    /// Saves when all outputs are on disk, and lets retention go on.
    async fn settle(&mut self, following: &mut Following) {
        following.saved = Instant::now();
        if following.reader.position() == following.saved_position {
            return;
        }
        if let Some(ticket) = self.pending {
            if self.journal.wait(ticket).await.is_err() {
                return;
            }
            self.pending = None;
        }
        self.save(following).await;
    }

    async fn save(&mut self, following: &mut Following) {
        let position = following.reader.position();
        let checkpoint = Checkpoint { position, state: following.follow.snapshot() };
        following.state_bytes = checkpoint.state.len();
        let (catalog, name) = (Arc::clone(&self.catalog), self.keep_name());
        let saved = tokio::task::spawn_blocking(move || {
            catalog.save_checkpoints(&[(name.as_str(), &checkpoint)])
        })
        .await;
        following.save_failed = !matches!(saved, Ok(Ok(())));
        match saved {
            Ok(Ok(())) => {
                following.saved_position = position;
                self.journal.keep(&self.keep_name(), Some(position));
            }
            Ok(Err(problem)) => self.fault("checkpoint not saved; it is tried again", &problem),
            Err(problem) => self.fault("checkpoint not saved; it is tried again", &problem),
        }
    }

    fn show(&self, following: &mut Following) {
        let counts = following.follow.take_counts();
        for (family, count) in [
            (&self.metrics.rows, counts.rows),
            (&self.metrics.unusable, counts.unusable),
            (&self.metrics.not_numbers, counts.not_numbers),
            (&self.metrics.closed_early, counts.closed_early),
            (&self.metrics.forgotten, counts.forgotten),
        ] {
            if count > 0 {
                family.get_or_create(&self.label).inc_by(count);
            }
        }
        let search = following.may_search();
        let engine = following.follow.engine();
        let watermark_ms = search.then(|| engine.watermark_ms());
        let (position, open_windows) = (following.reader.position(), engine.open_windows() as u64);
        let lag = self.journal.durable().end.saturating_sub(position);
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.lag.get_or_create(&self.label).set(gauge(lag));
        self.metrics.open_windows.get_or_create(&self.label).set(gauge(open_windows));
        let numbers = following.follow.ledger.numbers();
        self.status.set(|status| {
            status.position = position;
            status.emitted = numbers.windows;
            status.late = numbers.late;
            status.open_windows = open_windows;
            status.watermark_ms = watermark_ms.unwrap_or(status.watermark_ms);
        });
    }

    /// The name of the checkpoint, and under which it holds back retention.
    fn keep_name(&self) -> String {
        keep_name(&self.plan.name)
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.plan.idle_ms).unwrap_or(0))
    }

    fn fault(&self, what: &str, problem: &dyn std::fmt::Display) {
        warn!(query = self.plan.name, %problem, "{what}");
        self.status.set(|status| status.last_error = Some(format!("{what}: {problem}")));
    }
}

impl Following {
    /// A time before which no source becomes idle. It is looked for again only when it has come,
    /// because it moves to later times only.
    fn idle_at_ms(&mut self, now_ms: i64) -> Option<i64> {
        if self.idle_at_ms.is_none_or(|idle_at_ms| idle_at_ms <= now_ms) {
            self.idle_at_ms = self.follow.engine().idle_at_ms();
        }
        self.idle_at_ms
    }

    /// Searching all sources is done always where they are few, else now and then.
    fn may_search(&mut self) -> bool {
        let may =
            self.follow.engine().sources() <= FEW_SOURCES || self.shown.elapsed() >= SHOW_EVERY;
        if may {
            self.shown = Instant::now();
        }
        may
    }
}

/// A sender that is gone has ended the gateway as well.
fn stopped(shutdown: &watch::Receiver<bool>) -> bool {
    *shutdown.borrow() || shutdown.has_changed().is_err()
}

async fn stop(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn keep_name(query: &str) -> String {
    format!("query:{query}")
}

fn save_every(state_bytes: usize, is_blocked: bool) -> Duration {
    match state_bytes {
        _ if is_blocked => SAVE_BLOCKED_EVERY,
        LARGE_STATE_BYTES.. => SAVE_LARGE_EVERY,
        _ => SAVE_EVERY,
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
