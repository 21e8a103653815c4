//! Repair: writes damaged segments anew, with lost ranges in the place of damage.
//!
//! Nothing here runs unless it is asked for, but for one thing: where the newest segment has no
//! readable head, opening puts a lost range in its place, so that its offsets are not given away
//! again.
//!
//! A segment is first given a second name, under which its damaged bytes stay. Then what takes its
//! place is written beside the log, synced, and renamed over it. So wherever a power cut falls, the
//! log has either, and the damaged bytes are there.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::error::{Damage, JournalError, Why};
use crate::record::Records;
use crate::recover::{Recovery, recover};
use crate::rewrite::{Rewrite, Written, successor};
use crate::segment::{self, Extent, Head};
use crate::storage::{DirStorage, SegmentEntry, SegmentFile, Storage};
use crate::verify::verify_storage;
use crate::walk::{Met, Walk};

/// A segment that was written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Its base offset, and so its name.
    pub segment: u64,
    /// The name under which the damaged one is kept.
    pub kept_as: String,
    /// What was damaged. Where no offset was lost, it was a spare copy.
    pub damage: Vec<Damage>,
    /// Records that could be read, and are there.
    pub records: u64,
}

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairReport {
    /// What opening the log found and did before.
    pub recovery: Recovery,
    /// The segments that were damaged, oldest first.
    pub repaired: Vec<Repaired>,
}

impl RepairReport {
    /// Offsets that are lost.
    pub fn lost(&self) -> u64 {
        let damage = self.repaired.iter().flat_map(|repaired| &repaired.damage);
        damage.map(|damage| damage.end - damage.first).fold(0, u64::saturating_add)
    }
}

/// Repairs the log in a directory that no process writes to. `progress` is told the bytes read and
/// the bytes in all.
///
/// # Errors
/// As [`crate::Journal::open`]. What was repaired before stays so; call again to go on.
pub fn repair(
    dir: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<RepairReport, JournalError> {
    if !dir.is_dir() {
        return Err(JournalError::io("open", None, io::ErrorKind::NotFound.into()));
    }
    repair_storage(&DirStorage::for_writing(dir)?, progress)
}

/// As [`repair`], wherever the segments are.
///
/// # Errors
/// As [`repair`].
pub fn repair_storage<S: Storage>(
    storage: &S,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<RepairReport, JournalError> {
    let recovered = recover(storage)?;
    let segments = recovered.segments;
    let end = recovered.report.end;
    let mut report = RepairReport { recovery: recovered.report, repaired: Vec::new() };
    let found = verify_storage(storage, progress)?;
    let mut damage: BTreeMap<u64, Vec<Damage>> = BTreeMap::new();
    for damaged in found.damage {
        damage.entry(damaged.segment).or_default().push(damaged);
    }
    for (at, entry) in segments.iter().enumerate() {
        let Some(damage) = damage.remove(&entry.base) else { continue };
        let end = segments.get(at + 1).map_or(end, |next| next.base);
        let failed = |source| JournalError::io("repair", Some(entry.base), source);
        let (kept_as, records) = repair_segment(storage, entry, end).map_err(failed)?;
        report.repaired.push(Repaired { segment: entry.base, kept_as, damage, records });
    }
    Ok(report)
}

/// Writes a segment anew; returns the name of the old one and the records that were kept.
fn repair_segment<S: Storage>(
    storage: &S,
    entry: &SegmentEntry,
    end: u64,
) -> io::Result<(String, u64)> {
    let base = entry.base;
    let file = storage.open(base, false)?;
    let head = segment::read_head(&file, base)?.ok();
    let mut rewrite = Rewrite::new(storage.create_aside(base)?, successor(base, head.as_ref()));
    let records = match &head {
        Some(head) => copy_whole::<S>(&file, head, end, &mut rewrite)?,
        None => {
            rewrite.lost(base, end, Why::SegmentHeader)?;
            0
        }
    };
    let clean = head.and_then(|head| head.extent).is_some_and(|extent| extent.clean);
    let written = rewrite.finish(Extent { end, clean }, entry.modified_ms)?;
    Ok((put_in_place(storage, base, &written)?, records))
}

/// Puts a segment without a record in the place of one; returns the name under which that is kept.
pub(crate) fn renew_head<S: Storage>(storage: &S, head: &Head) -> io::Result<String> {
    let base = head.chunk.base_offset;
    let mut bytes = Vec::new();
    segment::put_head(&head.chunk, &mut bytes);
    let file = storage.create_aside(base)?;
    file.write_at(0, &bytes)?;
    file.sync()?;
    put_in_place(storage, base, &Written { bytes: bytes.len() as u64, summary: None })
}

/// Copies what can be read as it is, and puts lost ranges where it cannot.
fn copy_whole<S: Storage>(
    file: &S::File,
    head: &Head,
    end: u64,
    rewrite: &mut Rewrite<S::File>,
) -> io::Result<u64> {
    let mut walk = Walk::new(head);
    let mut records = 0;
    loop {
        match walk.next(file, &|_| true, true)? {
            Met::Batch(batch) => {
                let body = walk.body(file, &batch)?;
                records += Records::new(batch.header, body).count() as u64;
                rewrite.copy(&batch.header, body)?;
            }
            Met::Hole(damage) => rewrite.lost(damage.first, damage.end, damage.why)?,
            Met::Lost(lost) => rewrite.lost(lost.first, lost.end, lost.why)?,
            Met::End { why, .. } => {
                let first = walk.expected();
                if first < end {
                    rewrite.lost(first, end, why.unwrap_or(Why::Missing))?;
                }
                return Ok(records);
            }
        }
    }
}

/// Keeps a segment under a second name, and gives its own to what was written beside the log.
fn put_in_place<S: Storage>(storage: &S, base: u64, written: &Written) -> io::Result<String> {
    let kept_as = storage.keep_copy(base)?;
    storage.sync_dir()?;
    storage.replace(base)?;
    storage.sync_dir()?;
    if let Some(summary) = &written.summary {
        // Readers do without one that cannot be written.
        let _ = storage.write_summary(base, &summary.encode());
    }
    Ok(kept_as)
}

/// Puts one lost range in the place of a whole segment; returns the name under which that is kept.
pub(crate) fn replace_with_lost<S: Storage>(
    storage: &S,
    entry: &mut SegmentEntry,
    end: u64,
) -> io::Result<String> {
    let base = entry.base;
    let mut rewrite = Rewrite::new(storage.create_aside(base)?, successor(base, None));
    rewrite.lost(base, end, Why::SegmentHeader)?;
    let written = rewrite.finish(Extent { end, clean: false }, entry.modified_ms)?;
    entry.bytes = written.bytes;
    put_in_place(storage, base, &written)
}
