//! A value of a channel: an integer and the place of its point.

use crate::block::SCALE_MAX;
use core::fmt;
use core::str::FromStr;

/// The number `mantissa / 10^scale`, exactly.
///
/// Equality is that of the two fields: `2.0` is not `2.00`; see [`Decimal::normalized`].
///
/// ```
/// use headwater_shared::decimal::Decimal;
///
/// let value = Decimal { mantissa: -5, scale: 2 };
/// assert_eq!(value.to_string(), "-0.05");
/// assert_eq!("-0.05".parse(), Ok(value));
/// assert_eq!(value.to_f64(), -0.05);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decimal {
    /// The digits.
    pub mantissa: i64,
    /// How many of them stand behind the point.
    pub scale: u8,
}

impl Decimal {
    /// The nearest f64, which is what parsing the text gives, while the mantissa is within 2^53 and
    /// the scale within 22; else within a few units in the last place.
    pub fn to_f64(self) -> f64 {
        let power = (0..self.scale).fold(1.0, |power, _| power * 10.0);
        self.mantissa as f64 / power
    }

    /// The same number without zeros at the end of its fraction.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        while self.scale > 0 && self.mantissa % 10 == 0 {
            self.mantissa /= 10;
            self.scale -= 1;
        }
        self
    }

    /// The mantissa that the number has at another scale; `None` if it is not exact there or too
    /// large.
    pub fn mantissa_at(self, scale: u8) -> Option<i64> {
        let exact = self.normalized();
        if exact.mantissa == 0 {
            return Some(0);
        }
        let places = scale.checked_sub(exact.scale)?;
        exact.mantissa.checked_mul(10i64.checked_pow(u32::from(places))?)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = self.mantissa.unsigned_abs();
        let places = usize::from(self.scale);
        if places == 0 {
            return write!(f, "{sign}{digits}");
        }
        match 10u64.checked_pow(u32::from(self.scale)) {
            Some(one) => write!(f, "{sign}{}.{:0places$}", digits / one, digits % one),
            None => write!(f, "{sign}0.{digits:0places$}"),
        }
    }
}

/// Why a text is not a [`Decimal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalError {
    /// Not `[+-]digits[.digits]`.
    Syntax,
    /// More than [`SCALE_MAX`] digits behind the point.
    Scale,
    /// More than an i64 holds.
    Range,
}

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => f.write_str("not a decimal number: write it like -12.34"),
            Self::Scale => write!(f, "more than {SCALE_MAX} decimal places: round it"),
            Self::Range => f.write_str("more digits than 64 bits hold: round it"),
        }
    }
}

impl core::error::Error for DecimalError {}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let sign = if text.starts_with('-') { -1 } else { 1 };
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) if is_number(fraction) => (whole, fraction),
            Some(_) => return Err(DecimalError::Syntax),
            None => (digits, ""),
        };
        if !is_number(whole) {
            return Err(DecimalError::Syntax);
        }
        if fraction.len() > usize::from(SCALE_MAX) {
            return Err(DecimalError::Scale);
        }
        let mantissa = whole.bytes().chain(fraction.bytes()).try_fold(0i64, |mantissa, digit| {
            mantissa.checked_mul(10)?.checked_add(sign * i64::from(digit - b'0'))
        });
        let mantissa = mantissa.ok_or(DecimalError::Range)?;
        Ok(Self { mantissa, scale: fraction.len() as u8 })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::ToString;

    fn decimal(mantissa: i64, scale: u8) -> Decimal {
        Decimal { mantissa, scale }
    }

    #[test]
    fn the_text_has_the_point_where_the_scale_says() {
        for (mantissa, scale, text) in [
            (2179, 2, "21.79"),
            (-5, 2, "-0.05"),
            (2180, 2, "21.80"),
            (0, 1, "0.0"),
            (42, 0, "42"),
            (i64::MIN, 0, "-9223372036854775808"),
            (i64::MIN, 9, "-9223372036.854775808"),
            (i64::MAX, 19, "0.9223372036854775807"),
            (-7, 22, "-0.0000000000000000000007"),
        ] {
            assert_eq!(decimal(mantissa, scale).to_string(), text);
        }
    }

    #[test]
    fn a_text_that_is_no_decimal_says_why() {
        for text in ["", "-", ".5", "5.", "1e3", "0x1", "1.2.3", " 1", "--1", "NaN", "1,5", "١"] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::Syntax), "{text:?}");
        }
        assert_eq!("0.1234567890".parse::<Decimal>(), Err(DecimalError::Scale));
        assert_eq!("9223372036854775808".parse::<Decimal>(), Err(DecimalError::Range));
        assert_eq!("-9223372036854775808".parse(), Ok(decimal(i64::MIN, 0)));
        assert_eq!("+1.50".parse(), Ok(decimal(150, 2)));
    }

    #[test]
    fn a_number_moves_to_a_scale_only_exactly() {
        assert_eq!(decimal(2180, 2).mantissa_at(1), Some(218));
        assert_eq!(decimal(2179, 2).mantissa_at(1), None);
        assert_eq!(decimal(2179, 2).mantissa_at(4), Some(217_900));
        assert_eq!(decimal(i64::MAX, 0).mantissa_at(1), None);
        assert_eq!(decimal(1, 0).mantissa_at(u8::MAX), None);
        assert_eq!(decimal(0, u8::MAX).mantissa_at(3), Some(0));
    }

    proptest! {
        #[test]
        fn text_there_and_back_is_the_same(mantissa: i64, scale in 0..=SCALE_MAX) {
            let value = decimal(mantissa, scale);
            prop_assert_eq!(value.to_string().parse(), Ok(value));
        }

        #[test]
        fn the_float_is_the_one_nearest_to_the_text(
            mantissa in -(1i64 << 53)..=1 << 53,
            scale in 0..=22u8,
        ) {
            let value = decimal(mantissa, scale);
            prop_assert_eq!(Ok(value.to_f64()), value.to_string().parse());
        }

        #[test]
        fn any_text_gives_a_decimal_or_an_error(text in "[-+.0-9e]{0,30}") {
            if let Ok(value) = text.parse::<Decimal>() {
                prop_assert_eq!(format!("{value}").parse(), Ok(value));
            }
        }
    }
}
