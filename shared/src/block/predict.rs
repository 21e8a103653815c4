//! Says what an integer series does next.
//!
//! ```text
//! hold     the last value
//! line     the last value and the last difference once more
//! level    the running mean of the values, weight of the newest 1 / 4
//! ```
//!
//! The one that would have cost the fewest bits of late is used. A cost is the running mean, weight
//! 1 / 16, of the bits of zigzag(value - prediction); `line` and `level` start half a bit behind and
//! pay an eighth of a bit each time, so that `hold` is left only for a gain. Bits, not distances:
//! one leap costs a few bits more and not the choice. All arithmetic wraps.

use super::rice::zigzag;

const PREDICTORS: usize = 3;
/// A bit, in a cost.
const BIT: i32 = 256;
/// What a predictor pays beside the bits of its errors.
const MARGIN: [i32; PREDICTORS] = [0, BIT / 8, BIT / 8];
/// Costs before the first difference.
const COST_FIRST: [i32; PREDICTORS] = [0, BIT / 2, BIT / 2];
/// Weight of the newest cost is 1 / 16.
const COST_SHIFT: u32 = 4;
/// Weight of the newest value in the level is 1 / 4.
const LEVEL_SHIFT: u32 = 2;
/// The level has four bits of fraction.
const LEVEL_FRACTION_BITS: u32 = 4;

/// What both ends know of a series of integers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Predictor {
    last: i64,
    slope: i64,
    level_16: i64,
    costs: [i32; PREDICTORS],
}

/// What each predictor says.
pub(super) type Predictions = [i64; PREDICTORS];

impl Predictor {
    pub(super) const fn new(first: i64) -> Self {
        Self { last: first, slope: 0, level_16: first << LEVEL_FRACTION_BITS, costs: COST_FIRST }
    }

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) const fn predictions(&self) -> Predictions {
        let level = self.level_16.wrapping_add(1 << (LEVEL_FRACTION_BITS - 1));
        [self.last, self.last.wrapping_add(self.slope), level >> LEVEL_FRACTION_BITS]
    }

    /// The prediction to use.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn choose(&self, predictions: &Predictions) -> i64 {
        let [hold, line, level] = *predictions;
        let [hold_cost, line_cost, level_cost] = self.costs;
        let (other, other_cost) =
            if level_cost < line_cost { (level, level_cost) } else { (line, line_cost) };
        if other_cost < hold_cost { other } else { hold }
    }

    /// The prediction of version 1.
    pub(super) const fn hold(predictions: &Predictions) -> i64 {
        predictions[0]
    }

    /// Takes note of the value that `predictions` were for.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn learn(&mut self, value: i64, predictions: &Predictions) {
        for ((cost, margin), prediction) in self.costs.iter_mut().zip(MARGIN).zip(predictions) {
            let error = zigzag(value.wrapping_sub(*prediction));
            // As `BITS - leading_zeros`, in fewer steps where that is not one.
            let bits = (error | 1).ilog2() as i32 + i32::from(error != 0);
            *cost += (bits * BIT + margin - *cost) >> COST_SHIFT;
        }
        self.slope = value.wrapping_sub(self.last);
        self.last = value;
        let distance_16 = (value << LEVEL_FRACTION_BITS).wrapping_sub(self.level_16);
        self.level_16 = self.level_16.wrapping_add(distance_16 >> LEVEL_SHIFT);
    }
}
