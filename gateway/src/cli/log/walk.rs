//! Reads the records that are wanted, and what the names of their columns need.

use std::collections::BTreeSet;
use std::path::Path;

use log_lite::{DirStorage, ReadError, Reader, SegmentEntry, Storage};

use super::place::Log;
use super::progress::Bar;
use super::select::{Bound, Wanted};
use crate::config::Format;
use crate::exit::{Code, Failure};
use crate::journal::Record;
use crate::projection::{Entry, Projection};

/// Whether to go on.
pub(super) type Flow = std::ops::ControlFlow<()>;

/// Gives each wanted record to `each`, in order, and says on standard error what cannot be read.
/// Returns how many ranges that were.
pub(super) fn walk(
    log: &Log,
    wanted: &Wanted,
    bar: &mut Bar,
    each: &mut dyn FnMut(&Record) -> Result<Flow, Failure>,
) -> Result<u64, Failure> {
    let mut names = Names::of(log, wanted);
    let mut reader = Reader::open_dir(&log.journal).map_err(disk)?;
    let from = match wanted.from {
        Bound::Offset(offset) => offset.max(reader.start().map_err(disk)?),
        Bound::Time(time_ms) => reader.seek_time(time_ms, u64::MAX).map_err(disk)?,
    };
    names.read_before(&mut reader, from)?;
    reader.seek(from);
    let only: Option<Vec<u16>> =
        wanted.partitions.as_ref().map(|wanted| wanted.union(&names.partitions).copied().collect());
    reader.only(only.as_deref());
    let sizes = Sizes::of(&log.journal)?;
    let mut damaged = 0;
    loop {
        let batch = match reader.next(u64::MAX) {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(damaged),
            Err(problem) => {
                damaged += u64::from(pass(problem)?);
                continue;
            }
        };
        if wanted.ends_before(batch.first()) {
            return Ok(damaged);
        }
        let (is_wanted, is_names) = (
            wanted.has_partition(batch.partition()),
            names.partitions.contains(&batch.partition()),
        );
        for record in batch.records() {
            let is_wanted = is_wanted && wanted.has(&record);
            if !is_wanted && !is_names {
                continue;
            }
            let record = owned(&record);
            if is_names {
                names.apply(&record);
            }
            if is_wanted && each(&record)?.is_break() {
                return Ok(damaged);
            }
        }
        bar.set(sizes.before(batch.segment()) + batch.bytes().end, sizes.total());
    }
}

/// A range that cannot be read is said, and counted (`true`) where no repair has recorded it as lost;
/// retention that was faster is neither.
pub(super) fn pass(problem: ReadError) -> Result<bool, Failure> {
    match problem {
        ReadError::Trimmed { .. } => Ok(false),
        ReadError::Damaged { .. } => {
            complain(&problem);
            Ok(true)
        }
        ReadError::Lost { .. } => {
            complain(&problem);
            Ok(false)
        }
        other => Err(disk(other)),
    }
}

pub(super) fn disk(problem: ReadError) -> Failure {
    Failure::new(Code::Disk, with_source(&problem))
}

/// An error and what the system said.
pub(super) fn with_source(problem: &dyn std::error::Error) -> String {
    match problem.source() {
        Some(source) => format!("{problem}: {source}"),
        None => problem.to_string(),
    }
}

pub(super) fn owned(record: &log_lite::Record<'_>) -> Record {
    Record {
        offset: record.offset,
        partition: record.partition,
        time_ms: record.time_ms,
        key: record.key.to_vec().into(),
        value: record.value.to_vec().into(),
    }
}

#[expect(clippy::print_stderr, reason = "damage is said beside the records, not among them")]
fn complain(problem: &ReadError) {
    eprintln!("headwater: {problem}");
}

/// What nodes announced and edge nodes were born with: the names of channels and metrics. Read only
/// where those are wanted, and only from partitions that may hold announcements and births.
struct Names {
    partitions: BTreeSet<u16>,
    projections: [Box<dyn Projection>; 2],
}

impl Names {
    fn of(log: &Log, wanted: &Wanted) -> Self {
        let format = |name: &str| log.streams.format(name);
        let is_wanted = |which: Format| {
            let of_it = log.streams.iter().filter(|stream| format(&stream.name) == Some(which));
            of_it.flat_map(|stream| &stream.partitions).any(|number| wanted.has_partition(*number))
        };
        let (blocks_wanted, metrics_wanted) =
            (is_wanted(Format::Blocks), is_wanted(Format::SparkplugB));
        let bearing = log.streams.iter().filter(|s| format(&s.name) == Some(Format::SparkplugB));
        let bearing = bearing.filter(|_| metrics_wanted);
        let announcing = log.streams.iter().filter(|stream| match format(&stream.name) {
            Some(Format::Blocks) => false,
            Some(_) => log.streams.pattern(&stream.name).is_some_and(may_announce),
            None => stream.name == crate::stream::MQTT_STREAM,
        });
        let all = announcing.filter(|_| blocks_wanted).chain(bearing);
        let partitions = all.flat_map(|stream| stream.partitions.iter().copied()).collect();
        Self { partitions, projections: [log.nodes.projection(), log.sparkplug.projection()] }
    }

    fn apply(&mut self, record: &Record) {
        let entry = [Entry::of(record)];
        for projection in &mut self.projections {
            projection.apply(&entry);
        }
    }

    /// Nodes announce their channels once, perhaps long before the records that are wanted.
    fn read_before(&mut self, reader: &mut Reader, from: u64) -> Result<(), Failure> {
        if self.partitions.is_empty() {
            return Ok(());
        }
        let partitions: Vec<u16> = self.partitions.iter().copied().collect();
        reader.only(Some(&partitions));
        reader.seek(reader.start().map_err(disk)?);
        while reader.position() < from {
            match reader.next(u64::MAX) {
                Ok(Some(batch)) => {
                    for record in batch.records().take_while(|record| record.offset < from) {
                        self.apply(&owned(&record));
                    }
                }
                Ok(None) => return Ok(()),
                // What is lost there costs at most a name.
                Err(
                    ReadError::Damaged { .. } | ReadError::Lost { .. } | ReadError::Trimmed { .. },
                ) => {}
                Err(problem) => return Err(disk(problem)),
            }
        }
        Ok(())
    }
}

/// Whether a stream of this pattern can take the announcement of a node.
fn may_announce(pattern: &crate::stream::TopicPattern) -> bool {
    let text = pattern.to_string();
    let mut levels = text.split('/');
    let mut may = |literal: Option<&str>| match levels.next() {
        Some("#") => Some(true),
        Some(level) if level == "+" || level.starts_with('{') => None,
        Some(level) if literal.is_none_or(|literal| literal == level) => None,
        _ => Some(false),
    };
    [Some("headwater"), Some("v1"), None, Some("announce")]
        .into_iter()
        .find_map(&mut may)
        .unwrap_or(true)
}

/// Bytes of segments, to say how far along the log a place is.
pub(super) struct Sizes {
    segments: Vec<SegmentEntry>,
    /// Bytes of the segments before each.
    before: Vec<u64>,
    total: u64,
}

impl Sizes {
    pub(super) fn of(journal: &Path) -> Result<Self, Failure> {
        let failed = |problem| {
            Failure::new(Code::Disk, format!("{} cannot be listed: {problem}", journal.display()))
        };
        let mut segments = DirStorage::for_reading(journal).list().map_err(failed)?;
        segments.sort_by_key(|segment| segment.base);
        let mut total = 0;
        let mut before = Vec::with_capacity(segments.len());
        for segment in &segments {
            before.push(total);
            total += segment.bytes;
        }
        Ok(Self { segments, before, total })
    }

    /// All, oldest first.
    pub(super) fn segments(&self) -> &[SegmentEntry] {
        &self.segments
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Bytes of the segments before `base`.
    pub(super) fn before(&self, base: u64) -> u64 {
        let at = self.segments.partition_point(|segment| segment.base < base);
        self.before.get(at).copied().unwrap_or(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::TopicPattern;

    #[test]
    fn a_pattern_may_take_announcements_where_its_levels_do_not_forbid_it() {
        let may = |text| may_announce(&TopicPattern::parse(text).expect("a pattern"));
        for text in ["#", "headwater/#", "headwater/v1/{device}/announce", "+/v1/pump-7/+"] {
            assert!(may(text), "{text}");
        }
        for text in ["sensors/{device}/climate", "headwater/v1/{device}/logs", "headwater/v1"] {
            assert!(!may(text), "{text}");
        }
    }
}
