//! Where in the log something is for a subscriber: a short list that may say too much, never too
//! little.

use std::collections::VecDeque;
use std::ops::Range;

/// Ranges at most. Where more would be needed, the newest grows over what is between.
const RANGES_MAX: usize = 64;

/// Records that are sooner looked at than passed by.
const NEAR: u64 = 8;

/// Ranges of offsets, ascending.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    ranges: VecDeque<Range<u64>>,
}

impl Places {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The records of `range` may be for the subscriber.
    pub(super) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut range = range;
        while let Some(last) = self.ranges.back()
            && (range.start <= last.end + NEAR || self.ranges.len() >= RANGES_MAX)
        {
            range = range.start.min(last.start)..range.end.max(last.end);
            self.ranges.pop_back();
        }
        self.ranges.push_back(range);
    }

    /// Moves all of `other` to the end.
    pub(super) fn append(&mut self, other: &mut Self) {
        if self.ranges.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        std::mem::take(other).ranges.into_iter().for_each(|range| self.add(range));
    }

    /// The first range from `position` on; what is before it is forgotten.
    pub(super) fn first_from(&mut self, position: u64) -> Option<Range<u64>> {
        while let Some(first) = self.ranges.front() {
            if first.end > position {
                return Some(first.start.max(position)..first.end);
            }
            self.ranges.pop_front();
        }
        self.ranges = VecDeque::new();
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_that_was_added_is_left_out_and_the_list_stays_short(
            added in prop::collection::vec((0..5_000_u64, 1..40_u64), 0..200),
            joined in any::<bool>(),
        ) {
            let mut places = Places::default();
            let mut later = Places::default();
            let half = if joined { added.len() / 2 } else { added.len() };
            for (number, &(start, count)) in added.iter().enumerate() {
                let to = if number < half { &mut places } else { &mut later };
                to.add(start..start + count);
            }
            places.append(&mut later);
            prop_assert!(places.ranges.len() <= RANGES_MAX);
            prop_assert!(places.ranges.iter().all(|range| !range.is_empty()));
            let ends = places.ranges.iter().zip(places.ranges.iter().skip(1));
            prop_assert!(ends.into_iter().all(|(one, next)| one.end < next.start));
            let mut found = Vec::new();
            let mut position = 0;
            while let Some(range) = places.first_from(position) {
                position = range.end;
                found.push(range);
            }
            for (start, count) in added {
                let whole = found.iter().any(|f| f.start <= start && start + count <= f.end);
                prop_assert!(whole, "{start} and {count} more in {found:?}");
            }
        }
    }

    #[test]
    fn what_is_rare_stays_apart_until_the_list_is_full() {
        let mut places = Places::default();
        for number in 0..RANGES_MAX as u64 {
            places.add(number * 100..number * 100 + 1);
        }
        assert_eq!(places.first_from(0), Some(0..1));
        assert_eq!(places.first_from(1), Some(100..101));
        places.add(50_000..50_001);
        places.add(60_000..60_001);
        assert_eq!(places.first_from(6_301), Some(50_000..60_001), "there was room for one");
        assert_eq!(places.first_from(60_001), None);
        assert_eq!(places, Places::default());
    }
}
