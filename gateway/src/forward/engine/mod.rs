//! Drives the policy over an upstream and the journal. No clock and no thread of its own, so the
//! tests run the same engine in simulated time.

pub(in crate::forward) mod batch;
pub(in crate::forward) mod lane;
mod reading;

use self::lane::{Ahead, Lane, Part};
use crate::catalog::CatalogError;
use crate::forward::engine::batch::{Batch, OutRecord, ValueKind};
use crate::forward::format::Encoder;
use crate::forward::local::Local;
use crate::forward::policy::core::{Action, Core, Outcome, Policy, Waiting};
use crate::forward::policy::resume::Mark;
use crate::forward::status::{RouteState, Scores};
use crate::forward::upstream::{Fault, Progress, SendError, Upstream};

/// Marks are saved this often while they change.
const MARK_EVERY_MS: u64 = 10_000;
/// So often while publishers wait for a reader to move on.
const MARK_BLOCKED_EVERY_MS: u64 = 1_000;

/// Between two looks at a route whose format waits for something.
const LOOK_FORMAT_MS: u64 = 500;

/// The cause of a gap that stands for a record that the upstream did not take.
const TOO_LARGE: &str = "too-large";

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
    scores: Scores,
    begun_ms: u64,
    marked_ms: u64,
}

impl<U: Upstream, L: Local> Engine<U, L> {
    /// `scores` has a row a route, in the order of `lays`.
    ///
    /// # Errors
    /// [`CatalogError`] if the marks cannot be read or saved.
    pub(in crate::forward) fn new(
        policy: Policy,
        seed: u64,
        upstream: U,
        local: L,
        lays: Vec<Lay>,
        scores: Scores,
    ) -> Result<Self, CatalogError> {
        let mut lanes = Vec::new();
        let mut order = Vec::new();
        for (route, lay) in lays.into_iter().enumerate() {
            let mark = local.mark(&lay.name)?;
            let Lay { name, numbers, encoder, priority, ahead } = lay;
            lanes.push(Lane::new(name, &numbers, encoder, ahead, mark, &local));
            order.push((priority, route));
        }
        order.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        let core = Core::new(policy, seed);
        let batch = Batch::new(policy.stage_records);
        let mut engine =
            Self { core, upstream, local, lanes, order, batch, scores, begun_ms: 0, marked_ms: 0 };
        // How far the journal was when this start began has to be known when the next one begins.
        engine.save_marks()?;
        engine.show(None);
        Ok(engine)
    }

    /// The gateway is shutting down: settle, then halt.
    pub(in crate::forward) fn drain(&mut self, now: Now) {
        self.core.drain(now.ms);
    }

    /// Does the next thing.
    pub(in crate::forward) fn turn(&mut self, clock: &dyn Fn() -> Now) -> Step {
        let now = clock();
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
            Action::Begin => self.begin(now),
            Action::Send => self.send(),
            Action::Commit => self.commit(clock),
            Action::Wait { until_ms, for_data } => return self.wait(now, until_ms, for_data),
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
        for equals in self.order.chunk_by_mut(|a, b| a.0 == b.0) {
            for part in [Part::Front, Part::Back] {
                for (_, lane) in equals.iter() {
                    let lane = &mut self.lanes[*lane];
                    lane.fill(part, now.unix_ms, &mut self.batch, &self.local)?;
                }
            }
            // Equals take turns, so that one with a backlog does not starve the others.
            equals.rotate_left(1);
        }
        Ok(())
    }

    fn waiting(&self) -> Waiting {
        let end = self.local.end();
        let scanned = self.lanes.iter().filter_map(Lane::scanned).min().unwrap_or(end);
        Waiting {
            staged: u32::try_from(self.batch.len()).unwrap_or(u32::MAX),
            full: self.batch.is_full(),
            unread: end.saturating_sub(scanned),
        }
    }

    fn wait(&mut self, now: Now, until_ms: u64, for_data: bool) -> Step {
        self.show(None);
        // Every route waits for the offset that it has not looked at; one that does not run waits
        // for nothing.
        let beyond = self.lanes.iter().filter_map(Lane::scanned).min().filter(|_| for_data);
        let is_waited_for = self.lanes.iter().any(|lane| lane.waits().is_some());
        let look_ms = if is_waited_for { LOOK_FORMAT_MS } else { self.mark_every_ms() };
        let until_ms = until_ms.min(now.ms.saturating_add(look_ms));
        Step::Wait { until_ms, beyond }
    }

    fn mark_every_ms(&self) -> u64 {
        if self.local.is_blocked() { MARK_BLOCKED_EVERY_MS } else { MARK_EVERY_MS }
    }

    fn open(&mut self) -> Result<Outcome, Fault> {
        let starts = self.upstream.open()?;
        self.batch.clear();
        for (lane, start) in self.lanes.iter_mut().zip(&starts) {
            lane.start(start, &self.local)?;
        }
        // Once a route sends, the upstream may have more than the saved bound allows.
        self.save_marks()
            .map_err(|problem| Fault::retry(format!("{problem}; is the disk full?")))?;
        self.show(None);
        Ok(Outcome::Opened)
    }

    fn begin(&mut self, now: Now) -> Result<Outcome, Fault> {
        self.begun_ms = now.ms;
        self.upstream.begin().map(|()| Outcome::Begun)
    }

    fn send(&mut self) -> Result<Outcome, Fault> {
        let (mut records, mut bytes) = (0, 0);
        for (route, record) in self.batch.iter() {
            let size = match self.upstream.send(route, &record) {
                Ok(()) => size_of(&record),
                Err(SendError::TooLarge) => {
                    self.scores.refused(route, &record);
                    send_refused(&mut self.upstream, route, &record)?
                }
                Err(SendError::Fault(fault)) => return Err(fault),
            };
            self.scores.sent(route, size, record.gap.is_some());
            records += 1;
            bytes += size;
        }
        self.batch.clear();
        self.lanes.iter_mut().for_each(Lane::sent);
        Ok(Outcome::Sent { records, bytes })
    }

    fn commit(&mut self, clock: &dyn Fn() -> Now) -> Result<Outcome, Fault> {
        let progress: Vec<Progress> =
            self.lanes.iter().enumerate().filter_map(|(r, lane)| lane.progress(r)).collect();
        self.upstream.commit(&progress, clock().unix_ms)?;
        let took_ms = clock().ms.saturating_sub(self.begun_ms);
        self.scores.committed(progress.iter().map(|progress| progress.route), took_ms);
        for progress in progress {
            self.lanes[progress.route].settle(progress, &self.local);
        }
        self.show(None);
        Ok(Outcome::Committed)
    }

    fn fail(&mut self, clock: &dyn Fn() -> Now, fault: &Fault) {
        self.upstream.close();
        self.batch.clear();
        self.scores.abandoned();
        for lane in &mut self.lanes {
            lane.stop();
        }
        self.core.on(clock().ms, &Outcome::Failed(fault.clone()));
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
        for (route, lane) in self.lanes.iter().enumerate() {
            let waits = lane.waits();
            let error = lane.halted.as_deref().or(fault.map(|fault| fault.message.as_str()));
            let error = error.or(waits.as_deref());
            let state = match fault {
                _ if lane.halted.is_some() || self.core.is_stopped() => Some(RouteState::Stopped),
                Some(_) => Some(RouteState::Retrying),
                None if waits.is_some() => Some(RouteState::Retrying),
                None if lane.scanned().is_some() => Some(RouteState::Running),
                None => None,
            };
            self.scores.show(route, state, error, lane.position());
        }
    }
}

fn size_of(record: &OutRecord<'_>) -> u64 {
    (record.key.len() + record.value.len()) as u64
}

/// What the upstream takes at no size goes as a gap; the record itself stays in the journal.
fn send_refused(
    upstream: &mut impl Upstream,
    route: usize,
    record: &OutRecord<'_>,
) -> Result<u64, Fault> {
    let news = serde_json::json!({ "gap": {
        "cause": TOO_LARGE,
        "unit": "offsets",
        "first": record.offset,
        "last": record.last,
        "bytes": record.value.len(),
    }});
    let value = news.to_string();
    let (gap, kind) = (Some(TOO_LARGE), ValueKind::Json);
    let news = OutRecord { gap, kind, value: value.as_bytes(), ..*record };
    match upstream.send(route, &news) {
        Ok(()) => Ok(size_of(&news)),
        Err(SendError::Fault(fault)) => Err(fault),
        Err(SendError::TooLarge) => Err(Fault::refused(
            "the upstream takes not even a record that says that one was too large: raise its \
             limit (message.max.bytes), or send shorter keys",
        )),
    }
}
