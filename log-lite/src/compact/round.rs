//! One round of compaction, a step at a time.

use std::collections::HashMap;
use std::io::{self, ErrorKind};

use super::keys::KeyMap;
use super::plan::{self, Source, Yield};
use super::settle::settle;
use super::{CompactError, CompactOptions, CompactStats, CompactStep, Compacted};
use crate::chunk::ChunkError;
use crate::error::{Lost, Why};
use crate::record::Record;
use crate::recover::SetAside;
use crate::retention::{CLOCK_SET_MS, is_older};
use crate::rewrite::{self, Rewrite, Written};
use crate::segment::{self, Extent};
use crate::storage::{SegmentEntry, Storage};
use crate::walk::{Met, Walk};

/// Bytes that a step reads.
const STEP_BYTES: u64 = 256 << 10;
/// Bytes that may wait to be synced: what a commit of the log may have to wait for.
const SYNC_BYTES: u64 = 1 << 20;

/// A round. Sources are taken in order; `at` is the one that is being read.
#[derive(Debug)]
pub(super) struct Round<F> {
    sources: Vec<Source>,
    keys: KeyMap,
    now_ms: i64,
    at: usize,
    phase: Phase,
    input: Option<Input<F>>,
    output: Option<Output<F>>,
    shrinks: Yield,
    stats: CompactStats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The newest offsets of keys are noted.
    Map,
    /// What is not superseded is written.
    Write,
    /// An output was given out to be swapped.
    Swap,
}

/// The segment that is being read.
#[derive(Debug)]
struct Input<F> {
    file: F,
    walk: Walk,
    /// When its records had been written, where they do not say.
    written_ms: i64,
}

/// The segment that is being written.
#[derive(Debug)]
struct Output<F> {
    /// `None` once it is finished.
    rewrite: Option<Rewrite<F>>,
    written: Option<Written>,
    /// The sources that went into it.
    sources: Vec<SegmentEntry>,
    end: u64,
    /// Its bytes when the source at hand was begun.
    bytes_before: u64,
    /// Open sources: their bytes are not freed while the journal waits for the rename.
    held: Vec<F>,
    damaged: Vec<u64>,
    /// Whether it is other than its only source.
    changed: bool,
}

/// What is to become of a record.
enum Fate {
    Stays,
    Superseded,
    Expired,
}

impl<F> Output<F> {
    fn base(&self) -> u64 {
        self.sources[0].base
    }
}

impl<F: crate::storage::SegmentFile> Round<F> {
    /// Looks at the segments and decides whether there is enough to do.
    pub(super) fn plan<S: Storage<File = F>>(
        storage: &S,
        options: &CompactOptions,
        segments: &[SegmentEntry],
        now_ms: i64,
    ) -> Result<Option<Self>, CompactError> {
        let mut sources = Vec::new();
        let listed = storage.list().map_err(CompactError::io("list", None))?;
        let written: HashMap<u64, i64> =
            listed.into_iter().map(|entry| (entry.base, entry.modified_ms)).collect();
        for pair in segments.windows(2) {
            let (mut entry, end) = (pair[0], pair[1].base);
            // The journal learns the time only now and then.
            entry.modified_ms = written.get(&entry.base).copied().unwrap_or(entry.modified_ms);
            let file = match storage.open(entry.base, false) {
                Ok(file) => file,
                // Retention was faster; what it deletes is older than all that it leaves.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    sources.clear();
                    continue;
                }
                Err(error) => return Err(CompactError::io("open", Some(entry.base))(error)),
            };
            let failed = CompactError::io("read", Some(entry.base));
            let head = match segment::read_head(&file, entry.base).map_err(failed)? {
                Ok(head) => Some(head),
                Err(ChunkError::Invalid) => None,
                Err(ChunkError::Version(found)) => {
                    return Err(CompactError::Version { segment: entry.base, found });
                }
            };
            sources.push(Source { entry, end, head });
        }
        let Some(at) = plan::first_dirty(&sources, options.min_dirty_percent) else {
            return Ok(None);
        };
        // No record is shorter than this, so no more keys can come.
        let keys = sources[at..].iter().map(|source| source.entry.bytes / 4).sum();
        let keys = KeyMap::new(options.memory_bytes, keys);
        Ok(Some(Self {
            sources,
            keys,
            now_ms,
            at,
            phase: Phase::Map,
            input: None,
            output: None,
            shrinks: Yield::default(),
            stats: CompactStats::default(),
        }))
    }

    pub(super) fn step<S: Storage<File = F>>(
        &mut self,
        storage: &S,
        options: &CompactOptions,
        segment_size: u32,
    ) -> Result<CompactStep, CompactError> {
        if self.phase == Phase::Swap && !self.after_swap(storage)? {
            self.stats.abandoned = true;
            return Ok(self.done());
        }
        let Some(source) = self.sources.get(self.at).copied() else {
            return match self.phase {
                Phase::Map => {
                    self.begin_writing();
                    Ok(CompactStep::Working)
                }
                _ if self.output.is_some() => self.give_out(storage),
                _ => Ok(self.done()),
            };
        };
        let full = |output: &Output<F>| {
            let bytes = output.rewrite.as_ref().map_or(0, Rewrite::bytes);
            !self.shrinks.fits(bytes, &source, segment_size)
        };
        if self.input.is_none() && self.output.as_ref().is_some_and(full) {
            return self.give_out(storage);
        }
        if !self.open_input(storage, &source)? {
            self.stats.abandoned = true;
            return Ok(self.done());
        }
        let failed = CompactError::io("compact", Some(source.entry.base));
        match self.phase {
            Phase::Map => self.map_some(&source, options)?,
            _ => self.write_some(storage, &source, options, segment_size).map_err(failed)?,
        }
        Ok(CompactStep::Working)
    }

    fn done(&mut self) -> CompactStep {
        CompactStep::Done(std::mem::take(&mut self.stats))
    }

    /// Opens the source at hand, if it is not open. `false`: it has been deleted.
    fn open_input<S: Storage<File = F>>(
        &mut self,
        storage: &S,
        source: &Source,
    ) -> Result<bool, CompactError> {
        let (None, Some(head)) = (&self.input, &source.head) else { return Ok(true) };
        let base = source.entry.base;
        let file = match storage.open(base, false) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(CompactError::io("open", Some(base))(error)),
        };
        let modified_ms = source.entry.modified_ms;
        let written_ms = if modified_ms < CLOCK_SET_MS { self.now_ms } else { modified_ms };
        self.input = Some(Input { file, walk: Walk::new(head), written_ms });
        Ok(true)
    }

    /// Notes the keys of some batches.
    fn map_some(&mut self, source: &Source, options: &CompactOptions) -> Result<(), CompactError> {
        let base = source.entry.base;
        let Some(input) = &mut self.input else {
            self.at += 1;
            return Ok(());
        };
        let until = input.walk.pos() + STEP_BYTES;
        while input.walk.pos() < until {
            let met = input.walk.next(&input.file, &|_| true, true);
            match met.map_err(CompactError::io("read", Some(base)))? {
                Met::Batch(batch) => {
                    let body = input.walk.body(&input.file, &batch);
                    let body = body.map_err(CompactError::io("read", Some(base)))?;
                    let (_, records) = rewrite::written(batch.header, body, 0);
                    for record in records.filter(|record| !record.key.is_empty()) {
                        if !self.keys.note(record.partition, record.key, record.offset) {
                            return self.end_map_before(base, options);
                        }
                    }
                }
                Met::Hole(_) | Met::Lost(_) => {}
                Met::End { .. } => {
                    self.input = None;
                    self.at += 1;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Leaves this source and all behind it to the next round, since the map is full.
    fn end_map_before(&mut self, base: u64, options: &CompactOptions) -> Result<(), CompactError> {
        let first_dirty = self.sources[..self.at].iter().rposition(Source::is_clean);
        if self.at == first_dirty.map_or(0, |last| last + 1) {
            let memory_bytes = options.memory_bytes;
            return Err(CompactError::Memory { segment: base, memory_bytes });
        }
        self.sources.truncate(self.at);
        self.begin_writing();
        Ok(())
    }

    fn begin_writing(&mut self) {
        self.phase = Phase::Write;
        self.input = None;
        self.at = 0;
    }

    fn fate(&self, record: &Record, written_ms: i64, options: &CompactOptions) -> Fate {
        if record.key.is_empty() {
            return Fate::Stays;
        }
        if self.keys.newest(record.partition, record.key).is_some_and(|at| at > record.offset) {
            return Fate::Superseded;
        }
        let expired = is_older(written_ms, options.tombstone_grace_ms, self.now_ms);
        if expired && (options.is_tombstone)(record.value) { Fate::Expired } else { Fate::Stays }
    }

    /// Writes what stays of some batches.
    fn write_some<S: Storage<File = F>>(
        &mut self,
        storage: &S,
        source: &Source,
        options: &CompactOptions,
        segment_size: u32,
    ) -> io::Result<()> {
        let Some(mut input) = self.input.take() else {
            // Its head cannot be read.
            self.begin_output(storage, source)?;
            self.lose((source.entry.base, source.end, Why::SegmentHeader), source)?;
            return self.end_source(source, None);
        };
        // A large segment of which nothing goes is left as it is.
        let look_first = self.output.is_none()
            && source.is_clean()
            && source.entry.bytes >= u64::from(segment_size / 2);
        if !look_first {
            self.begin_output(storage, source)?;
        }
        let until = input.walk.pos() + STEP_BYTES;
        while input.walk.pos() < until {
            let met = input.walk.next(&input.file, &|_| true, true)?;
            if self.output.is_none() && self.needs_writing(&met, &mut input, source, options)? {
                self.begin_output(storage, source)?;
                // From its start again: what was looked at before goes in, too.
                let head = source.head.as_ref().expect("a source that is open has a head");
                input.walk = Walk::new(head);
                break;
            }
            match met {
                Met::Batch(batch) if self.output.is_some() => {
                    let body = input.walk.body(&input.file, &batch)?;
                    let (written_ms, records) =
                        rewrite::written(batch.header, body, input.written_ms);
                    self.write_records(records, written_ms, options)?;
                }
                Met::Lost(lost) if self.output.is_some() => {
                    self.rewrite().lost(lost.first, lost.end, lost.why)?;
                }
                Met::Hole(damage) => {
                    self.lose((damage.first, damage.end, damage.why), source)?;
                }
                Met::Batch(_) | Met::Lost(_) => {}
                Met::End { why, .. } => {
                    let read_to = input.walk.expected();
                    if read_to < source.end {
                        self.lose((read_to, source.end, why.unwrap_or(Why::Missing)), source)?;
                    }
                    return self.end_source(source, Some(input.file));
                }
            }
        }
        self.input = Some(input);
        match self.output.as_mut().and_then(|output| output.rewrite.as_mut()) {
            Some(rewrite) => rewrite.sync_beyond(SYNC_BYTES),
            None => Ok(()),
        }
    }

    /// Whether what was met is a reason to write the source anew.
    fn needs_writing(
        &self,
        met: &Met,
        input: &mut Input<F>,
        source: &Source,
        options: &CompactOptions,
    ) -> io::Result<bool> {
        Ok(match met {
            Met::Batch(batch) => {
                let body = input.walk.body(&input.file, batch)?;
                let (written_ms, mut records) =
                    rewrite::written(batch.header, body, input.written_ms);
                let goes = |record| !matches!(self.fate(&record, written_ms, options), Fate::Stays);
                records.any(goes)
            }
            Met::Hole(_) => true,
            Met::Lost(_) => false,
            Met::End { .. } => input.walk.expected() < source.end,
        })
    }

    fn write_records<'a>(
        &mut self,
        records: impl Iterator<Item = Record<'a>>,
        written_ms: i64,
        options: &CompactOptions,
    ) -> io::Result<()> {
        for record in records {
            match self.fate(&record, written_ms, options) {
                Fate::Stays => {
                    self.rewrite().push(&record, written_ms)?;
                    continue;
                }
                Fate::Superseded => self.stats.superseded += 1,
                Fate::Expired => self.stats.expired += 1,
            }
            self.output.as_mut().expect("records go to an output").changed = true;
        }
        Ok(())
    }

    fn rewrite(&mut self) -> &mut Rewrite<F> {
        let output = self.output.as_mut().expect("callers have begun an output");
        output.rewrite.as_mut().expect("an output is finished only when it is given out")
    }

    /// Takes the source into the output, which begins with it if there is none.
    fn begin_output<S: Storage<File = F>>(
        &mut self,
        storage: &S,
        source: &Source,
    ) -> io::Result<()> {
        let base = source.entry.base;
        let output = match &mut self.output {
            Some(output) => output,
            none => {
                let chunk = rewrite::successor(base, source.head.as_ref());
                let rewrite = Rewrite::new(storage.create_aside(base)?, chunk);
                none.insert(Output {
                    rewrite: Some(rewrite),
                    written: None,
                    sources: Vec::new(),
                    end: source.end,
                    bytes_before: 0,
                    held: Vec::new(),
                    damaged: Vec::new(),
                    changed: !source.is_clean(),
                })
            }
        };
        if output.sources.last().map(|last| last.base) != Some(base) {
            output.changed |= !output.sources.is_empty();
            output.sources.push(source.entry);
            output.end = source.end;
        }
        Ok(())
    }

    fn lose(&mut self, (first, end, why): (u64, u64, Why), source: &Source) -> io::Result<()> {
        self.rewrite().lost(first, end, why)?;
        let output = self.output.as_mut().expect("a loss was just put into it");
        output.changed = true;
        // Where nothing is stored there is nothing to keep.
        if why != Why::Missing && !output.damaged.contains(&source.entry.base) {
            output.damaged.push(source.entry.base);
        }
        if first < end {
            let segment = output.base();
            self.stats.lost.push(Lost { segment, first, end, why });
        }
        Ok(())
    }

    fn end_source(&mut self, source: &Source, file: Option<F>) -> io::Result<()> {
        self.at += 1;
        if let Some(output) = &mut self.output {
            let bytes = output.rewrite.as_ref().map_or(0, Rewrite::bytes);
            if !source.is_clean() {
                self.shrinks.note(source.entry.bytes, bytes - output.bytes_before);
            }
            output.bytes_before = bytes;
            output.end = source.end;
            output.held.extend(file);
        }
        Ok(())
    }

    /// Finishes the output and gives it out.
    fn give_out<S: Storage<File = F>>(&mut self, storage: &S) -> Result<CompactStep, CompactError> {
        let mut output = self.output.take().expect("callers have an output");
        let base = output.base();
        let failed = CompactError::io("write", Some(base));
        if !output.changed {
            storage.remove_aside(base).map_err(&failed)?;
            return Ok(CompactStep::Working);
        }
        let modified = output.sources.iter().map(|source| source.modified_ms).max();
        let modified_ms = modified.filter(|time| *time >= CLOCK_SET_MS).unwrap_or(self.now_ms);
        let extent = Extent { end: output.end, clean: true };
        let rewrite = output.rewrite.take().expect("an output is finished once");
        let written = rewrite.finish(extent, modified_ms).map_err(&failed)?;
        if let Some(second) = output.sources.get(1) {
            // Where the log is opened while some of these are still there, it finds this.
            storage.create_aside(second.base).map_err(&failed)?;
        }
        for damaged in &output.damaged {
            let name = storage
                .keep_copy(*damaged)
                .map_err(CompactError::io("keep aside", Some(*damaged)))?;
            self.stats.set_aside.push(SetAside { segment: *damaged, name });
        }
        storage.sync_dir().map_err(CompactError::io("sync", None))?;
        let segment = SegmentEntry { base, bytes: written.bytes, modified_ms };
        let sources = output.sources.iter().map(|source| source.base).collect();
        output.written = Some(written);
        self.output = Some(output);
        self.phase = Phase::Swap;
        Ok(CompactStep::Swap(Compacted { segment, sources }))
    }

    /// Clears up behind a swap. `false`: it was refused.
    fn after_swap<S: Storage<File = F>>(&mut self, storage: &S) -> Result<bool, CompactError> {
        let output = self.output.take().expect("an output was given out");
        let (base, failed) = (output.base(), CompactError::io("clear up", Some(output.base())));
        let refused = storage.asides().map_err(&failed)?.contains(&base);
        if !refused {
            // The older is durable before the newer is written: a delete that is gone must not
            // leave what it deleted.
            storage.sync_dir().map_err(&failed)?;
        }
        settle(storage).map_err(&failed)?;
        if refused {
            return Ok(false);
        }
        let written = output.written.expect("it was written before it was given out");
        if let Some(summary) = written.summary {
            // Readers do without one that cannot be written.
            let _ = storage.write_summary(base, &summary.encode());
        }
        self.stats.segments_in += output.sources.len() as u64;
        self.stats.segments_out += 1;
        self.stats.bytes_in += output.sources.iter().map(|source| source.bytes).sum::<u64>();
        self.stats.bytes_out += written.bytes;
        self.phase = Phase::Write;
        Ok(true)
    }
}
