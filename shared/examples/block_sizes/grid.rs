//! Finds the step that the values of a series are multiples of.

use headwater_shared::block::Step;

/// Readings whose mean a value may be.
const MEAN_OF_MAX: u32 = 60;

/// A grid is worth its name if so many of a hundred values lie on it.
const ON_GRID_PERCENT: usize = 90;

/// A step of a mean makes sense only if it is far coarser than the last decimal place.
const DIGITS_MIN: i64 = 16;

/// The values of a second hundred decide as the first do: a sample is enough.
const SAMPLE: usize = 4096;

/// The step of nearly all `values`, which have `scale` decimal places; `None` if they have none
/// beyond the last decimal place.
pub(crate) fn find(values: &[i64], scale: u8) -> Option<Step> {
    let stride = values.len().div_ceil(SAMPLE).max(1);
    let sample: Vec<i64> = values.iter().copied().step_by(stride).collect();
    common_factor(values, scale).or_else(|| mean_step(&sample, scale))
}

/// A whole number of digits that divides the distances of all values.
fn common_factor(values: &[i64], scale: u8) -> Option<Step> {
    let first = i128::from(*values.first()?);
    let factor = values.iter().fold(0, |factor, value| gcd(factor, i128::from(*value) - first));
    let one = 10i128.pow(u32::from(scale));
    let common = gcd(factor, one);
    let up = u32::try_from(factor / common.max(1)).ok()?;
    let parts = u32::try_from(one / common.max(1)).ok()?;
    let is_whole = factor > 1 && factor <= i128::from(u32::MAX >> 1);
    is_whole.then_some(Step { up, parts })
}

/// The coarsest step of a mean of up to [`MEAN_OF_MAX`] decimals of fewer places.
fn mean_step(sample: &[i64], scale: u8) -> Option<Step> {
    let one = 10i64.pow(u32::from(scale));
    let places = (0..scale).map(|places| 10i64.pow(u32::from(places)));
    let mut all: Vec<i64> = places
        .flat_map(|unit| (1..=i64::from(MEAN_OF_MAX)).map(move |readings| unit * readings))
        .filter(|parts| one / parts >= DIGITS_MIN)
        .collect();
    all.sort_unstable();
    let parts = all.into_iter().find(|parts| is_grid(sample, one, *parts))?;
    Some(Step { up: 1, parts: u32::try_from(parts).ok()? })
}

fn is_grid(sample: &[i64], one: i64, parts: i64) -> bool {
    let is_on = |value: &&i64| {
        let (value, one, parts) = (i128::from(**value), i128::from(one), i128::from(parts));
        let point = round_div(value * parts, one);
        round_div(point * one, parts) == value
    };
    sample.iter().filter(is_on).count() * 100 >= sample.len() * ON_GRID_PERCENT
}

fn round_div(dividend: i128, divisor: i128) -> i128 {
    let rounded = (dividend.abs() + divisor / 2) / divisor;
    if dividend < 0 { -rounded } else { rounded }
}

fn gcd(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.abs()
}
