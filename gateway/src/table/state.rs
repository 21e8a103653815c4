//! The rows of one table. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::Extent;

/// What a row takes beside its key and its value: nodes of the map, lengths, the allocator's share.
const ROW_BYTES: u64 = 96;

/// A row that has to change: its key, and the new payload or `None` to delete it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The key.
    pub key: String,
    /// A JSON object without the key column.
    pub payload: Option<String>,
}

/// The last value of each key.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Payloads by key.
    rows: BTreeMap<Box<str>, Box<[u8]>>,
    bytes: u64,
    position: Option<u64>,
}

impl Table {
    /// The record at `offset` says what `key` is from there on; nothing deletes it.
    pub(super) fn set(&mut self, key: &str, offset: u64, payload: &[u8]) {
        self.position = Some(offset);
        let before = if payload.is_empty() {
            self.rows.remove(key)
        } else {
            self.bytes += size_of_row(key, payload);
            self.rows.insert(key.into(), payload.into())
        };
        if let Some(before) = before {
            self.bytes -= size_of_row(key, &before);
        }
    }

    /// The payload of a key.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.rows.get(key).map(AsRef::as_ref)
    }

    /// The rows behind a key, in order.
    pub(super) fn after(&self, key: Option<&str>) -> impl Iterator<Item = (&str, &[u8])> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows.range::<str, _>((from, Bound::Unbounded)).map(|(key, row)| (&**key, &**row))
    }

    pub(super) fn extent(&self) -> Extent {
        Extent { keys: self.rows.len() as u64, bytes: self.bytes, position: self.position }
    }

    /// What has to change so that the table holds exactly `wanted`: what is new or different, then
    /// what goes, each in the order of keys.
    pub(super) fn changes(&self, wanted: BTreeMap<String, String>) -> Vec<Change> {
        let gone = self.rows.keys().filter(|key| !wanted.contains_key(&***key));
        let gone: Vec<Change> =
            gone.map(|key| Change { key: key.to_string(), payload: None }).collect();
        let is_new = |(key, payload): &(String, String)| {
            self.get(key).is_none_or(|row| row != payload.as_bytes())
        };
        let set = wanted.into_iter().filter(is_new);
        set.map(|(key, payload)| Change { key, payload: Some(payload) }).chain(gone).collect()
    }
}

/// What a row takes in memory, about.
pub(crate) fn size_of_row(key: &str, payload: &[u8]) -> u64 {
    (key.len() + payload.len()) as u64 + ROW_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
        rows.iter().map(|(key, payload)| ((*key).to_owned(), (*payload).to_owned())).collect()
    }

    #[test]
    fn the_last_record_of_a_key_counts_and_an_empty_one_deletes_it() {
        let mut table = Table::default();
        for (offset, (key, payload)) in
            (7..).zip([("a", "{}"), ("b", "{\"x\":1}"), ("a", "{\"x\":2}"), ("b", ""), ("c", "")])
        {
            table.set(key, offset, payload.as_bytes());
        }
        let rows: Vec<_> = table.after(None).collect();
        assert_eq!(rows, [("a", &b"{\"x\":2}"[..])]);
        assert_eq!(table.extent(), Extent { keys: 1, bytes: 8 + ROW_BYTES, position: Some(11) });
        assert_eq!(table.after(Some("a")).count(), 0);
    }

    #[test]
    fn only_what_differs_changes() {
        let mut table = Table::default();
        for (key, payload) in [("a", "{}"), ("b", "{}"), ("c", "{}")] {
            table.set(key, 0, payload.as_bytes());
        }
        let changes = table.changes(texts(&[("a", "{}"), ("b", "{\"x\":1}"), ("d", "{}")]));
        let shown: Vec<_> =
            changes.iter().map(|change| (change.key.as_str(), change.payload.as_deref())).collect();
        assert_eq!(shown, [("b", Some("{\"x\":1}")), ("d", Some("{}")), ("c", None)]);
        assert_eq!(table.changes(texts(&[("a", "{}"), ("b", "{}"), ("c", "{}")])), []);
    }

    type Rows = BTreeMap<String, String>;

    proptest! {
        #[test]
        fn after_its_changes_a_table_holds_what_was_wanted(
            before: Rows,
            wanted: Rows,
            done in 0_usize..20,
        ) {
            // An empty payload is a delete, never a value.
            let filled = |rows: Rows| -> Rows {
                rows.into_iter().map(|(key, text)| (key, format!("{{{text}"))).collect()
            };
            let (before, wanted) = (filled(before), filled(wanted));
            let mut table = Table::default();
            for (key, payload) in &before {
                table.set(key, 0, payload.as_bytes());
            }
            // A kill comes after some of them; what is left is found again.
            for part in [done, usize::MAX] {
                for Change { key, payload } in table.changes(wanted.clone()).into_iter().take(part) {
                    table.set(&key, 1, payload.unwrap_or_default().as_bytes());
                }
            }
            let bytes = wanted.iter().map(|(key, text)| size_of_row(key, text.as_bytes())).sum::<u64>();
            let rows: Rows = table
                .after(None)
                .map(|(key, row)| (key.to_owned(), String::from_utf8_lossy(row).into_owned()))
                .collect();
            prop_assert_eq!(rows, wanted);
            prop_assert_eq!(table.extent().bytes, bytes);
        }
    }
}
