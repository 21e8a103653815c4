//! Reads a file of readings and says what channel a node would make of it.

use headwater_shared::block::{Kind, SCALE_MAX, Value};
use headwater_shared::decimal::{Decimal, DecimalError};
use std::collections::BTreeMap;

use crate::grid;

pub(crate) struct Series {
    pub(crate) period_ms: u32,
    pub(crate) kind: Kind,
    pub(crate) times_ms: Vec<u64>,
    pub(crate) readings: Readings,
    /// Why it is of this kind.
    pub(crate) why: String,
}

pub(crate) enum Readings {
    Decimals(Vec<i64>),
    Floats(Vec<f64>),
}

impl Series {
    pub(crate) fn is_decimal(&self) -> bool {
        matches!(self.readings, Readings::Decimals(_))
    }

    /// True if the reading at `index` is this one, bit for bit.
    pub(crate) fn is_at(&self, index: usize, time_ms: u64, value: Value<'_>) -> bool {
        let is_value = match (&self.readings, value) {
            (Readings::Decimals(values), Value::Decimal(value)) => {
                values.get(index) == Some(&value)
            }
            (Readings::Floats(values), Value::Float64(value)) => {
                values.get(index).is_some_and(|float| float.to_bits() == value.to_bits())
            }
            _ => false,
        };
        is_value && self.times_ms.get(index) == Some(&time_ms)
    }
}

/// A value of a file: what it is as a decimal, and as a float.
struct Parsed {
    decimal: Option<Decimal>,
    float: f64,
}

/// Reads `<unix ms> <value>` lines; `round` rounds the values to so many places first.
///
/// # Errors
/// The line and what is wrong with it.
pub(crate) fn parse(text: &str, round: Option<usize>) -> Result<Series, String> {
    let mut times_ms = Vec::new();
    let mut values = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let Some(time) = words.next() else { continue };
        let number = index + 1;
        let (Some(value), None) = (words.next(), words.next()) else {
            return Err(format!("line {number}: not `<unix ms> <value>`: {line:?}"));
        };
        let time_ms = time.parse::<i64>();
        let time_ms =
            time_ms.map_err(|_| format!("line {number}: the time {time:?} is no integer of ms"))?;
        times_ms.push(time_ms.cast_unsigned());
        values.push(
            parse_value(value, round)
                .ok_or_else(|| format!("line {number}: the value {value:?} is no number"))?,
        );
    }
    if values.is_empty() {
        return Err("no readings".to_owned());
    }
    let period_ms = period_ms(&times_ms);
    let (kind, readings, why) = channel(&values);
    Ok(Series { period_ms, kind, times_ms, readings, why })
}

fn parse_value(text: &str, round: Option<usize>) -> Option<Parsed> {
    let float: f64 = text.parse().ok()?;
    let text = match round {
        Some(places) if float.is_finite() => format!("{float:.places$}"),
        _ => text.to_owned(),
    };
    let decimal = if float.is_finite() { decimal(&text, float) } else { None };
    Some(Parsed { decimal, float: text.parse().unwrap_or(float) })
}

/// The decimal that `text` says, exactly; minus zero is zero.
fn decimal(text: &str, float: f64) -> Option<Decimal> {
    match text.parse() {
        Ok(decimal) => Some(decimal),
        // Written otherwise, as 1.5e-3 or .5; this is never an exponent.
        Err(DecimalError::Syntax) => format!("{float}").parse().ok(),
        Err(DecimalError::Scale) => text.trim_end_matches('0').parse().ok(),
        Err(DecimalError::Range) => None,
    }
}

/// What a node would make of the values, and why.
fn channel(values: &[Parsed]) -> (Kind, Readings, String) {
    let scale = values.iter().filter_map(|value| value.decimal).map(|d| d.scale).max();
    let scale = scale.unwrap_or(0);
    let digits = |value: &Parsed| value.decimal.and_then(|decimal| decimal.mantissa_at(scale));
    let decimals: Option<Vec<i64>> = values.iter().map(digits).collect();
    let Some(decimals) = decimals else {
        let others = values.iter().filter(|value| digits(value).is_none()).count();
        let why = format!(
            "floats of 64 bits: {others} values are no decimals of {SCALE_MAX} places in 64 bits"
        );
        let floats = values.iter().map(|value| value.float).collect();
        return (Kind::Float64, Readings::Floats(floats), why);
    };
    let (kind, grid) = match grid::find(&decimals, scale) {
        Some(step) => {
            (Kind::Grid { scale, step }, format!(", steps of {}/{}", step.up, step.parts))
        }
        None => (Kind::Decimal { scale }, String::new()),
    };
    (kind, Readings::Decimals(decimals), format!("{scale} decimals{grid}"))
}

/// The commonest distance of two readings: what a node would name as its period.
fn period_ms(times_ms: &[u64]) -> u32 {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for pair in times_ms.windows(2) {
        *counts.entry(pair[1].wrapping_sub(pair[0])).or_default() += 1;
    }
    let commonest = counts.into_iter().max_by_key(|(_, count)| *count);
    commonest.and_then(|(distance, _)| u32::try_from(distance).ok()).unwrap_or(0)
}
