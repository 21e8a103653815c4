//! A checked query: what is read, what is gathered per window, what is written.

use std::sync::Arc;

use super::expr::{Expr, Literal};
use super::sql::{self, Item, Name, Node, Place, Statement, Syntax};
use super::types::{self, Output};
use super::window::AggregateKind;
use crate::config::{ColumnType, Format, StreamConfig};
use crate::sparkplug;

/// The longest name of a query.
const NAME_BYTES_MAX: usize = 64;

/// What a window offers to the output columns, before its aggregates.
pub(super) const SLOT_KEY: usize = 0;
pub(super) const SLOT_START: usize = 1;
pub(super) const SLOT_END: usize = 2;
pub(super) const SLOT_AGGREGATES: usize = 3;

/// A parsed and checked statement. Clones share it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) parts: Arc<Parts>,
    outputs: Arc<[Output]>,
}

/// What a plan consists of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) name: String,
    /// The statement in one layout: a checkpoint belongs to the statement that wrote it.
    pub(super) canonical: String,
    /// The stream that is read.
    pub(super) source: String,
    pub(super) lateness_ms: i64,
    pub(super) idle_ms: i64,
    /// The columns of the source that are used; slots of `filter`, `key` and aggregates' arguments.
    pub(super) columns: Vec<String>,
    pub(super) filter: Option<Expr>,
    /// The slot of the column that rows are grouped by.
    pub(super) key: usize,
    /// The length of a window.
    pub(super) size_ms: i64,
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) outputs: Vec<OutputColumn>,
}

/// An aggregate; without an argument it counts rows.
#[derive(Debug, PartialEq)]
pub(super) struct Aggregate {
    pub(super) kind: AggregateKind,
    pub(super) argument: Option<Expr>,
}

/// A column of the output: a value computed of a window's slots.
#[derive(Debug)]
pub(super) struct OutputColumn {
    pub(super) name: String,
    /// `"name":`, as JSON has it.
    pub(super) label: String,
    pub(super) expr: Expr,
}

impl Plan {
    /// Parses and checks `CREATE STREAM name AS SELECT ... FROM stream [WHERE ...] GROUP BY column,
    /// tumble(INTERVAL ...)`.
    ///
    /// # Errors
    /// A text with the place in the SQL, what is wrong and what to write instead.
    pub fn parse(sql: &str, streams: &[StreamConfig]) -> Result<Self, String> {
        let statement = sql::parse(sql)?;
        let Some(name) = &statement.name else {
            let fault =
                "a query of the configuration needs a name: CREATE STREAM name AS SELECT ...";
            return Err(statement.place.fault(fault));
        };
        let name = check_name(name)?;
        let source = find(&statement.source, streams)?;
        let mut planner = Planner {
            source,
            alias: statement.alias.as_deref(),
            columns: Vec::new(),
            aggregates: Vec::new(),
            key: None,
        };
        let parts = planner.plan(name, &statement)?;
        let outputs = types::outputs(&parts, source).into();
        Ok(Self { parts: Arc::new(parts), outputs })
    }

    /// The query, which is also the name of its stream.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// The stream that it reads.
    pub fn source(&self) -> &str {
        &self.parts.source
    }

    /// The columns of its rows, in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }
}

/// Names go into topics, file names and metrics, as those of streams do.
fn check_name(name: &Name) -> Result<String, String> {
    let text = &name.text;
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        && !text.starts_with('.');
    if !fits {
        return Err(name.place.fault(format!(
            "{text:?} is not a name: use 1 to {NAME_BYTES_MAX} of a-z A-Z 0-9 _ - ."
        )));
    }
    if [".late", ".rejected", ".dead"].iter().any(|end| text.ends_with(end)) {
        return Err(name.place.fault(format!("{text:?} is taken; choose another name")));
    }
    Ok(text.clone())
}

fn find<'a>(name: &Name, streams: &'a [StreamConfig]) -> Result<&'a StreamConfig, String> {
    streams.iter().find(|stream| stream.name == name.text).ok_or_else(|| {
        let known: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        name.place.fault(format!(
            "there is no stream {:?} to select from; configured streams: {known}",
            name.text
        ))
    })
}

struct Planner<'a> {
    source: &'a StreamConfig,
    alias: Option<&'a str>,
    columns: Vec<String>,
    aggregates: Vec<Aggregate>,
    /// The column that rows are grouped by, once it is known.
    key: Option<String>,
}

/// Where an expression stands decides what it may name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Rows: columns of the source.
    Rows,
    /// Windows: the key, the window's ends, aggregates.
    Windows,
}

impl Planner<'_> {
    fn plan(&mut self, name: String, statement: &Statement) -> Result<Parts, String> {
        let filter =
            statement.filter.as_ref().map(|node| self.expr(node, Stage::Rows)).transpose()?;
        let (key, size_ms) = self.groups(statement)?;
        let mut outputs: Vec<OutputColumn> = Vec::new();
        for item in &statement.items {
            let name = output_name(item)?;
            if outputs.iter().any(|other| other.name == name) {
                let fault = format!("two columns are called {name}; name one with AS other_name");
                return Err(item.node.place.fault(fault));
            }
            let expr = self.expr(&item.node, Stage::Windows)?;
            let label = format!("{}:", serde_json::Value::String(name.clone()));
            outputs.push(OutputColumn { name, label, expr });
        }
        Ok(Parts {
            name,
            canonical: statement.canonical.clone(),
            source: self.source.name.clone(),
            lateness_ms: millis(self.source.lateness),
            idle_ms: millis(self.source.idle),
            columns: std::mem::take(&mut self.columns),
            filter,
            key,
            size_ms,
            aggregates: std::mem::take(&mut self.aggregates),
            outputs,
        })
    }

    /// The slot of the key and the length of the window.
    fn groups(&mut self, statement: &Statement) -> Result<(usize, i64), String> {
        let (mut key, mut size_ms) = (None, None);
        for group in &statement.groups {
            match &group.syntax {
                Syntax::Call { name, arguments } if name == "tumble" && size_ms.is_none() => {
                    size_ms = Some(tumble(group.place, arguments)?);
                }
                Syntax::Column { name, .. } if key.is_none() => {
                    let slot = self.expr(group, Stage::Rows)?;
                    let Expr::Slot(slot) = slot else { unreachable!("a column is a slot") };
                    self.key = Some(name.clone());
                    key = Some(slot);
                }
                Syntax::Call { name, .. } if matches!(name.as_str(), "hop" | "session") => {
                    let fault = format!("this version has no {name} windows yet; write tumble");
                    return Err(group.place.fault(fault));
                }
                _ => return Err(group.place.fault(GROUPS)),
            }
        }
        match (key, size_ms) {
            (Some(key), Some(size_ms)) => Ok((key, size_ms)),
            _ => Err(statement.place.fault(GROUPS)),
        }
    }

    fn expr(&mut self, node: &Node, stage: Stage) -> Result<Expr, String> {
        let mut child = |node: &Node| self.expr(node, stage).map(Box::new);
        Ok(match &node.syntax {
            Syntax::Literal(literal) => Expr::Literal(literal.clone()),
            Syntax::Not(inner) => Expr::Not(child(inner)?),
            Syntax::Negate(inner) => Expr::Negate(child(inner)?),
            Syntax::IsNull(inner) => Expr::IsNull(child(inner)?),
            Syntax::And(left, right) => Expr::And(child(left)?, child(right)?),
            Syntax::Or(left, right) => Expr::Or(child(left)?, child(right)?),
            Syntax::Compare(comparison, left, right) => {
                if [left, right].iter().any(|side| is_null(side)) {
                    let fault = "nothing compares with NULL; write IS NULL or IS NOT NULL";
                    return Err(node.place.fault(fault));
                }
                Expr::Compare(*comparison, child(left)?, child(right)?)
            }
            Syntax::Compute(operator, left, right) => {
                Expr::Compute(*operator, child(left)?, child(right)?)
            }
            Syntax::In(inner, list) => {
                let inner = child(inner)?;
                let list = list.iter().map(|item| self.expr(item, stage));
                Expr::In(inner, list.collect::<Result<_, _>>()?)
            }
            Syntax::Between(inner, low, high) => {
                use super::expr::Comparison::{GreaterOrEqual, LessOrEqual};
                let low = Expr::Compare(GreaterOrEqual, child(inner)?, child(low)?);
                let high = Expr::Compare(LessOrEqual, child(inner)?, child(high)?);
                Expr::And(Box::new(low), Box::new(high))
            }
            Syntax::Column { table, name, quoted } => {
                self.check_table(node.place, table.as_deref())?;
                match stage {
                    Stage::Rows => Expr::Slot(self.row_column(node.place, name, *quoted)?),
                    Stage::Windows => self.window_column(node.place, name, *quoted)?,
                }
            }
            Syntax::Call { name, arguments } => self.call(node.place, name, arguments, stage)?,
            Syntax::Star => return Err(node.place.fault("* is possible in count(*) only")),
            Syntax::Interval(_) => {
                let fault = "an interval is possible in tumble(INTERVAL ...) only";
                return Err(node.place.fault(fault));
            }
        })
    }

    fn check_table(&self, place: Place, table: Option<&str>) -> Result<(), String> {
        match table {
            Some(table) if table != self.source.name && Some(table) != self.alias => Err(place
                .fault(format!(
                    "{table:?} is not selected from; write {}.column or the column alone",
                    self.source.name
                ))),
            _ => Ok(()),
        }
    }

    fn row_column(&mut self, place: Place, name: &str, quoted: bool) -> Result<usize, String> {
        if !quoted && is_window_end(name).is_some() {
            return Err(place.fault(format!(
                "{name} is not known before rows are grouped; write it in SELECT, or time here"
            )));
        }
        let columns = fixed_columns(self.source.format);
        let known: Vec<&str> = self.source.topic.captures().chain(columns.clone()).collect();
        let is_known = known.contains(&name) || matches!(name, "time" | "key");
        if !columns.is_empty() && !is_known {
            return Err(place.fault(format!(
                "the stream {} has no column {name}; it has: {}, time, key",
                self.source.name,
                known.join(", ")
            )));
        }
        if let Some(slot) = self.columns.iter().position(|column| column == name) {
            return Ok(slot);
        }
        self.columns.push(name.to_owned());
        Ok(self.columns.len() - 1)
    }

    fn window_column(&self, place: Place, name: &str, quoted: bool) -> Result<Expr, String> {
        if !quoted && let Some(slot) = is_window_end(name) {
            return Ok(Expr::Slot(slot));
        }
        if self.key.as_deref() == Some(name) {
            return Ok(Expr::Slot(SLOT_KEY));
        }
        Err(place.fault(format!(
            "a window has many values of {name}; write an aggregate like avg({name}), or group by it"
        )))
    }

    fn call(
        &mut self,
        place: Place,
        name: &str,
        arguments: &[Node],
        stage: Stage,
    ) -> Result<Expr, String> {
        let kind = match name {
            "count" => AggregateKind::Count,
            "sum" => AggregateKind::Sum,
            "avg" => AggregateKind::Average,
            "min" => AggregateKind::Minimum,
            "max" => AggregateKind::Maximum,
            "tumble" => return Err(place.fault("tumble(...) is possible in GROUP BY only")),
            _ => {
                let fault = format!("there is no {name}(...); there are count, sum, avg, min, max");
                return Err(place.fault(fault));
            }
        };
        if stage == Stage::Rows {
            return Err(place.fault(format!(
                "{name}(...) is known of whole windows only; write it in SELECT, once"
            )));
        }
        let argument = match arguments {
            [Node { syntax: Syntax::Star, .. }] if kind == AggregateKind::Count => None,
            [argument] => {
                self.check_number(kind, argument)?;
                Some(self.expr(argument, Stage::Rows)?)
            }
            _ => return Err(place.fault(format!("{name} takes one argument"))),
        };
        let aggregate = Aggregate { kind, argument };
        let known = self.aggregates.iter().position(|other| *other == aggregate);
        let index = known.unwrap_or_else(|| {
            self.aggregates.push(aggregate);
            self.aggregates.len() - 1
        });
        Ok(Expr::Slot(SLOT_AGGREGATES + index))
    }

    fn check_number(&self, kind: AggregateKind, argument: &Node) -> Result<(), String> {
        let Syntax::Column { name, .. } = &argument.syntax else { return Ok(()) };
        let declared = types::declared(self.source, name);
        let number = !matches!(declared, Some(ColumnType::Text | ColumnType::Boolean));
        if number || kind == AggregateKind::Count {
            return Ok(());
        }
        let fault = format!("{name} is no number; of it there is count({name})");
        Err(argument.place.fault(fault))
    }
}

const GROUPS: &str = "a query groups by one column and one window: GROUP BY device, \
                      tumble(INTERVAL '1' MINUTE)";

/// The columns of a format that has always the same.
fn fixed_columns(format: Format) -> Vec<&'static str> {
    match format {
        Format::Bytes => vec!["topic", "payload"],
        Format::SparkplugB => sparkplug::COLUMNS.iter().map(|(name, _)| *name).collect(),
        Format::Json | Format::Blocks => Vec::new(),
    }
}

fn tumble(place: Place, arguments: &[Node]) -> Result<i64, String> {
    match arguments {
        [Node { syntax: Syntax::Interval(size_ms), .. }] => Ok(*size_ms),
        _ => Err(place.fault(
            "tumble takes the length of a window, tumble(INTERVAL '1' MINUTE); its time is the \
             event time of the stream",
        )),
    }
}

fn is_window_end(name: &str) -> Option<usize> {
    match name.to_ascii_lowercase().as_str() {
        "window_start" => Some(SLOT_START),
        "window_end" => Some(SLOT_END),
        _ => None,
    }
}

fn is_null(node: &Node) -> bool {
    matches!(node.syntax, Syntax::Literal(Literal::Null))
}

/// The alias, or the name that the item has by itself.
fn output_name(item: &Item) -> Result<String, String> {
    match (&item.alias, &item.node.syntax) {
        (Some(alias), _) => Ok(alias.clone()),
        (None, Syntax::Column { name, .. } | Syntax::Call { name, .. }) => Ok(name.clone()),
        _ => Err(item.node.place.fault("this column needs a name: write ... AS name behind it")),
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
