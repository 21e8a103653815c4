//! Whole partitions as files: `<dir>/<stream>/<partition>/<first offset>-<last offset>.ndjson`.
//!
//! As the upstream of kind `directory`, a file is written aside, synced and renamed, so that one
//! that has its name is whole, and the names of a partition say how far it is exported. An export
//! that was cut goes on there. The last line that is there has to be what the log holds at its
//! offset; else the files are of another log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::export::line;
use super::human;
use super::lines::Lines;
use super::out::Out;
use super::place::Log;
use super::progress::Bar;
use super::select::{Bound, Wanted};
use super::walk::{Flow, Sizes, walk};
use crate::cli::print_line;
use crate::exit::{Code, Failure};
use crate::journal::Record;

/// A file is closed when it has reached this.
const FILE_BYTES: u64 = 64 << 20;
/// Files that are open at once; one more closes them all.
const OPEN_MAX: usize = 256;
/// The file that is being written.
const PARTIAL: &str = "open.partial";

struct Partition {
    dir: PathBuf,
    /// Named files hold what is below.
    end: u64,
    /// The line at `end - 1`, until it was compared with the log.
    last_line: Option<String>,
    open: Option<Open>,
}

struct Open {
    out: Out,
    first: u64,
    last: u64,
    bytes: u64,
}

struct Export<'a> {
    log: &'a Log,
    dir: &'a Path,
    plain: bool,
    partitions: BTreeMap<u16, Partition>,
    open: usize,
    records: u64,
    files: u64,
}

/// Returns the records written, and the ranges of the log that cannot be read.
pub(super) fn export(
    log: &Log,
    wanted: &Wanted,
    dir: &Path,
    plain: bool,
) -> Result<(u64, u64), Failure> {
    let partitions = BTreeMap::new();
    let mut export = Export { log, dir, plain, partitions, open: 0, records: 0, files: 0 };
    for stream in log.streams.iter() {
        let numbers = stream.partitions.iter().zip(0_u16..);
        for (number, partition) in numbers.filter(|(number, _)| wanted.has_partition(**number)) {
            let dir = dir.join(&stream.name).join(partition.to_string());
            export.partitions.insert(*number, Partition::survey(dir)?);
        }
    }
    let start = Sizes::of(&log.journal)?.segments().first().map_or(0, |segment| segment.base);
    let all = Wanted {
        partitions: wanted.partitions.clone(),
        key: None,
        from: Bound::Offset(
            export.partitions.values().map(Partition::goes_on_at).min().unwrap_or(0),
        ),
        to: None,
    };
    let mut bar = Bar::new();
    let damaged = walk(log, &all, &mut bar, &mut |record| {
        export.record(record)?;
        Ok(Flow::Continue(()))
    })?;
    drop(bar);
    export.close_all()?;
    if damaged == 0 {
        export.check_all_met(start)?;
    }
    print_line(&format!(
        "{} in {} in {}",
        human::count(export.records, "record"),
        human::count(export.files, "new file"),
        dir.display()
    ));
    Ok((export.records, damaged))
}

impl Export<'_> {
    fn record(&mut self, record: &Record) -> Result<(), Failure> {
        let Some(text) = line(self.log, record, self.plain) else { return Ok(()) };
        let Some(partition) = self.partitions.get_mut(&record.partition) else { return Ok(()) };
        if record.offset < partition.end {
            let is_last = record.offset + 1 == partition.end;
            return match partition.last_line.take_if(|_| is_last) {
                Some(there) if !same(&there, &text) => Err(self.foreign(record.partition)),
                _ => Ok(()),
            };
        }
        if partition.open.is_none() {
            if self.open == OPEN_MAX {
                self.close_all()?;
            }
            self.open += 1;
        }
        let partition = self.partitions.get_mut(&record.partition).expect("it was found above");
        let size = partition.append(record.offset, &text)?;
        self.records += 1;
        if size >= FILE_BYTES {
            self.files += u64::from(partition.close()?);
            self.open -= 1;
        }
        Ok(())
    }

    fn close_all(&mut self) -> Result<(), Failure> {
        for partition in self.partitions.values_mut() {
            self.files += u64::from(partition.close()?);
        }
        self.open = 0;
        Ok(())
    }

    /// A partition whose last line was not met though the log should hold it is another log's.
    fn check_all_met(&self, start: u64) -> Result<(), Failure> {
        let unmet = self
            .partitions
            .iter()
            .find(|(_, partition)| partition.last_line.is_some() && partition.end > start);
        unmet.map_or(Ok(()), |(number, _)| Err(self.foreign(*number)))
    }

    fn foreign(&self, number: u16) -> Failure {
        Failure::new(
            Code::No,
            format!(
                "{}: the newest file of {} does not end as this log does: it is of another log or \
                 another kind of export; choose another --dir",
                self.dir.display(),
                self.log.label(number)
            ),
        )
    }
}

impl Partition {
    /// Looks at what is there; what a cut export left half written has no name and does not count.
    fn survey(dir: PathBuf) -> Result<Self, Failure> {
        let mut partition = Self { dir, end: 0, last_line: None, open: None };
        let fault = |problem: std::io::Error, dir: &Path| {
            Failure::new(Code::Disk, format!("{}: {problem}", dir.display()))
        };
        let entries = match std::fs::read_dir(&partition.dir) {
            Ok(entries) => entries,
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(partition),
            Err(problem) => return Err(fault(problem, &partition.dir)),
        };
        let mut newest = None;
        for entry in entries {
            let entry = entry.map_err(|problem| fault(problem, &partition.dir))?;
            let Some((_, last)) = entry.file_name().to_str().and_then(offsets) else { continue };
            if last.saturating_add(1) > partition.end {
                partition.end = last.saturating_add(1);
                newest = Some(entry.path());
            }
        }
        if let Some(path) = newest {
            partition.last_line = last_line(&path)?;
        }
        Ok(partition)
    }

    /// The offset from which on it has to see the log.
    fn goes_on_at(&self) -> u64 {
        self.end.saturating_sub(1)
    }

    /// Returns how large the open file is.
    fn append(&mut self, offset: u64, text: &str) -> Result<u64, Failure> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                std::fs::create_dir_all(&self.dir).map_err(|problem| {
                    Failure::new(Code::Disk, format!("{}: {problem}", self.dir.display()))
                })?;
                let out = Out::create(&self.dir.join(PARTIAL))?;
                self.open.insert(Open { out, first: offset, last: offset, bytes: 0 })
            }
        };
        open.out.line(text)?;
        open.last = offset;
        open.bytes += text.len() as u64 + 1;
        Ok(open.bytes)
    }

    /// Gives the open file its name; false if none is open.
    fn close(&mut self) -> Result<bool, Failure> {
        let Some(open) = self.open.take() else { return Ok(false) };
        let name = format!("{}-{}.ndjson", open.first, open.last);
        open.out.rename(&self.dir.join(name))?;
        self.end = open.last + 1;
        Ok(true)
    }
}

/// The offsets that a file's name says it holds.
pub(super) fn offsets(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(".ndjson")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// The last line of a file. Reads all of it, since lines have no bound that a look from the end
/// could use.
fn last_line(path: &Path) -> Result<Option<String>, Failure> {
    let mut lines = Lines::open(path)?;
    let mut last = None;
    while let Some(line) = lines.next()? {
        last = Some(line.text);
    }
    Ok(last)
}

/// Whether two lines are of the same record. How a value is shown may change with the
/// configuration; what was stored does not.
fn same(a: &str, b: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    let (Some(a), Some(b)) = (parse(a), parse(b)) else { return false };
    let agrees = |field: &str| a.get(field) == b.get(field);
    ["offset", "partition", "time", "key", "stream", "raw"].into_iter().all(agrees)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_offsets() {
        assert_eq!(offsets("17-99.ndjson"), Some((17, 99)));
        for other in ["open.partial", "17.ndjson", "a-b.ndjson", "17-99.ndjson.partial"] {
            assert_eq!(offsets(other), None, "{other}");
        }
    }

    #[test]
    fn lines_are_of_the_same_record_whatever_their_value_is_shown_as() {
        let line = |raw: &str, value: u8| {
            format!("{{\"offset\":1,\"time\":2,\"raw\":\"{raw}\",\"value\":{value}}}")
        };
        assert!(same(&line("AA", 1), &line("AA", 2)));
        assert!(!same(&line("AA", 1), &line("AB", 1)));
        assert!(!same("{\"offset\":1", "{\"offset\":1"), "half a line is no record");
    }
}
