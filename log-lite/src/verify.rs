//! Reads a whole log, every checksum, and says what is there and what is not.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::chunk::ChunkError;
use crate::error::{Damage, Lost, ReadError, Why};
use crate::record::Records;
use crate::recover::{TornTail, last_byte};
use crate::segment::{self, Head};
use crate::storage::{DirStorage, SegmentEntry, SegmentFile, Storage};
use crate::summary::Summary;
use crate::walk::{Located, Met, Walk};

/// Bytes between two calls of a progress function.
const PROGRESS_STEP: u64 = 1 << 20;

/// What one segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Offset of its first record, which is its name.
    pub base: u64,
    /// The offset after its last whole record; of a whole compacted segment, after the last offset
    /// that it covers.
    pub end: u64,
    /// Whether it was written anew by compaction or repair, and offsets may be left out.
    pub compacted: bool,
    /// Bytes of the file.
    pub bytes: u64,
    /// The part of `bytes` that is head and batches; the rest is zero fill.
    pub used: u64,
    /// Batches that are whole.
    pub batches: u64,
    /// Bytes of keys and values.
    pub payload: u64,
    /// Earliest and latest time of its records in ms.
    pub times_ms: Option<(i64, i64)>,
    /// Whole records of each partition.
    pub partitions: BTreeMap<u16, u64>,
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All segments, oldest first.
    pub segments: Vec<SegmentInfo>,
    /// What cannot be read. Where no offset is lost, a spare copy is damaged.
    pub damage: Vec<Damage>,
    /// What was damaged once and is recorded as lost.
    pub lost: Vec<Lost>,
    /// Bytes behind the last whole batch: of a commit that was cut, or that a running writer is
    /// just making. The next opening clears the former.
    pub torn_tail: Option<TornTail>,
}

impl Report {
    /// Whole records in the log.
    pub fn records(&self) -> u64 {
        let counts = self.segments.iter().flat_map(|segment| segment.partitions.values());
        // A forged summary says anything.
        counts.copied().fold(0, u64::saturating_add)
    }
}

/// Reads the log in a directory, also beside its writer. Changes nothing. `progress` is told the
/// bytes done and the bytes in all.
///
/// # Errors
/// [`ReadError::Io`] and [`ReadError::Version`]. Damage is in the report.
pub fn verify(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, ReadError> {
    verify_storage(&DirStorage::for_reading(dir), progress)
}

/// What the log in a directory holds, as [`verify`] says it, but without a look at the records of
/// sealed segments that have a summary: quick, and blind to damage there.
///
/// # Errors
/// As [`verify`].
pub fn survey(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, ReadError> {
    survey_storage(&DirStorage::for_reading(dir), progress)
}

/// As [`survey`], wherever the segments are.
///
/// # Errors
/// As [`verify`].
pub fn survey_storage<S: Storage>(
    storage: &S,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, ReadError> {
    report(storage, true, progress)
}

/// As [`verify`], wherever the segments are.
///
/// # Errors
/// As [`verify`].
pub fn verify_storage<S: Storage>(
    storage: &S,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, ReadError> {
    report(storage, false, progress)
}

fn report<S: Storage>(
    storage: &S,
    believe_summaries: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, ReadError> {
    let failed =
        |action, segment| move |source| ReadError::Io { action, segment, byte: None, source };
    let mut listed = storage.list().map_err(failed("list", None))?;
    listed.sort_by_key(|segment| segment.base);
    let total = listed.iter().map(|segment| segment.bytes).sum();
    let mut report = Report::default();
    let mut done = 0;
    let mut covered = 0;
    for (at, segment) in listed.iter().enumerate() {
        let base = segment.base;
        progress(done, total);
        if base < covered {
            // Merged into one before it, and about to be removed.
            done += segment.bytes;
            continue;
        }
        match storage.open(base, false) {
            Ok(file) => {
                let next = listed.get(at + 1).map(|next| next.base);
                let head = segment::read_head(&file, base).map_err(failed("read", Some(base)))?;
                if let Err(ChunkError::Version(found)) = head {
                    return Err(ReadError::Version { segment: base, found });
                }
                let mut tell = |bytes| progress(done + bytes, total);
                let head = head.ok();
                covered = head.and_then(|head| head.extent).map_or(0, |extent| extent.end);
                let known = head
                    .zip(next)
                    .filter(|_| believe_summaries)
                    .and_then(|(head, next)| from_summary(storage, &file, &head, *segment, next));
                if let Some(info) = known {
                    report.segments.push(info);
                } else {
                    check_segment(&file, head, *segment, next, &mut report, &mut tell)
                        .map_err(failed("read", Some(base)))?;
                }
            }
            // Retention deleted it meanwhile, or compaction merged it into another.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("open", Some(base))(error)),
        }
        done += segment.bytes;
    }
    progress(total, total);
    Ok(report)
}

/// What its summary says of a segment that is whole up to the next.
fn from_summary<S: Storage>(
    storage: &S,
    file: &S::File,
    head: &Head,
    segment: SegmentEntry,
    next: u64,
) -> Option<SegmentInfo> {
    let summary = Summary::load(storage, file, &head.chunk)?;
    (summary.end >= next && head.bad_copy.is_none()).then_some(SegmentInfo {
        base: segment.base,
        end: summary.end,
        compacted: head.extent.is_some(),
        bytes: segment.bytes,
        used: summary.used,
        batches: summary.batches,
        payload: summary.payload,
        times_ms: Some(summary.times_ms),
        partitions: summary.partitions?,
    })
}

/// Reads one segment. `next`: the base of the one behind it; the newest has none.
fn check_segment<F: SegmentFile>(
    file: &F,
    head: Option<Head>,
    segment: SegmentEntry,
    next: Option<u64>,
    report: &mut Report,
    tell: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let base = segment.base;
    let Some(head) = head else {
        let bytes = last_byte(file, 0)?;
        match next {
            Some(end) => {
                let why = Why::SegmentHeader;
                report.damage.push(Damage { segment: base, byte: 0, first: base, end, why });
            }
            None => report.torn_tail = Some(TornTail { segment: base, byte: 0, bytes }),
        }
        return Ok(());
    };
    if let Some(byte) = head.bad_copy {
        let why = Why::SegmentHeader;
        report.damage.push(Damage { segment: base, byte, first: base, end: base, why });
    }
    let mut walk = Walk::new(&head);
    let mut info = SegmentInfo {
        base,
        end: base,
        compacted: head.extent.is_some(),
        bytes: segment.bytes,
        used: walk.pos(),
        batches: 0,
        payload: 0,
        times_ms: None,
        partitions: BTreeMap::new(),
    };
    let mut told = 0;
    let (at, why) = loop {
        // Behind the last record of a sealed segment there is nothing to look for.
        let search = next.is_none_or(|next| walk.expected() < next);
        match walk.next(file, &|_| true, search)? {
            Met::Batch(batch) => info.count(&batch, walk.body(file, &batch)?),
            Met::Hole(damage) => report.damage.push(damage),
            Met::Lost(lost) => report.lost.push(lost),
            Met::End { at, why } => break (at, why),
        }
        if walk.pos() >= told + PROGRESS_STEP {
            told = walk.pos();
            tell(told);
        }
    };
    (info.end, info.used) = (walk.expected(), at);
    match next.or(walk.covers_to()) {
        // Of a compacted segment all may be there but the end mark.
        Some(_) if walk.is_complete() => {
            if let Some(why) = why {
                let (first, end) = (info.end, info.end);
                report.damage.push(Damage { segment: base, byte: at, first, end, why });
            }
        }
        Some(end) if end > info.end => {
            let (first, why) = (info.end, why.unwrap_or(Why::Missing));
            report.damage.push(Damage { segment: base, byte: at, first, end, why });
        }
        Some(_) => {}
        None => {
            let junk = last_byte(file, at)?;
            if junk > at {
                report.torn_tail = Some(TornTail { segment: base, byte: at, bytes: junk - at });
            }
        }
    }
    report.segments.push(info);
    Ok(())
}

impl SegmentInfo {
    fn count(&mut self, batch: &Located, body: &[u8]) {
        self.batches += 1;
        let records = self.partitions.entry(batch.header.partition).or_default();
        for record in Records::new(batch.header, body) {
            *records += 1;
            self.payload += (record.key.len() + record.value.len()) as u64;
            let (first, last) = self.times_ms.unwrap_or((record.time_ms, record.time_ms));
            self.times_ms = Some((first.min(record.time_ms), last.max(record.time_ms)));
        }
    }
}
