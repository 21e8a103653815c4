//! Expressions over a row, with SQL's three-valued logic.

use std::cmp::Ordering;

use super::number::Number;
use crate::stream::{Row, Value};

/// A value while an expression is computed; texts are borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Boolean(bool),
    Number(Number),
    Text(&'a str),
    /// An array or object: there, and no more is known of it.
    Opaque,
}

impl<'a> From<&'a Value> for Scalar<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Boolean(value) => Self::Boolean(*value),
            Value::Integer(value) => Self::Number(Number::integer(*value)),
            Value::Double(value) => Number::double(*value).map_or(Self::Null, Self::Number),
            Value::Decimal(value) => Self::Number(Number::decimal(*value)),
            Value::Text(text) => Self::Text(text),
            Value::Json(_) => Self::Opaque,
        }
    }
}

/// Where an expression finds the values of its slots.
pub(super) trait Slots {
    fn slot(&self, index: usize) -> Scalar<'_>;
}

/// The columns of a row that a plan uses.
pub(super) struct RowSlots<'a> {
    pub(super) row: &'a Row,
    pub(super) columns: &'a [String],
}

impl Slots for RowSlots<'_> {
    fn slot(&self, index: usize) -> Scalar<'_> {
        let name = self.columns[index].as_str();
        match (self.row.columns.get(name), name) {
            (Some(value), _) => value.into(),
            (None, "time") => Scalar::Number(Number::integer(self.row.time_ms)),
            (None, "key") => Scalar::Text(&self.row.key),
            (None, _) => Scalar::Null,
        }
    }
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Boolean(bool),
    Number(Number),
    Text(String),
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What is computed of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// An expression over slots: the columns of a row, or the cells of a window.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Slot(usize),
    Literal(Literal),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    Compute(Arithmetic, Box<Expr>, Box<Expr>),
    IsNull(Box<Expr>),
    In(Box<Expr>, Vec<Expr>),
}

impl Expr {
    /// The value. What has none (a division by zero, a text as a number) is NULL.
    pub(super) fn value<'a>(&'a self, slots: &'a dyn Slots) -> Scalar<'a> {
        match self {
            Self::Slot(index) => slots.slot(*index),
            Self::Literal(literal) => match literal {
                Literal::Null => Scalar::Null,
                Literal::Boolean(value) => Scalar::Boolean(*value),
                Literal::Number(number) => Scalar::Number(*number),
                Literal::Text(text) => Scalar::Text(text),
            },
            Self::Negate(inner) => match inner.value(slots) {
                Scalar::Number(number) => Scalar::Number(number.negate()),
                _ => Scalar::Null,
            },
            Self::Compute(operator, left, right) => {
                let (Scalar::Number(left), Scalar::Number(right)) =
                    (left.value(slots), right.value(slots))
                else {
                    return Scalar::Null;
                };
                let number = match operator {
                    Arithmetic::Add => left.add(right),
                    Arithmetic::Subtract => left.subtract(right),
                    Arithmetic::Multiply => left.multiply(right),
                    Arithmetic::Divide => left.divide(right),
                    Arithmetic::Remainder => left.remainder(right),
                };
                number.map_or(Scalar::Null, Scalar::Number)
            }
            _ => self.truth(slots).map_or(Scalar::Null, Scalar::Boolean),
        }
    }

    /// True, false, or `None` for unknown.
    pub(super) fn truth(&self, slots: &dyn Slots) -> Option<bool> {
        match self {
            Self::Not(inner) => inner.truth(slots).map(|truth| !truth),
            Self::And(left, right) => match (left.truth(slots), right.truth(slots)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(left, right) => match (left.truth(slots), right.truth(slots)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Compare(comparison, left, right) => {
                compare(left.value(slots), right.value(slots)).map(|order| match comparison {
                    Comparison::Equal => order.is_eq(),
                    Comparison::NotEqual => order.is_ne(),
                    Comparison::Less => order.is_lt(),
                    Comparison::LessOrEqual => order.is_le(),
                    Comparison::Greater => order.is_gt(),
                    Comparison::GreaterOrEqual => order.is_ge(),
                })
            }
            Self::IsNull(inner) => Some(inner.value(slots) == Scalar::Null),
            Self::In(inner, list) => {
                let value = inner.value(slots);
                let mut unknown = false;
                for item in list {
                    match compare(value, item.value(slots)) {
                        Some(Ordering::Equal) => return Some(true),
                        Some(_) => {}
                        None => unknown = true,
                    }
                }
                (!unknown).then_some(false)
            }
            Self::Slot(_) | Self::Literal(_) | Self::Negate(_) | Self::Compute(..) => {
                match self.value(slots) {
                    Scalar::Boolean(truth) => Some(truth),
                    _ => None,
                }
            }
        }
    }
}

/// `None` where the two cannot be compared: NULL, or values of different kinds.
fn compare(left: Scalar<'_>, right: Scalar<'_>) -> Option<Ordering> {
    match (left, right) {
        (Scalar::Number(left), Scalar::Number(right)) => Some(left.compare(right)),
        (Scalar::Text(left), Scalar::Text(right)) => Some(left.cmp(right)),
        (Scalar::Boolean(left), Scalar::Boolean(right)) => Some(left.cmp(&right)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Vec<Value>);

    impl Slots for Fixed {
        fn slot(&self, index: usize) -> Scalar<'_> {
            (&self.0[index]).into()
        }
    }

    fn slot(index: usize) -> Box<Expr> {
        Box::new(Expr::Slot(index))
    }

    #[test]
    fn unknown_follows_sql() {
        let slots = Fixed(vec![Value::Null, Value::Boolean(true), Value::Boolean(false)]);
        let and = |a, b| Expr::And(slot(a), slot(b)).truth(&slots);
        let or = |a, b| Expr::Or(slot(a), slot(b)).truth(&slots);
        assert_eq!((and(0, 1), and(0, 2), and(1, 1)), (None, Some(false), Some(true)));
        assert_eq!((or(0, 1), or(0, 2), or(2, 2)), (Some(true), None, Some(false)));
        assert_eq!(Expr::Not(slot(0)).truth(&slots), None);
        assert_eq!(Expr::IsNull(slot(0)).truth(&slots), Some(true));
        assert_eq!(Expr::In(slot(1), vec![*slot(0), *slot(2)]).truth(&slots), None);
        assert_eq!(Expr::In(slot(1), vec![*slot(0), *slot(1)]).truth(&slots), Some(true));
        assert_eq!(Expr::In(slot(1), vec![*slot(2)]).truth(&slots), Some(false));
    }

    #[test]
    fn values_of_different_kinds_are_not_compared() {
        let slots = Fixed(vec![
            Value::Integer(1),
            Value::Text("1".to_owned()),
            Value::Double(f64::NAN),
            Value::Json(serde_json::json!([1])),
        ]);
        let equal = |a, b| Expr::Compare(Comparison::Equal, slot(a), slot(b)).truth(&slots);
        assert_eq!(equal(0, 0), Some(true));
        assert_eq!((equal(0, 1), equal(2, 2), equal(3, 3)), (None, None, None));
        assert_eq!(Expr::IsNull(slot(2)).truth(&slots), Some(true), "NaN is no value");
        assert_eq!(Expr::IsNull(slot(3)).truth(&slots), Some(false));
    }

    #[test]
    fn what_cannot_be_computed_is_null() {
        let slots = Fixed(vec![Value::Integer(1), Value::Integer(0), Value::Text("x".to_owned())]);
        let divide = |a, b| Expr::Compute(Arithmetic::Divide, slot(a), slot(b));
        assert_eq!(divide(0, 1).value(&slots), Scalar::Null);
        assert_eq!(divide(0, 2).value(&slots), Scalar::Null);
        assert_eq!(Expr::Negate(slot(2)).value(&slots), Scalar::Null);
    }
}
