//! Another log that holds the records of some partitions longer than the journal does, under the
//! same offsets. What retention has taken from the journal is read there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::reader::read_below;
use super::{ReadError, Record, lock};

/// A log beside the journal, as readers see it.
#[derive(Debug)]
pub struct History {
    name: String,
    dir: PathBuf,
    extent: Mutex<Extent>,
    keep: Mutex<BTreeMap<String, u64>>,
}

/// What a log beside the journal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// What was before has been deleted by the log's own retention.
    pub start: u64,
    /// The offset after the last record.
    pub end: u64,
    /// All that is below and belongs here is here; the log ends before where it is not given any.
    pub placed: u64,
    /// Below this only the last record of each key is left, so readers read it here though the
    /// journal may still have all of it. 0 for a log that is not compacted.
    pub compacted: u64,
}

impl History {
    /// The log `name`, whose segments are in `dir`.
    pub fn new(name: &str, dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            dir: dir.to_owned(),
            extent: Mutex::default(),
            keep: Mutex::default(),
        }
    }

    /// The log's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory of its segments.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it holds now.
    pub fn extent(&self) -> Extent {
        *lock(&self.extent)
    }

    /// Its writer says what it holds.
    pub fn holds(&self, start: u64, end: u64, placed: u64) {
        let mut extent = lock(&self.extent);
        *extent = Extent { start, end, placed, ..*extent };
    }

    /// Below this only the last record of each key is left; it never goes back.
    pub fn is_compacted_below(&self, offset: u64) {
        let mut extent = lock(&self.extent);
        extent.compacted = extent.compacted.max(offset);
    }

    /// `reader` still needs what is at or above `position`; `None` gives it up.
    pub(super) fn keep(&self, reader: &str, position: Option<u64>) {
        let mut keep = lock(&self.keep);
        match position {
            Some(position) => keep.insert(reader.to_owned(), position),
            None => keep.remove(reader),
        };
    }

    /// All readers that keep need nothing below.
    pub fn kept(&self) -> Option<u64> {
        lock(&self.keep).values().copied().min()
    }

    /// The offset at which a reader at `position` goes back to the journal, which begins at
    /// `journal_start`; `None`: it reads the journal.
    fn serves_to(&self, position: u64, journal_start: u64) -> Option<u64> {
        let Extent { start, placed, compacted, .. } = self.extent();
        let to = if (start..compacted).contains(&position) {
            compacted.max(journal_start)
        } else {
            journal_start
        };
        Some(to.min(placed)).filter(|to| position < *to)
    }
}

/// A reader's place in a history.
pub(super) struct HistoryReader {
    history: Arc<History>,
    partitions: Vec<u16>,
    disk: Option<log_lite::Reader>,
}

impl HistoryReader {
    pub(super) fn new(history: Arc<History>, partitions: &[u16]) -> Self {
        Self { history, partitions: partitions.to_vec(), disk: None }
    }

    pub(super) fn serves_to(&self, position: u64, journal_start: u64) -> Option<u64> {
        self.history.serves_to(position, journal_start)
    }

    pub(super) fn forget(&mut self) {
        self.disk = None;
    }

    /// Records from `position` on and below `to`, about `bytes_max`; none: there are no more below
    /// `to`.
    pub(super) fn read(
        &mut self,
        position: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, log_lite::ReadError> {
        // Behind its end the log has nothing, and a reader would miss it there.
        let to = to.min(self.history.extent().end);
        if position >= to {
            return Ok(Vec::new());
        }
        let mut disk = match self.disk.take() {
            Some(disk) if disk.position() >= position => disk,
            _ => {
                let mut disk = log_lite::Reader::open_dir(&self.history.dir)?;
                disk.only(Some(&self.partitions));
                disk.seek(position);
                disk
            }
        };
        let (records, is_whole) = read_below(&mut disk, to, bytes_max)?;
        self.disk = is_whole.then_some(disk);
        Ok(records)
    }
}

impl ReadError {
    /// The error of a history, for a reader that stood at `first`, and where it goes on.
    pub(super) fn of_history(first: u64, to: u64, problem: log_lite::ReadError) -> (Self, u64) {
        match problem {
            log_lite::ReadError::Trimmed { start } => {
                let end = start.clamp(first, to);
                (Self::Trimmed { first, end }, end)
            }
            log_lite::ReadError::Damaged { end, ref why, .. }
            | log_lite::ReadError::Lost { end, ref why, .. } => {
                let why = why.to_string();
                let end = end.clamp(first, to);
                (Self::Damaged { first, end, why }, end)
            }
            other => (Self::Io(other.to_string()), first),
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_shared::envelope::{Envelope, Tick};

    use super::*;
    use crate::journal::{Journal, JournalOptions, NewRecord, Reader};

    /// Appends records of partition 1, and places them.
    async fn append(
        journal: &Journal,
        follower: &mut Reader,
        log: &mut log_lite::Journal<log_lite::DirStorage>,
        count: usize,
    ) {
        let key = "k".repeat(60 << 10);
        for _ in 0..count {
            let envelope = Envelope::Tick(Tick { now_ms: 1 });
            let record = NewRecord { partition: 1, time_ms: 0, key: &key, envelope: &envelope };
            let ticket = journal.append(&record).expect("room");
            journal.wait(ticket).await.expect("it is durable");
            for record in follower.read(1 << 20).expect("it is there") {
                let Record { offset, partition, time_ms, key, value } = record;
                log.append_at(offset, partition, time_ms, &key, &value).expect("in order");
            }
        }
        log.commit().expect("the disk works");
    }

    #[tokio::test]
    async fn a_reader_that_comes_back_from_the_history_gives_each_record_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = JournalOptions {
            segment_size: 2 << 20,
            max_size: Some(6 << 20),
            ..JournalOptions::default()
        };
        let (journal, _) = Journal::open(&dir.path().join("j"), options).expect("a journal");
        let beside = dir.path().join("h");
        let (mut log, _) =
            log_lite::Journal::open_dir(&beside, JournalOptions::default()).expect("a log");
        let history = Arc::new(History::new("h", &beside));
        journal.set_histories([(1, Arc::clone(&history))].into());
        let mut follower = journal.reader(0);
        append(&journal, &mut follower, &mut log, 60).await;
        history.holds(0, log.end(), log.end());

        // It reads a file of the journal, retention deletes that, and it goes on in the history.
        let mut reader = journal.reader_of(&[1], 0);
        let mut offsets: Vec<u64> = Vec::new();
        let mut read = |bytes| {
            let records = reader.read(bytes).expect("it can be read");
            offsets.extend(records.iter().map(|record| record.offset));
            !records.is_empty()
        };
        assert!(read(1));
        append(&journal, &mut follower, &mut log, 60).await;
        history.holds(0, log.end(), log.end());
        assert!(journal.stats().start > 1, "retention acted");
        while read(200 << 10) {}
        assert_eq!(offsets, (0..120).collect::<Vec<_>>());
        tokio::task::spawn_blocking(move || journal.close()).await.expect("it closes");
    }

    fn history(start: u64, end: u64, compacted: u64) -> History {
        let history = History::new("h", Path::new("h"));
        history.holds(start, end, end + 5);
        history.is_compacted_below(compacted);
        history
    }

    #[test]
    fn what_the_journal_has_lost_is_read_from_the_history_up_to_where_the_journal_begins() {
        let history = history(10, 90, 0);
        assert_eq!(history.serves_to(20, 50), Some(50));
        assert_eq!(history.serves_to(50, 50), None);
        assert_eq!(history.serves_to(5, 50), Some(50), "where it learns that it is gone");
        assert_eq!(history.serves_to(90, 200), Some(95), "which has nothing there");
        assert_eq!(history.serves_to(95, 200), None, "more was not placed");
    }

    #[test]
    fn what_is_compacted_is_read_from_the_history_though_the_journal_has_it() {
        let history = history(10, 90, 60);
        assert_eq!(history.serves_to(20, 15), Some(60));
        assert_eq!(history.serves_to(60, 15), None);
        assert_eq!(history.serves_to(5, 0), None, "deleted here, and still in the journal");
        assert_eq!(history.serves_to(70, 80), Some(80));
    }
}
