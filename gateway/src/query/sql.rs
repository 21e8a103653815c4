//! SQL text to a small syntax tree of our own, by sqlparser. What the tree has no place for is
//! refused here, with line, column and what to write instead.

use std::fmt;

use sqlparser::ast::{
    BinaryOperator, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    GroupByExpr, Ident, Interval, Query, Select, SelectItem, SetExpr, Spanned, TableFactor,
    TableWithJoins, UnaryOperator, Value,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::expr::{Arithmetic, Comparison, Literal};
use super::number::Number;

/// Longer statements are refused, which bounds what parsing costs.
const SQL_BYTES_MAX: usize = 16 << 10;
/// Statements of more words and signs are refused: sqlparser's trees of long sums are as deep as
/// they are long, and it walks them by recursion.
const TOKENS_MAX: usize = 1000;
/// Deeper expressions are refused, which bounds the stack.
const DEPTH_MAX: usize = 100;

/// A place in the text; line and column count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: u64,
    column: u64,
}

impl Place {
    /// A message about this place.
    pub(super) fn fault(self, what: impl fmt::Display) -> String {
        format!("line {}, column {} of the SQL: {what}", self.line, self.column)
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self { line: location.line.max(1), column: location.column.max(1) }
    }
}

/// `CREATE STREAM name AS SELECT items FROM source WHERE filter GROUP BY groups`.
pub(super) struct Statement {
    /// Name and place; `None` without `CREATE STREAM`.
    pub(super) name: Option<Name>,
    pub(super) items: Vec<Item>,
    pub(super) source: Name,
    /// What the source is called in the statement, where it has another name there.
    pub(super) alias: Option<String>,
    pub(super) filter: Option<Node>,
    pub(super) groups: Vec<Node>,
    /// Where the SELECT is.
    pub(super) place: Place,
    /// The statement, written as sqlparser writes it: the same for any layout.
    pub(super) canonical: String,
}

pub(super) struct Name {
    pub(super) text: String,
    pub(super) place: Place,
}

/// One of what is selected.
pub(super) struct Item {
    pub(super) node: Node,
    pub(super) alias: Option<String>,
}

/// An expression and where it is.
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) syntax: Syntax,
}

pub(super) enum Syntax {
    /// A column; `quoted` keeps it from being a word of the language.
    Column {
        table: Option<String>,
        name: String,
        quoted: bool,
    },
    Literal(Literal),
    /// A time span in ms.
    Interval(i64),
    /// The `*` of `count(*)`.
    Star,
    /// A call, its name in lower case.
    Call {
        name: String,
        arguments: Vec<Node>,
    },
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    Compute(Arithmetic, Box<Node>, Box<Node>),
    IsNull(Box<Node>),
    In(Box<Node>, Vec<Node>),
    Between(Box<Node>, Box<Node>, Box<Node>),
}

/// Reads one statement.
///
/// # Errors
/// A text with the place, what is wrong there and what to write.
pub(super) fn parse(sql: &str) -> Result<Statement, String> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(format!("the SQL has {} bytes; write at most {SQL_BYTES_MAX}", sql.len()));
    }
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|problem| Place::from(problem.location).fault(problem.message))?;
    let is_word = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    if let Some(token) = tokens.iter().filter(is_word).nth(TOKENS_MAX) {
        let fault =
            format!("the statement is too long; write at most {TOKENS_MAX} words and signs");
        return Err(Place::from(token.span.start).fault(fault));
    }
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens.clone());
    let name = create_stream(&mut parser)?;
    let query = parser.parse_query().map_err(syntax_error)?;
    while parser.consume_token(&Token::SemiColon) {}
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return Err(Place::from(rest.span.start).fault(format!(
            "{} is not expected here; a statement is [CREATE STREAM name AS] SELECT ... FROM ... \
             [WHERE ...] GROUP BY ...",
            rest.token
        )));
    }
    let canonical = query.to_string();
    let (select, place) = plain(*query, &tokens)?;
    statement(name, select, place, canonical)
}

fn create_stream(parser: &mut Parser<'_>) -> Result<Option<Name>, String> {
    if !parser.parse_keyword(Keyword::CREATE) {
        return Ok(None);
    }
    let next = parser.peek_token();
    if !parser.parse_keyword(Keyword::STREAM) {
        return Err(Place::from(next.span.start).fault(format!(
            "{} cannot be created; write CREATE STREAM name AS SELECT ...",
            next.token
        )));
    }
    let name = parser.parse_identifier().map_err(syntax_error)?;
    parser.expect_keyword(Keyword::AS).map_err(syntax_error)?;
    Ok(Some(Name { place: name.span.start.into(), text: name.value }))
}

fn syntax_error(problem: ParserError) -> String {
    let text = match problem {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        ParserError::RecursionLimitExceeded => {
            return "the SQL is nested too deeply; remove parentheses".to_owned();
        }
    };
    let Some((what, place)) = text.rsplit_once(" at Line: ") else { return text };
    match place.split_once(", Column: ") {
        Some((line, column)) => format!("line {line}, column {column} of the SQL: {what}"),
        None => text,
    }
}

/// The SELECT of a query that is nothing but one.
fn plain(query: Query, tokens: &[TokenWithSpan]) -> Result<(Select, Place), String> {
    let at = |keyword: Keyword| -> Place {
        let found = tokens
            .iter()
            .find(|token| matches!(&token.token, Token::Word(word) if word.keyword == keyword));
        found.map_or(Place { line: 1, column: 1 }, |token| token.span.start.into())
    };
    let place = at(Keyword::SELECT);
    let body = *query.body;
    let SetExpr::Select(select) = body else {
        let keyword = match body {
            SetExpr::SetOperation { .. } => Keyword::UNION,
            SetExpr::Values(_) => Keyword::VALUES,
            _ => Keyword::SELECT,
        };
        return Err(at(keyword).fault("only one plain SELECT ... FROM ... can be asked"));
    };
    let endless = "a stream has no end, so its rows have no such order or end; remove it";
    let later = "this version does not have it yet; remove it";
    let inside = "write a condition on rows in WHERE; filter windows where they are read";
    let refused = [
        (query.with.is_some(), Keyword::WITH, later),
        (query.order_by.is_some(), Keyword::ORDER, endless),
        (query.limit_clause.is_some(), Keyword::LIMIT, endless),
        (query.fetch.is_some(), Keyword::FETCH, endless),
        (!query.locks.is_empty(), Keyword::FOR, later),
        (query.for_clause.is_some(), Keyword::FOR, later),
        (query.settings.is_some(), Keyword::SETTINGS, later),
        (query.format_clause.is_some(), Keyword::FORMAT, later),
        (select.distinct.is_some(), Keyword::DISTINCT, later),
        (select.top.is_some(), Keyword::TOP, endless),
        (select.exclude.is_some(), Keyword::EXCLUDE, later),
        (select.into.is_some(), Keyword::INTO, "write CREATE STREAM name AS before SELECT"),
        (!select.lateral_views.is_empty(), Keyword::LATERAL, later),
        (select.prewhere.is_some(), Keyword::PREWHERE, "write WHERE"),
        (!select.connect_by.is_empty(), Keyword::CONNECT, later),
        (!select.cluster_by.is_empty(), Keyword::CLUSTER, later),
        (!select.distribute_by.is_empty(), Keyword::DISTRIBUTE, later),
        (!select.sort_by.is_empty(), Keyword::SORT, endless),
        (select.having.is_some(), Keyword::HAVING, inside),
        (!select.named_window.is_empty(), Keyword::WINDOW, later),
        (select.qualify.is_some(), Keyword::QUALIFY, inside),
        (select.value_table_mode.is_some(), Keyword::AS, later),
    ];
    match refused.into_iter().find(|(present, ..)| *present) {
        Some((_, keyword, remedy)) => {
            Err(at(keyword).fault(format!("{keyword:?} is not possible: {remedy}")))
        }
        None => Ok((*select, place)),
    }
}

fn statement(
    name: Option<Name>,
    select: Select,
    place: Place,
    canonical: String,
) -> Result<Statement, String> {
    let mut items = Vec::new();
    for item in select.projection {
        items.push(match item {
            SelectItem::UnnamedExpr(expr) => Item { node: node(expr, 0)?, alias: None },
            SelectItem::ExprWithAlias { expr, alias } => {
                Item { node: node(expr, 0)?, alias: Some(alias.value) }
            }
            other => {
                return Err(Place::from(other.span().start).fault(
                    "a window has no * columns: name the key, window_start, window_end and \
                     aggregates like count(*) AS n",
                ));
            }
        });
    }
    let (source, alias) = source(select.from, place)?;
    let filter = select.selection.map(|expr| node(expr, 0)).transpose()?;
    let groups = match select.group_by {
        GroupByExpr::Expressions(groups, modifiers) if modifiers.is_empty() => groups,
        _ => {
            return Err(place.fault(
                "GROUP BY takes a column and a window: GROUP BY device, tumble(INTERVAL '1' MINUTE)",
            ));
        }
    };
    let groups = groups.into_iter().map(|group| node(group, 0)).collect::<Result<_, _>>()?;
    Ok(Statement { name, items, source, alias, filter, groups, place, canonical })
}

fn source(from: Vec<TableWithJoins>, place: Place) -> Result<(Name, Option<String>), String> {
    let [from] = <[TableWithJoins; 1]>::try_from(from)
        .map_err(|from| place.fault(format!("FROM takes one stream, not {}", from.len())))?;
    if let Some(join) = from.joins.first() {
        let place = Place::from(join.relation.span().start);
        return Err(place.fault("this version does not join yet; select FROM one stream"));
    }
    let at = Place::from(from.relation.span().start);
    match from.relation {
        TableFactor::Table { name, alias, args: None, sample: None, version: None, .. } => {
            let parts: Option<Vec<&Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
            let text: Vec<&str> = parts.iter().flatten().map(|part| part.value.as_str()).collect();
            let name = Name { text: text.join("."), place: at };
            Ok((name, alias.map(|alias| alias.name.value)))
        }
        _ => Err(at.fault("FROM takes the name of a stream")),
    }
}

fn node(expr: Expr, depth: usize) -> Result<Node, String> {
    let place = Place::from(expr.span().start);
    if depth > DEPTH_MAX {
        return Err(place.fault("the expression is nested too deeply; use IN (...) or BETWEEN"));
    }
    let child = |expr: Box<Expr>| node(*expr, depth + 1).map(Box::new);
    let syntax = match expr {
        Expr::Nested(inner) => return node(*inner, depth + 1),
        Expr::Identifier(ident) => column(None, ident),
        Expr::CompoundIdentifier(mut parts) if parts.len() == 2 => {
            let last = parts.pop().expect("two parts");
            column(parts.pop().map(|table| table.value), last)
        }
        Expr::Value(value) => Syntax::Literal(literal(value.value, place)?),
        Expr::Interval(interval) => Syntax::Interval(interval_ms(&interval, place)?),
        Expr::Function(function) => call(function, place, depth)?,
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => Syntax::Not(child(expr)?),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Syntax::Negate(child(expr)?),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => return node(*expr, depth + 1),
        Expr::BinaryOp { left, op, right } => binary(child(left)?, &op, child(right)?, place)?,
        Expr::IsNull(inner) => Syntax::IsNull(child(inner)?),
        Expr::IsNotNull(inner) => not(place, Syntax::IsNull(child(inner)?)),
        Expr::InList { expr, list, negated } => {
            let list = list.into_iter().map(|item| node(item, depth + 1));
            let syntax = Syntax::In(child(expr)?, list.collect::<Result<_, _>>()?);
            if negated { not(place, syntax) } else { syntax }
        }
        Expr::Between { expr, negated, low, high } => {
            let syntax = Syntax::Between(child(expr)?, child(low)?, child(high)?);
            if negated { not(place, syntax) } else { syntax }
        }
        other => {
            return Err(place.fault(format!(
                "{other} is not possible; there are comparisons, AND, OR, NOT, IS [NOT] NULL, IN \
                 (...), BETWEEN, + - * / %, literals and columns"
            )));
        }
    };
    Ok(Node { place, syntax })
}

fn not(place: Place, syntax: Syntax) -> Syntax {
    Syntax::Not(Box::new(Node { place, syntax }))
}

fn column(table: Option<String>, ident: Ident) -> Syntax {
    Syntax::Column { table, quoted: ident.quote_style.is_some(), name: ident.value }
}

fn literal(value: Value, place: Place) -> Result<Literal, String> {
    match value {
        Value::Null => Ok(Literal::Null),
        Value::Boolean(value) => Ok(Literal::Boolean(value)),
        Value::SingleQuotedString(text) => Ok(Literal::Text(text)),
        Value::Number(text, _) => {
            let exact = text.parse().map(Number::decimal).ok();
            let number = exact.or_else(|| text.parse().ok().and_then(Number::double));
            number.map(Literal::Number).ok_or_else(|| place.fault(format!("{text} is no number")))
        }
        other => Err(place.fault(format!("{other}: write a number, 'text', TRUE, FALSE or NULL"))),
    }
}

fn binary(
    left: Box<Node>,
    operator: &BinaryOperator,
    right: Box<Node>,
    place: Place,
) -> Result<Syntax, String> {
    let compare = |comparison| Ok(comparison);
    let comparison = match operator {
        BinaryOperator::And => return Ok(Syntax::And(left, right)),
        BinaryOperator::Or => return Ok(Syntax::Or(left, right)),
        BinaryOperator::Eq => compare(Comparison::Equal),
        BinaryOperator::NotEq => compare(Comparison::NotEqual),
        BinaryOperator::Lt => compare(Comparison::Less),
        BinaryOperator::LtEq => compare(Comparison::LessOrEqual),
        BinaryOperator::Gt => compare(Comparison::Greater),
        BinaryOperator::GtEq => compare(Comparison::GreaterOrEqual),
        BinaryOperator::Plus => Err(Arithmetic::Add),
        BinaryOperator::Minus => Err(Arithmetic::Subtract),
        BinaryOperator::Multiply => Err(Arithmetic::Multiply),
        BinaryOperator::Divide => Err(Arithmetic::Divide),
        BinaryOperator::Modulo => Err(Arithmetic::Remainder),
        other => {
            return Err(place.fault(format!(
                "the operator {other} is not possible; there are = <> < <= > >= AND OR + - * / %"
            )));
        }
    };
    Ok(match comparison {
        Ok(comparison) => Syntax::Compare(comparison, left, right),
        Err(arithmetic) => Syntax::Compute(arithmetic, left, right),
    })
}

fn call(function: Function, place: Place, depth: usize) -> Result<Syntax, String> {
    let name = function.name.to_string().to_lowercase();
    let refuse =
        |what: &str| Err(place.fault(format!("{name}: {what} is not possible; remove it")));
    if function.over.is_some() {
        return refuse("OVER (...)");
    }
    if function.filter.is_some() {
        return refuse("FILTER (...)");
    }
    if !function.within_group.is_empty() || function.null_treatment.is_some() {
        return refuse("what stands behind the arguments");
    }
    let arguments = match function.args {
        FunctionArguments::List(list) => {
            if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
                return refuse("DISTINCT, ALL or ORDER BY inside");
            }
            list.args
        }
        FunctionArguments::None => Vec::new(),
        FunctionArguments::Subquery(_) => return refuse("a subquery"),
    };
    let arguments = arguments.into_iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => node(expr, depth + 1),
        FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => Ok(Node { place, syntax: Syntax::Star }),
        _ => Err(place.fault(format!("{name}: write its arguments without names"))),
    });
    let arguments = arguments.collect::<Result<_, _>>()?;
    Ok(Syntax::Call { name, arguments })
}

/// The longest interval: 366 days.
const INTERVAL_MS_MAX: i64 = 366 * 86_400_000;

fn interval_ms(interval: &Interval, place: Place) -> Result<i64, String> {
    let fault = || {
        place.fault(format!(
            "{interval} is not an interval; write a whole number of MILLISECONDS, SECONDS, \
             MINUTES, HOURS, DAYS or WEEKS up to 366 days, like INTERVAL '1' MINUTE"
        ))
    };
    let text = match interval.value.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => text.as_str(),
            _ => return Err(fault()),
        },
        _ => return Err(fault()),
    };
    let (count, unit) = match (text.trim().split_once(' '), &interval.leading_field) {
        (None, Some(field)) => (text.trim(), unit_of(field)),
        (Some((count, unit)), None) => (count, unit.trim().to_lowercase()),
        _ => return Err(fault()),
    };
    if interval.last_field.is_some() || interval.fractional_seconds_precision.is_some() {
        return Err(fault());
    }
    let unit_ms = match unit.trim_end_matches('s') {
        "millisecond" => 1,
        "second" => 1000,
        "minute" => 60_000,
        "hour" => 3_600_000,
        "day" => 86_400_000,
        "week" => 7 * 86_400_000,
        _ => return Err(fault()),
    };
    let ms = count.parse::<i64>().ok().and_then(|count| count.checked_mul(unit_ms));
    ms.filter(|ms| (1..=INTERVAL_MS_MAX).contains(ms)).ok_or_else(fault)
}

fn unit_of(field: &DateTimeField) -> String {
    field.to_string().to_lowercase()
}
