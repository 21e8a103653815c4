//! Tumbling windows and what is gathered in them.

use serde::{Deserialize, Serialize};

use super::expr::Scalar;
use super::number::{Number, Sum};

/// The start of the window of `size_ms` that `time_ms` falls into, both aligned to 1970; `None`
/// where its start or end is beyond an i64.
pub(super) fn window_start(time_ms: i64, size_ms: i64) -> Option<i64> {
    let start_ms = time_ms.checked_sub(time_ms.rem_euclid(size_ms))?;
    start_ms.checked_add(size_ms)?;
    Some(start_ms)
}

/// What an aggregate computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AggregateKind {
    Count,
    Sum,
    Average,
    Minimum,
    Maximum,
}

/// What an aggregate has gathered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Cell {
    Count(u64),
    Sum(Sum),
    Average(Sum),
    Minimum(Option<Number>),
    Maximum(Option<Number>),
}

impl Cell {
    pub(super) fn new(kind: AggregateKind) -> Self {
        match kind {
            AggregateKind::Count => Self::Count(0),
            AggregateKind::Sum => Self::Sum(Sum::default()),
            AggregateKind::Average => Self::Average(Sum::default()),
            AggregateKind::Minimum => Self::Minimum(None),
            AggregateKind::Maximum => Self::Maximum(None),
        }
    }

    pub(super) fn is(&self, kind: AggregateKind) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(&Self::new(kind))
    }

    /// Takes a value; NULL does not count. False for a value that is no number where one is needed.
    pub(super) fn add(&mut self, value: Scalar<'_>) -> bool {
        match (self, value) {
            (_, Scalar::Null) => {}
            (Self::Count(count), _) => *count += 1,
            (Self::Sum(sum) | Self::Average(sum), Scalar::Number(number)) => sum.add(number),
            (Self::Minimum(least), Scalar::Number(number)) => {
                if least.is_none_or(|least| number.compare(least).is_lt()) {
                    *least = Some(number);
                }
            }
            (Self::Maximum(most), Scalar::Number(number)) => {
                if most.is_none_or(|most| number.compare(most).is_gt()) {
                    *most = Some(number);
                }
            }
            _ => return false,
        }
        true
    }

    pub(super) fn value(&self) -> Scalar<'static> {
        let number = match self {
            Self::Count(count) => Some(Number::Exact { mantissa: (*count).into(), scale: 0 }),
            Self::Sum(sum) => sum.total(),
            Self::Average(sum) => sum.mean(),
            Self::Minimum(number) | Self::Maximum(number) => *number,
        };
        number.map_or(Scalar::Null, Scalar::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_to_1970_on_both_sides_of_it() {
        assert_eq!(window_start(0, 60_000), Some(0));
        assert_eq!(window_start(59_999, 60_000), Some(0));
        assert_eq!(window_start(60_000, 60_000), Some(60_000));
        assert_eq!(window_start(-1, 60_000), Some(-60_000));
        assert_eq!(window_start(-60_000, 60_000), Some(-60_000));
    }

    #[test]
    fn a_window_beyond_the_ends_of_time_is_none() {
        assert_eq!(window_start(i64::MIN, 60_000), None);
        assert_eq!(window_start(i64::MAX, 60_000), None);
        assert_eq!(window_start(i64::MAX - 120_000, 60_000).map(|start| start % 60_000), Some(0));
    }

    #[test]
    fn null_counts_for_nothing_and_a_text_is_no_number() {
        for kind in [
            AggregateKind::Count,
            AggregateKind::Sum,
            AggregateKind::Average,
            AggregateKind::Minimum,
            AggregateKind::Maximum,
        ] {
            let mut cell = Cell::new(kind);
            assert!(cell.add(Scalar::Null) && cell == Cell::new(kind), "{kind:?}");
            assert_eq!(cell.add(Scalar::Text("x")), kind == AggregateKind::Count, "{kind:?}");
            assert!(cell.is(kind));
        }
        assert_eq!(Cell::new(AggregateKind::Sum).value(), Scalar::Null);
    }

    #[test]
    fn minimum_and_maximum_keep_the_number_as_it_came() {
        let decimal = |mantissa, scale| Scalar::Number(Number::Exact { mantissa, scale });
        let (mut least, mut most) =
            (Cell::new(AggregateKind::Minimum), Cell::new(AggregateKind::Maximum));
        for value in [decimal(2180, 2), decimal(218, 1), decimal(-50, 2), decimal(21, 0)] {
            assert!(least.add(value) && most.add(value));
        }
        assert_eq!((least.value(), most.value()), (decimal(-50, 2), decimal(2180, 2)));
    }
}
