//! Opening a log: find its end, cut a torn tail, report damage.
//!
//! A batch says whether it is the first of its commit, and a commit is only written once the one
//! before it is synced. So behind damage,
//! - no whole batch: the tail was torn, and is cut;
//! - a later commit: what is damaged was durable once. It is reported and left;
//! - only batches of the same commit: torn if a sector of the damage was never written (it still
//!   reads as zeros), and cut from there; else reported and left.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use crate::batch::MAX_BODY;
use crate::chunk::{ChunkError, ChunkHeader, ChunkKind};
use crate::commit::zero;
use crate::compact::settle;
use crate::error::{Damage, JournalError, Why};
use crate::journal::Active;
use crate::repair::{renew_head, replace_with_lost};
use crate::segment::{self, HEAD_LEN, Head};
use crate::storage::{SegmentEntry, SegmentFile, Storage};
use crate::summary::Builder;
use crate::walk::{Met, Walk};

const SECTOR: u64 = 512;
/// Zeros at the end of a sector that show that it was not written whole.
const ZERO_RUN: u64 = 16;

/// What opening a log found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Segments in the log.
    pub segments: usize,
    /// First offset of the log.
    pub start: u64,
    /// The offset that the next record gets.
    pub end: u64,
    /// Unacknowledged bytes that a cut commit left at the end, and that were cleared.
    pub torn: Option<TornTail>,
    /// What cannot be read in the newest segment. Others are not looked at on opening.
    pub damage: Vec<Damage>,
    /// Newest segments without a readable header, kept under another name. Where records in them
    /// were durable once, a lost range stands in their place.
    pub set_aside: Vec<SetAside>,
}

impl Recovery {
    /// Offsets that the log spans: its records, those that are damaged included.
    pub fn records(&self) -> u64 {
        self.end - self.start
    }
}

/// A torn tail that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Base offset of the segment.
    pub segment: u64,
    /// Where the cut is.
    pub byte: u64,
    /// Bytes behind it that were not zero, counted to the last of them.
    pub bytes: u64,
}

/// A segment that was taken out of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Base offset that its name said.
    pub segment: u64,
    /// Its name now.
    pub name: String,
}

pub(crate) struct Recovered<F> {
    pub(crate) segments: VecDeque<SegmentEntry>,
    pub(crate) active: Option<Active<F>>,
    pub(crate) report: Recovery,
}

pub(crate) fn recover<S: Storage>(storage: &S) -> Result<Recovered<S::File>, JournalError> {
    let failed = |action, base| move |source| JournalError::io(action, base, source);
    settle(storage).map_err(failed("clear up", None))?;
    let mut listed = storage.list().map_err(failed("list", None))?;
    listed.sort_by_key(|segment| segment.base);
    let mut recovered = Recovered {
        segments: listed.into(),
        active: None,
        report: Recovery {
            segments: 0,
            start: 0,
            end: 0,
            torn: None,
            damage: Vec::new(),
            set_aside: Vec::new(),
        },
    };
    recover_newest(storage, &mut recovered)?;
    let report = &mut recovered.report;
    report.segments = recovered.segments.len();
    report.start = recovered.segments.front().map_or(report.end, |first| first.base);
    Ok(recovered)
}

fn recover_newest<S: Storage>(
    storage: &S,
    recovered: &mut Recovered<S::File>,
) -> Result<(), JournalError> {
    let failed = |action, base| move |source| JournalError::io(action, base, source);
    let Some(newest) = recovered.segments.back_mut() else { return Ok(()) };
    let (base, report) = (newest.base, &mut recovered.report);
    report.end = base;
    let mut file = storage.open(base, true).map_err(failed("open", Some(base)))?;
    let head = match segment::read_head(&file, base).map_err(failed("read", Some(base)))? {
        Ok(head) => head,
        Err(ChunkError::Version(found)) => {
            return Err(JournalError::Version { segment: base, found });
        }
        Err(ChunkError::Invalid) => {
            let retired = retire(storage, &file, newest, report);
            match retired.map_err(failed("set aside", Some(base)))? {
                Retired::Lost => return Ok(()),
                Retired::Gone => {
                    recovered.segments.pop_back();
                    return Ok(());
                }
                Retired::Begun(head) => {
                    file = storage.open(base, true).map_err(failed("open", Some(base)))?;
                    head
                }
            }
        }
    };
    if let Some(extent) = head.extent {
        // Written whole and synced before it got its name; nothing is written behind it. The name
        // may be one that the disk has not, after a failed sync.
        report.end = extent.end;
        return storage.sync_dir().map_err(failed("sync", None));
    }
    let (pos, summary) =
        scan_newest(&file, &head, report).map_err(failed("recover", Some(base)))?;
    let len = file.len().map_err(failed("read", Some(base)))?;
    newest.bytes = len;
    // What was written is what was there: the segment is as old as it was.
    file.set_modified_ms(newest.modified_ms).map_err(failed("recover", Some(base)))?;
    storage.sync_dir().map_err(failed("sync", None))?;
    recovered.active = Some(Active { file, chunk: head.chunk, pos, len, summary });
    Ok(())
}

/// What has the place of a newest segment whose header cannot be read.
enum Retired {
    /// A lost range.
    Lost,
    /// An empty segment, to go on in.
    Begun(Head),
    /// Nothing: the log ends before it.
    Gone,
}

/// Takes the newest segment out of the log, since its header cannot be read.
///
/// If it holds the first batch of a commit, its header was synced once and damaged since: a lost
/// range keeps its offsets from being given away again. Else its creation was cut, and nothing in
/// it acknowledged; it is begun anew.
fn retire<S: Storage>(
    storage: &S,
    file: &S::File,
    newest: &mut SegmentEntry,
    report: &mut Recovery,
) -> io::Result<Retired> {
    let segment = newest.base;
    let is_empty = last_byte(file, 0)? == 0;
    let end = match segment::plain_end(file, segment)? {
        _ if is_empty => None,
        Some(end) => Some(end),
        None => end_of_synced(file, segment)?,
    };
    if let Some(end) = end {
        let (first, why) = (segment, Why::SegmentHeader);
        report.end = end;
        report.damage.push(Damage { segment, byte: 0, first, end, why });
        let name = replace_with_lost(storage, newest, end)?;
        report.set_aside.push(SetAside { segment, name });
        return Ok(Retired::Lost);
    }
    let head = Head::from(segment::header(segment, newest.modified_ms));
    match begin_anew(storage, file, &head, is_empty) {
        Ok(name) => {
            report.set_aside.extend(name.map(|name| SetAside { segment, name }));
            Ok(Retired::Begun(head))
        }
        Err(error) if error.kind() == ErrorKind::StorageFull => {
            if is_empty {
                storage.remove(segment)?;
            } else {
                let name = storage.set_aside(segment)?;
                report.set_aside.push(SetAside { segment, name });
            }
            storage.sync_dir()?;
            Ok(Retired::Gone)
        }
        Err(error) => Err(error),
    }
}

/// Begins a segment anew whose creation was cut. Without it the log would end where the one before
/// it does, whose last commit may have been damaged: its offsets would be given away again. Gives
/// the name under which it is kept, if anything was in it.
fn begin_anew<S: Storage>(
    storage: &S,
    file: &S::File,
    head: &Head,
    is_empty: bool,
) -> io::Result<Option<String>> {
    if !is_empty {
        return renew_head(storage, head).map(Some);
    }
    let mut bytes = Vec::new();
    segment::put_head(&head.chunk, &mut bytes);
    file.write_at(0, &bytes)?;
    Ok(None)
}

/// The offset after the last record of a segment without a header, if a commit begins in it.
fn end_of_synced<F: SegmentFile>(file: &F, base: u64) -> io::Result<Option<u64>> {
    // Times are not known without the header, but offsets are.
    // All that an ordinary segment may hold, a sparse one may too.
    let chunk = ChunkHeader { kind: ChunkKind::Sparse, ..segment::header(base, 0) };
    let mut walk = Walk::new(&chunk.into());
    let mut was_synced = false;
    loop {
        match walk.next(file, &|_| true, true)? {
            Met::Batch(batch) => was_synced |= batch.header.starts_commit,
            Met::Hole(_) | Met::Lost(_) => {}
            Met::End { .. } => {
                return Ok(Some(walk.expected()).filter(|end| was_synced && *end > base));
            }
        }
    }
}

/// Walks the newest segment and makes its end durable; returns where the next batch goes, and a
/// summary where all before is whole.
fn scan_newest<F: SegmentFile>(
    file: &F,
    head: &Head,
    report: &mut Recovery,
) -> io::Result<(u64, Option<Builder>)> {
    let mut walk = Walk::new(head);
    let base = walk.chunk().base_offset;
    let mut summary = Some(Builder::new(walk.chunk()));
    let mut last_commit = walk.pos();
    // Holes that no later commit has vouched for yet, each with the end of its bytes.
    let mut open: Vec<(Damage, u64)> = Vec::new();
    let mut end = loop {
        match walk.next(file, &|_| true, true)? {
            Met::Batch(batch) => {
                if batch.header.starts_commit {
                    last_commit = batch.at;
                    report.damage.extend(open.drain(..).map(|(damage, _)| damage));
                }
                if let Some(summary) = &mut summary {
                    summary.add_read(&batch, walk.body(file, &batch)?);
                }
            }
            Met::Hole(damage) => {
                summary = None;
                open.push((damage, walk.pos()));
            }
            Met::Lost(_) => summary = None,
            Met::End { at, .. } => break at,
        }
    };
    report.end = walk.expected();
    for (damage, until) in open {
        if was_not_written(file, damage.byte, until)? {
            report.end = damage.first;
            end = damage.byte;
            break;
        }
        report.damage.push(damage);
    }
    let junk = last_byte(file, end)?;
    if junk > end {
        report.torn = Some(TornTail { segment: base, byte: end, bytes: junk - end });
        zero(file, end, junk)?;
    }
    if head.bad_copy.is_some() && end == HEAD_LEN as u64 {
        // Its creation was cut. Left so, it would pass for damage once something is behind it.
        let mut bytes = Vec::new();
        segment::put_head(&head.chunk, &mut bytes);
        file.write_at(0, &bytes)?;
    }
    let from = last_commit.min(end);
    rewrite(file, if from == HEAD_LEN as u64 { 0 } else { from }, file.len()?)?;
    file.sync()?;
    Ok((end, summary))
}

/// Writes the last commit and the zeros behind it over themselves: after a failed sync the system
/// may hold them in memory as clean though the disk has them not.
fn rewrite<F: SegmentFile>(file: &F, mut at: u64, end: u64) -> io::Result<()> {
    let mut bytes = vec![0; (end - at).min(MAX_BODY as u64) as usize];
    while at < end {
        let len = (end - at).min(bytes.len() as u64) as usize;
        let got = file.read_at(at, &mut bytes[..len])?;
        if got == 0 {
            break;
        }
        file.write_at(at, &bytes[..got])?;
        at += got as u64;
    }
    Ok(())
}

/// Whether some sector between the two places ends in zeros, as one does that was not written.
fn was_not_written<F: SegmentFile>(file: &F, from: u64, until: u64) -> io::Result<bool> {
    let mut at = from;
    let mut bytes = [0; SECTOR as usize];
    while at < until {
        let end = ((at / SECTOR + 1) * SECTOR).min(until);
        let len = (end - at) as usize;
        let got = file.read_at(at, &mut bytes[..len])?;
        let zeros = bytes[..got].iter().rev().take_while(|byte| **byte == 0).count() as u64;
        if got == len && zeros >= ZERO_RUN.min(len as u64) {
            return Ok(true);
        }
        at = end;
    }
    Ok(false)
}

/// The place behind the last byte from `from` on that is not zero; `from` where there is none.
pub(crate) fn last_byte<F: SegmentFile>(file: &F, from: u64) -> io::Result<u64> {
    let mut bytes = vec![0; 64 << 10];
    let (mut at, mut last) = (from, from);
    loop {
        let got = file.read_at(at, &mut bytes)?;
        if got == 0 {
            return Ok(last);
        }
        if let Some(place) = bytes[..got].iter().rposition(|byte| *byte != 0) {
            last = at + place as u64 + 1;
        }
        at += got as u64;
    }
}
