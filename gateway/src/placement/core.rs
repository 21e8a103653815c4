//! Which records go to a log, and how far it came. Does no I/O but through its log.

use log_lite::{JournalError, Storage};

use crate::journal::Record;

/// A record could not be placed; the log has to be opened again.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The log did not take it.
    #[error(transparent)]
    Append(#[from] log_lite::AppendError),
    /// The log did not commit.
    #[error(transparent)]
    Commit(#[from] JournalError),
}

/// Puts the records of some partitions of the journal into a log, under their offsets.
pub struct Placer<S: Storage> {
    log: log_lite::Journal<S>,
    /// Ascending.
    partitions: Vec<u16>,
    /// All below was looked at.
    position: u64,
    /// All below that belongs here is on disk here.
    placed: u64,
}

impl<S: Storage> Placer<S> {
    /// A placer into `log`. `saved`: what [`Placer::placed`] was when it was saved last, or less.
    /// `journal_start`: what was before cannot be placed any more.
    ///
    /// # Errors
    /// [`PlaceError`] where the log does not take its beginning.
    pub fn new(
        mut log: log_lite::Journal<S>,
        mut partitions: Vec<u16>,
        saved: u64,
        journal_start: u64,
    ) -> Result<Self, PlaceError> {
        partitions.sort_unstable();
        // The journal keeps what was not placed, so what it has not belongs to no one here, or is
        // named by the gap records that it wrote.
        let position = log.end().max(saved).max(journal_start);
        if log.segments().len() == 0 {
            // A reader that asks for an offset from here on is not told that something is gone.
            log.skip_to(position)?;
        }
        Ok(Self { log, partitions, position, placed: position })
    }

    /// The offset that has to be read next.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// All records below that belong to the log are on its disk.
    pub fn placed(&self) -> u64 {
        self.placed
    }

    /// Bytes that wait for [`Placer::commit`].
    pub fn pending_bytes(&self) -> usize {
        self.log.pending_bytes()
    }

    /// The log.
    pub fn log(&self) -> &log_lite::Journal<S> {
        &self.log
    }

    /// The log, for its retention and its compaction.
    pub fn log_mut(&mut self) -> &mut log_lite::Journal<S> {
        &mut self.log
    }

    /// Takes the next records of the journal, from [`Placer::position`] on; others than the log's
    /// are passed over.
    ///
    /// # Errors
    /// [`PlaceError`]; the log is to be opened again.
    pub fn take(&mut self, records: &[Record]) -> Result<(), PlaceError> {
        let from = self.position;
        for record in records.iter().filter(|record| record.offset >= from) {
            if self.partitions.binary_search(&record.partition).is_ok() {
                let Record { offset, partition, time_ms, key, value } = record;
                self.log.append_at(*offset, *partition, *time_ms, key, value)?;
            }
            self.position = record.offset + 1;
        }
        self.settle();
        Ok(())
    }

    /// The journal has deleted what is below `end`; what was of the log, gap records name.
    pub fn pass(&mut self, end: u64) {
        self.position = self.position.max(end);
        self.settle();
    }

    /// The journal cannot read `first..end`: the log says so too.
    ///
    /// # Errors
    /// [`PlaceError`]; the log is to be opened again.
    pub fn lose(&mut self, first: u64, end: u64) -> Result<(), PlaceError> {
        self.log.skip_to(first.max(self.position))?;
        self.log.advance_to(end)?;
        self.position = self.position.max(end);
        self.settle();
        Ok(())
    }

    /// Makes durable what was taken.
    ///
    /// # Errors
    /// [`PlaceError`]; the log is to be opened again.
    pub fn commit(&mut self) -> Result<(), PlaceError> {
        self.log.commit()?;
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        if self.log.pending_bytes() == 0 {
            self.placed = self.position;
        }
    }
}
