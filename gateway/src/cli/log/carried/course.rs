//! The lines of one partition on their way into the log, each once.

use std::path::Path;

use log_lite::Journal;

use super::ledger::{At, Entry, Flight, Landed};
use super::stick::Part;
use crate::cli::log::lines::{Line, Lines};
use crate::cli::log::record::{Imported, Importer};
use crate::cli::log::walk::with_source;
use crate::exit::{Code, Failure};
use crate::journal::Record;
use crate::stream::Streams;

/// What became of the lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) records: u64,
    /// Lines that an earlier import stored.
    pub(super) known: u64,
    /// A line that cannot be stored; nothing behind it was.
    pub(super) problem: Option<String>,
}

/// One partition.
pub(super) struct Import<'a> {
    pub(super) part: &'a Part,
    /// Files from this offset on are left for when what is damaged or missing is there.
    pub(super) stop: Option<u64>,
    /// Where its records go.
    pub(super) stream: &'a str,
    pub(super) streams: &'a Streams,
    pub(super) journal: &'a mut Journal,
    /// Bytes that a commit has at least, but the last.
    pub(super) commit_bytes: usize,
    /// Keeps how far it is, synced.
    pub(super) save: &'a mut dyn FnMut(&Entry) -> Result<(), Failure>,
    /// How far it was.
    pub(super) entry: Entry,
}

/// Where an import is.
struct Course {
    stored: Stored,
    /// The last line that was looked at.
    last: Option<At>,
    /// What a commit of before may have left, while the lines are the same.
    landed: Option<Landed>,
    flight: Flight,
}

impl Import<'_> {
    pub(super) fn run(mut self, journal: &Path) -> Result<Stored, Failure> {
        let landed = self.entry.flight.map(|flight| Landed::from(journal, flight.offset));
        let now_ms = || jiff::Timestamp::now().as_millisecond();
        let now_ms = self.entry.flight.map_or_else(now_ms, |flight| flight.now_ms);
        let mut course = Course {
            stored: Stored::default(),
            last: self.entry.done,
            landed: landed.transpose()?,
            flight: Flight { offset: self.journal.next_offset(), now_ms },
        };
        match self.lines(&mut course) {
            Err(Failure { code: Code::No, message }) => course.stored.problem = Some(message),
            done => done?,
        }
        self.commit()?;
        // What landed may go on where this import had to stop: the next one compares it again.
        let stopped = self.stop.is_some() || course.stored.problem.is_some();
        if !(stopped && course.landed.is_some()) {
            (self.save)(&Entry { done: course.last, flight: None })?;
        }
        Ok(course.stored)
    }

    fn lines(&mut self, course: &mut Course) -> Result<(), Failure> {
        for (first, end) in self.part.files.clone() {
            if self.entry.done.is_some_and(|(offset, _)| end < offset) {
                continue;
            }
            if self.stop.is_some_and(|stop| first >= stop) {
                break;
            }
            let mut lines = Lines::open(&self.part.path(first, end))?;
            while let Some(line) = lines.next()? {
                self.line(&line, first, course)?;
            }
        }
        Ok(())
    }

    /// Takes a line of the file whose first offset is `first`.
    fn line(&mut self, line: &Line, first: u64, course: &mut Course) -> Result<(), Failure> {
        let fault = |why| Failure::new(Code::No, format!("{}: {why}", line.place));
        let (at, record) = self.read(&line.text, course.flight.now_ms).map_err(fault)?;
        // A gap may reach back behind its file.
        let at = (at.0.max(first), at.1);
        let before = course.last;
        if before.is_some_and(|before| at <= before) {
            course.stored.known += 1;
            return Ok(());
        }
        course.last = Some(at);
        if let Some(landed) = &mut course.landed {
            if landed.next()?.is_some_and(|found| is_same(&found, &record)) {
                course.stored.known += 1;
                return Ok(());
            }
            // What is the same so far is done: the next flight begins elsewhere.
            course.landed = None;
            self.entry.done = before;
        }
        if self.journal.pending_bytes() == 0 {
            course.flight.offset = self.journal.next_offset();
            self.entry.flight = Some(course.flight);
            (self.save)(&self.entry)?;
        }
        self.append(&record, &line.place).inspect_err(|_| course.last = before)?;
        course.stored.records += 1;
        if self.journal.pending_bytes() >= self.commit_bytes {
            self.commit()?;
            self.entry.done = course.last;
        }
        Ok(())
    }

    fn read(&self, text: &str, now_ms: i64) -> Result<(At, Imported), String> {
        let importer = Importer { streams: self.streams, into: Some(self.stream), now_ms };
        let from = format!("{}/{}", self.part.source.gateway, self.part.label());
        importer.read_carried(text, &from)
    }

    fn append(&mut self, record: &Imported, place: &str) -> Result<(), Failure> {
        let key = record.key.as_bytes();
        let appended = self.journal.append(record.number, record.time_ms, key, &record.value);
        appended.map(drop).map_err(|problem| Failure::new(Code::No, format!("{place}: {problem}")))
    }

    fn commit(&mut self) -> Result<(), Failure> {
        let committed = self.journal.commit();
        committed.map(drop).map_err(|problem| Failure::new(Code::Disk, with_source(&problem)))
    }
}

fn is_same(found: &Record, record: &Imported) -> bool {
    found.partition == record.number
        && found.time_ms == record.time_ms
        && *found.key == *record.key.as_bytes()
        && *found.value == *record.value
}
