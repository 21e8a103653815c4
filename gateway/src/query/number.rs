//! Numbers of a query: exact where the input is exact.
//!
//! A decimal or an integer is `mantissa / 10^scale` with an i128 mantissa; what does not fit there
//! goes on as the nearest f64. Infinities and NaN never come in and never come out.

use std::cmp::Ordering;
use std::io::Write;

use headwater_shared::decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Every integer up to this is a double of its own.
const DOUBLE_EXACT: u128 = 1 << 53;
/// Powers of ten up to here are doubles of their own.
const POWER_EXACT: u8 = 22;

/// A finite number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Number {
    /// `mantissa / 10^scale`.
    Exact { mantissa: i128, scale: u8 },
    /// A double.
    Double(f64),
}

impl Number {
    pub(super) fn integer(value: i64) -> Self {
        Self::Exact { mantissa: i128::from(value), scale: 0 }
    }

    pub(super) fn decimal(value: Decimal) -> Self {
        Self::Exact { mantissa: i128::from(value.mantissa), scale: value.scale }
    }

    /// `None` for an infinity or NaN.
    pub(super) fn double(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self::Double(value))
    }

    /// The nearest double.
    pub(super) fn to_f64(self) -> f64 {
        match self {
            Self::Double(value) => value,
            Self::Exact { mantissa, scale }
                if mantissa.unsigned_abs() <= DOUBLE_EXACT && scale <= POWER_EXACT =>
            {
                small(mantissa) / power(scale)
            }
            Self::Exact { .. } => {
                let mut text = Vec::new();
                self.write(&mut text);
                let text = std::str::from_utf8(&text).expect("digits are UTF-8");
                text.parse().expect("digits with a point are a double")
            }
        }
    }

    /// The number, as JSON writes it; an exact one keeps its digits and its scale.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let written = match self {
            Self::Double(value) => serde_json::to_writer(out, &value).map_err(Into::into),
            Self::Exact { mantissa, scale: 0 } => write!(out, "{mantissa}"),
            Self::Exact { mantissa, scale } => {
                let places = usize::from(scale);
                let sign = if mantissa < 0 { "-" } else { "" };
                let digits = format!("{:0>width$}", mantissa.unsigned_abs(), width = places + 1);
                let (whole, fraction) = digits.split_at(digits.len() - places);
                write!(out, "{sign}{whole}.{fraction}")
            }
        };
        written.expect("a Vec takes what is written");
    }

    pub(super) fn add(self, other: Self) -> Option<Self> {
        self.exactly(other, i128::checked_add).or_else(|| self.roughly(other, |a, b| a + b))
    }

    pub(super) fn subtract(self, other: Self) -> Option<Self> {
        self.exactly(other, i128::checked_sub).or_else(|| self.roughly(other, |a, b| a - b))
    }

    pub(super) fn multiply(self, other: Self) -> Option<Self> {
        let exact = match (self, other) {
            (Self::Exact { mantissa: a, scale }, Self::Exact { mantissa: b, scale: more }) => a
                .checked_mul(b)
                .zip(scale.checked_add(more))
                .map(|(mantissa, scale)| Self::Exact { mantissa, scale }),
            _ => None,
        };
        exact.or_else(|| self.roughly(other, |a, b| a * b))
    }

    /// Always a double; `None` for a division by zero.
    pub(super) fn divide(self, other: Self) -> Option<Self> {
        self.roughly(other, |a, b| a / b)
    }

    /// The remainder with the sign of `self`; `None` for a division by zero.
    pub(super) fn remainder(self, other: Self) -> Option<Self> {
        self.exactly(other, i128::checked_rem).or_else(|| self.roughly(other, |a, b| a % b))
    }

    pub(super) fn negate(self) -> Self {
        match self {
            Self::Double(value) => Self::Double(-value),
            Self::Exact { mantissa, scale } => match mantissa.checked_neg() {
                Some(mantissa) => Self::Exact { mantissa, scale },
                None => Self::Double(-self.to_f64()),
            },
        }
    }

    pub(super) fn compare(self, other: Self) -> Ordering {
        match align(self, other) {
            Some((a, b, _)) => a.cmp(&b),
            None => self.to_f64().partial_cmp(&other.to_f64()).expect("numbers are finite"),
        }
    }

    fn exactly(self, other: Self, f: impl Fn(i128, i128) -> Option<i128>) -> Option<Self> {
        let (a, b, scale) = align(self, other)?;
        Some(Self::Exact { mantissa: f(a, b)?, scale })
    }

    fn roughly(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Option<Self> {
        Self::double(f(self.to_f64(), other.to_f64()))
    }
}

/// Both mantissas at the larger of the two scales, where they fit.
fn align(a: Number, b: Number) -> Option<(i128, i128, u8)> {
    let (
        Number::Exact { mantissa: a, scale: a_scale },
        Number::Exact { mantissa: b, scale: b_scale },
    ) = (a, b)
    else {
        return None;
    };
    let scale = a_scale.max(b_scale);
    Some((shift(a, scale - a_scale)?, shift(b, scale - b_scale)?, scale))
}

fn shift(mantissa: i128, places: u8) -> Option<i128> {
    match places {
        0 => Some(mantissa),
        _ => mantissa.checked_mul(10i128.checked_pow(u32::from(places))?),
    }
}

fn power(scale: u8) -> f64 {
    10f64.powi(i32::from(scale))
}

#[expect(clippy::cast_precision_loss, reason = "callers bound it by 2^53")]
fn small(mantissa: i128) -> f64 {
    mantissa as f64
}

/// A sum: exact for exact numbers, compensated (Neumaier's variant of Kahan summation) for doubles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sum {
    count: u64,
    mantissa: i128,
    scale: u8,
    /// A double came in, or the exact part outgrew its i128: the total is a double.
    rough: bool,
    sum: f64,
    compensation: f64,
}

impl Sum {
    pub(super) fn add(&mut self, number: Number) {
        self.count += 1;
        let exact = Number::Exact { mantissa: self.mantissa, scale: self.scale };
        match exact.exactly(number, i128::checked_add) {
            Some(Number::Exact { mantissa, scale }) => {
                (self.mantissa, self.scale) = (mantissa, scale);
            }
            _ => self.add_double(number.to_f64()),
        }
    }

    fn add_double(&mut self, value: f64) {
        self.rough = true;
        let sum = self.sum + value;
        self.compensation += if self.sum.abs() >= value.abs() {
            (self.sum - sum) + value
        } else {
            (value - sum) + self.sum
        };
        self.sum = sum;
    }

    /// `None` where nothing came in, or the doubles ran over.
    pub(super) fn total(&self) -> Option<Number> {
        let exact = Number::Exact { mantissa: self.mantissa, scale: self.scale };
        match (self.count, self.rough) {
            (0, _) => None,
            (_, false) => Some(exact),
            (_, true) => {
                let mut all = *self;
                all.add_double(exact.to_f64());
                Number::double(all.sum + all.compensation)
            }
        }
    }

    /// The double nearest to the exact mean, while the sum has at most 15 digits.
    pub(super) fn mean(&self) -> Option<Number> {
        if !self.rough
            && self.mantissa.unsigned_abs() <= DOUBLE_EXACT
            && self.scale <= POWER_EXACT
            && let Some(divisor) = 10u128.pow(u32::from(self.scale)).checked_mul(self.count.into())
            && (1..=DOUBLE_EXACT).contains(&divisor)
        {
            return Number::double(small(self.mantissa) / small(divisor.cast_signed()));
        }
        let count = Number::Exact { mantissa: self.count.into(), scale: 0 };
        self.total()?.divide(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(mantissa: i128, scale: u8) -> Number {
        Number::Exact { mantissa, scale }
    }

    fn text(number: Number) -> String {
        let mut out = Vec::new();
        number.write(&mut out);
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn decimals_are_written_with_the_digits_they_have() {
        for (number, expected) in [
            (exact(2180, 2), "21.80"),
            (exact(-5, 2), "-0.05"),
            (exact(0, 3), "0.000"),
            (exact(i128::MIN, 0), "-170141183460469231731687303715884105728"),
            (exact(7, 40), "0.0000000000000000000000000000000000000007"),
            (Number::Double(0.1), "0.1"),
            (Number::Double(-3.0), "-3.0"),
        ] {
            assert_eq!(text(number), expected);
        }
    }

    #[test]
    fn arithmetic_is_exact_until_it_does_not_fit() {
        let tenth = exact(1, 1);
        assert_eq!(tenth.add(exact(2, 1)), Some(exact(3, 1)));
        assert_eq!(tenth.subtract(exact(25, 2)), Some(exact(-15, 2)));
        assert_eq!(exact(25, 1).multiply(exact(4, 0)), Some(exact(100, 1)));
        assert_eq!(exact(-75, 1).remainder(exact(2, 0)), Some(exact(-15, 1)));
        assert_eq!(exact(1, 0).divide(exact(4, 0)), Some(Number::Double(0.25)));
        assert_eq!(exact(1, 0).divide(exact(0, 0)), None);
        assert_eq!(exact(1, 0).remainder(exact(0, 0)), None);
        assert_eq!(Number::Double(f64::MAX).multiply(exact(10, 0)), None, "no infinity");
        let large = exact(i128::MAX, 0).add(exact(1, 0)).expect("as a double");
        assert_eq!(large, Number::Double(170_141_183_460_469_231_731_687_303_715_884_105_728.0));
        assert_eq!(exact(i128::MIN, 0).negate(), large);
    }

    #[test]
    fn numbers_of_different_kinds_compare_by_value() {
        assert_eq!(exact(20, 1).compare(exact(200, 2)), Ordering::Equal);
        assert_eq!(exact(201, 2).compare(exact(2, 0)), Ordering::Greater);
        assert_eq!(Number::Double(2.0).compare(exact(2, 0)), Ordering::Equal);
        assert_eq!(Number::Double(0.0).compare(Number::Double(-0.0)), Ordering::Equal);
        assert_eq!(exact(i128::MAX, 0).compare(exact(1, 38)), Ordering::Greater);
    }

    #[test]
    fn a_sum_of_decimals_is_exact_and_of_doubles_compensated() {
        let mut sum = Sum::default();
        assert_eq!((sum.total(), sum.mean()), (None, None));
        for _ in 0..10 {
            sum.add(exact(1, 1));
        }
        assert_eq!(sum.total(), Some(exact(10, 1)));
        assert_eq!(sum.mean(), Some(Number::Double(0.1)));
        let mut sum = Sum::default();
        for value in [1.0, 1e100, 1.0, -1e100] {
            sum.add(Number::Double(value));
        }
        assert_eq!(sum.total(), Some(Number::Double(2.0)));
        sum.add(exact(5, 1));
        assert_eq!(sum.total(), Some(Number::Double(2.5)));
    }

    #[test]
    fn a_sum_that_outgrows_its_digits_goes_on_as_a_double() {
        let mut sum = Sum::default();
        sum.add(exact(i128::MAX, 0));
        sum.add(exact(i128::MAX, 0));
        assert_eq!(sum.total(), Some(Number::Double(2.0 * 2f64.powi(127))));
        assert_eq!(sum.mean(), Some(Number::Double(2f64.powi(127))));
    }

    proptest! {
        #[test]
        fn the_double_of_an_exact_number_is_the_nearest_to_its_text(
            mantissa: i128,
            scale in 0..=60u8,
        ) {
            let number = exact(mantissa, scale);
            prop_assert_eq!(number.to_f64(), text(number).parse::<f64>().expect("a number"));
        }
    }
}
