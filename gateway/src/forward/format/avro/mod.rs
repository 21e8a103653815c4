//! Avro with Confluent's framing: `00`, the schema's id as a big-endian u32, the record in binary.
//!
//! `schema` derives what a route sends from the configuration, `binary` is the library's, and a
//! [`Writer`] puts rows into it.

mod binary;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use headwater_shared::envelope::Publish;

use self::binary::{Binary, Datum};
use self::schema::{Field, Kind, Source};
use crate::stream::Value;

pub(crate) use self::binary::can_read;
pub(crate) use self::schema::Shape;

/// The first byte of what a registry's schema describes.
const MAGIC: u8 = 0;

/// What a record of the journal has for one Avro record.
pub(in crate::forward) struct Input<'a> {
    pub(in crate::forward) time_ms: i64,
    pub(in crate::forward) key: &'a str,
    pub(in crate::forward) columns: &'a BTreeMap<String, Value>,
    pub(in crate::forward) publish: Option<&'a Publish<'a>>,
}

/// Writes the rows of one stream.
pub(in crate::forward) struct Writer {
    shape: Shape,
    binary: Binary,
}

impl Writer {
    /// # Errors
    /// What the library does not like about the shape's schema.
    pub(in crate::forward) fn new(shape: Shape) -> Result<Self, String> {
        let binary = Binary::new(&shape.text())?;
        Ok(Self { shape, binary })
    }

    /// Appends a row under the schema's id at the registry.
    ///
    /// # Errors
    /// Which column does not fit, and why; nothing was appended.
    pub(in crate::forward) fn write(
        &self,
        id: u32,
        input: &Input<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let field = |field: &Field| {
            let (branch, datum) = self.datum(field, input)?;
            Ok((field.name.clone(), branch, datum))
        };
        let fields = self.shape.fields.iter().map(field).collect::<Result<_, String>>()?;
        let start = out.len();
        out.push(MAGIC);
        out.extend_from_slice(&id.to_be_bytes());
        self.binary.write(fields, out).inspect_err(|_| out.truncate(start))
    }

    /// The value of a field, with its branch in the field's union.
    fn datum(&self, field: &Field, input: &Input<'_>) -> Result<(Option<u32>, Datum), String> {
        let message = |part: fn(&Publish<'_>) -> Datum| input.publish.map_or(Datum::Null, part);
        let datum = match &field.source {
            Source::Time => Datum::Time(input.time_ms),
            Source::Key => Datum::Text(input.key.to_owned()),
            Source::Topic => message(|publish| Datum::Text(publish.topic.to_owned())),
            Source::Payload => message(|publish| Datum::Bytes(publish.payload.to_vec())),
            Source::Rejected => message(|publish| {
                publish.rejected.map_or(Datum::Null, |reason| Datum::Text(reason.to_owned()))
            }),
            Source::Undeclared => self.undeclared(input),
            Source::Column(column) => {
                let value = input.columns.get(column).unwrap_or(&Value::Null);
                convert(field.kind, value).ok_or_else(|| {
                    format!("column {column}: {} is no {:?}", value.to_json(), field.kind)
                })?
            }
        };
        Ok(match (&datum, field.kind, field.nullable) {
            (Datum::Null, Kind::Text, false) => (None, Datum::Text(String::new())),
            (Datum::Null, Kind::Bytes, false) => (None, Datum::Bytes(Vec::new())),
            (_, Kind::Any, _) => (Some(branch_of_any(&datum)), datum),
            (_, _, true) => (Some(u32::from(datum != Datum::Null)), datum),
            (_, _, false) => (None, datum),
        })
    }

    /// Columns that have no field, as JSON texts.
    fn undeclared(&self, input: &Input<'_>) -> Datum {
        let is_said = |name: &String, value: &Value| {
            let is_time = self.shape.time_column.as_ref() == Some(name);
            let is_key = self.shape.key_column() == Some(name.as_str());
            self.shape.covers(name)
                || is_time && *value == Value::Integer(input.time_ms)
                || is_key && matches!(value, Value::Text(text) if text == input.key)
        };
        let rest = input.columns.iter().filter(|(name, value)| !is_said(name, value));
        let entries: Vec<_> = rest.map(|(name, value)| (name.clone(), json_text(value))).collect();
        if entries.is_empty() { Datum::Null } else { Datum::Map(entries) }
    }
}

/// Decimals keep the digits that the sensor gave.
fn json_text(value: &Value) -> String {
    match value {
        Value::Decimal(decimal) => decimal.to_string(),
        other => other.to_json().to_string(),
    }
}

/// `None` where the value is of another type.
fn convert(kind: Kind, value: &Value) -> Option<Datum> {
    Some(match (kind, value) {
        (_, Value::Null) => Datum::Null,
        (Kind::Boolean | Kind::Any, Value::Boolean(value)) => Datum::Boolean(*value),
        (Kind::Long | Kind::Any, Value::Integer(value)) => Datum::Long(*value),
        (Kind::Long, Value::Decimal(decimal)) if decimal.scale == 0 => {
            Datum::Long(decimal.mantissa)
        }
        (Kind::Time, Value::Integer(time_ms)) => Datum::Time(*time_ms),
        (Kind::Double, number) => Datum::Double(number.as_f64()?),
        (Kind::Any, number @ (Value::Double(_) | Value::Decimal(_))) => {
            Datum::Double(number.as_f64()?)
        }
        (Kind::Text | Kind::Any, Value::Text(text)) => Datum::Text(text.clone()),
        (Kind::Any, other) => Datum::Text(json_text(other)),
        _ => return None,
    })
}

/// The order of the branches in `["null", "boolean", "long", "double", "string"]`.
fn branch_of_any(datum: &Datum) -> u32 {
    match datum {
        Datum::Boolean(_) => 1,
        Datum::Long(_) => 2,
        Datum::Double(_) => 3,
        Datum::Text(_) => 4,
        _ => 0,
    }
}
