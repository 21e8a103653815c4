//! One route inside its forwarder: where it reads, what is staged, what is confirmed.

mod letters;
mod misfits;

use self::misfits::Misfits;
use crate::forward::engine::Lay;
use crate::forward::engine::batch::Batch;
use crate::forward::engine::reading::{Found, Reading};
use crate::forward::format::Encoder;
use crate::forward::local::{Local, Source};
use crate::forward::policy::position::Position;
use crate::forward::policy::resume::{Halted, Mark, Resumed, RouteStart, resume};
use crate::forward::policy::stored::Witness;
use crate::forward::upstream::{Fault, Progress};
use crate::journal::{ReadError, Record};

/// A route.
pub(in crate::forward) struct Lane<S> {
    /// Its name in the catalog and at the journal's retention.
    pub(in crate::forward) name: String,
    /// The partition of its dead letters in the journal.
    dead: Option<u16>,
    /// It sends in quiet hours and beyond a budget.
    urgent: bool,
    /// It was told to wait.
    pub(in crate::forward) paused: bool,
    /// Numbers of the stream's partitions in the journal with their index, ascending.
    partitions: Vec<(u16, u16)>,
    /// The numbers alone.
    numbers: Vec<u16>,
    encoder: Encoder,
    /// When it runs ahead of its backlog, if it may.
    ahead: Option<Ahead>,
    /// Fills the lowest hole, nearly always the one at the end of the journal; `None` until the
    /// upstream has said where to go on.
    reading: Option<Reading<S>>,
    /// Reads on at the end of the journal while there is a backlog below.
    live: Option<Reading<S>>,
    /// Confirmed, not the route's, staged or sent: what has been looked at.
    covered: Position,
    /// What the upstream has.
    confirmed: Position,
    /// In the batch.
    staged: Claim,
    /// In the transaction.
    sent: Claim,
    /// Records that do not fit the format.
    misfits: Misfits,
    /// The highest record of `confirmed`.
    witness: Option<Witness>,
    /// The upstream has no offsets at or above this from here.
    bound: u64,
    /// Why it must not go on; for good.
    pub(in crate::forward) halted: Option<String>,
    /// Why it cannot go on until a human has cured that; the upstream's other routes do.
    pub(in crate::forward) barred: Option<String>,
    mark: Mark,
    saved: Option<Mark>,
    /// Retention may not take what is at or above this.
    kept: u64,
    /// The upstream's word counts alone; see [`RouteStart::is_truth`].
    is_truth: bool,
}

/// When a route that sends live data first leaves a backlog behind, in records of the journal.
#[derive(Clone, Copy, Debug)]
pub(in crate::forward) struct Ahead {
    /// When the upstream is opened.
    pub(in crate::forward) at_open: u64,
    /// While it is open: more, so that a short stall does not take the order apart.
    pub(in crate::forward) at_run: u64,
    /// Ranges of a position at most; then it reads on where it is.
    pub(in crate::forward) ranges_max: usize,
}

impl Ahead {
    /// As routes have it.
    pub(in crate::forward) const DEFAULT: Self =
        Self { at_open: 1_000, at_run: 10_000, ranges_max: 64 };
}

/// Which of its readings a route is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Part {
    /// The newest: live data where it runs ahead, else all that it has.
    Front,
    /// The backlog behind live data.
    Back,
}

/// Offsets on their way, each run of them up to the last record of the route in it.
#[derive(Default)]
struct Claim {
    offsets: Position,
    /// One above the highest, and the record there if it is one.
    top: Option<(u64, Option<Record>)>,
}

impl Claim {
    fn add(&mut self, first: u64, end: u64, record: Option<Record>) {
        self.offsets.insert(first, end);
        self.raise(end, record);
    }

    fn raise(&mut self, end: u64, record: Option<Record>) {
        if self.top.as_ref().is_none_or(|top| top.0 < end) {
            self.top = Some((end, record));
        }
    }

    fn absorb(&mut self, other: &mut Self) {
        let other = std::mem::take(other);
        self.offsets.merge(&other.offsets);
        if let Some((end, record)) = other.top {
            self.raise(end, record);
        }
    }

    fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }
}

impl<S: Source> Lane<S> {
    /// A route with what was saved of it.
    ///
    /// # Errors
    /// [`ReadError`] if it cannot be found out where a new route begins.
    pub(in crate::forward) fn new(
        lay: Lay,
        saved: Option<Mark>,
        local: &impl Local<Source = S>,
    ) -> Result<Self, ReadError> {
        let Lay { name, numbers, encoder, ahead, from, urgent, dead, priority: _ } = lay;
        let mut partitions: Vec<_> = numbers.iter().copied().zip(0..).collect();
        partitions.sort_unstable();
        let kept = saved.as_ref().map_or(0, |mark| mark.scanned.next());
        local.keep(&name, &numbers, kept);
        // Where a new route begins is no gap below.
        let mark = match &saved {
            Some(mark) => mark.clone(),
            None => Mark::new(local.begin(&numbers, from)?),
        };
        // Before the first new record can hide that the journal ends early.
        let opened = local.opened();
        let bound = mark.bound.map_or(opened, |bound| bound.min(opened));
        let mut lane = Self {
            name,
            dead,
            urgent,
            paused: false,
            partitions,
            numbers,
            encoder,
            ahead,
            reading: None,
            live: None,
            covered: Position::default(),
            confirmed: Position::default(),
            staged: Claim::default(),
            sent: Claim::default(),
            misfits: Misfits::default(),
            witness: None,
            bound,
            halted: None,
            barred: None,
            mark: Mark { bound: Some(bound), ..mark },
            saved,
            kept,
            is_truth: true,
        };
        if let Err(why) = resume(&RouteStart::default(), &lane.mark, bound, opened) {
            lane.halt(why);
        }
        Ok(lane)
    }

    /// True where it may send, in spite of `held` that holds those that are not urgent.
    pub(in crate::forward) fn may_send(&self, held: bool) -> bool {
        !self.paused && (self.urgent || !held)
    }

    /// True where something of it is staged and not sent.
    pub(in crate::forward) fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// What is staged is dropped and will be read again. Between two transactions.
    pub(in crate::forward) fn unstage(&mut self, local: &impl Local<Source = S>) {
        if self.reading.is_none() {
            return;
        }
        self.staged = Claim::default();
        self.misfits = Misfits::default();
        self.covered.clone_from(&self.confirmed);
        self.covered.merge(&self.mark.scanned);
        self.stand(local);
    }

    /// Takes the upstream's word and stands where the route goes on.
    ///
    /// # Errors
    /// [`Fault`] if the journal cannot be read.
    pub(in crate::forward) fn start(
        &mut self,
        start: &RouteStart,
        local: &impl Local<Source = S>,
    ) -> Result<(), Fault> {
        self.stop();
        self.barred = None;
        if self.halted.is_some() {
            return Ok(());
        }
        self.is_truth = start.is_truth;
        let resumed = resume(start, &self.mark, self.bound, local.end());
        let resumed = match resumed {
            Ok(resumed) => self.compare(start, local)?.map_or(Ok(resumed), Err),
            Err(why) => Err(why),
        };
        match resumed {
            Ok(Resumed { confirmed, covered }) => {
                self.witness.clone_from(&start.witness);
                self.bound = start.reach.max(confirmed.end());
                self.mark.dead.retain(|dead| !confirmed.contains(dead.offset));
                self.mark = Mark {
                    dead: std::mem::take(&mut self.mark.dead),
                    committed: start.position.clone().unwrap_or_default(),
                    scanned: covered.clone(),
                    lost: None,
                    bound: None,
                };
                (self.confirmed, self.covered) = (confirmed, covered);
                self.stand(local);
                self.hold(local);
            }
            Err(why) => self.halt(why),
        }
        Ok(())
    }

    /// Stands at the lowest hole, and ahead of it where live data goes first.
    fn stand(&mut self, local: &impl Local<Source = S>) {
        let hole = self.covered.hole(0);
        if let (Some(ahead), (_, limit)) = (self.ahead, hole) {
            let end = self.covered.end();
            self.live = limit.map(|_| self.read((end, None), local));
            self.reading = Some(self.read(hole, local));
            self.run_ahead(ahead.at_open, local);
        } else {
            self.reading = Some(self.read(hole, local));
        }
    }

    fn read(&self, hole: (u64, Option<u64>), local: &impl Local<Source = S>) -> Reading<S> {
        Reading::new(local.source(&self.numbers, hole.0), hole)
    }

    /// Where the newest reading is further than `behind` from the end of the journal, another one
    /// begins there, and what is between is a hole like others.
    fn run_ahead(&mut self, behind: u64, local: &impl Local<Source = S>) {
        let (Some(ahead), Some(reading)) = (self.ahead, &mut self.reading) else { return };
        let end = local.end();
        let newest = self.live.as_ref().unwrap_or(reading).scanned;
        let ranges = self.covered.ranges().len().max(self.confirmed.ranges().len());
        if end.saturating_sub(newest) <= behind || ranges >= ahead.ranges_max {
            return;
        }
        if self.live.is_none() {
            reading.end_at(end);
        }
        self.live = Some(self.read((end, None), local));
    }

    /// The hole at or above `offset` that is to be filled; `None` where that is the live reading's.
    fn next_hole(&self, offset: u64) -> Option<(u64, Option<u64>)> {
        let (first, limit) = self.covered.hole(offset);
        match self.live.as_ref().map(|live| live.first) {
            Some(live) if first >= live => None,
            Some(live) => Some((first, Some(limit.map_or(live, |limit| limit.min(live))))),
            None => Some((first, limit)),
        }
    }

    /// The record that the upstream has last must be the journal's. What the journal does not have
    /// any more cannot be compared.
    fn compare(
        &self,
        start: &RouteStart,
        local: &impl Local<Source = S>,
    ) -> Result<Option<Halted>, Fault> {
        let Some(witness) = &start.witness else { return Ok(None) };
        let offset = witness.offset;
        let record = local.record_at(&self.numbers, offset)?;
        if record.is_none() {
            tracing::info!(
                route = self.name,
                offset,
                "the journal has no record there any more to compare with the upstream's"
            );
        }
        let differs = record.is_some_and(|record| Witness::of(&record) != *witness);
        Ok(differs.then_some(Halted::Foreign { offset }))
    }

    /// The upstream does not take it now, and says so of no other route.
    pub(in crate::forward) fn bar(&mut self, why: String) {
        self.stop();
        self.barred = Some(why);
    }

    /// Why it is stopped, for good or until somebody has cured it.
    pub(in crate::forward) fn stopped(&self) -> Option<&str> {
        self.halted.as_deref().or(self.barred.as_deref())
    }

    fn halt(&mut self, why: Halted) {
        if let Some(lost) = why.lost() {
            self.mark.lost = Some(lost);
        }
        self.halted = Some(why.to_string());
    }

    /// Drops what is staged and not confirmed.
    pub(in crate::forward) fn stop(&mut self) {
        (self.reading, self.live) = (None, None);
        (self.staged, self.sent) = (Claim::default(), Claim::default());
        self.misfits = Misfits::default();
    }

    /// Reads on into `batch` until that is full, or all was read, or it is another's turn.
    pub(in crate::forward) fn fill(
        &mut self,
        part: Part,
        now_ms: i64,
        batch: &mut Batch,
        local: &impl Local<Source = S>,
    ) -> Result<(), Fault> {
        if self.encoder.waits().is_some() {
            return Ok(());
        }
        if let (Some(ahead), Part::Front) = (self.ahead, part) {
            self.run_ahead(ahead.at_run, local);
        }
        let is_live = part == Part::Front && self.live.is_some();
        if part == Part::Back && self.live.is_none() {
            return Ok(());
        }
        let slot = if is_live { &mut self.live } else { &mut self.reading };
        let Some(mut reading) = slot.take() else { return Ok(()) };
        let mut reads = 0;
        while !batch.is_full() && !self.misfits.are_many() {
            match reading.next(&mut reads)? {
                Some(Found::Record(record)) => self.stage(&mut reading, record, now_ms, batch),
                Some(Found::Gap(cause, (first, end))) => {
                    self.encoder.gap(cause, (first, end), now_ms, batch);
                    self.staged.add(reading.stage(end), end, None);
                }
                Some(Found::Over) => {
                    self.covered.insert(reading.first, reading.scanned);
                    match self.next_hole(reading.scanned) {
                        Some(hole) => reading = self.read(hole, local),
                        None => {
                            self.reading = self.live.take();
                            return Ok(());
                        }
                    }
                }
                None => break,
            }
        }
        self.covered.insert(reading.first, reading.scanned);
        *(if is_live { &mut self.live } else { &mut self.reading }) = Some(reading);
        Ok(())
    }

    fn stage(&mut self, reading: &mut Reading<S>, record: Record, now_ms: i64, batch: &mut Batch) {
        let before = batch.len();
        let found = self.partitions.binary_search_by_key(&record.partition, |p| p.0);
        if let Ok(index) = found {
            let partition = self.partitions[index].1;
            match self.mark.dead.iter().find(|dead| dead.offset == record.offset) {
                Some(dead) => self.encoder.dead(&record, partition, dead, now_ms, batch),
                None => {
                    if let Err(why) = self.encoder.encode(&record, partition, batch) {
                        let dead = self.misfits.add(&record, why);
                        self.encoder.dead(&record, partition, dead, now_ms, batch);
                    }
                }
            }
        }
        if batch.len() > before {
            let end = record.offset + 1;
            self.staged.add(reading.stage(end), end, Some(record));
        }
    }

    /// All below has been looked at; `None` where the route does not run.
    pub(in crate::forward) fn scanned(&self) -> Option<u64> {
        let reading = self.reading.as_ref().filter(|_| self.encoder.waits().is_none());
        reading.map(|reading| reading.scanned)
    }

    /// What its format waits for.
    pub(in crate::forward) fn waits(&self) -> Option<String> {
        self.encoder.waits()
    }

    /// What was staged has been sent.
    pub(in crate::forward) fn sent(&mut self) {
        self.bound = self.bound.max(self.staged.offsets.end());
        self.sent.absorb(&mut self.staged);
        [&mut self.reading, &mut self.live].into_iter().flatten().for_each(Reading::sent);
    }

    /// What to commit for the route number `route`, if something was sent. A position reaches to
    /// the last record of the route and not beyond, though more has been looked at: what comes
    /// after it is not claimed unseen from a copy of this journal.
    pub(in crate::forward) fn progress(&self, route: usize) -> Option<Progress> {
        let (end, record) = self.sent.top.as_ref()?;
        let mut position = self.confirmed.clone();
        for &(first, end) in self.sent.offsets.ranges() {
            // What is below and not the route's is claimed too, down to what is staged only.
            let covered = self.covered.range_of(first).map_or(first, |range| range.0);
            let staged = self.staged.offsets.end_below(first);
            position.insert(covered.max(staged), end);
        }
        let witness = if *end > self.confirmed.end() {
            record.as_ref().map(Witness::of)
        } else {
            self.witness.clone()
        };
        Some(Progress { route, position, witness })
    }

    /// `progress` is confirmed.
    pub(in crate::forward) fn settle(
        &mut self,
        progress: Progress,
        local: &impl Local<Source = S>,
    ) {
        self.sent = Claim::default();
        self.misfits.settled();
        self.mark.committed.clone_from(&progress.position);
        self.mark.scanned.merge(&progress.position);
        self.mark.dead.retain(|dead| !progress.position.contains(dead.offset));
        (self.confirmed, self.witness) = (progress.position, progress.witness);
        self.hold(local);
    }

    /// All that has been looked at is confirmed or not the route's.
    fn is_settled(&self) -> bool {
        self.reading.is_some() && self.staged.is_empty() && self.sent.is_empty()
    }

    /// The mark if it has changed since it was saved last.
    pub(in crate::forward) fn changed_mark(&mut self) -> Option<Mark> {
        if self.is_settled() {
            self.mark.scanned.clone_from(&self.covered);
        }
        (self.saved.as_ref() != Some(&self.mark)).then(|| self.mark.clone())
    }

    /// `mark` is in the catalog.
    pub(in crate::forward) fn marked(&mut self, mark: Mark, local: &impl Local<Source = S>) {
        self.saved = Some(mark);
        self.hold(local);
    }

    /// Retention may take what nobody will ask for again: what the upstream has, where its word
    /// counts alone, and what the saved mark passes.
    fn hold(&mut self, local: &impl Local<Source = S>) {
        let confirmed = if self.is_truth { self.mark.committed.next() } else { 0 };
        let position = confirmed.max(self.saved.as_ref().map_or(0, |mark| mark.scanned.next()));
        if position != self.kept {
            self.kept = position;
            local.keep(&self.name, &self.numbers, position);
        }
    }

    /// What the upstream has or does not have to get.
    pub(in crate::forward) fn position(&self) -> &Position {
        match self.reading {
            Some(_) if self.is_settled() => &self.covered,
            Some(_) => &self.confirmed,
            None => &self.mark.committed,
        }
    }
}
