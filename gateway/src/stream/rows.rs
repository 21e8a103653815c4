//! From records back to columns.
//!
//! One record is one row, but a node's series block, which is as many rows as it has samples; each
//! channel is a column, beside `boot_epoch` and `sample`, which number it at its node. A message of
//! Sparkplug B is a row a metric.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_shared::envelope::{Envelope, Gap, Publish};
use serde_json::{Map, Value as Json, json};

use crate::config::Format;
use crate::journal::Record;
use crate::node::Nodes;
use crate::sparkplug::Sparkplug;
use crate::stream::Streams;
use crate::table::value_of;

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Boolean(bool),
    /// A 64-bit integer.
    Integer(i64),
    /// A 64-bit float.
    Double(f64),
    /// A decimal as a sensor gives it: exactly `mantissa / 10^scale`.
    Decimal(headwater_shared::decimal::Decimal),
    /// A text.
    Text(String),
    /// A JSON array or object.
    Json(Json),
}

impl Value {
    /// Bytes that are no text, as JSON shows them.
    pub(crate) fn base64(bytes: &[u8]) -> Self {
        Self::Json(json!({ "base64": base64(bytes) }))
    }

    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "SQL doubles are what is asked for")]
            Self::Integer(number) => Some(*number as f64),
            Self::Double(number) => Some(*number),
            Self::Decimal(decimal) => Some(decimal.to_f64()),
            _ => None,
        }
    }

    /// As JSON; a decimal keeps its digits.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Boolean(value) => Json::Bool(*value),
            Self::Integer(value) => json!(value),
            Self::Double(value) => json!(value),
            // serde_json's shortest form of the nearest double gives the decimal's digits back for
            // up to 15 significant digits; longer ones go as text.
            Self::Decimal(decimal) => match decimal.to_string().parse::<f64>() {
                Ok(number) if decimal.mantissa.unsigned_abs() < 1_000_000_000_000_000 => {
                    json!(number)
                }
                _ => Json::String(decimal.to_string()),
            },
            Self::Text(text) => Json::String(text.clone()),
            Self::Json(json) => json.clone(),
        }
    }
}

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Boolean(*value),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Self::Integer(integer),
                (None, Some(double)) => Self::Double(double),
                (None, None) => Self::Null,
            },
            Json::String(text) => Self::Text(text.clone()),
            other => Self::Json(other.clone()),
        }
    }
}

/// A row of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Event time, ms since 1970.
    pub time_ms: i64,
    /// The stream's key.
    pub key: String,
    /// Which row of its record, from 0.
    pub index: u32,
    /// Columns by name: the payload's, and the named levels of the topic.
    pub columns: BTreeMap<String, Value>,
}

impl Row {
    /// A column; `time` and `key` are always there.
    pub fn get(&self, column: &str) -> Value {
        match (self.columns.get(column), column) {
            (Some(value), _) => value.clone(),
            (None, "time") => Value::Integer(self.time_ms),
            (None, "key") => Value::Text(self.key.clone()),
            _ => Value::Null,
        }
    }
}

/// Reads rows out of records.
#[derive(Clone)]
pub struct Rows {
    streams: Arc<Streams>,
    nodes: Arc<Nodes>,
    sparkplug: Arc<Sparkplug>,
}

impl Rows {
    /// Blocks need to know what their nodes announced, metrics what their births said.
    pub fn new(streams: Arc<Streams>, nodes: Arc<Nodes>, sparkplug: Arc<Sparkplug>) -> Self {
        Self { streams, nodes, sparkplug }
    }

    /// The rows of a record, in order; none for a record that holds no data (a tick, a gap, a
    /// change of a session). `None` if it cannot be read as its stream says.
    pub fn of(&self, record: &Record) -> Option<Vec<Row>> {
        let row = |columns| Row {
            time_ms: record.time_ms,
            key: record.key_str().to_owned(),
            index: 0,
            columns,
        };
        match record.envelope().ok()? {
            Envelope::Publish(publish) => {
                let place = self.streams.partition(record.partition)?;
                let captured = self.captured(&place.stream, publish.topic);
                match self.streams.format(&place.stream) {
                    Some(Format::Json) => {
                        let payload: Map<String, Json> =
                            serde_json::from_slice(publish.payload).ok()?;
                        let mut columns = captured;
                        for (name, value) in &payload {
                            columns.entry(name.clone()).or_insert_with(|| value.into());
                        }
                        Some(vec![row(columns)])
                    }
                    Some(Format::Blocks) => self.block_rows(record, &publish, &captured),
                    Some(Format::SparkplugB) => self.metric_rows(record, &publish, &captured),
                    Some(Format::Bytes) | None => {
                        let mut columns = captured;
                        columns.insert("topic".into(), Value::Text(publish.topic.to_owned()));
                        columns.insert("payload".into(), payload_value(publish.payload));
                        Some(vec![row(columns)])
                    }
                }
            }
            Envelope::Output(output) => {
                let payload: Map<String, Json> = serde_json::from_slice(output.payload).ok()?;
                let columns =
                    payload.iter().map(|(name, value)| (name.clone(), value.into())).collect();
                Some(vec![row(columns)])
            }
            Envelope::Session(_) | Envelope::Tick(_) | Envelope::Gap(_) => Some(Vec::new()),
        }
    }

    /// The named levels of the topic that a message came on; `None` for what is no message.
    pub fn levels(&self, record: &Record) -> Option<BTreeMap<String, Value>> {
        let place = self.streams.partition(record.partition)?;
        match record.envelope().ok()? {
            Envelope::Publish(publish) => Some(self.captured(&place.stream, publish.topic)),
            _ => None,
        }
    }

    fn captured(&self, stream: &str, topic: &str) -> BTreeMap<String, Value> {
        let captured = self.streams.pattern(stream).and_then(|pattern| pattern.capture(topic));
        captured
            .into_iter()
            .flatten()
            .map(|(name, level)| {
                (name.to_owned(), Value::Text(value_of(topic, level).into_owned()))
            })
            .collect()
    }

    fn block_rows(
        &self,
        record: &Record,
        publish: &Publish<'_>,
        captured: &BTreeMap<String, Value>,
    ) -> Option<Vec<Row>> {
        let samples = self.nodes.samples(publish.topic, record.time_ms, publish.payload)?;
        let rows = samples.into_iter().zip(0..).map(|(sample, index)| {
            let mut columns = captured.clone();
            columns.insert("boot_epoch".into(), Value::Integer(sample.boot_epoch.into()));
            columns.insert("sample".into(), Value::Integer(sample.sample.into()));
            for (name, value) in sample.values {
                columns.insert(name, value);
            }
            Row { time_ms: sample.time_ms, key: record.key_str().to_owned(), index, columns }
        });
        Some(rows.collect())
    }

    fn metric_rows(
        &self,
        record: &Record,
        publish: &Publish<'_>,
        captured: &BTreeMap<String, Value>,
    ) -> Option<Vec<Row>> {
        let Publish { topic, payload, arrival_ms, .. } = *publish;
        let metrics = self.sparkplug.rows(topic, record.offset, payload, arrival_ms)?;
        let rows = metrics.into_iter().zip(0..).map(|(metric, index)| {
            let mut columns = captured.clone();
            columns.extend(metric.columns.into_iter().map(|(name, value)| (name.into(), value)));
            Row { time_ms: metric.time_ms, key: record.key_str().to_owned(), index, columns }
        });
        Some(rows.collect())
    }

    /// The record as surface.md shows it: what the API, `log show` and `tail` print.
    pub fn record_json(&self, record: &Record) -> Json {
        let place = self.streams.partition(record.partition);
        let partition = place.map_or(0, |place| place.partition);
        let value = match record.envelope() {
            Ok(Envelope::Publish(publish)) => self.publish_value(record, &publish),
            Ok(Envelope::Output(output)) => payload_json(output.payload),
            Ok(Envelope::Gap(gap)) => gap_json(&gap),
            Ok(Envelope::Tick(tick)) => json!({ "tick": tick.now_ms }),
            Ok(Envelope::Session(session)) => {
                json!({ "session": session.client, "bytes": session.change.len() })
            }
            Err(problem) => json!({ "unreadable": problem.to_string() }),
        };
        record_json(record, partition, value)
    }

    fn publish_value(&self, record: &Record, publish: &Publish<'_>) -> Json {
        let stream = self.streams.partition(record.partition).map(|place| place.stream.as_str());
        if let Some(reason) = publish.rejected {
            return json!({ "rejected": reason, "payload": payload_json(publish.payload) });
        }
        let Publish { topic, payload, arrival_ms, .. } = *publish;
        let shown = match stream.and_then(|stream| self.streams.format(stream)) {
            Some(Format::Blocks) => self.nodes.block_json(topic, record.time_ms, payload),
            Some(Format::SparkplugB) => {
                self.sparkplug.json(topic, record.offset, payload, arrival_ms)
            }
            _ => None,
        };
        shown.unwrap_or_else(|| payload_json(payload))
    }
}

/// A record as NDJSON shows it, with its value given.
fn record_json(record: &Record, partition: u16, value: Json) -> Json {
    let mut json = Map::new();
    json.insert("offset".into(), json!(record.offset));
    json.insert("partition".into(), json!(partition));
    json.insert("time".into(), json!(record.time_ms));
    json.insert("key".into(), json!(record.key_str()));
    if let Ok(Envelope::Publish(publish)) = record.envelope() {
        json.insert("topic".into(), json!(publish.topic));
    }
    json.insert("value".into(), value);
    Json::Object(json)
}

/// The JSON itself, a string for other UTF-8 text, else base64.
fn payload_json(payload: &[u8]) -> Json {
    serde_json::from_slice(payload).unwrap_or_else(|_| payload_value(payload).to_json())
}

fn payload_value(payload: &[u8]) -> Value {
    match std::str::from_utf8(payload) {
        Ok(text) => Value::Text(text.to_owned()),
        Err(_) => Value::base64(payload),
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A gap as it is shown and forwarded.
pub(crate) fn gap_json(gap: &Gap<'_>) -> Json {
    json!({ "gap": {
        "cause": format!("{:?}", gap.cause).to_lowercase(),
        "source": gap.source,
        "unit": format!("{:?}", gap.unit).to_lowercase(),
        "first": gap.first,
        "last": gap.last,
        "count": gap.count,
        "boot_epoch": gap.boot_epoch,
    }})
}
