//! A query between two journals' ends: input in, numbered writes out, and the checkpoint's bytes.
//!
//! ```text
//! byte 0      version (1)
//! byte 1..    postcard of (statement, next numbers, windows and watermarks)
//! ```

use std::sync::Arc;

use headwater_shared::envelope::GapCause;
use serde::{Deserialize, Serialize};

use super::engine::{Counts, Emit, Engine, State};
use super::ledger::{Lane, Ledger, Numbers};
use super::plan::Parts;
use crate::stream::Row;

/// The version that [`Follow::snapshot`] writes.
const VERSION: u8 = 1;

/// What a query takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input<'a> {
    /// The rows of the record at `offset`.
    Rows { offset: u64, arrival_ms: i64, rows: &'a [Row] },
    /// Time passed: the tick at `offset`.
    Tick { offset: u64, now_ms: i64 },
    /// Offsets `first..end` cannot be read.
    Lost { first: u64, end: u64, cause: GapCause },
}

/// What a query writes, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    /// A row of one of its two streams.
    Output {
        lane: Lane,
        key: String,
        time_ms: i64,
        sequence: u64,
        input_offset: u64,
        payload: Vec<u8>,
    },
    /// A gap in the stream of its windows: `first..=last` of the input, `count` windows.
    Gap { time_ms: i64, cause: GapCause, first: u64, last: u64, count: Option<u64> },
}

/// How a saved state fits a plan.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Restored {
    /// It is this statement's.
    Same,
    /// It is another statement's of the same name: the numbers go on, the windows are gone.
    Changed,
    /// It cannot be read.
    Unreadable(String),
}

#[derive(Serialize)]
struct Saved<'a> {
    statement: &'a str,
    numbers: Numbers,
    state: &'a State,
}

#[derive(Deserialize)]
struct SavedHead {
    statement: String,
    numbers: Numbers,
}

/// A query, its state and its ledger.
pub(super) struct Follow {
    plan: Arc<Parts>,
    engine: Engine,
    pub(super) ledger: Ledger,
    emits: Vec<Emit>,
    time_ms: i64,
}

impl Follow {
    pub(super) fn new(plan: Arc<Parts>) -> Self {
        let engine = Engine::new(Arc::clone(&plan));
        Self { plan, engine, ledger: Ledger::default(), emits: Vec::new(), time_ms: 0 }
    }

    /// Takes over a saved state as far as it fits.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> Restored {
        let body = match bytes.split_first() {
            Some((&VERSION, body)) => body,
            Some((version, _)) => return Restored::Unreadable(format!("version {version}")),
            None => return Restored::Unreadable("it is empty".to_owned()),
        };
        let (head, rest) = match postcard::take_from_bytes::<SavedHead>(body) {
            Ok(read) => read,
            Err(problem) => return Restored::Unreadable(problem.to_string()),
        };
        self.ledger = Ledger::new(head.numbers);
        if head.statement != self.plan.canonical {
            return Restored::Changed;
        }
        match postcard::from_bytes::<State>(rest) {
            Ok(state) => match self.engine.restore(state) {
                Ok(()) => Restored::Same,
                Err(problem) => Restored::Unreadable(problem),
            },
            Err(problem) => Restored::Unreadable(problem.to_string()),
        }
    }

    /// The state as bytes, for a checkpoint behind the last input.
    pub(super) fn snapshot(&self) -> Vec<u8> {
        let saved = Saved {
            statement: &self.plan.canonical,
            numbers: self.ledger.numbers(),
            state: self.engine.state(),
        };
        postcard::to_extend(&saved, vec![VERSION]).expect("a Vec takes what is written")
    }

    /// Takes the next input and says what to write. True if the same input has more to say: write
    /// what there is and call again.
    pub(super) fn apply(&mut self, input: Input<'_>, out: &mut Vec<Write>) -> bool {
        let mut more = false;
        let offset = match input {
            Input::Rows { offset, arrival_ms, rows } => {
                for row in rows {
                    self.time_ms = row.time_ms;
                    self.engine.row(offset, arrival_ms, row, &mut self.emits);
                }
                offset
            }
            Input::Tick { offset, now_ms } => {
                more = self.engine.tick(now_ms, &mut self.emits);
                offset
            }
            Input::Lost { first, end, cause } => {
                self.ledger.lost_input(first);
                let last = end.saturating_sub(1);
                if self.ledger.is_fresh_gap(last) {
                    out.push(Write::Gap { time_ms: self.time_ms, cause, first, last, count: None });
                }
                return false;
            }
        };
        for emit in self.emits.drain(..) {
            out.extend(write(&mut self.ledger, offset, self.time_ms, emit));
        }
        more
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What was counted since the last call.
    pub(super) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.engine.counts)
    }
}

/// The write that an emit becomes, unless the journal has it.
fn write(ledger: &mut Ledger, input_offset: u64, now_ms: i64, emit: Emit) -> Option<Write> {
    let (lane, key, time_ms, payload) = match emit {
        Emit::Window { key, window_start_ms, payload } => {
            (Lane::Windows, key, window_start_ms, payload)
        }
        Emit::Late { key, time_ms, payload } => (Lane::Late, key, time_ms, payload),
        Emit::ClosedEarly { first_offset, windows } => {
            return ledger.is_fresh_gap(input_offset).then_some(Write::Gap {
                time_ms: now_ms,
                cause: GapCause::Overload,
                first: first_offset.min(input_offset),
                last: input_offset,
                count: Some(windows),
            });
        }
    };
    let sequence = ledger.number(lane, input_offset)?;
    Some(Write::Output { lane, key, time_ms, sequence, input_offset, payload })
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
