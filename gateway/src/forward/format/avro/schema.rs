//! The Avro schema of what a route sends, from the configuration alone: the same text at each start.
//!
//! | stream | fields |
//! |---|---|
//! | `json`, `blocks` | `time`, the key, levels of the topic, declared columns, `undeclared` |
//! | `sparkplug-b` | `time`, the key, levels of the topic, the columns of metrics |
//! | `bytes`, `mqtt`, `.rejected` | `time`, the key, levels of the topic, `topic`, `payload` (and `rejected`) |
//! | a query's | its columns |
//!
//! What a row may lack is nullable with the default null, texts that are always there have the
//! default "", so that columns can come and go and every reader still reads what was written.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::config::{ColumnType, Format, StreamConfig};
use crate::query::{Output, OutputType};
use crate::sparkplug;
use crate::stream::Stream;

/// The namespace of all records.
const NAMESPACE: &str = "headwater";
/// The field of columns that the stream does not declare.
const UNDECLARED: &str = "undeclared";

/// Where a field's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The event time.
    Time,
    /// The stream's key.
    Key,
    /// A column of the row.
    Column(String),
    /// All columns that no other field has.
    Undeclared,
    /// The topic that a message came on.
    Topic,
    /// The payload, byte for byte.
    Payload,
    /// Why a message was rejected.
    Rejected,
}

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `timestamp-millis`.
    Time,
    Boolean,
    Long,
    Double,
    Text,
    Bytes,
    /// A boolean, number or text, as it comes.
    Any,
    /// Names to JSON texts.
    Map,
}

/// A field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// A name that Avro allows.
    pub(super) name: String,
    /// The name that it stands for.
    pub(super) column: String,
    pub(super) source: Source,
    pub(super) kind: Kind,
    /// False where every row has a value.
    pub(super) nullable: bool,
}

/// What a record of a stream is in Avro.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    stream: String,
    pub(super) fields: Vec<Field>,
    /// The column of the payload that the field `time` says.
    pub(super) time_column: Option<String>,
}

impl Shape {
    /// Of a configured stream.
    ///
    /// # Errors
    /// Why it has none and what to change.
    pub(crate) fn of_stream(config: &StreamConfig) -> Result<Self, String> {
        let mut shape = Self::new(&config.name, config.time.clone());
        shape.common(Some(config));
        match config.format {
            Format::Json | Format::Blocks => shape.declared(config)?,
            Format::SparkplugB => shape.metrics(),
            Format::Bytes => shape.message(),
        }
        shape.checked()
    }

    /// Of a stream that a query writes.
    ///
    /// # Errors
    /// As [`Shape::of_stream`].
    pub(crate) fn of_query(name: &str, outputs: &[Output]) -> Result<Self, String> {
        let mut shape = Self::new(name, None);
        for output in outputs {
            let kind = match output.kind {
                OutputType::Time => Kind::Time,
                OutputType::Any => Kind::Any,
                OutputType::Column(column) => kind_of(column),
            };
            shape.add(&output.name, Source::Column(output.name.clone()), kind, true);
        }
        shape.checked()
    }

    /// Of any stream of the routing table.
    ///
    /// # Errors
    /// As [`Shape::of_stream`].
    pub(crate) fn of(stream: &Stream) -> Result<Self, String> {
        match &stream.config {
            Some(config) => Self::of_stream(config),
            None if !stream.outputs.is_empty() => Self::of_query(&stream.name, &stream.outputs),
            None => Self::of_other(&stream.name),
        }
    }

    /// Of a stream that the gateway makes by itself.
    ///
    /// # Errors
    /// As [`Shape::of_stream`].
    pub(crate) fn of_other(name: &str) -> Result<Self, String> {
        if name.ends_with(".late") {
            return Err(
                "late rows have the columns of whatever they came from; write format = \"json\""
                    .to_owned(),
            );
        }
        let mut shape = Self::new(name, None);
        shape.common(None);
        shape.message();
        if name.ends_with(".rejected") {
            shape.add("rejected", Source::Rejected, Kind::Text, true);
        }
        shape.checked()
    }

    fn new(stream: &str, time_column: Option<String>) -> Self {
        Self { stream: stream.to_owned(), fields: Vec::new(), time_column }
    }

    fn add(&mut self, column: &str, source: Source, kind: Kind, nullable: bool) {
        let (name, column) = (avro_name(column), column.to_owned());
        self.fields.push(Field { name, column, source, kind, nullable });
    }

    /// Event time, key and levels of the topic.
    fn common(&mut self, config: Option<&StreamConfig>) {
        self.add("time", Source::Time, Kind::Time, false);
        let captures: Vec<&str> = config.iter().flat_map(|c| c.topic.captures()).collect();
        let key = config.and_then(|config| config.key.as_deref());
        let key_in_payload = key.filter(|key| !captures.contains(key));
        match (key, config.map(|config| config.format)) {
            // One of the columns of metrics, or a level of the topic.
            (Some(_), Some(Format::SparkplugB)) => self.add("key", Source::Key, Kind::Text, false),
            (Some(_), _) => {
                if let Some(key) = key_in_payload
                    && config.is_none_or(|config| !config.columns.contains_key(key))
                {
                    self.add(key, Source::Key, Kind::Text, false);
                }
            }
            (None, _) => self.add("key", Source::Key, Kind::Text, false),
        }
        for capture in captures {
            self.add(capture, Source::Column(capture.to_owned()), Kind::Text, false);
        }
    }

    fn declared(&mut self, config: &StreamConfig) -> Result<(), String> {
        if config.columns.is_empty() {
            return Err(format!(
                "avro has to know the columns of {}: write columns = {{ name = \"double\" }} \
                 there, or format = \"json\" here",
                config.name
            ));
        }
        if config.format == Format::Blocks {
            for column in ["boot_epoch", "sample"] {
                self.add(column, Source::Column(column.to_owned()), Kind::Long, true);
            }
        }
        for (column, kind) in &config.columns {
            let is_time = config.time.as_ref() == Some(column) && column == "time";
            // A level of the topic hides a column of its name.
            if is_time || config.topic.captures().any(|capture| capture == column) {
                continue;
            }
            self.add(column, Source::Column(column.clone()), kind_of(*kind), true);
        }
        self.add(UNDECLARED, Source::Undeclared, Kind::Map, true);
        Ok(())
    }

    fn metrics(&mut self) {
        let known: Vec<String> = self.fields.iter().map(|field| field.column.clone()).collect();
        for (column, kind) in sparkplug::COLUMNS {
            if !known.iter().any(|known| known == column) {
                let kind = kind.map_or(Kind::Any, kind_of);
                self.add(column, Source::Column(column.to_owned()), kind, true);
            }
        }
    }

    fn message(&mut self) {
        self.add("topic", Source::Topic, Kind::Text, false);
        self.add("payload", Source::Payload, Kind::Bytes, false);
    }

    /// Two columns must not have the same name in Avro.
    fn checked(self) -> Result<Self, String> {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for field in &self.fields {
            if let Some(other) = seen.insert(&field.name, &field.column) {
                return Err(format!(
                    "the columns {other} and {} of {} would both be {} in avro: rename one of \
                     them, or write format = \"json\"",
                    field.column, self.stream, field.name
                ));
            }
        }
        Ok(self)
    }

    /// The schema as it is registered.
    pub(crate) fn text(&self) -> String {
        let fields: Vec<Json> = self.fields.iter().map(Field::json).collect();
        json!({
            "type": "record",
            "name": avro_name(&self.stream),
            "namespace": NAMESPACE,
            "doc": format!("stream {} of a Headwater gateway", self.stream),
            "fields": fields,
        })
        .to_string()
    }

    /// True for a column that a field of its own has.
    pub(super) fn covers(&self, column: &str) -> bool {
        let is = |field: &Field| matches!(&field.source, Source::Column(own) if own == column);
        self.fields.iter().any(is)
    }

    /// The column that the key's field stands for.
    pub(super) fn key_column(&self) -> Option<&str> {
        let key = self.fields.iter().find(|field| field.source == Source::Key)?;
        Some(&key.column)
    }
}

impl Field {
    fn json(&self) -> Json {
        let kind = match self.kind {
            Kind::Time => json!({ "type": "long", "logicalType": "timestamp-millis" }),
            Kind::Boolean => json!("boolean"),
            Kind::Long => json!("long"),
            Kind::Double => json!("double"),
            Kind::Text => json!("string"),
            Kind::Bytes => json!("bytes"),
            Kind::Any => json!(["null", "boolean", "long", "double", "string"]),
            Kind::Map => json!({ "type": "map", "values": "string" }),
        };
        let nullable = self.nullable && self.kind != Kind::Any;
        let mut field = json!({
            "name": self.name,
            "type": if nullable { json!(["null", kind]) } else { kind },
        });
        let default = match self.kind {
            _ if self.nullable => Some(Json::Null),
            Kind::Text | Kind::Bytes => Some(json!("")),
            _ => None,
        };
        let members = field.as_object_mut().expect("it was made as an object");
        if let Some(default) = default {
            members.insert("default".to_owned(), default);
        }
        if self.column != self.name {
            members.insert("doc".to_owned(), json!(format!("column {}", self.column)));
        }
        field
    }
}

fn kind_of(column: ColumnType) -> Kind {
    match column {
        ColumnType::Double => Kind::Double,
        ColumnType::Integer => Kind::Long,
        ColumnType::Text => Kind::Text,
        ColumnType::Boolean => Kind::Boolean,
    }
}

/// Avro's rule: `[A-Za-z_][A-Za-z0-9_]*`; what it does not allow becomes `_`.
fn avro_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut valid: String = name.chars().map(allowed).collect();
    if !valid.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        valid.insert(0, '_');
    }
    valid
}
