//! Avro's binary encoding. The one file that knows the library.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;

/// A value of a field.
#[derive(Debug, PartialEq)]
pub(super) enum Datum {
    Null,
    Boolean(bool),
    Long(i64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Time(i64),
    Map(Vec<(String, String)>),
}

/// A parsed schema.
#[derive(Debug)]
pub(super) struct Binary {
    schema: Schema,
}

impl Binary {
    /// # Errors
    /// What the library does not like about the schema.
    pub(super) fn new(schema: &str) -> Result<Self, String> {
        let schema = Schema::parse_str(schema).map_err(|problem| problem.to_string())?;
        Ok(Self { schema })
    }

    /// Appends a record of fields in the order of the schema; each with its branch where its type
    /// is a union.
    ///
    /// # Errors
    /// What does not fit the schema; nothing was appended.
    pub(super) fn write(
        &self,
        fields: Vec<(String, Option<u32>, Datum)>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let start = out.len();
        let value = |(name, branch, datum): (String, Option<u32>, Datum)| {
            let value = Value::from(datum);
            match branch {
                Some(branch) => (name, Value::Union(branch, Box::new(value))),
                None => (name, value),
            }
        };
        let record = Value::Record(fields.into_iter().map(value).collect());
        let written = GenericDatumWriter::builder(&self.schema)
            .build()
            .and_then(|writer| writer.write_value_ref(out, &record));
        written.map(drop).map_err(|problem| {
            out.truncate(start);
            problem.to_string()
        })
    }
}

/// Whether a reader with the schema `new` reads what was written with `old`, in all cases.
///
/// # Errors
/// What stands against it.
pub(crate) fn can_read(new: &str, old: &str) -> Result<(), String> {
    let (new, old) = (Binary::new(new)?, Binary::new(old)?);
    match SchemaCompatibility::can_read(&old.schema, &new.schema) {
        Ok(Compatibility::Full) => Ok(()),
        Ok(Compatibility::Partial) => Err("a column has another type".to_owned()),
        Err(problem) => Err(problem.to_string()),
    }
}

impl From<Datum> for Value {
    fn from(datum: Datum) -> Self {
        match datum {
            Datum::Null => Self::Null,
            Datum::Boolean(value) => Self::Boolean(value),
            Datum::Long(value) => Self::Long(value),
            Datum::Double(value) => Self::Double(value),
            Datum::Text(text) => Self::String(text),
            Datum::Bytes(bytes) => Self::Bytes(bytes),
            Datum::Time(time_ms) => Self::TimestampMillis(time_ms),
            Datum::Map(entries) => {
                let entries = entries.into_iter().map(|(name, text)| (name, Self::String(text)));
                Self::Map(entries.collect::<HashMap<_, _>>())
            }
        }
    }
}
