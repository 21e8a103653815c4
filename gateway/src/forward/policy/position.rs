//! How far a route is: an ordered set of ranges of offsets, nearly always the one `[0, n)`.

use serde::{Deserialize, Serialize};

/// More ranges than this are refused: nothing of ours writes as many.
const RANGES_MAX: usize = 4096;

/// Offsets that an upstream has: half-open ranges, ascending, neither touching nor empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Position {
    ranges: Vec<(u64, u64)>,
}

impl Position {
    /// All offsets below `end`.
    pub fn up_to(end: u64) -> Self {
        let mut position = Self::default();
        position.insert(0, end);
        position
    }

    /// Adds `first..end`.
    pub fn insert(&mut self, first: u64, end: u64) {
        if first >= end {
            return;
        }
        let from = self.ranges.partition_point(|range| range.1 < first);
        let to = self.ranges.partition_point(|range| range.0 <= end);
        let (mut first, mut end) = (first, end);
        for range in &self.ranges[from..to] {
            first = first.min(range.0);
            end = end.max(range.1);
        }
        self.ranges.splice(from..to, [(first, end)]);
    }

    /// Adds all that `other` has.
    pub fn merge(&mut self, other: &Self) {
        for (first, end) in &other.ranges {
            self.insert(*first, *end);
        }
    }

    /// True if all of `other` is here.
    pub fn covers(&self, other: &Self) -> bool {
        other
            .ranges
            .iter()
            .all(|(first, end)| self.range_of(*first).is_some_and(|(_, covered)| *end <= covered))
    }

    /// The range that `offset` is in.
    pub fn range_of(&self, offset: u64) -> Option<(u64, u64)> {
        let index = self.ranges.partition_point(|range| range.1 <= offset);
        self.ranges.get(index).copied().filter(|range| range.0 <= offset)
    }

    /// The first hole at or above `offset`: its first offset, and the one behind its last, `None`
    /// for the hole that has no end.
    pub fn hole(&self, offset: u64) -> (u64, Option<u64>) {
        let first = self.range_of(offset).map_or(offset, |(_, end)| end);
        let index = self.ranges.partition_point(|range| range.1 <= first);
        (first, self.ranges.get(index).map(|range| range.0))
    }

    /// The end of the highest range that ends at or below `offset`; 0 if there is none.
    pub fn end_below(&self, offset: u64) -> u64 {
        let index = self.ranges.partition_point(|range| range.1 <= offset);
        index.checked_sub(1).map_or(0, |index| self.ranges[index].1)
    }

    /// How many offsets below `end` are missing.
    pub fn missing(&self, end: u64) -> u64 {
        let have: u64 =
            self.ranges.iter().map(|(first, to)| (*to).min(end).saturating_sub(*first)).sum();
        end.saturating_sub(have)
    }

    /// True if nothing is there.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// True if `offset` is in one of the ranges.
    pub fn contains(&self, offset: u64) -> bool {
        self.range_of(offset).is_some()
    }

    /// The first offset that is missing.
    pub fn next(&self) -> u64 {
        match self.ranges.first() {
            Some(&(0, end)) => end,
            _ => 0,
        }
    }

    /// One above the highest offset, 0 if there is none.
    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |range| range.1)
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }
}

/// Ranges that overlap, are empty, not in order, or too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ranges of a position are not in order")]
pub struct RangesError;

impl TryFrom<Vec<(u64, u64)>> for Position {
    type Error = RangesError;

    fn try_from(ranges: Vec<(u64, u64)>) -> Result<Self, RangesError> {
        let ascending = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
        let full = ranges.iter().all(|range| range.0 < range.1);
        if ascending && full && ranges.len() <= RANGES_MAX {
            Ok(Self { ranges })
        } else {
            Err(RangesError)
        }
    }
}

impl From<Position> for Vec<(u64, u64)> {
    fn from(position: Position) -> Self {
        position.ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_what_a_set_of_offsets_holds(
            inserts in prop::collection::vec((0u64..60, 0u64..8), 0..24)
        ) {
            let mut position = Position::default();
            let mut model = BTreeSet::new();
            for (first, count) in inserts {
                position.insert(first, first + count);
                model.extend(first..first + count);
            }
            for offset in 0..80 {
                prop_assert_eq!(position.contains(offset), model.contains(&offset));
            }
            let next = (0..).find(|offset| !model.contains(offset)).expect("a gap");
            prop_assert_eq!(position.next(), next);
            prop_assert_eq!(position.end(), model.last().map_or(0, |last| last + 1));
            let missing = (0..50).filter(|offset| !model.contains(offset)).count();
            prop_assert_eq!(position.missing(50), missing as u64);
            for offset in 0..70 {
                let first = (offset..).find(|at| !model.contains(at)).expect("a hole");
                let end = model.range(first..).next().copied();
                prop_assert_eq!(position.hole(offset), (first, end));
            }
            let json = serde_json::to_string(&position).expect("numbers");
            prop_assert_eq!(serde_json::from_str::<Position>(&json).expect("ours"), position);
        }

        #[test]
        fn a_position_covers_what_a_set_contains(
            one in prop::collection::vec((0u64..40, 1u64..8), 0..6),
            other in prop::collection::vec((0u64..40, 1u64..4), 0..4),
        ) {
            let set = |list: &[(u64, u64)]| -> (Position, BTreeSet<u64>) {
                let mut position = Position::default();
                list.iter().for_each(|(first, count)| position.insert(*first, first + count));
                (position, list.iter().flat_map(|(first, count)| *first..first + count).collect())
            };
            let ((mut a, model_a), (b, model_b)) = (set(&one), set(&other));
            prop_assert_eq!(a.covers(&b), model_a.is_superset(&model_b));
            a.merge(&b);
            prop_assert!(a.covers(&b));
            prop_assert_eq!(a.missing(60), 60 - model_a.union(&model_b).count() as u64);
        }
    }
}
