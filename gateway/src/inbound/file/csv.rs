//! CSV (RFC 4180) with a header line, through the `csv` crate.

use std::collections::BTreeSet;

use csv::{Reader, ReaderBuilder, StringRecord};
use serde_json::{Number, Value as Json};

use super::content::Gather;

/// Reads rows into `gather`.
///
/// # Errors
/// What does not fit, and in which line.
pub(super) fn read(text: &str, key: &str, gather: &mut Gather) -> Result<(), String> {
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|problem| problem.to_string())?.clone();
    let key = columns(&header, key)?;
    let mut record = StringRecord::new();
    while next(&mut reader, &mut record)? {
        let line = line_of(text, &record);
        if record.len() != header.len() {
            let (cells, wanted) = (record.len(), header.len());
            let s = if cells == 1 { "" } else { "s" };
            return Err(format!("line {line}: {cells} cell{s}, the header has {wanted}"));
        }
        gather.row(line, record[key].to_owned(), payload(&header, &record, key))?;
    }
    Ok(())
}

/// The line in which a record begins; where it was looked for, empty lines may come before it.
fn line_of(text: &str, record: &StringRecord) -> u64 {
    let Some(place) = record.position() else { return 0 };
    let from = usize::try_from(place.byte()).unwrap_or(usize::MAX);
    let rest = text.as_bytes().get(from..).unwrap_or_default();
    let before = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    place.line() + before.filter(|byte| **byte == b'\n').count() as u64
}

fn next(reader: &mut Reader<&[u8]>, record: &mut StringRecord) -> Result<bool, String> {
    reader.read_record(record).map_err(|problem| problem.to_string())
}

/// Where the key stands in a header without faults.
fn columns(header: &StringRecord, key: &str) -> Result<usize, String> {
    if header.is_empty() {
        return Err("the file is empty: write a header line with the names of the columns".into());
    }
    let mut known = BTreeSet::new();
    for name in header {
        if name.is_empty() {
            return Err("line 1: a column without a name: give it one".to_owned());
        }
        if !known.insert(name) {
            return Err(format!("line 1: the column {name:?} stands twice: rename one"));
        }
    }
    header.iter().position(|name| name == key).ok_or_else(|| {
        let all: Vec<&str> = header.iter().collect();
        format!("line 1: no column {key:?}; there are: {}", all.join(", "))
    })
}

/// The other columns as a JSON object, in their order.
fn payload(header: &StringRecord, record: &StringRecord, key: usize) -> String {
    let mut text = String::from("{");
    let cells = header.iter().zip(record).enumerate().filter(|(index, _)| *index != key);
    for (place, (_, (name, cell))) in cells.enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(&Json::from(name).to_string());
        text.push(':');
        text.push_str(&value(cell).to_string());
    }
    text.push('}');
    text
}

/// A number or a truth value where JSON would write it with the same characters, so that nothing is
/// changed on the way (007 stays a text); null where there is nothing.
fn value(cell: &str) -> Json {
    match cell {
        "" => Json::Null,
        "true" => Json::Bool(true),
        "false" => Json::Bool(false),
        _ => number(cell).map_or_else(|| Json::from(cell), Json::Number),
    }
}

fn number(cell: &str) -> Option<Number> {
    let whole = cell.parse::<i64>().map(Number::from);
    let whole = whole.or_else(|_| cell.parse::<u64>().map(Number::from));
    let number: Number = match whole {
        Ok(number) => number,
        Err(_) => Number::from_f64(cell.parse().ok()?)?,
    };
    (number.to_string() == cell).then_some(number)
}
