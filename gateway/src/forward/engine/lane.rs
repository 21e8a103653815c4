//! One route inside its forwarder: where it reads, what is staged, what is confirmed.

use headwater_shared::envelope::GapCause;

use crate::forward::engine::batch::Batch;
use crate::forward::format::Encoder;
use crate::forward::local::{Local, Source};
use crate::forward::policy::position::Position;
use crate::forward::policy::resume::{Halted, Mark, RouteStart, resume};
use crate::forward::upstream::Fault;
use crate::journal::{ReadError, Record};

/// Bytes of records that are taken from the journal at a time.
const READ_BYTES: usize = 64 << 10;
/// Reads at a time; then the others have their turn.
const READS_MAX: u32 = 8;

/// A route.
pub(in crate::forward) struct Lane<S> {
    /// Its name in the catalog and at the journal's retention.
    pub(in crate::forward) name: String,
    /// Numbers of the stream's partitions in the journal with their index, ascending.
    partitions: Vec<(u16, u16)>,
    /// The numbers alone.
    numbers: Vec<u16>,
    encoder: Encoder,
    /// `None` until the upstream has said where to go on.
    reading: Option<Reading<S>>,
    /// Why it must not go on; for good.
    pub(in crate::forward) halted: Option<String>,
    mark: Option<Mark>,
    saved: Option<Mark>,
    /// Retention may not take what is at or above this.
    kept: u64,
    /// The upstream's word counts alone; see [`RouteStart::is_truth`].
    is_truth: bool,
}

struct Reading<S> {
    source: S,
    unread: std::vec::IntoIter<Record>,
    /// All below has been looked at.
    scanned: u64,
    /// Something below `scanned` is staged and not sent.
    is_staged: bool,
    /// All below is sent, or not the route's; `None`: nothing was sent that is not confirmed.
    sent: Option<u64>,
}

impl<S> Reading<S> {
    /// All below `scanned` is confirmed or not the route's.
    fn is_settled(&self) -> bool {
        !self.is_staged && self.sent.is_none()
    }
}

impl<S: Source> Lane<S> {
    /// The route `name` of a stream whose partitions have these numbers in the journal.
    pub(in crate::forward) fn new(
        name: String,
        numbers: &[u16],
        encoder: Encoder,
        mark: Option<Mark>,
        local: &impl Local<Source = S>,
    ) -> Self {
        let mut partitions: Vec<_> = numbers.iter().copied().zip(0..).collect();
        partitions.sort_unstable();
        let kept = mark.map_or(0, |mark| mark.scanned);
        local.keep(&name, numbers, kept);
        let mut lane = Self {
            name,
            partitions,
            numbers: numbers.to_vec(),
            encoder,
            reading: None,
            halted: None,
            mark,
            saved: mark,
            kept,
            is_truth: true,
        };
        // Before the first new record can hide that the journal ends early.
        let end = local.end();
        if let Some(mark) = mark
            && let Err(why) = resume(&RouteStart::default(), Some(mark), 0, end)
        {
            lane.halt(&why, end);
        }
        lane
    }

    /// Takes the upstream's word and stands where the route goes on.
    pub(in crate::forward) fn start(&mut self, start: &RouteStart, local: &impl Local<Source = S>) {
        self.stop();
        if self.halted.is_some() {
            return;
        }
        let offsets = local.start(&self.numbers)..local.end();
        self.is_truth = start.is_truth;
        match resume(start, self.mark, offsets.start, offsets.end) {
            Ok(from) => {
                self.reading = Some(Reading {
                    source: local.source(&self.numbers, from),
                    unread: Vec::new().into_iter(),
                    scanned: from,
                    is_staged: false,
                    sent: None,
                });
                let committed = start.next.unwrap_or(0);
                self.mark = Some(Mark { committed, scanned: from, lost: None });
                self.hold(local);
            }
            Err(why) => self.halt(&why, offsets.end),
        }
    }

    fn halt(&mut self, why: &Halted, end: u64) {
        if let Halted::LogLost { reach, .. } = why {
            let mark = self.mark.unwrap_or(Mark { committed: 0, scanned: end, lost: None });
            self.mark = Some(Mark { lost: Some(*reach), ..mark });
        }
        self.halted = Some(why.to_string());
    }

    /// Drops what is staged and not confirmed.
    pub(in crate::forward) fn stop(&mut self) {
        self.reading = None;
    }

    /// Reads on into `batch` until that is full, or all was read, or it is another's turn.
    ///
    /// # Errors
    /// [`Fault`] if the journal does not answer.
    pub(in crate::forward) fn fill(&mut self, now_ms: i64, batch: &mut Batch) -> Result<(), Fault> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        let mut reads = 0;
        while !batch.is_full() {
            if let Some(record) = reading.unread.next() {
                let before = batch.len();
                let found = self.partitions.binary_search_by_key(&record.partition, |p| p.0);
                if let Ok(index) = found {
                    self.encoder.encode(&record, self.partitions[index].1, batch);
                }
                reading.scanned = record.offset + 1;
                reading.is_staged |= batch.len() > before;
                continue;
            }
            reads += 1;
            if reads > READS_MAX {
                break;
            }
            match reading.source.read(READ_BYTES) {
                Ok(records) if records.is_empty() => break,
                Ok(records) => reading.unread = records.into_iter(),
                Err(ReadError::Trimmed { first, end }) => {
                    self.encoder.gap(GapCause::Retention, (first, end), now_ms, batch);
                    (reading.scanned, reading.is_staged) = (end, true);
                }
                Err(ReadError::Damaged { first, end, .. }) => {
                    self.encoder.gap(GapCause::Damage, (first, end), now_ms, batch);
                    (reading.scanned, reading.is_staged) = (end, true);
                }
                Err(problem @ ReadError::Io(_)) => return Err(Fault::retry(problem.to_string())),
            }
        }
        Ok(())
    }

    /// All below has been looked at; `None` where the route does not run.
    pub(in crate::forward) fn scanned(&self) -> Option<u64> {
        self.reading.as_ref().map(|reading| reading.scanned)
    }

    /// What was staged has been sent.
    pub(in crate::forward) fn sent(&mut self) {
        if let Some(reading) = self.reading.as_mut().filter(|reading| reading.is_staged) {
            reading.is_staged = false;
            reading.sent = Some(reading.scanned);
        }
    }

    /// The position to commit, if something was sent.
    pub(in crate::forward) fn unsettled(&self) -> Option<Position> {
        self.reading.as_ref()?.sent.map(Position::up_to)
    }

    /// What was sent is confirmed.
    pub(in crate::forward) fn settle(&mut self, local: &impl Local<Source = S>) {
        if let Some(committed) = self.reading.as_mut().and_then(|reading| reading.sent.take()) {
            self.mark = Some(Mark { committed, scanned: committed, lost: None });
            self.hold(local);
        }
    }

    /// The mark if it has changed since it was saved last.
    pub(in crate::forward) fn changed_mark(&mut self) -> Option<Mark> {
        if let (Some(reading), Some(mark)) = (&self.reading, &mut self.mark)
            && reading.is_settled()
        {
            mark.scanned = reading.scanned;
        }
        self.mark.filter(|mark| self.saved != Some(*mark))
    }

    /// `mark` is in the catalog.
    pub(in crate::forward) fn marked(&mut self, mark: Mark, local: &impl Local<Source = S>) {
        self.saved = Some(mark);
        self.hold(local);
    }

    /// Retention may take what nobody will ask for again: what the upstream has, where its word
    /// counts alone, and what the saved mark passes.
    fn hold(&mut self, local: &impl Local<Source = S>) {
        let confirmed = self.mark.filter(|_| self.is_truth).map_or(0, |mark| mark.committed);
        let position = confirmed.max(self.saved.map_or(0, |mark| mark.scanned));
        if position != self.kept {
            self.kept = position;
            local.keep(&self.name, &self.numbers, position);
        }
    }

    /// The first offset that may still have to be sent.
    pub(in crate::forward) fn position(&self) -> u64 {
        match (&self.reading, self.mark) {
            (Some(reading), _) if reading.is_settled() => reading.scanned,
            (_, Some(mark)) => mark.committed,
            _ => 0,
        }
    }
}
