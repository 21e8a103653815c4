//! A reader of durable records with a position of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::history::HistoryReader;
use super::tail::Meta;
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
    /// The partitions that it gives records of; `None`: all.
    only: Option<Vec<u16>>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, history: Option<HistoryReader>, from: u64) -> Self {
        Self { shared, position: from, disk: None, history, start: 0, only: None }
    }

    /// Gives records of these partitions alone. Others are passed by, a segment at a time where its
    /// summary says that it has none of them; what is damaged in others is not told.
    #[must_use]
    pub fn only(self, partitions: &[u16]) -> Self {
        Self { only: Some(partitions.to_vec()), ..self }
    }

    /// All below has been given or passed by.
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
            let wanted = |partition| is_wanted(self.only.as_deref(), partition);
            let in_memory = lock(&self.shared.tail).read(self.position, end, bytes_max, wanted);
            if let Some((records, position)) = in_memory {
                (self.disk, self.position) = (None, position);
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
            self.position = self.position.max(last.offset + 1);
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
                disk.only(self.only.as_deref());
                disk.seek(self.position);
                self.disk.insert(disk)
            }
        };
        let (records, is_whole) = read_below(disk, limit, bytes_max)?;
        if is_whole {
            self.position = self.position.max(disk.position());
        } else {
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
            log_lite::ReadError::Damaged { first: from, end, ref why, .. }
            | log_lite::ReadError::Lost { first: from, end, ref why, .. } => {
                // What is before it may have been passed by.
                let (first, why) = (first.max(from), why.to_string());
                self.position = end.max(first);
                ReadError::Damaged { first, end, why }
            }
            other => ReadError::Io(other.to_string()),
        }
    }
}

fn is_wanted(only: Option<&[u16]>, partition: u16) -> bool {
    only.is_none_or(|only| only.contains(&partition))
}

/// Records below `limit`, about `bytes_max`, in one piece of memory; and false where something behind
/// them cannot be read, which a reader that begins there meets again.
pub(super) fn read_below(
    disk: &mut log_lite::Reader,
    limit: u64,
    bytes_max: usize,
) -> Result<(Vec<Record>, bool), log_lite::ReadError> {
    let mut piece = Piece::default();
    while piece.cost() < bytes_max {
        match disk.next(limit) {
            Ok(Some(batch)) => piece.add(&batch),
            Ok(None) => break,
            Err(problem) if piece.places.is_empty() => return Err(problem),
            Err(_) => return Ok((piece.records(), false)),
        }
    }
    Ok((piece.records(), true))
}

/// What is read at a time: to allocate for each record would cost more than to read it.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    /// Offsets of the records, and where these lie.
    places: Vec<(u64, Meta)>,
}

impl Piece {
    fn cost(&self) -> usize {
        self.bytes.len() + self.places.len() * size_of::<Record>()
    }

    fn add(&mut self, batch: &log_lite::BatchView<'_>) {
        let bytes = batch.bytes();
        self.bytes.reserve(usize::try_from(bytes.end - bytes.start).unwrap_or(0));
        for record in batch.records() {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(record.key);
            let value_start = self.bytes.len();
            self.bytes.extend_from_slice(record.value);
            let (partition, time_ms) = (record.partition, record.time_ms);
            let meta = Meta::new(partition, time_ms, start, value_start, self.bytes.len());
            self.places.push((record.offset, meta));
        }
    }

    fn records(mut self) -> Vec<Record> {
        self.bytes.shrink_to_fit();
        let bytes = Bytes::from(self.bytes);
        self.places.iter().map(|(offset, meta)| meta.record(*offset, &bytes)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use headwater_shared::envelope::{Envelope, Tick};

    use super::*;
    use crate::journal::{Journal, JournalOptions, NewRecord};

    async fn append(journal: &Journal, partition: u16, key: &str) {
        let envelope = Envelope::Tick(Tick { now_ms: 1 });
        let record = NewRecord { partition, time_ms: 0, key, envelope: &envelope };
        let ticket = journal.append(&record).expect("room");
        journal.wait(ticket).await.expect("it is durable");
    }

    fn offsets(reader: &mut Reader, bytes_max: usize) -> Vec<u64> {
        let mut all = Vec::new();
        loop {
            let records = reader.read(bytes_max).expect("it can be read");
            if records.is_empty() {
                return all;
            }
            all.extend(records.iter().map(|record| record.offset));
        }
    }

    /// Of some partitions it gives what a reader of all gives of them, from files and from memory, and
    /// it has passed by the rest when there is no more.
    #[tokio::test]
    async fn a_reader_of_some_partitions_passes_the_others_by() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = JournalOptions { segment_size: 2 << 20, ..JournalOptions::default() };
        let (journal, _) = Journal::open(dir.path(), options).expect("a new journal");
        let key = "k".repeat(60 << 10);
        // Partition 3 is in the first segment, in one in the middle, and in memory.
        let of = |number: u64| match number {
            0..10 | 100 | 198..200 => 3,
            _ => u16::try_from(number % 3).expect("small"),
        };
        for number in 0..200 {
            append(&journal, of(number), &key).await;
        }
        for only in [&[3][..], &[1, 3], &[0], &[7]] {
            for bytes_max in [1, 100_000, 1 << 20] {
                let mut reader = journal.reader(0).only(only);
                let expected: Vec<u64> = (0..200).filter(|n| only.contains(&of(*n))).collect();
                assert_eq!(offsets(&mut reader, bytes_max), expected, "{only:?} {bytes_max}");
                assert_eq!(reader.position(), 200, "{only:?} {bytes_max}");
                reader.seek(99);
                let expected = expected.into_iter().filter(|offset| *offset >= 99);
                assert_eq!(offsets(&mut reader, bytes_max), expected.collect::<Vec<_>>());
            }
        }
        let mut reader = journal.reader(0).only(&[3]);
        assert_eq!(offsets(&mut reader, 1 << 20).last(), Some(&199));
        append(&journal, 0, &key).await;
        assert_eq!((offsets(&mut reader, 1), reader.position()), (vec![], 201));
        append(&journal, 3, &key).await;
        assert_eq!((offsets(&mut reader, 1), reader.position()), (vec![201], 202));
        journal.close();
    }

    /// What is missing behind the records of a read is told by the next one.
    #[tokio::test]
    async fn damage_behind_records_is_met_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let key = "k".repeat(60 << 10);
        let (journal, _) =
            Journal::open(dir.path(), JournalOptions::default()).expect("a new journal");
        // The newest are in memory.
        for number in 0..60 {
            append(&journal, number % 2, &key).await;
        }
        let segment = std::fs::read_dir(dir.path()).expect("a directory").flatten();
        let segment = segment.map(|entry| entry.path());
        let segment = segment.max_by_key(|path| path.metadata().map_or(0, |meta| meta.len()));
        let file = std::fs::OpenOptions::new().write(true).open(segment.expect("a segment"));
        // In the middle of the body of one that is followed by others.
        file.and_then(|file| file.write_all_at(b"?", 8 * (60 << 10))).expect("it can be written");
        let read = |only: &[u16]| {
            let mut reader = journal.reader(0).only(only);
            let (mut seen, mut damaged) = (Vec::new(), Vec::new());
            loop {
                match reader.read(1 << 20) {
                    Ok(records) if records.is_empty() => return (seen, damaged),
                    Ok(records) => seen.extend(records.iter().map(|record| record.offset)),
                    Err(ReadError::Damaged { first, end, .. }) => damaged.push((first, end)),
                    Err(problem) => panic!("{problem}"),
                }
            }
        };
        let (all, damaged) = read(&[0, 1]);
        assert_eq!((all.len(), damaged.len()), (59, 1), "{damaged:?}");
        let (first, end) = damaged[0];
        assert_eq!(end, first + 1);
        let of_its_own = u16::try_from(first % 2).expect("small");
        let (seen, told) = read(&[of_its_own]);
        assert_eq!((seen.len(), told), (29, damaged), "its own reader is told");
        let (seen, told) = read(&[1 - of_its_own]);
        assert_eq!((seen.len(), told), (30, vec![]), "the other loses nothing");
        journal.close();
    }
}
