//! Which outputs the journal has already: what makes a replay write each of them once.
//!
//! Rows and late rows are numbered, each from 0 without a hole, in an order that depends on the
//! input alone. The numbers to come are part of the checkpoint; those that stand in the journal
//! behind the checkpoint are found by reading it. A replay numbers its rows as before and leaves out
//! those found. Gap records are known by the offset that they end with.
//!
//! Input that was there the first time can be gone in the replay (a damaged segment). The rows would
//! then be numbered differently, so from there on rows are known by the input that made them, and
//! numbering goes on behind the highest found.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// One of the two streams that a query writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Windows,
    Late,
}

/// The next number of each lane, as a checkpoint holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbers {
    pub(super) windows: u64,
    pub(super) late: u64,
}

/// Numbers outputs and knows which are written.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    windows: LaneState,
    late: LaneState,
    /// Offsets that gap records in the journal end with.
    gaps: BTreeSet<u64>,
    /// Input was lost in the replay.
    resynchronise: bool,
}

#[derive(Debug, Default)]
struct LaneState {
    next: u64,
    found: Ranges,
    /// The highest input offset of what was found.
    last_input: Option<u64>,
}

impl Ledger {
    pub(super) fn new(numbers: Numbers) -> Self {
        let lane = |next| LaneState { next, ..LaneState::default() };
        Self { windows: lane(numbers.windows), late: lane(numbers.late), ..Self::default() }
    }

    pub(super) fn numbers(&self) -> Numbers {
        Numbers { windows: self.windows.next, late: self.late.next }
    }

    /// The journal holds this output already.
    pub(super) fn found(&mut self, lane: Lane, sequence: u64, input_offset: u64) {
        let lane = self.lane(lane);
        lane.found.insert(sequence);
        lane.last_input = lane.last_input.max(Some(input_offset));
    }

    /// The journal holds a gap record that ends with `offset` already.
    pub(super) fn found_gap(&mut self, offset: u64) {
        self.gaps.insert(offset);
    }

    /// Numbering goes on behind all that was found: what is replayed has nothing to do with it.
    pub(super) fn go_on_behind_found(&mut self) {
        for lane in [&mut self.windows, &mut self.late] {
            lane.next = lane.next.max(lane.found.end());
        }
    }

    /// Input below `offset` is gone; a replay can no longer count on the same numbers. What was
    /// found and made by that input will not be made again: numbering goes on behind it.
    pub(super) fn lost_input(&mut self, offset: u64) {
        let replays = |lane: &LaneState| lane.last_input.is_some_and(|last| offset <= last);
        self.resynchronise |= replays(&self.windows) || replays(&self.late);
        for lane in [&mut self.windows, &mut self.late] {
            if !replays(lane) {
                lane.next = lane.next.max(lane.found.end());
            }
        }
    }

    /// The number of the next output of `lane`, made by the input at `input_offset`; `None` if the
    /// journal has it already.
    pub(super) fn number(&mut self, lane: Lane, input_offset: u64) -> Option<u64> {
        let resynchronise = self.resynchronise;
        let lane = self.lane(lane);
        if resynchronise {
            if lane.last_input.is_some_and(|last| input_offset <= last) {
                return None;
            }
            lane.next = lane.next.max(lane.found.end());
        }
        let sequence = lane.next;
        lane.next += 1;
        (!lane.found.contains(sequence)).then_some(sequence)
    }

    /// True if the journal has no gap record yet that ends with `offset`.
    pub(super) fn is_fresh_gap(&mut self, offset: u64) -> bool {
        !self.gaps.remove(&offset)
    }

    fn lane(&mut self, lane: Lane) -> &mut LaneState {
        match lane {
            Lane::Windows => &mut self.windows,
            Lane::Late => &mut self.late,
        }
    }
}

/// A set of numbers that come nearly in order: ranges, ascending and apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<std::ops::Range<u64>>);

impl Ranges {
    fn insert(&mut self, number: u64) {
        let at = self.0.partition_point(|range| range.end < number);
        match self.0.get_mut(at) {
            Some(range) if range.contains(&number) => {}
            Some(range) if range.end == number => range.end = number.saturating_add(1),
            Some(range) if range.start.checked_sub(1) == Some(number) => range.start = number,
            _ => self.0.insert(at, number..number.saturating_add(1)),
        }
        if let Some([left, right]) = self.0.get(at..at + 2)
            && left.end == right.start
        {
            self.0[at].end = right.end;
            self.0.remove(at + 1);
        }
    }

    fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|range| range.end <= number);
        self.0.get(at).is_some_and(|range| range.contains(&number))
    }

    /// The first number behind all.
    fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_replay_numbers_as_before_and_leaves_out_what_is_there() {
        let mut ledger = Ledger::new(Numbers { windows: 7, late: 0 });
        ledger.found(Lane::Windows, 7, 30);
        ledger.found(Lane::Windows, 9, 31);
        let numbers: Vec<_> = (0..4).map(|at| ledger.number(Lane::Windows, 30 + at)).collect();
        assert_eq!(numbers, [None, Some(8), None, Some(10)]);
        assert_eq!(ledger.number(Lane::Late, 30), Some(0));
        assert_eq!(ledger.numbers(), Numbers { windows: 11, late: 1 });
    }

    #[test]
    fn after_lost_input_rows_are_known_by_the_input_that_made_them() {
        let mut ledger = Ledger::new(Numbers { windows: 7, late: 0 });
        ledger.found(Lane::Windows, 7, 30);
        ledger.found(Lane::Windows, 8, 40);
        assert_eq!(ledger.number(Lane::Windows, 30), None);
        ledger.lost_input(35);
        assert_eq!(ledger.number(Lane::Windows, 36), None);
        assert_eq!(ledger.number(Lane::Windows, 40), None);
        assert_eq!(ledger.number(Lane::Windows, 41), Some(9));
    }

    #[test]
    fn input_lost_behind_the_replay_changes_nothing() {
        let mut ledger = Ledger::new(Numbers { windows: 7, late: 0 });
        ledger.found(Lane::Windows, 7, 30);
        assert_eq!(ledger.number(Lane::Windows, 30), None);
        ledger.lost_input(41);
        assert_eq!(ledger.number(Lane::Windows, 41), Some(8));
    }

    #[test]
    fn numbering_goes_on_behind_rows_whose_input_is_gone() {
        let mut ledger = Ledger::new(Numbers { windows: 18, late: 0 });
        ledger.found(Lane::Windows, 20, 100);
        ledger.lost_input(120);
        assert_eq!(ledger.number(Lane::Windows, 120), Some(21));
    }

    #[test]
    fn a_gap_record_is_left_out_once() {
        let mut ledger = Ledger::default();
        ledger.found_gap(5);
        assert!(!ledger.is_fresh_gap(5) && ledger.is_fresh_gap(6));
    }

    proptest! {
        #[test]
        fn ranges_hold_what_a_set_holds(numbers in prop::collection::vec(0..40u64, 0..60)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for number in numbers {
                ranges.insert(number);
                set.insert(number);
                for probe in 0..41 {
                    prop_assert_eq!(ranges.contains(probe), set.contains(&probe));
                }
                let apart = ranges.0.windows(2).all(|pair| pair[0].end < pair[1].start);
                prop_assert!(apart, "{:?}", ranges);
                prop_assert_eq!(ranges.end(), set.last().map_or(0, |last| last + 1));
            }
        }
    }
}
