//! State that follows from the journal: kept up to date by one follower, saved in the catalog now
//! and then, and brought up to the end of the journal at start.
//!
//! A projection holds nothing that could not be read again from the journal; the checkpoint only
//! makes the start short and lets retention delete what was read.

use std::sync::Arc;
use std::time::Duration;

use headwater_shared::envelope::Envelope;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::catalog::{Catalog, CatalogError, Checkpoint};
use crate::journal::{Journal, ReadError, Reader, Record};

/// How often states are saved while records come in, or sooner where the journal is small for what
/// comes ([`Journal::outgrows`]). A save is one sync of the catalog.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// How often while publishers wait for a reader to move on.
const SAVE_BLOCKED_EVERY: Duration = Duration::from_secs(1);

/// Bytes of records that the follower takes at a time.
const READ_BYTES: usize = 64 << 10;

/// Reads before others get their turn: under a flood a turn of theirs brings about a commit, and
/// who takes less at a time falls behind what is in memory.
const READS_A_TURN: usize = 32;

/// The name under which the follower holds back retention.
const KEEP: &str = "projections";

/// A record with its envelope, which is decoded once for all projections.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The record.
    pub record: &'a Record,
    /// What it holds; `None` for a record that a newer gateway wrote.
    pub envelope: Option<Envelope<'a>>,
}

impl<'a> Entry<'a> {
    /// Decodes `record`.
    pub fn of(record: &'a Record) -> Self {
        Self { record, envelope: record.envelope().ok() }
    }
}

/// State that follows from the journal.
pub trait Projection: Send {
    /// The name of its checkpoint in the catalog.
    fn name(&self) -> &'static str;
    /// Takes over a saved state. What cannot be read is an error text; the projection then starts
    /// from the oldest record.
    ///
    /// # Errors
    /// A text that says what does not fit.
    fn restore(&mut self, state: &[u8]) -> Result<(), String>;
    /// The next records, in order.
    fn apply(&mut self, entries: &[Entry<'_>]);
    /// Records `first..end` cannot be read.
    fn skip(&mut self, first: u64, end: u64) {
        let _ = (first, end);
    }
    /// All records below `position` have been applied.
    fn caught_up(&mut self, position: u64) {
        let _ = position;
    }
    /// The state as bytes.
    fn snapshot(&self) -> Vec<u8>;
}

/// Brings projections to the end of the journal and keeps them there.
pub struct Follower {
    journal: Journal,
    catalog: Arc<Catalog>,
    reader: Reader,
    projections: Vec<(Box<dyn Projection>, u64)>,
    applied: watch::Sender<u64>,
    saved: Instant,
    saved_position: u64,
    /// The last save failed, so the next one has time.
    failed: bool,
}

impl Follower {
    /// Restores `projections` and reads the journal from their checkpoints to its end. Blocks.
    ///
    /// # Errors
    /// [`CatalogError`] if the checkpoints cannot be read.
    pub fn start(
        journal: Journal,
        catalog: Arc<Catalog>,
        projections: Vec<Box<dyn Projection>>,
    ) -> Result<Self, CatalogError> {
        let mut restored = Vec::new();
        for mut projection in projections {
            let mut position = 0;
            if let Some(checkpoint) = catalog.checkpoint(projection.name())? {
                match projection.restore(&checkpoint.state) {
                    Ok(()) => position = checkpoint.position,
                    Err(why) => {
                        warn!(name = projection.name(), why, "checkpoint not usable, reading all");
                    }
                }
            }
            restored.push((projection, position));
        }
        let from = restored.iter().map(|(_, position)| *position).min().unwrap_or(0);
        if journal.blocks_when_full() {
            journal.keep(KEEP, Some(from));
        }
        let mut follower = Self {
            reader: journal.reader(from),
            journal,
            catalog,
            projections: restored,
            applied: watch::Sender::new(from),
            saved: Instant::now(),
            saved_position: from,
            failed: false,
        };
        while follower.step() {}
        info!(from, to = follower.reader.position(), "state restored from the journal");
        Ok(follower)
    }

    /// The offset below which every record has been applied; what a reader of projected state
    /// waits for to see its own write.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Follows until the journal is shut, then saves.
    pub async fn run(mut self) {
        let mut blocked = self.journal.blocked();
        loop {
            let is_blocked = blocked.borrow_and_update().is_some();
            let every = if is_blocked { SAVE_BLOCKED_EVERY } else { SAVE_EVERY };
            let unsaved = self.reader.position() != self.saved_position;
            tokio::select! {
                more = self.reader.wait() => if !more { break },
                _ = blocked.changed() => {}
                () = sleep_until(self.saved + every), if unsaved => {}
            }
            while self.turn() {
                if self.is_outgrown() {
                    self = self.save().await;
                }
                tokio::task::yield_now().await;
            }
            if self.saved.elapsed() >= every {
                self = self.save().await;
            }
        }
        self.save().await;
    }

    /// Ends early where the states are to be saved first. False when caught up.
    fn turn(&mut self) -> bool {
        for _ in 0..READS_A_TURN {
            if !self.step() {
                return false;
            }
            if self.is_outgrown() {
                break;
            }
        }
        true
    }

    /// True if the states have to be saved before more is read.
    fn is_outgrown(&self) -> bool {
        !self.failed && self.journal.outgrows(self.saved_position)
    }

    /// False when caught up.
    fn step(&mut self) -> bool {
        let first = self.reader.position();
        match self.reader.read(READ_BYTES) {
            Ok(records) => {
                let entries: Vec<Entry<'_>> = records.iter().map(Entry::of).collect();
                for (projection, from) in &mut self.projections {
                    let known = entries.partition_point(|entry| entry.record.offset < *from);
                    if known < entries.len() {
                        projection.apply(&entries[known..]);
                    }
                }
                let position = self.reader.position();
                for (projection, _) in &mut self.projections {
                    projection.caught_up(position);
                }
                self.applied.send_replace(position);
                !records.is_empty()
            }
            Err(problem) => {
                warn!(%problem, "state has to go on without these records");
                for (projection, _) in &mut self.projections {
                    projection.skip(first, self.reader.position());
                }
                !matches!(problem, ReadError::Io(_))
            }
        }
    }

    async fn save(mut self) -> Self {
        let position = self.reader.position();
        if position == self.saved_position {
            return self;
        }
        let entries: Vec<(&'static str, Checkpoint)> = self
            .projections
            .iter()
            .map(|(p, _)| (p.name(), Checkpoint { position, state: p.snapshot() }))
            .collect();
        let catalog = Arc::clone(&self.catalog);
        let saved = tokio::task::spawn_blocking(move || {
            let entries: Vec<_> = entries.iter().map(|(name, state)| (*name, state)).collect();
            catalog.save_checkpoints(&entries)
        })
        .await;
        self.failed = !matches!(saved, Ok(Ok(())));
        match saved {
            Ok(Ok(())) => {
                self.saved_position = position;
                self.journal.keep(KEEP, Some(position));
            }
            Ok(Err(problem)) => warn!(%problem, "checkpoint not saved; the next start reads more"),
            Err(problem) => warn!(%problem, "checkpoint not saved; the next start reads more"),
        }
        self.saved = Instant::now();
        self
    }
}

#[cfg(test)]
mod tests {
    use headwater_shared::envelope::{Envelope, Tick};

    use super::*;
    use crate::journal::{JournalOptions, NewRecord};

    struct Nothing;

    impl Projection for Nothing {
        fn name(&self) -> &'static str {
            "nothing"
        }
        fn restore(&mut self, _: &[u8]) -> Result<(), String> {
            Ok(())
        }
        fn apply(&mut self, _: &[Entry<'_>]) {}
        fn snapshot(&self) -> Vec<u8> {
            Vec::new()
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn retention_does_not_overtake_a_checkpoint_however_fast_records_come() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = JournalOptions {
            segment_size: 1 << 20,
            max_size: Some(4 << 20),
            ..JournalOptions::default()
        };
        let (journal, _) = Journal::open(&dir.path().join("journal"), options).expect("new");
        let catalog = Arc::new(Catalog::open(&dir.path().join("catalog")).expect("new"));
        let nothing: Vec<Box<dyn Projection>> = vec![Box::new(Nothing)];
        let follower =
            Follower::start(journal.clone(), Arc::clone(&catalog), nothing).expect("started");
        let mut applied = follower.applied();
        let follower = tokio::spawn(follower.run());
        let key = "k".repeat(100 << 10);
        for number in 0..100 {
            let envelope = Envelope::Tick(Tick { now_ms: number });
            let record =
                NewRecord { partition: 0, time_ms: number, key: &key, envelope: &envelope };
            let ticket = journal.append(&record).expect("there is room");
            applied.wait_for(|end| *end > ticket.offset).await.expect("the follower runs");
        }
        let checkpoint = catalog.checkpoint("nothing").expect("read").map(|saved| saved.position);
        assert!(journal.stats().start > 0, "retention deleted the oldest");
        assert!(checkpoint >= Some(journal.stats().start), "{checkpoint:?} {:?}", journal.stats());
        assert_eq!(journal.stats().dropped_past_keep, 0);
        journal.close();
        follower.await.expect("it ends");
    }
}
