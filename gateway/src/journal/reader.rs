//! A reader of durable records with a position of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::history::HistoryReader;
use super::{Record, Shared, lock};

/// A position that cannot be read, and where to go on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Retention deleted the position; the reader stands at the new start.
    #[error("offsets {first}..{end} were deleted by retention before they were read")]
    Trimmed {
        /// The position that was asked for.
        first: u64,
        /// The log start offset.
        end: u64,
    },
    /// A range is damaged; the reader stands behind it.
    #[error("offsets {first}..{end} are damaged: {why}; `headwater log verify` shows the place")]
    Damaged {
        /// First offset that cannot be read.
        first: u64,
        /// First offset that can be read again.
        end: u64,
        /// What does not fit.
        why: String,
    },
    /// The disk does not answer.
    #[error("the journal cannot be read: {0}")]
    Io(String),
}

/// Reads durable records in order; the newest come from memory. It never returns a record that a
/// power cut could take back.
pub struct Reader {
    shared: Arc<Shared>,
    position: u64,
    disk: Option<log_lite::Reader>,
    history: Option<HistoryReader>,
    /// The journal is known to begin here or later.
    start: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, history: Option<HistoryReader>, from: u64) -> Self {
        Self { shared, position: from, disk: None, history, start: 0 }
    }

    /// The offset of the next record.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes to another offset.
    pub fn seek(&mut self, offset: u64) {
        self.position = offset;
        if let Some(disk) = &mut self.disk {
            disk.seek(offset);
        }
        if let Some(history) = &mut self.history {
            history.forget();
        }
    }

    /// The next records, about `bytes_max` (at least one record); none when caught up. Reads a
    /// file where the position is no longer in memory, so it may block for a disk access.
    ///
    /// # Errors
    /// [`ReadError`] names the range; the next call goes on behind it.
    pub fn read(&mut self, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        self.read_to(u64::MAX, bytes_max)
    }

    /// As [`Reader::read`], of the records below `end`; what comes from a file may go a little
    /// beyond.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_to(&mut self, end: u64, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        loop {
            if let Some(to) = self.in_history() {
                // Back in the journal, it would go on where it stood before.
                self.disk = None;
                let records = self.read_history(to, bytes_max)?;
                if records.is_empty() {
                    self.position = to;
                    continue;
                }
                return Ok(self.took(records, false));
            }
            let in_memory = lock(&self.shared.tail).read(self.position, end, bytes_max);
            if let Some(records) = in_memory {
                self.disk = None;
                return Ok(self.took(records, true));
            }
            match self.read_disk(end, bytes_max) {
                Ok(records) => return Ok(self.took(records, false)),
                Err(problem) => {
                    if let log_lite::ReadError::Trimmed { start } = problem {
                        self.start = start;
                        if self.in_history().is_some() {
                            self.disk = None;
                            continue;
                        }
                    }
                    return Err(self.skip(problem));
                }
            }
        }
    }

    /// Waits until there is something to read; false when the journal is shut and all was read.
    pub async fn wait(&mut self) -> bool {
        let mut watch = self.shared.durable.subscribe();
        let position = self.position;
        match watch.wait_for(|durable| durable.end > position || durable.closed).await {
            Ok(durable) => durable.end > position,
            Err(_) => false,
        }
    }

    fn took(&mut self, records: Vec<Record>, from_memory: bool) -> Vec<Record> {
        let Shared { reads_memory, reads_disk, .. } = &*self.shared;
        let reads = if from_memory { reads_memory } else { reads_disk };
        if let Some(last) = records.last() {
            self.position = last.offset + 1;
            reads.fetch_add(1, Ordering::Relaxed);
        }
        records
    }

    /// Up to where the history is to be read; `None`: it is the journal's turn.
    fn in_history(&mut self) -> Option<u64> {
        let history = self.history.as_ref()?;
        self.start = self.start.max(lock(&self.shared.stats).start);
        history.serves_to(self.position, self.start)
    }

    fn read_history(&mut self, to: u64, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        let history = self.history.as_mut().expect("asked only where there is one");
        history.read(self.position, to, bytes_max).map_err(|problem| {
            let (error, position) = ReadError::of_history(self.position, to, problem);
            self.position = position;
            error
        })
    }

    fn read_disk(
        &mut self,
        end: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, log_lite::ReadError> {
        let limit = self.shared.durable.borrow().end.min(end);
        let disk = match self.disk.as_mut() {
            Some(disk) => disk,
            None => {
                let mut disk = log_lite::Reader::open_dir(&self.shared.dir)?;
                disk.seek(self.position);
                self.disk.insert(disk)
            }
        };
        let (records, is_whole) = read_below(disk, limit, bytes_max)?;
        if !is_whole {
            self.disk = None;
        }
        Ok(records)
    }

    fn skip(&mut self, problem: log_lite::ReadError) -> ReadError {
        self.disk = None;
        let first = self.position;
        match problem {
            log_lite::ReadError::Trimmed { start } => {
                self.position = start;
                ReadError::Trimmed { first, end: start }
            }
            log_lite::ReadError::Damaged { end, ref why, .. }
            | log_lite::ReadError::Lost { end, ref why, .. } => {
                let why = why.to_string();
                self.position = end.max(first);
                ReadError::Damaged { first, end, why }
            }
            other => ReadError::Io(other.to_string()),
        }
    }
}

/// Records below `limit`, about `bytes_max`; and false where something behind them cannot be read,
/// which a reader that begins there meets again.
pub(super) fn read_below(
    disk: &mut log_lite::Reader,
    limit: u64,
    bytes_max: usize,
) -> Result<(Vec<Record>, bool), log_lite::ReadError> {
    let mut out = Vec::new();
    let mut bytes = 0;
    while bytes < bytes_max {
        match disk.next(limit) {
            Ok(Some(batch)) => {
                for record in batch.records() {
                    let record = record_of(&record);
                    bytes += record.key.len() + record.value.len() + size_of::<Record>();
                    out.push(record);
                }
            }
            Ok(None) => break,
            Err(problem) if out.is_empty() => return Err(problem),
            Err(_) => return Ok((out, false)),
        }
    }
    Ok((out, true))
}

/// A record of its own, in one piece of memory.
fn record_of(record: &log_lite::Record<'_>) -> Record {
    let mut both = Vec::with_capacity(record.key.len() + record.value.len());
    both.extend_from_slice(record.key);
    both.extend_from_slice(record.value);
    let both = Bytes::from(both);
    Record {
        offset: record.offset,
        partition: record.partition,
        time_ms: record.time_ms,
        key: both.slice(..record.key.len()),
        value: both.slice(record.key.len()..),
    }
}
