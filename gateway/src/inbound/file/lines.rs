//! NDJSON: an object a line.

use serde_json::{Map, Value as Json};

use super::content::Gather;

/// Reads rows into `gather`.
///
/// # Errors
/// What does not fit, and in which line.
pub(super) fn read(text: &str, key: &str, gather: &mut Gather) -> Result<(), String> {
    for (line, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() {
            continue;
        }
        let mut row: Map<String, Json> = serde_json::from_str(text)
            .map_err(|problem| format!("line {line}: not a JSON object: {problem}"))?;
        let key = match row.remove(key) {
            Some(Json::String(text)) => text,
            Some(value @ (Json::Number(_) | Json::Bool(_))) => value.to_string(),
            _ => return Err(format!("line {line}: the key column {key} is missing")),
        };
        gather.row(line, key, Json::Object(row).to_string())?;
    }
    Ok(())
}
