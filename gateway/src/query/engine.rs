//! The pure core of a query: rows and ticks in, rows of closed windows out.
//!
//! A *source* is a value of the group key. The journal is one sequence in the order of arrival over
//! all partitions, so a source needs one watermark, whatever the number of partitions: the latest
//! event time seen, less the stream's lateness. A window closes when the watermark reaches its end;
//! the windows of a source close in the order of their ends. Rows of a closed window are late.
//!
//! A source that is silent for the stream's idle time has all its open windows closed by the next
//! tick, and its watermark moves to the end of the last of them, no further: what a node sends from
//! its outbox after an outage still falls into windows that are open.
//!
//! The state is bounded. Above [`WINDOWS_MAX`] the windows of the sources that were quiet for
//! longest are closed early, which is counted and leaves a gap record; above [`SOURCES_MAX`] the
//! watermarks of those without windows are forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::expr::{RowSlots, Scalar, Slots};
use super::number::Number;
use super::plan::{Parts, SLOT_AGGREGATES, SLOT_END, SLOT_KEY, SLOT_START};
use super::window::{Cell, window_start};
use crate::stream::Row;

/// Open windows of a query.
const WINDOWS_MAX: usize = 50_000;
/// Values of the group key whose watermark a query knows.
const SOURCES_MAX: usize = 50_000;
/// Where a bound is met, an eighth is freed, so that the search for the oldest pays.
const FREED: usize = 8;
/// Longer values of the group key do not make a group.
const KEY_BYTES_MAX: usize = 256;
/// A tick writes about this many rows at a time.
const TICK_ROWS: usize = 1024;

/// What the engine says, in the order it has to be written.
#[derive(Debug, PartialEq)]
pub(super) enum Emit {
    /// The row of a closed window.
    Window { key: String, window_start_ms: i64, payload: Vec<u8> },
    /// A row that came after its window was closed.
    Late { key: String, time_ms: i64, payload: Vec<u8> },
    /// `windows` were closed before their time; rows of them came from `first_offset` on.
    ClosedEarly { first_offset: u64, windows: u64 },
}

/// What happened since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Rows that were read.
    pub(super) rows: u64,
    /// Rows without a usable key or time.
    pub(super) unusable: u64,
    /// Values that were no number where an aggregate needs one.
    pub(super) not_numbers: u64,
    /// Windows that were closed before their time.
    pub(super) closed_early: u64,
    /// Sources whose watermark was forgotten.
    pub(super) forgotten: u64,
}

/// Windows and watermarks, as a checkpoint holds them.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// By the group key, as [`write_key`] writes it.
    sources: BTreeMap<String, Source>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Source {
    watermark_ms: i64,
    last_arrival_ms: i64,
    last_offset: u64,
    /// Open windows, by their start.
    windows: Vec<Window>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Window {
    start_ms: i64,
    cells: Box<[Cell]>,
}

/// A query and its state.
pub(super) struct Engine {
    plan: Arc<Parts>,
    state: State,
    /// Open windows of all sources.
    windows: usize,
    limits: Limits,
    /// Reused, so that a row of a known source allocates nothing.
    key: String,
    pub(super) counts: Counts,
}

#[derive(Clone, Copy)]
struct Limits {
    windows: usize,
    sources: usize,
}

impl Engine {
    pub(super) fn new(plan: Arc<Parts>) -> Self {
        Self {
            plan,
            state: State::default(),
            windows: 0,
            limits: Limits { windows: WINDOWS_MAX, sources: SOURCES_MAX },
            key: String::new(),
            counts: Counts::default(),
        }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// The state is of another query; it says so.
    pub(super) fn restore(&mut self, state: State) -> Result<(), String> {
        let fits = |window: &Window| {
            window.cells.len() == self.plan.aggregates.len()
                && window.cells.iter().zip(&self.plan.aggregates).all(|(cell, a)| cell.is(a.kind))
                && window_start(window.start_ms, self.plan.size_ms) == Some(window.start_ms)
        };
        if !state.sources.values().flat_map(|source| &source.windows).all(fits) {
            return Err("the saved windows have other aggregates or another length".to_owned());
        }
        self.windows = state.sources.values().map(|source| source.windows.len()).sum();
        self.state = state;
        Ok(())
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Sources whose watermark is known.
    pub(super) fn sources(&self) -> usize {
        self.state.sources.len()
    }

    pub(super) fn open_windows(&self) -> usize {
        self.windows
    }

    /// The lowest watermark of the sources with open windows, or the highest of all.
    pub(super) fn watermark_ms(&self) -> Option<i64> {
        let all = || self.state.sources.values();
        let open = all().filter(|source| !source.windows.is_empty());
        open.map(|source| source.watermark_ms)
            .min()
            .or_else(|| all().map(|source| source.watermark_ms).max())
    }

    /// When the first source with open windows will have been silent for the idle time.
    pub(super) fn idle_at_ms(&self) -> Option<i64> {
        let open = self.state.sources.values().filter(|source| !source.windows.is_empty());
        let oldest = open.map(|source| source.last_arrival_ms).min()?;
        Some(oldest.saturating_add(self.plan.idle_ms))
    }

    /// Takes the row at `offset` that arrived at `arrival_ms`.
    pub(super) fn row(&mut self, offset: u64, arrival_ms: i64, row: &Row, out: &mut Vec<Emit>) {
        self.counts.rows += 1;
        let plan = &*self.plan;
        let slots = RowSlots { row, columns: &plan.columns };
        let start_ms = window_start(row.time_ms, plan.size_ms);
        let (true, Some(start_ms)) = (write_key(&mut self.key, slots.slot(plan.key)), start_ms)
        else {
            self.counts.unusable += 1;
            return;
        };
        let passes = plan.filter.as_ref().is_none_or(|filter| filter.truth(&slots) == Some(true));
        let source = match self.state.sources.get_mut(&self.key) {
            Some(source) => source,
            // What the filter drops moves the watermark of a source but does not make one.
            None if !passes => return,
            None => self.state.sources.entry(self.key.clone()).or_insert(Source {
                watermark_ms: i64::MIN,
                last_arrival_ms: arrival_ms,
                last_offset: offset,
                windows: Vec::new(),
            }),
        };
        source.last_arrival_ms = source.last_arrival_ms.max(arrival_ms);
        source.last_offset = offset;
        if passes && start_ms + plan.size_ms <= source.watermark_ms {
            let key = key_text(&self.key).to_owned();
            out.push(Emit::Late { key, time_ms: row.time_ms, payload: row_json(row) });
        } else if passes {
            let (window, fresh) = source.window(start_ms, plan);
            self.windows += usize::from(fresh);
            for (cell, aggregate) in window.cells.iter_mut().zip(&plan.aggregates) {
                let value = match &aggregate.argument {
                    None => Scalar::Boolean(true),
                    Some(argument) => argument.value(&slots),
                };
                self.counts.not_numbers += u64::from(!cell.add(value));
            }
        }
        let watermark_ms = row.time_ms.saturating_sub(plan.lateness_ms);
        if watermark_ms > source.watermark_ms {
            source.watermark_ms = watermark_ms;
            self.windows -= source.close(&self.key, plan, watermark_ms, out);
        }
        self.bound(out);
    }

    /// Time passed: closes the windows of sources that have been silent for the idle time. True if
    /// there are more to close: write `out` and call again.
    pub(super) fn tick(&mut self, now_ms: i64, out: &mut Vec<Emit>) -> bool {
        for (key, source) in &mut self.state.sources {
            let silence_ms = now_ms.saturating_sub(source.last_arrival_ms);
            if source.windows.is_empty() || silence_ms < self.plan.idle_ms {
                continue;
            }
            if out.len() >= TICK_ROWS {
                return true;
            }
            self.windows -= source.close_all(key, &self.plan, out);
        }
        false
    }

    fn bound(&mut self, out: &mut Vec<Emit>) {
        if self.windows > self.limits.windows {
            self.close_early(out);
        }
        if self.state.sources.len() > self.limits.sources {
            let freed = self.oldest(|source| source.windows.is_empty());
            for (_, key) in freed.into_iter().take(self.limits.sources / FREED + 1) {
                self.state.sources.remove(&key);
                self.counts.forgotten += 1;
            }
        }
    }

    fn close_early(&mut self, out: &mut Vec<Emit>) {
        let goal = self.limits.windows - self.limits.windows / FREED;
        let before = self.windows;
        let mut first_offset = u64::MAX;
        for (last_offset, key) in self.oldest(|source| !source.windows.is_empty()) {
            if self.windows <= goal {
                break;
            }
            let source = self.state.sources.get_mut(&key).expect("oldest lists known sources");
            first_offset = first_offset.min(last_offset);
            self.windows -= source.close_all(&key, &self.plan, out);
        }
        let windows = (before - self.windows) as u64;
        self.counts.closed_early += windows;
        out.push(Emit::ClosedEarly { first_offset, windows });
    }

    /// Sources, those first that were quiet for longest.
    fn oldest(&self, which: impl Fn(&Source) -> bool) -> Vec<(u64, String)> {
        let sources = self.state.sources.iter().filter(|(_, source)| which(source));
        let mut oldest: Vec<_> =
            sources.map(|(key, source)| (source.last_offset, key.clone())).collect();
        oldest.sort_unstable();
        oldest
    }
}

impl Source {
    /// The window that starts at `start_ms`, and whether it was made just now.
    fn window(&mut self, start_ms: i64, plan: &Parts) -> (&mut Window, bool) {
        // Nearly every row falls into the newest window.
        let after = self.windows.iter().rposition(|window| window.start_ms <= start_ms);
        let index = after.map_or(0, |at| at + 1);
        if let Some(at) = after
            && self.windows[at].start_ms == start_ms
        {
            return (&mut self.windows[at], false);
        }
        let cells = plan.aggregates.iter().map(|aggregate| Cell::new(aggregate.kind)).collect();
        self.windows.insert(index, Window { start_ms, cells });
        (&mut self.windows[index], true)
    }

    /// Closes the windows that end at or before `watermark_ms`; how many.
    fn close(&mut self, key: &str, plan: &Parts, watermark_ms: i64, out: &mut Vec<Emit>) -> usize {
        let ended = |window: &Window| window.start_ms + plan.size_ms <= watermark_ms;
        let count = self.windows.partition_point(ended);
        for window in self.windows.drain(..count) {
            out.push(window.emit(key, plan));
        }
        count
    }

    fn close_all(&mut self, key: &str, plan: &Parts, out: &mut Vec<Emit>) -> usize {
        let Some(last) = self.windows.last() else { return 0 };
        let end_ms = last.start_ms + plan.size_ms;
        self.watermark_ms = self.watermark_ms.max(end_ms);
        self.close(key, plan, end_ms, out)
    }
}

impl Window {
    fn emit(&self, key: &str, plan: &Parts) -> Emit {
        let slots = WindowSlots { key, window: self, size_ms: plan.size_ms };
        let mut payload = Vec::with_capacity(128);
        payload.push(b'{');
        for (index, column) in plan.outputs.iter().enumerate() {
            if index > 0 {
                payload.push(b',');
            }
            payload.extend_from_slice(column.label.as_bytes());
            write_scalar(&mut payload, column.expr.value(&slots));
        }
        payload.push(b'}');
        Emit::Window { key: key_text(key).to_owned(), window_start_ms: self.start_ms, payload }
    }
}

/// A window as its output columns see it.
struct WindowSlots<'a> {
    key: &'a str,
    window: &'a Window,
    size_ms: i64,
}

impl Slots for WindowSlots<'_> {
    fn slot(&self, index: usize) -> Scalar<'_> {
        match index {
            SLOT_KEY => read_key(self.key),
            SLOT_START => Scalar::Number(Number::integer(self.window.start_ms)),
            SLOT_END => Scalar::Number(Number::integer(self.window.start_ms + self.size_ms)),
            _ => self.window.cells[index - SLOT_AGGREGATES].value(),
        }
    }
}

/// Writes a value of the group key with its kind before it: `tpump-7`, `n7`, `btrue`, `-` for NULL.
/// False for a value that cannot be a key: an array, an object, a text that is too long.
fn write_key(out: &mut String, value: Scalar<'_>) -> bool {
    out.clear();
    match value {
        Scalar::Null => out.push('-'),
        Scalar::Boolean(value) => out.push_str(if value { "btrue" } else { "bfalse" }),
        Scalar::Number(number) => {
            let mut text = Vec::new();
            number.write(&mut text);
            out.push('n');
            out.push_str(std::str::from_utf8(&text).expect("numbers are written in ASCII"));
        }
        Scalar::Text(text) if text.len() <= KEY_BYTES_MAX => {
            out.push('t');
            out.push_str(text);
        }
        Scalar::Text(_) | Scalar::Opaque => return false,
    }
    true
}

/// The text after the kind: the key of the records that are written.
fn key_text(key: &str) -> &str {
    key.get(1..).unwrap_or_default()
}

fn read_key(key: &str) -> Scalar<'_> {
    let text = key_text(key);
    match key.as_bytes().first() {
        Some(b't') => Scalar::Text(text),
        Some(b'b') => Scalar::Boolean(text == "true"),
        Some(b'n') => {
            let exact = text.parse().map(Number::decimal).ok();
            let number = exact.or_else(|| text.parse().ok().and_then(Number::double));
            number.map_or(Scalar::Null, Scalar::Number)
        }
        _ => Scalar::Null,
    }
}

fn write_scalar(out: &mut Vec<u8>, value: Scalar<'_>) {
    match value {
        Scalar::Null | Scalar::Opaque => out.extend_from_slice(b"null"),
        Scalar::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Scalar::Number(number) => number.write(out),
        Scalar::Text(text) => {
            serde_json::to_writer(out, text).expect("a text can be written to a Vec");
        }
    }
}

fn row_json(row: &Row) -> Vec<u8> {
    let columns = row.columns.iter().map(|(name, value)| (name.clone(), value.to_json()));
    let object: serde_json::Map<_, _> = columns.collect();
    serde_json::to_vec(&object).expect("a JSON object can be written to a Vec")
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
