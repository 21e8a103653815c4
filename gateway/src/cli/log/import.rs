//! `headwater log import`: an export into a log whose gateway is stopped.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use log_lite::{Journal, JournalError, JournalOptions};
use serde_json::json;

use super::human;
use super::lines::Lines;
use super::place::{Log, Place};
use super::progress::Bar;
use super::record::{Imported, Importer, Read, takes_messages};
use super::walk::with_source;
use crate::app::CATALOG_FILE;
use crate::catalog::Catalog;
use crate::cli::{journal_dir, print_line, table};
use crate::exit::{Code, Failure};

/// Bytes that a commit has at least, but the last.
pub(super) const COMMIT_BYTES: usize = 1 << 20;

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// What `log export` wrote: a file, a directory, or `-` for standard input
    #[arg(value_name = "FILE|DIR")]
    from: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Put all records into this stream, in the partitions of their keys
    #[arg(long, value_name = "STREAM")]
    into: Option<String>,
    /// Leave out the first N lines, which an import that was cut has stored
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// Check every line and store nothing
    #[arg(long)]
    check: bool,
}

/// What became of the records of a partition.
#[derive(Default)]
struct Stored {
    records: u64,
    /// First and last offset where they came from.
    old: Option<(u64, u64)>,
    /// First and last offset here; `None` where they were only checked.
    new: Option<(u64, u64)>,
}

struct Import {
    /// `None`: lines are only checked.
    log: Option<Journal>,
    partitions: BTreeMap<u16, Stored>,
    /// Appended and not committed yet: partition, offset there and offset here.
    pending: Vec<(u16, Option<u64>, u64)>,
    /// Lines that were taken, those left out included.
    lines: u64,
    /// Lines whose records are on disk.
    committed: u64,
    /// Records whose packet id was taken out.
    cleared: u64,
    /// Records of streams that take no messages.
    left_out: BTreeMap<String, u64>,
}

pub(super) fn import(args: &Args) -> Result<(), Failure> {
    let data = args.place.dir_of_journal()?;
    let mut lines = Lines::open(&args.from)?;
    let journal = if args.check { None } else { Some(open(&args.place, &data)?) };
    let log = Log::open(&data)?;
    if let Some(into) = &args.into
        && !takes_messages(log.stream(into)?)
    {
        let fault = format!("--into {into}: a query writes this stream, or it is not configured");
        return Err(Failure::new(Code::Usage, fault));
    }
    let importer = Importer {
        streams: &log.streams,
        into: args.into.as_deref(),
        now_ms: jiff::Timestamp::now().as_millisecond(),
    };
    let mut import = Import {
        log: journal,
        partitions: BTreeMap::new(),
        pending: Vec::new(),
        lines: 0,
        committed: 0,
        cleared: 0,
        left_out: BTreeMap::new(),
    };
    let result = import.run(&mut lines, &importer, args.skip);
    import.report(&log);
    result.map_err(|problem| import.how_to_go_on(problem))
}

/// Opens the log to write, as its gateway would.
pub(super) fn open(place: &Place, data: &std::path::Path) -> Result<Journal, Failure> {
    let default = JournalOptions::default();
    let segment_size = place.segment_size()?.unwrap_or(default.segment_size);
    let options = JournalOptions { segment_size, ..default };
    let (mut journal, _) =
        Journal::open_dir(&journal_dir(data), options).map_err(|problem| match problem {
            JournalError::Locked { .. } => Failure::new(
                Code::TryAgain,
                format!(
                    "the gateway of {} is running: stop it, import, and start it again",
                    data.display()
                ),
            ),
            other => Failure::new(Code::Disk, with_source(&other)),
        })?;
    let catalog = data.join(CATALOG_FILE);
    if catalog.exists() {
        // Offsets that were seen before damage took them are not given away again.
        journal.advance_to(Catalog::open(&catalog)?.highest_position()?)?;
    }
    Ok(journal)
}

impl Import {
    fn run(
        &mut self,
        lines: &mut Lines,
        importer: &Importer<'_>,
        skip: u64,
    ) -> Result<(), Failure> {
        let mut bar = Bar::new();
        let taken = loop {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => break Ok(()),
                Err(problem) => break Err(problem),
            };
            if self.lines >= skip {
                let read = importer
                    .read(&line.text)
                    .map_err(|why| Failure::new(Code::No, format!("{}: {why}", line.place)));
                if let Err(problem) = read.and_then(|read| self.take(read, &line.place)) {
                    break Err(problem);
                }
            }
            self.lines += 1;
            if self.log.as_ref().is_some_and(|log| log.pending_bytes() >= COMMIT_BYTES) {
                self.commit()?;
            }
            let (done, total) = lines.progress();
            if total > 0 {
                bar.set(done, total);
            }
        };
        self.commit()?;
        taken
    }

    fn take(&mut self, read: Read, place: &str) -> Result<(), Failure> {
        match read {
            Read::Record(record) => self.append(&record, place),
            Read::LeftOut(stream) => {
                *self.left_out.entry(stream).or_default() += 1;
                Ok(())
            }
        }
    }

    fn append(&mut self, record: &Imported, place: &str) -> Result<(), Failure> {
        let (number, old) = (record.number, record.offset);
        match &mut self.log {
            None => self.partitions.entry(number).or_default().count(old, None),
            Some(log) => {
                let key = record.key.as_bytes();
                let offset = log
                    .append(number, record.time_ms, key, &record.value)
                    .map_err(|problem| Failure::new(Code::No, format!("{place}: {problem}")))?;
                self.pending.push((number, old, offset));
            }
        }
        self.cleared += u64::from(record.cleared);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Failure> {
        if let Some(log) = &mut self.log {
            let committed = log.commit();
            committed.map_err(|problem| Failure::new(Code::Disk, with_source(&problem)))?;
        }
        for (number, old, new) in self.pending.drain(..) {
            self.partitions.entry(number).or_default().count(old, Some(new));
        }
        self.committed = self.lines;
        Ok(())
    }

    fn how_to_go_on(&self, problem: Failure) -> Failure {
        let message = match (&self.log, self.committed) {
            (None, _) => problem.message,
            (Some(_), 0) => format!("{problem}; nothing is stored"),
            (Some(_), lines) => format!(
                "{problem}; the {} before it are stored: mend it and go on with --skip {lines}",
                human::count(lines, "line")
            ),
        };
        Failure { message, ..problem }
    }

    fn report(&self, log: &Log) {
        if !std::io::stdout().is_terminal() {
            for (number, stored) in &self.partitions {
                print_line(&stored.json(log, *number).to_string());
            }
            for (stream, records) in &self.left_out {
                print_line(&json!({ "stream": stream, "left_out": records }).to_string());
            }
            return;
        }
        let header = ["stream", "records", "offsets there", "offsets here"];
        let range = |range: Option<(u64, u64)>| {
            range.map_or_else(|| "-".to_owned(), |(first, last)| format!("{first}-{last}"))
        };
        let row = |(number, stored): (&u16, &Stored)| {
            vec![
                log.label(*number),
                stored.records.to_string(),
                range(stored.old),
                range(stored.new),
            ]
        };
        let rows: Vec<_> = self.partitions.iter().map(row).collect();
        print_line(table::render(&header, &rows).trim_end());
        let records = human::count(self.partitions.values().map(|s| s.records).sum(), "record");
        print_line("");
        print_line(&match self.log {
            Some(_) => {
                format!("{records} stored; routes, queries and subscribers take them as new")
            }
            None => format!("{records} can be stored; nothing was"),
        });
        for (stream, records) in &self.left_out {
            let records = human::count(*records, "record");
            print_line(&format!("{records} of {stream} left out: a query writes that stream"));
        }
        if self.cleared > 0 {
            let cleared = human::count(self.cleared, "record");
            print_line(&format!(
                "{cleared} of QoS 2 without the packet id, whose handshake is over"
            ));
        }
    }
}

impl Stored {
    fn count(&mut self, old: Option<u64>, new: Option<u64>) {
        self.records += 1;
        let with = |range: Option<(u64, u64)>, offset: u64| match range {
            Some((first, last)) => (first.min(offset), last.max(offset)),
            None => (offset, offset),
        };
        self.old = old.map(|offset| with(self.old, offset)).or(self.old);
        self.new = new.map(|offset| with(self.new, offset)).or(self.new);
    }

    fn json(&self, log: &Log, number: u16) -> serde_json::Value {
        let place = log.streams.partition(number);
        json!({
            "stream": place.map(|place| &place.stream),
            "partition": place.map(|place| place.partition),
            "records": self.records,
            "old_offsets": self.old,
            "new_offsets": self.new,
        })
    }
}
