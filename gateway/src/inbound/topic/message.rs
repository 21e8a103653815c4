//! From a record of the cluster to a message.

use std::sync::Arc;

use super::super::identity;
use super::super::origin::Item;
use crate::config::SourceConfig;
use crate::forward::TopicRecord;
use crate::mqtt::{put_expiry, put_user_property};

/// A larger payload is not stored whole.
const PAYLOAD_BYTES_MAX: usize = 900 << 10;
/// What is kept of it.
const CUT_BYTES: usize = 1 << 10;
/// Headers travel as far as they fit.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// The message of a record; `None` where its time to live is over.
pub(super) fn item(
    config: &SourceConfig,
    partitions: &[Arc<str>],
    record: TopicRecord,
    now_ms: i64,
) -> Option<Item> {
    let source = partitions.get(usize::try_from(record.partition).ok()?)?;
    let mut properties = Vec::new();
    if let Some(expiry) = config.expiry {
        let expiry_ms = i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX);
        let age_ms = now_ms.saturating_sub(record.time_ms.unwrap_or(now_ms)).max(0);
        let left_s = expiry_ms.saturating_sub(age_ms).checked_div(1_000)?;
        if left_s < 1 {
            return None;
        }
        put_expiry(&mut properties, u32::try_from(left_s).unwrap_or(u32::MAX));
    }
    put_headers(&mut properties, &record.headers);
    let key = String::from_utf8_lossy(&record.key);
    let partition = record.partition.to_string();
    let topic = config.publish.fill(|name| match name {
        "key" => &key,
        "partition" => &partition,
        _ => header(&record.headers, name),
    });
    let mut payload = record.payload.unwrap_or_default();
    let rejected = (payload.len() > PAYLOAD_BYTES_MAX).then(|| {
        let bytes = payload.len();
        payload.truncate(CUT_BYTES);
        format!("a payload of {bytes} bytes, cut to {CUT_BYTES}: at most {PAYLOAD_BYTES_MAX} fit")
    });
    let position = u64::try_from(record.offset).ok()?;
    let (source, retain) = (Arc::clone(source), config.retain);
    Some(Item { source, position, topic, payload, properties, retain, rejected })
}

fn put_headers(properties: &mut Vec<u8>, headers: &[(String, String)]) {
    for (name, value) in headers {
        let fits = properties.len() + name.len() + value.len() <= HEADER_BYTES_MAX;
        if fits && !identity::is_own(name) && !name.contains('\0') && !value.contains('\0') {
            put_user_property(properties, name, value);
        }
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    let found = headers.iter().find(|(header, _)| header == name);
    found.map_or("", |(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::SourceStart;
    use crate::inbound::TopicTemplate;
    use crate::mqtt::user_properties;

    fn config(expiry: Option<Duration>) -> SourceConfig {
        SourceConfig {
            name: "s".into(),
            upstream: "cluster".into(),
            topic: "commands".into(),
            publish: TopicTemplate::parse("plant/{key}/{kind}/command").expect("a template"),
            expiry,
            retain: false,
            from: SourceStart::Latest,
        }
    }

    fn record(time_ms: i64) -> TopicRecord {
        TopicRecord {
            partition: 1,
            offset: 7,
            time_ms: Some(time_ms),
            key: b"pump/7".to_vec(),
            payload: Some(b"on".to_vec()),
            headers: vec![("kind".into(), "a".into()), ("hw.source".into(), "forged".into())],
        }
    }

    fn of(config: &SourceConfig, record: TopicRecord, now_ms: i64) -> Option<Item> {
        item(config, &["s/0".into(), "s/1".into()], record, now_ms)
    }

    #[test]
    fn a_record_becomes_a_message_with_its_headers_and_no_forged_identity() {
        let item = of(&config(None), record(1_000), 9_000).expect("a message");
        assert_eq!((item.source.as_ref(), item.position), ("s/1", 7));
        assert_eq!(item.topic, "plant/pump%2F7/a/command");
        assert_eq!(item.payload, b"on");
        let properties: Vec<_> = user_properties(&item.properties).collect();
        assert_eq!(properties, [("kind", "a")]);
        assert_eq!(item.rejected, None);
    }

    #[test]
    fn a_record_whose_time_is_over_is_no_message() {
        let config = config(Some(Duration::from_secs(5)));
        assert!(of(&config, record(1_000), 5_000).is_some());
        assert!(of(&config, record(1_000), 6_000).is_none());
        assert!(of(&config, record(90_000), 6_000).is_some(), "the cluster's clock is ahead");
    }

    #[test]
    fn what_is_too_large_is_cut_and_said() {
        let mut large = record(0);
        large.payload = Some(vec![b'x'; PAYLOAD_BYTES_MAX + 1]);
        let item = of(&config(None), large, 0).expect("a message");
        assert_eq!(item.payload.len(), CUT_BYTES);
        assert!(item.rejected.is_some_and(|why| why.contains("921601 bytes")));
    }
}
