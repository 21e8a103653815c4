//! A record as a line of NDJSON.

use std::io::Write as _;

use crate::forward::engine::batch::{OutRecord, ValueKind};

const INFALLIBLE: &str = "numbers and texts are written to memory";

/// Appends the record as the API shows it; `index` for the rows of one record, `gap` for one that
/// says what is missing.
pub(super) fn line(record: &OutRecord<'_>, out: &mut Vec<u8>) {
    let OutRecord { offset, partition, time_ms, .. } = record;
    write!(out, r#"{{"offset":{offset},"partition":{partition},"time":{time_ms},"key":"#)
        .expect(INFALLIBLE);
    serde_json::to_writer(&mut *out, record.key).expect(INFALLIBLE);
    if let Some(topic) = record.topic {
        out.extend_from_slice(b",\"topic\":");
        serde_json::to_writer(&mut *out, topic).expect(INFALLIBLE);
    }
    if let Some(origin) = record.origin {
        out.extend_from_slice(b",\"origin\":");
        serde_json::to_writer(&mut *out, origin).expect(INFALLIBLE);
    }
    if let Some(index) = record.index {
        write!(out, r#","index":{index}"#).expect(INFALLIBLE);
    }
    if let Some(gap) = record.gap {
        write!(out, r#","gap":"{gap}""#).expect(INFALLIBLE);
    }
    if record.kind == ValueKind::Delete {
        out.extend_from_slice(b",\"deleted\":true");
    }
    out.extend_from_slice(b",\"value\":");
    value(record, out);
    out.extend_from_slice(b"}\n");
}

/// JSON as it is, other text as a string, all else in base64; null for a delete.
fn value(record: &OutRecord<'_>, out: &mut Vec<u8>) {
    let is_json = match record.kind {
        ValueKind::Json => true,
        ValueKind::Payload => serde_json::from_slice::<serde::de::IgnoredAny>(record.value).is_ok(),
        ValueKind::Binary => false,
        ValueKind::Delete => return out.extend_from_slice(b"null"),
    };
    if is_json {
        // Strings in JSON hold no raw line ends, so all of these are white space.
        out.extend(record.value.iter().map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            other => *other,
        }));
        return;
    }
    let json = match std::str::from_utf8(record.value) {
        Ok(text) if record.kind == ValueKind::Payload => serde_json::to_writer(out, text),
        _ => {
            use base64::Engine;
            let encoded = base64::engine::general_purpose::STANDARD.encode(record.value);
            serde_json::to_writer(out, &serde_json::json!({ "base64": encoded }))
        }
    };
    json.expect(INFALLIBLE);
}
