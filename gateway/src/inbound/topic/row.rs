//! From a record of a compacted topic to a row of a table.

use std::sync::Arc;

use super::super::origin::Item;
use super::super::table::{KEY_BYTES_MAX, ROW_BYTES_MAX};
use super::super::template::TopicTemplate;
use crate::forward::TopicRecord;

/// What is kept of what cannot be a row.
const CUT_BYTES: usize = 1 << 10;

/// The row of a record, whose value is a JSON object, or nothing to delete its key. What cannot be a
/// row is stored as rejected, and the table keeps the value of before.
pub(super) fn item(
    topic: &TopicTemplate,
    partitions: &[Arc<str>],
    record: TopicRecord,
) -> Option<Item> {
    let source = Arc::clone(partitions.get(usize::try_from(record.partition).ok()?)?);
    let position = u64::try_from(record.offset).ok()?;
    let rejected = fault(&record);
    let (mut key, mut payload) = (record.key, record.payload.unwrap_or_default());
    if rejected.is_some() {
        key.truncate(KEY_BYTES_MAX);
        payload.truncate(CUT_BYTES);
    }
    let key = String::from_utf8_lossy(&key);
    let topic = topic.fill(|_| &key);
    Some(Item { source, position, topic, payload, properties: Vec::new(), retain: false, rejected })
}

fn fault(record: &TopicRecord) -> Option<String> {
    let payload = record.payload.as_ref();
    match (record.key.len(), payload.map(Vec::len)) {
        (0, _) => Some("a record without a key is no row".to_owned()),
        (bytes, _) if bytes > KEY_BYTES_MAX => {
            Some(format!("a key of {bytes} bytes: at most {KEY_BYTES_MAX} fit"))
        }
        (_, Some(0)) => Some("an empty value is no JSON object; a delete has none at all".into()),
        (_, Some(bytes)) if bytes > ROW_BYTES_MAX => {
            Some(format!("a row of {bytes} bytes, cut to {CUT_BYTES}: at most {ROW_BYTES_MAX} fit"))
        }
        _ => std::str::from_utf8(&record.key).err().map(|_| "the key is not UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &[u8], payload: Option<&[u8]>) -> Item {
        let record = TopicRecord {
            partition: 0,
            offset: 7,
            time_ms: None,
            key: key.to_vec(),
            payload: payload.map(<[u8]>::to_vec),
            headers: vec![("a".into(), "b".into())],
        };
        let topic = TopicTemplate::of_table("devices");
        item(&topic, &["table/devices/0".into()], record).expect("a known partition")
    }

    #[test]
    fn a_value_is_a_row_and_none_deletes_its_key() {
        let row = of(b"pump/7", Some(b"{}"));
        assert_eq!((row.source.as_ref(), row.position), ("table/devices/0", 7));
        assert_eq!(
            (row.topic.as_str(), row.payload.as_slice()),
            ("$table/devices/pump%2F7", &b"{}"[..])
        );
        assert!(row.properties.is_empty() && row.rejected.is_none());
        let delete = of(b"a", None);
        assert!(delete.payload.is_empty() && delete.rejected.is_none());
    }

    #[test]
    fn what_cannot_be_a_row_is_rejected_and_small() {
        let long = vec![b'k'; KEY_BYTES_MAX + 1];
        let large = vec![b'x'; ROW_BYTES_MAX + 1];
        for (key, payload, words) in [
            (&b""[..], Some(&b"{}"[..]), "without a key"),
            (b"a", Some(b""), "no JSON object"),
            (b"a\xff", None, "not UTF-8"),
            (&long, None, "1025 bytes"),
            (b"a", Some(&large), "921601 bytes"),
        ] {
            let item = of(key, payload);
            assert!(item.rejected.expect(words).contains(words));
            assert!(item.payload.len() <= CUT_BYTES);
        }
    }
}
