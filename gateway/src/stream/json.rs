//! Reading a JSON payload as its stream wants it: the columns that matter at the door.

use serde_json::{Map, Value as Json};

use crate::config::{ColumnType, StreamConfig};

/// What the door needs of a JSON message.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed {
    /// Event time in ms since 1970; `None`: the stream names none.
    pub(super) time_ms: Option<i64>,
    /// The key column, where it is in the payload.
    pub(super) key: Option<String>,
}

/// Parses and checks a payload.
///
/// # Errors
/// Why the stream cannot take it, for its `.rejected` stream.
pub(super) fn parse(config: &StreamConfig, payload: &[u8]) -> Result<Parsed, String> {
    let json: Map<String, Json> = serde_json::from_slice(payload)
        .map_err(|problem| format!("not a JSON object: {problem}"))?;
    for (column, kind) in &config.columns {
        if let Some(value) = json.get(column)
            && !fits(*kind, value)
        {
            return Err(format!("column {column}: {value} is not {kind:?}").to_lowercase());
        }
    }
    let time_ms = match &config.time {
        None => None,
        Some(column) => Some(time(column, json.get(column))?),
    };
    let in_payload =
        |key: &&String| !config.topic.captures().any(|capture| capture == key.as_str());
    let key = match config.key.as_ref().filter(in_payload) {
        None => None,
        Some(column) => match json.get(column) {
            Some(Json::String(text)) => Some(text.clone()),
            Some(value @ (Json::Number(_) | Json::Bool(_))) => Some(value.to_string()),
            _ => return Err(format!("the key column {column} is missing")),
        },
    };
    Ok(Parsed { time_ms, key })
}

fn fits(kind: ColumnType, value: &Json) -> bool {
    match kind {
        _ if value.is_null() => true,
        ColumnType::Double => value.is_number(),
        ColumnType::Integer => value.is_i64(),
        ColumnType::Text => value.is_string(),
        ColumnType::Boolean => value.is_boolean(),
    }
}

/// Event times lie between 1970 and the year 9999.
pub(crate) const TIME_MS: std::ops::Range<i64> = 0..253_402_300_800_000;

fn time(column: &str, value: Option<&Json>) -> Result<i64, String> {
    let time_ms = match value {
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked below")]
        Some(Json::Number(number)) => {
            number.as_i64().or_else(|| number.as_f64().map(|float| float as i64))
        }
        Some(Json::String(text)) => {
            text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).ok()
        }
        _ => None,
    };
    time_ms.filter(|time_ms| TIME_MS.contains(time_ms)).ok_or_else(|| {
        format!("the time column {column} is neither ms since 1970 nor an RFC 3339 text")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn stream(more: &str) -> StreamConfig {
        let text = format!(
            "[gateway]\nid = \"g\"\ndata_dir = \"d\"\n[[stream]]\nname = \"s\"\n\
             topic = \"s/{{device}}\"\nformat = \"json\"\n{more}"
        );
        Config::parse("test", &text).expect("a configuration").streams.remove(0)
    }

    #[test]
    fn time_and_key_are_read_from_the_payload() {
        let config = stream("time = \"ts\"\nkey = \"id\"");
        let parsed = parse(&config, br#"{"ts": 1763700000000, "id": "p7", "v": 1}"#);
        assert_eq!(
            parsed,
            Ok(Parsed { time_ms: Some(1_763_700_000_000), key: Some("p7".to_owned()) })
        );
        let parsed = parse(&config, br#"{"ts": "2025-11-21T04:40:00Z", "id": 7}"#);
        assert_eq!(
            parsed,
            Ok(Parsed { time_ms: Some(1_763_700_000_000), key: Some("7".to_owned()) })
        );
    }

    #[test]
    fn what_the_stream_cannot_use_says_why() {
        let config = stream("time = \"ts\"\ncolumns = { v = \"double\" }");
        for (payload, why) in [
            (&b"no"[..], "not a JSON object"),
            (b"[1]", "not a JSON object"),
            (br#"{"v": 1}"#, "time column ts"),
            (br#"{"ts": 1e300}"#, "time column ts"),
            (br#"{"ts": 1, "v": "warm"}"#, "column v: \"warm\" is not double"),
        ] {
            let problem = parse(&config, payload).expect_err(why);
            assert!(problem.contains(why), "{problem}");
        }
    }
}
