//! Drives the policy over an upstream and the journal. No clock and no thread of its own, so the
//! tests run the same engine in simulated time.

mod barred;
pub(in crate::forward) mod batch;
pub(in crate::forward) mod lane;
mod reading;
mod refused;

use self::lane::{Ahead, Lane, Part};
use crate::catalog::CatalogError;
use crate::config::{LinkConfig, RouteFrom};
use crate::forward::engine::batch::{Batch, OutRecord};
use crate::forward::format::Encoder;
use crate::forward::local::Local;
use crate::forward::policy::allowance::{Allowance, Hold, Spent};
use crate::forward::policy::core::{Action, Core, Outcome, Policy, Waiting};
use crate::forward::policy::dead::{Probe, Refusal};
use crate::forward::policy::resume::Mark;
use crate::forward::status::{RouteState, Scores, Sent};
use crate::forward::upstream::{Fault, Progress, SendError, Upstream};
use crate::journal::ReadError;

/// Marks are saved this often while they change.
const MARK_EVERY_MS: u64 = 10_000;
/// So often while publishers wait for a reader to move on.
const MARK_BLOCKED_EVERY_MS: u64 = 1_000;

/// One stage in so many is filled from the last route on, so that the first ones never take all.
const LAST_FIRST: u32 = 8;

/// What a record costs on the wire besides key and value: its headers, nearly all of it.
const RECORD_OVERHEAD: u64 = 90;
/// What a position costs.
const POSITION_BYTES: u64 = 250;

/// What the status of a paused route says.
const PAUSED: &str = "paused: resume it on the page, or by POST /api/v1/routes/ID/resume";
/// Between two looks at a route whose format waits for something.
const LOOK_FORMAT_MS: u64 = 500;

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Now {
    /// A clock that only goes forward, ms.
    pub(in crate::forward) ms: u64,
    /// The wall clock, ms since 1970.
    pub(in crate::forward) unix_ms: i64,
}

/// What comes after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Step {
    /// Another turn at once.
    Again,
    /// Another turn at `until_ms`, or when the journal has offsets beyond `beyond`.
    Wait { until_ms: u64, beyond: Option<u64> },
    /// The end.
    Halt,
}

/// A route as the engine takes it.
pub(in crate::forward) struct Lay {
    pub(in crate::forward) name: String,
    /// Numbers of the stream's partitions in the journal, in order.
    pub(in crate::forward) numbers: Vec<u16>,
    pub(in crate::forward) encoder: Encoder,
    pub(in crate::forward) priority: u8,
    /// Live data goes first; `None`: in the order of the log.
    pub(in crate::forward) ahead: Option<Ahead>,
    /// Where it begins if it has sent nothing yet.
    pub(in crate::forward) from: RouteFrom,
    /// It sends in quiet hours and beyond a budget.
    pub(in crate::forward) urgent: bool,
    /// The partition of its dead letters in the journal.
    pub(in crate::forward) dead: Option<u16>,
}

/// What an engine goes by.
pub(in crate::forward) struct Rules {
    pub(in crate::forward) policy: Policy,
    /// What the link may carry.
    pub(in crate::forward) link: LinkConfig,
    /// Varies the jitter between gateways.
    pub(in crate::forward) seed: u64,
}

/// An engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Marks cannot be read or saved.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Where a new route begins cannot be found.
    #[error(transparent)]
    Journal(#[from] ReadError),
}

/// All routes of an upstream.
pub(in crate::forward) struct Engine<U, L: Local> {
    core: Core,
    upstream: U,
    local: L,
    lanes: Vec<Lane<L::Source>>,
    /// Lanes by falling priority; the one at the front of its priority moves on each turn.
    order: Vec<(u8, usize)>,
    batch: Batch,
    /// How urgent the most urgent of what is staged is: twice its priority, one more if it is live.
    staged_class: u16,
    /// The same of the least urgent stage that was sent in the transaction.
    sent_class: Option<u16>,
    fills: u32,
    stage_records: usize,
    probe: Probe,
    /// Found by it, and not buried yet.
    condemned: Vec<Refusal>,
    allowance: Allowance,
    /// Why routes that are not urgent wait.
    held: Option<Hold>,
    saved_spent: Spent,
    /// Bytes that were charged as estimated since the upstream last said what went.
    estimated: u64,
    wire_bytes: u64,
    scores: Scores,
    begun_ms: u64,
    marked_ms: u64,
}

impl<U: Upstream, L: Local> Engine<U, L> {
    /// `scores` has a row a route, in the order of `lays`.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub(in crate::forward) fn new(
        rules: Rules,
        upstream: U,
        local: L,
        lays: Vec<Lay>,
        scores: Scores,
    ) -> Result<Self, ForwardError> {
        let Rules { policy, link, seed } = rules;
        let mut lanes = Vec::new();
        let mut order = Vec::new();
        for (route, lay) in lays.into_iter().enumerate() {
            let mark = local.mark(&lay.name)?;
            order.push((lay.priority, route));
            lanes.push(Lane::new(lay, mark, &local)?);
        }
        order.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        let core = Core::new(policy, seed);
        let spent = local.spent()?;
        let stage_records = policy.stage_records;
        let batch = Batch::new(stage_records);
        let mut engine = Self {
            core,
            upstream,
            local,
            lanes,
            order,
            batch,
            staged_class: 0,
            sent_class: None,
            fills: 0,
            stage_records,
            probe: Probe::default(),
            condemned: Vec::new(),
            allowance: Allowance::new(link, spent),
            held: None,
            saved_spent: spent,
            estimated: 0,
            wire_bytes: 0,
            scores,
            begun_ms: 0,
            marked_ms: 0,
        };
        // How far the journal was when this start began has to be known when the next one begins.
        engine.save_marks()?;
        engine.show(None);
        Ok(engine)
    }

    /// The gateway is shutting down: settle, then halt.
    pub(in crate::forward) fn drain(&mut self, now: Now) {
        self.core.drain(now.ms);
    }

    /// Which routes are to wait, by their number.
    pub(in crate::forward) fn pause(&mut self, paused: &[bool]) {
        if self.lanes.iter().zip(paused).all(|(lane, paused)| lane.paused == *paused) {
            return;
        }
        for (lane, paused) in self.lanes.iter_mut().zip(paused) {
            lane.paused = *paused;
        }
        self.show(None);
    }

    /// Finds out who may send how much. What is staged of those that may not any more goes back.
    fn admit(&mut self, now: Now) {
        self.allowance.at(now.ms, now.unix_ms);
        self.held = self.allowance.hold(now.unix_ms);
        self.batch.allow(self.allowance.room());
        let records = self.probe.size().unwrap_or(usize::MAX);
        self.batch.at_most(records.min(self.stage_records));
        let held = self.held.is_some();
        let bars = |lane: &Lane<L::Source>| !lane.may_send(held) && lane.has_staged();
        if self.core.is_idle() && self.lanes.iter().any(bars) {
            self.clear();
            self.lanes.iter_mut().for_each(|lane| lane.unstage(&self.local));
        }
    }

    /// Routes that may send.
    fn open_lanes(&self) -> impl Iterator<Item = &Lane<L::Source>> {
        let held = self.held.is_some();
        self.lanes.iter().filter(move |lane| lane.may_send(held))
    }

    /// Does the next thing.
    pub(in crate::forward) fn turn(&mut self, clock: &dyn Fn() -> Now) -> Step {
        let now = clock();
        self.admit(now);
        if let Err(fault) = self.fill(now) {
            self.fail(clock, &fault);
            return Step::Again;
        }
        if now.ms.saturating_sub(self.marked_ms) >= self.mark_every_ms() {
            self.marked_ms = now.ms;
            self.try_save_marks();
        }
        let waiting = self.waiting();
        let done = match self.core.next(now.ms, &waiting) {
            Action::Open => self.open(),
            Action::Look => Ok(self.look()),
            Action::Begin => self.begin(now),
            Action::Send => self.send(),
            Action::Commit => self.commit(clock),
            Action::Wait { until_ms, for_data } => {
                return match self.rest() {
                    Ok(()) => self.wait(now, until_ms, for_data),
                    Err(fault) => {
                        self.fail(clock, &fault);
                        Step::Again
                    }
                };
            }
            Action::Halt => {
                self.halt();
                return Step::Halt;
            }
        };
        match done {
            Ok(outcome) => self.core.on(clock().ms, &outcome),
            Err(fault) => self.fail(clock, &fault),
        }
        Step::Again
    }

    fn fill(&mut self, now: Now) -> Result<(), Fault> {
        if !self.core.is_open() {
            return Ok(());
        }
        self.fills = self.fills.wrapping_add(1);
        let mut turns: Vec<(u8, Part, usize)> = Vec::with_capacity(2 * self.order.len());
        for equals in self.order.chunk_by_mut(|a, b| a.0 == b.0) {
            for part in [Part::Front, Part::Back] {
                turns.extend(equals.iter().map(|(priority, lane)| (*priority, part, *lane)));
            }
            // Equals take turns, so that one with a backlog does not starve the others.
            equals.rotate_left(1);
        }
        if self.fills.is_multiple_of(LAST_FIRST) {
            turns.reverse();
        }
        let held = self.held.is_some();
        for (priority, part, turn) in turns {
            let before = self.batch.len();
            let lane = &mut self.lanes[turn];
            if !lane.may_send(held) {
                continue;
            }
            lane.fill(part, now.unix_ms, &mut self.batch, &self.local)?;
            for dead in lane.bury_misfits(&self.local)? {
                self.scores.refused(turn, dead.offset, &dead.reason);
            }
            if self.batch.len() > before {
                // Live data before a backlog of the same priority.
                let class = 2 * u16::from(priority) + u16::from(part == Part::Front);
                self.staged_class = self.staged_class.max(class);
            }
        }
        Ok(())
    }

    fn waiting(&self) -> Waiting {
        let end = self.local.end();
        let scanned = self.open_lanes().filter_map(Lane::scanned).min().unwrap_or(end);
        Waiting {
            staged: u32::try_from(self.batch.len()).unwrap_or(u32::MAX),
            full: self.batch.is_packed(),
            unread: end.saturating_sub(scanned),
            probing: self.probe.size().is_some(),
        }
    }

    fn rest(&mut self) -> Result<(), Fault> {
        if self.core.is_open() { self.upstream.rest() } else { Ok(()) }
    }

    fn wait(&mut self, now: Now, until_ms: u64, for_data: bool) -> Step {
        self.show(None);
        // Every route waits for the offset that it has not looked at; one that does not run waits
        // for nothing.
        let beyond = self.open_lanes().filter_map(Lane::scanned).min().filter(|_| for_data);
        let is_waited_for = self.lanes.iter().any(|lane| lane.waits().is_some());
        let look_ms = if is_waited_for { LOOK_FORMAT_MS } else { self.mark_every_ms() };
        let until_ms = until_ms.min(now.ms.saturating_add(look_ms));
        let for_room_ms = self.allowance.wait_ms();
        if for_room_ms > 0 && beyond.is_some() {
            // What is new cannot go before there is room.
            let until_ms = until_ms.min(now.ms.saturating_add(for_room_ms));
            return Step::Wait { until_ms, beyond: None };
        }
        Step::Wait { until_ms, beyond }
    }

    fn mark_every_ms(&self) -> u64 {
        match self.upstream.mark_every_ms() {
            Some(every_ms) => every_ms,
            None if self.local.is_blocked() => MARK_BLOCKED_EVERY_MS,
            None => MARK_EVERY_MS,
        }
    }

    fn open(&mut self) -> Result<Outcome, Fault> {
        let starts = self.upstream.open()?;
        self.clear();
        let is_whole = self.start(starts)?;
        self.bury_condemned()?;
        // Once a route sends, the upstream may have more than the saved bound allows.
        self.save_marks()
            .map_err(|problem| Fault::retry(format!("{problem}; is the disk full?")))?;
        self.show(None);
        Ok(if is_whole { Outcome::Opened } else { Outcome::OpenedInPart })
    }

    fn begin(&mut self, now: Now) -> Result<Outcome, Fault> {
        self.begun_ms = now.ms;
        self.sent_class = None;
        self.upstream.begin().map(|()| Outcome::Begun)
    }

    fn send(&mut self) -> Result<Outcome, Fault> {
        let (mut records, mut bytes) = (0, 0);
        let overtook = self.sent_class.is_some_and(|class| class < self.staged_class);
        self.sent_class =
            Some(self.sent_class.map_or(self.staged_class, |class| class.min(self.staged_class)));
        let mut counts = vec![Sent::default(); self.lanes.len()];
        let batch = std::mem::take(&mut self.batch);
        for (route, record) in batch.iter() {
            let size = match self.upstream.send(route, &record) {
                Ok(()) => size_of(&record),
                Err(SendError::TooLarge) => self.send_gap(route, &record)?,
                Err(SendError::Fault(fault)) => return Err(fault),
            };
            counts[route].add(size, record.gap.is_some());
            records += 1;
            bytes += size;
        }
        self.batch = batch;
        self.scores.sent(&counts);
        self.charge(bytes.saturating_add(u64::from(records) * RECORD_OVERHEAD));
        self.clear();
        self.lanes.iter_mut().for_each(Lane::sent);
        Ok(Outcome::Sent { records, bytes, overtook })
    }

    fn charge(&mut self, bytes: u64) {
        self.allowance.spend(bytes);
        self.estimated = self.estimated.saturating_add(bytes);
    }

    /// Puts what the upstream knows in the place of what was estimated.
    fn reconcile(&mut self) {
        let estimated = std::mem::take(&mut self.estimated);
        if let Some(total) = self.upstream.wire_bytes() {
            let actual = total.saturating_sub(self.wire_bytes);
            self.wire_bytes = total;
            self.allowance.correct(estimated, actual);
        }
    }

    fn clear(&mut self) {
        self.batch.clear();
        self.staged_class = 0;
    }

    fn commit(&mut self, clock: &dyn Fn() -> Now) -> Result<Outcome, Fault> {
        let progress: Vec<Progress> =
            self.lanes.iter().enumerate().filter_map(|(r, lane)| lane.progress(r)).collect();
        self.charge(progress.len() as u64 * POSITION_BYTES);
        self.upstream.commit(&progress, clock().unix_ms)?;
        self.reconcile();
        let took_ms = clock().ms.saturating_sub(self.begun_ms);
        self.scores.committed(progress.iter().map(|progress| progress.route), took_ms);
        for progress in progress {
            self.lanes[progress.route].settle(progress, &self.local);
        }
        let lanes = &self.lanes;
        self.probe.passed(|route, offset| lanes[route].has(offset));
        self.show(None);
        Ok(Outcome::Committed)
    }

    fn fail(&mut self, clock: &dyn Fn() -> Now, fault: &Fault) {
        self.reconcile();
        let outcome = self.outcome_of(fault);
        self.upstream.close();
        self.clear();
        self.scores.abandoned();
        for lane in &mut self.lanes {
            lane.stop();
        }
        self.core.on(clock().ms, &outcome);
        self.show(Some(fault));
    }

    fn halt(&mut self) {
        self.upstream.close();
        self.try_save_marks();
    }

    fn try_save_marks(&mut self) {
        if let Err(problem) = self.save_marks() {
            tracing::warn!(%problem, "marks of routes not saved; the next start reads more");
        }
        let spent = self.allowance.spent();
        if self.allowance.has_budget() && spent != self.saved_spent {
            match self.local.save_spent(spent) {
                Ok(()) => self.saved_spent = spent,
                Err(problem) => tracing::warn!(%problem, "what was spent today is not saved"),
            }
        }
    }

    fn save_marks(&mut self) -> Result<(), CatalogError> {
        let changed: Vec<(usize, Mark)> = self
            .lanes
            .iter_mut()
            .enumerate()
            .filter_map(|(route, lane)| Some((route, lane.changed_mark()?)))
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        let named: Vec<(&str, &Mark)> =
            changed.iter().map(|(route, mark)| (self.lanes[*route].name.as_str(), mark)).collect();
        self.local.save_marks(&named)?;
        for (route, mark) in changed {
            self.lanes[route].marked(mark, &self.local);
        }
        Ok(())
    }

    /// Tells the status, and the log where it is news.
    fn show(&mut self, fault: Option<&Fault>) {
        let end = self.local.end();
        for (route, lane) in self.lanes.iter().enumerate() {
            let held = self.held.map(|held| held.to_string());
            let waits = lane.waits();
            let stopped = lane.stopped();
            let error = stopped.or(fault.map(|fault| fault.message.as_str()));
            let (state, error) = match fault {
                _ if stopped.is_some() || self.core.is_stopped() => {
                    (Some(RouteState::Stopped), error)
                }
                _ if lane.paused => (Some(RouteState::Paused), Some(PAUSED)),
                _ if !lane.may_send(held.is_some()) => (Some(RouteState::Held), held.as_deref()),
                Some(_) => (Some(RouteState::Retrying), error),
                None if waits.is_some() => (Some(RouteState::Retrying), waits.as_deref()),
                None if lane.scanned().is_some() => (Some(RouteState::Running), error),
                None => (None, error),
            };
            self.scores.show(route, state, error, lane.position(), end);
        }
    }
}

fn size_of(record: &OutRecord<'_>) -> u64 {
    (record.key.len() + record.value.len()) as u64
}
