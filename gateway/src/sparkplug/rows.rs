//! A payload as rows: one a metric.

use serde_json::{Map, Value as Json, json};

use super::payload::{Metric, Payload};
use super::table::Table;
use super::topic::Topic;
use crate::config::ColumnType;
use crate::stream::{TIME_MS, Value};

/// The columns of a row and, where it is always the same, their type.
pub const COLUMNS: [(&str, Option<ColumnType>); 10] = [
    ("message", Some(ColumnType::Text)),
    ("group", Some(ColumnType::Text)),
    ("edge_node", Some(ColumnType::Text)),
    ("device", Some(ColumnType::Text)),
    ("metric", Some(ColumnType::Text)),
    ("path", Some(ColumnType::Text)),
    ("alias", Some(ColumnType::Integer)),
    ("value", None),
    ("seq", Some(ColumnType::Integer)),
    ("is_historical", Some(ColumnType::Boolean)),
];

/// One metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricRow {
    /// When its value was taken, ms since 1970.
    pub time_ms: i64,
    /// Its columns.
    pub columns: Vec<(&'static str, Value)>,
}

/// The rows of a message that came at `arrival_ms`. One without metrics, as a DDEATH is, has one
/// row without a metric: it says what it says.
pub(super) fn rows(
    topic: &Topic<'_>,
    payload: &Payload,
    table: Option<&Table>,
    arrival_ms: i64,
) -> Vec<MetricRow> {
    let sent_ms = payload.time_ms.unwrap_or(arrival_ms);
    let source = topic.source();
    let row = |metric: Option<&Metric>| {
        let defined = metric.zip(table).and_then(|(metric, table)| table.find(metric));
        let name = metric
            .and_then(|metric| metric.name.as_deref())
            .or_else(|| defined.map(|defined| &*defined.name));
        let path = name.map(|name| Value::Text(format!("{source}/{name}")));
        let datatype = |metric: &Metric| metric.datatype.or(defined.and_then(|d| d.datatype));
        let value = metric.map(|metric| metric.value(datatype(metric)));
        let alias = metric.and_then(|metric| metric.alias);
        MetricRow {
            time_ms: metric.and_then(|metric| metric.time_ms).unwrap_or(sent_ms),
            columns: vec![
                ("message", text(Some(topic.message))),
                ("group", text(Some(topic.group))),
                ("edge_node", text(Some(topic.edge_node))),
                ("device", text(topic.device)),
                ("metric", text(name)),
                ("path", path.unwrap_or(Value::Null)),
                ("alias", alias.map_or(Value::Null, unsigned)),
                ("value", value.unwrap_or(Value::Null)),
                ("seq", payload.seq.map_or(Value::Null, |seq| Value::Integer(seq.into()))),
                ("is_historical", Value::Boolean(metric.is_some_and(|m| m.is_historical))),
            ],
        }
    };
    if payload.metrics.is_empty() {
        return vec![row(None)];
    }
    payload.metrics.iter().map(|metric| row(Some(metric))).collect()
}

/// The row of a host application's STATE.
pub(super) fn state_row(host: &str, payload: &[u8], arrival_ms: i64) -> Result<MetricRow, String> {
    let wanted = "a STATE message is JSON like {\"online\": true, \"timestamp\": 1763700000000}";
    let state: Map<String, Json> =
        serde_json::from_slice(payload).map_err(|problem| format!("{wanted}: {problem}"))?;
    let online = state.get("online").and_then(Json::as_bool).ok_or(wanted)?;
    let time_ms = state.get("timestamp").and_then(Json::as_i64).filter(|at| TIME_MS.contains(at));
    Ok(MetricRow {
        time_ms: time_ms.unwrap_or(arrival_ms),
        columns: vec![
            ("message", text(Some("STATE"))),
            ("metric", text(Some("online"))),
            ("path", Value::Text(format!("STATE/{host}/online"))),
            ("value", Value::Boolean(online)),
        ],
    })
}

/// A message as JSON, as records show it.
pub(super) fn json(topic: &Topic<'_>, payload: &Payload, rows: Vec<MetricRow>) -> Json {
    let shown = ["metric", "alias", "value", "is_historical"];
    let metrics = rows.into_iter().filter(|_| !payload.metrics.is_empty()).map(|row| {
        let mut metric = Map::new();
        metric.insert("time".into(), json!(row.time_ms));
        for (name, value) in row.columns.into_iter().filter(|(name, _)| shown.contains(name)) {
            if name == "value" || !matches!(value, Value::Null | Value::Boolean(false)) {
                metric.insert(name.into(), value.to_json());
            }
        }
        Json::Object(metric)
    });
    let metrics: Vec<Json> = metrics.collect();
    json!({
        "message": topic.message,
        "timestamp": payload.time_ms,
        "seq": payload.seq,
        "metrics": metrics,
    })
}

fn text(text: Option<&str>) -> Value {
    text.map_or(Value::Null, |text| Value::Text(text.to_owned()))
}

fn unsigned(value: u64) -> Value {
    i64::try_from(value).map_or_else(|_| Value::Json(json!(value)), Value::Integer)
}

#[cfg(test)]
mod tests {
    use super::super::payload::frozen::{NBIRTH, NDATA, TIME_MS as MADE_MS, bytes};
    use super::super::topic::{Parsed, parse};
    use super::*;

    fn topic(text: &str) -> Topic<'_> {
        match parse(text) {
            Ok(Parsed::Message(topic)) => topic,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn get(row: &MetricRow, column: &str) -> Value {
        let found = row.columns.iter().find(|(name, _)| *name == column);
        found.expect(column).1.clone()
    }

    #[test]
    fn a_metric_is_a_row_with_the_name_and_type_that_its_birth_gave() {
        let birth = Payload::decode(&bytes(NBIRTH)).expect("a payload");
        let table = Table::of(&birth.metrics).expect("named");
        let data = Payload::decode(&bytes(NDATA)).expect("a payload");
        let rows = rows(&topic("spBv1.0/plant/NDATA/press"), &data, Some(&table), 5);
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.time_ms - MADE_MS, get(row, "path").to_json(), get(row, "value")))
            .collect();
        let expected = [
            (900, "plant/press/temperature", Value::Double(22.25)),
            (950, "plant/press/level", Value::Integer(-2)),
            (1000, "plant/press/state", Value::Null),
            (-60_000, "plant/press/temperature", Value::Double(20.75)),
        ];
        assert_eq!(told, expected.map(|(time_ms, path, value)| (time_ms, path.into(), value)));
        assert_eq!(get(&rows[3], "is_historical"), Value::Boolean(true));
        assert_eq!(get(&rows[0], "seq"), Value::Integer(1));
        for (column, kind) in COLUMNS {
            let fits = match (get(&rows[0], column), kind) {
                (Value::Text(_), Some(ColumnType::Text))
                | (Value::Integer(_), Some(ColumnType::Integer))
                | (Value::Boolean(_), Some(ColumnType::Boolean)) => true,
                (value, Some(_)) => value == Value::Null,
                (_, None) => true,
            };
            assert!(fits, "{column}");
        }
    }

    #[test]
    fn a_message_without_metrics_is_one_row_and_a_metric_without_a_name_shows_its_alias() {
        let none = Payload { time_ms: None, seq: Some(3), metrics: Vec::new() };
        let rows_of = |payload: &Payload| rows(&topic("spBv1.0/g/DDEATH/n/d"), payload, None, 5);
        let death = rows_of(&none);
        assert_eq!((death.len(), death[0].time_ms), (1, 5));
        assert_eq!(get(&death[0], "message"), Value::Text("DDEATH".to_owned()));
        assert_eq!(get(&death[0], "metric"), Value::Null);
        let unnamed = Payload { metrics: vec![Metric::test(None, Some(7))], ..none };
        let row = &rows_of(&unnamed)[0];
        assert_eq!((get(row, "alias"), get(row, "path")), (Value::Integer(7), Value::Null));
    }

    #[test]
    fn a_host_says_whether_it_is_online() {
        let row = state_row("scada", br#"{"online":true,"timestamp":1763700000000}"#, 5);
        let row = row.expect("a state");
        assert_eq!((row.time_ms, get(&row, "value")), (MADE_MS, Value::Boolean(true)));
        assert!(state_row("scada", b"ONLINE", 5).expect_err("no JSON").contains("online"));
    }
}
