//! The types of a query's columns, for whoever has to declare them before the first row is there.

use super::expr::{Arithmetic, Expr, Literal};
use super::number::Number;
use super::plan::{
    Aggregate, OutputColumn, Parts, SLOT_AGGREGATES, SLOT_END, SLOT_KEY, SLOT_START,
};
use super::window::AggregateKind;
use crate::config::{ColumnType, Format, StreamConfig};
use crate::sparkplug;

/// What a column of a query's rows holds; each may be NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputType {
    /// A time, ms since 1970.
    Time,
    /// Values of one type.
    Column(ColumnType),
    /// Booleans, numbers or texts, as the rows have them.
    Any,
}

/// A column of a query's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: OutputType,
}

/// The type of the column `name` of `source`, where every row that has it has the same.
pub(super) fn declared(source: &StreamConfig, name: &str) -> Option<ColumnType> {
    let fixed = || {
        let is_metrics = source.format == Format::SparkplugB;
        let column = sparkplug::COLUMNS.iter().find(|(column, _)| *column == name);
        column.filter(|_| is_metrics)?.1
    };
    let captured = || source.topic.captures().any(|capture| capture == name);
    source
        .columns
        .get(name)
        .copied()
        .filter(|_| !captured())
        .or_else(fixed)
        .or_else(|| captured().then_some(ColumnType::Text))
}

/// The columns that `parts` writes, in order, of rows of `source`.
pub(super) fn outputs(parts: &Parts, source: &StreamConfig) -> Vec<Output> {
    let rows = |slot: usize| match parts.columns[slot].as_str() {
        name if declared(source, name).is_some() => {
            declared(source, name).map_or(OutputType::Any, OutputType::Column)
        }
        "time" => OutputType::Time,
        "key" => OutputType::Column(ColumnType::Text),
        _ => OutputType::Any,
    };
    let windows = |slot: usize| match slot {
        SLOT_KEY => rows(parts.key),
        SLOT_START | SLOT_END => OutputType::Time,
        _ => aggregate(&parts.aggregates[slot - SLOT_AGGREGATES], &rows),
    };
    let output = |column: &OutputColumn| Output {
        name: column.name.clone(),
        kind: kind(&column.expr, &windows),
    };
    parts.outputs.iter().map(output).collect()
}

fn aggregate(aggregate: &Aggregate, rows: &dyn Fn(usize) -> OutputType) -> OutputType {
    let of = aggregate.argument.as_ref().map(|argument| kind(argument, rows));
    let is_whole = matches!(of, Some(OutputType::Column(ColumnType::Integer) | OutputType::Time));
    OutputType::Column(match aggregate.kind {
        AggregateKind::Count => ColumnType::Integer,
        AggregateKind::Sum | AggregateKind::Minimum | AggregateKind::Maximum if is_whole => {
            ColumnType::Integer
        }
        _ => ColumnType::Double,
    })
}

fn kind(expr: &Expr, slots: &dyn Fn(usize) -> OutputType) -> OutputType {
    use ColumnType::{Boolean, Double, Integer, Text};
    OutputType::Column(match expr {
        Expr::Slot(slot) => return slots(*slot),
        Expr::Literal(Literal::Null) => return OutputType::Any,
        Expr::Literal(Literal::Number(Number::Exact { scale: 0, .. })) => Integer,
        Expr::Literal(Literal::Number(_)) => Double,
        Expr::Literal(Literal::Text(_)) => Text,
        Expr::Negate(inner) => number(&[kind(inner, slots)]),
        Expr::Compute(Arithmetic::Divide, ..) => Double,
        Expr::Compute(_, left, right) => number(&[kind(left, slots), kind(right, slots)]),
        Expr::Literal(Literal::Boolean(_))
        | Expr::Not(_)
        | Expr::And(..)
        | Expr::Or(..)
        | Expr::Compare(..)
        | Expr::IsNull(_)
        | Expr::In(..) => Boolean,
    })
}

/// What is computed of whole numbers is whole.
fn number(of: &[OutputType]) -> ColumnType {
    let whole = [OutputType::Column(ColumnType::Integer), OutputType::Time];
    if of.iter().all(|kind| whole.contains(kind)) {
        ColumnType::Integer
    } else {
        ColumnType::Double
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_columns_of_a_query_have_the_types_of_what_they_compute() {
        let text = "[gateway]\nid = \"g\"\ndata_dir = \"d\"\n[[stream]]\nname = \"s\"\n\
                    topic = \"s/{device}\"\nformat = \"json\"\n\
                    columns = { n = \"integer\", v = \"double\" }\n\
                    [[query]]\nsql = \"\"\"CREATE STREAM q AS SELECT device, window_start, \
                    count(*) AS n, sum(n) AS total, avg(n) AS mean, max(v) AS top, \
                    min(other) AS low, max(n) - min(n) AS span, sum(n) / 2 AS half, \
                    count(*) > 3 AS busy, 'x' AS unit FROM s \
                    GROUP BY device, tumble(INTERVAL '1' MINUTE)\"\"\"\n\
                    [[query]]\nsql = \"CREATE STREAM p AS SELECT what, count(*) AS n FROM s \
                    GROUP BY what, tumble(INTERVAL '1' MINUTE)\"\n";
        let config = Config::parse("test", text).expect("a configuration");
        let kinds = |query: usize| -> Vec<(String, OutputType)> {
            let outputs = config.queries[query].plan.outputs().iter();
            outputs.map(|output| (output.name.clone(), output.kind)).collect()
        };
        let column = OutputType::Column;
        let expected = [
            ("device", column(ColumnType::Text)),
            ("window_start", OutputType::Time),
            ("n", column(ColumnType::Integer)),
            ("total", column(ColumnType::Integer)),
            ("mean", column(ColumnType::Double)),
            ("top", column(ColumnType::Double)),
            ("low", column(ColumnType::Double)),
            ("span", column(ColumnType::Integer)),
            ("half", column(ColumnType::Double)),
            ("busy", column(ColumnType::Boolean)),
            ("unit", column(ColumnType::Text)),
        ];
        assert_eq!(kinds(0), expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(kinds(1)[0], ("what".to_owned(), OutputType::Any));
    }
}
