//! Records on their way out, in one arena that is used again and again.

use headwater_shared::origin::Origin;

/// What is staged at a time, in records, if the policy says nothing else...
pub(in crate::forward) const RECORDS_FULL: usize = 500;
/// ...and in bytes. The last record of the journal that is taken may go beyond.
const BYTES_FULL: usize = 256 << 10;
/// An arena that one large record has blown up is given back above this.
const BYTES_KEPT: usize = 1 << 20;

/// How a value reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum ValueKind {
    /// JSON text.
    Json,
    /// A payload as it came, whatever it is.
    Payload,
    /// Bytes that are no text.
    Binary,
    /// No value at all: the key is deleted.
    Delete,
}

/// One record as an upstream gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) struct OutRecord<'a> {
    /// The record's offset in the journal; of a gap in the journal itself the first that is missing.
    pub(in crate::forward) offset: u64,
    /// The last offset that it stands for.
    pub(in crate::forward) last: u64,
    /// Which row of the record, from 0, where the record has rows.
    pub(in crate::forward) index: Option<u32>,
    /// Partition of the stream, from 0.
    pub(in crate::forward) partition: u16,
    /// Event time, ms since 1970.
    pub(in crate::forward) time_ms: i64,
    /// The stream's key.
    pub(in crate::forward) key: &'a str,
    /// The MQTT topic that it came on.
    pub(in crate::forward) topic: Option<&'a str>,
    /// Where it entered its first journal, if that was another gateway's.
    pub(in crate::forward) origin: Option<&'a str>,
    /// Why something is missing, if the record says that.
    pub(in crate::forward) gap: Option<&'static str>,
    /// The value.
    pub(in crate::forward) value: &'a [u8],
    /// How it reads.
    pub(in crate::forward) kind: ValueKind,
}

/// Staged records of all routes.
#[derive(Debug)]
pub(in crate::forward) struct Batch {
    /// Keys, topics and origins.
    texts: String,
    /// Values.
    bytes: Vec<u8>,
    records: Vec<Meta>,
    /// Of the records that are added next; empty: they have none.
    origin: String,
    records_max: usize,
    /// Bytes that the link has room for.
    room: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new(RECORDS_FULL)
    }
}

#[derive(Debug)]
struct Meta {
    route: usize,
    offset: u64,
    last: u64,
    index: Option<u32>,
    partition: u16,
    time_ms: i64,
    gap: Option<&'static str>,
    kind: ValueKind,
    /// `None`: as long as the record before says, which is another row of the same message.
    texts: Option<Texts>,
    value_start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug)]
struct Texts {
    key_start: usize,
    topic_start: usize,
    topic: bool,
    origin_start: usize,
    end: usize,
}

/// What a staged record has besides key, topic and value.
#[derive(Clone, Copy, Debug)]
pub(in crate::forward) struct Head {
    pub(in crate::forward) route: usize,
    pub(in crate::forward) offset: u64,
    pub(in crate::forward) last: u64,
    pub(in crate::forward) partition: u16,
    pub(in crate::forward) gap: Option<&'static str>,
    pub(in crate::forward) kind: ValueKind,
}

impl Batch {
    /// One that is full with this many records.
    pub(in crate::forward) fn new(records_max: usize) -> Self {
        Self {
            texts: String::new(),
            bytes: Vec::new(),
            records: Vec::new(),
            origin: String::new(),
            records_max,
            room: u64::MAX,
        }
    }

    /// The records that are added next entered their first journal there.
    pub(in crate::forward) fn set_origin(&mut self, origin: Option<Origin<'_>>) {
        self.origin.clear();
        match origin {
            None => {}
            Some(Origin { first: Some(first), .. }) => self.origin.push_str(first),
            Some(origin) => {
                let Origin { gateway, incarnation, stream, offset, index, .. } = origin;
                let row = index.map(|index| format!(".{index}")).unwrap_or_default();
                self.origin = format!("{gateway}/{incarnation}/{stream}/{offset}{row}");
            }
        }
    }

    /// Adds a record, or several rows of one with [`Entry::row`].
    pub(in crate::forward) fn entry<'b>(
        &'b mut self,
        head: Head,
        key: &str,
        topic: Option<&str>,
    ) -> Entry<'b> {
        let key_start = self.texts.len();
        self.texts.push_str(key);
        let topic_start = self.texts.len();
        self.texts.push_str(topic.unwrap_or_default());
        let origin_start = self.texts.len();
        self.texts.push_str(&self.origin);
        let (topic, end) = (topic.is_some(), self.texts.len());
        let texts = Texts { key_start, topic_start, topic, origin_start, end };
        Entry { batch: self, head, texts: Some(texts) }
    }

    /// No more may be added: it holds as much as it can, or as the link has room for.
    pub(in crate::forward) fn is_full(&self) -> bool {
        self.is_packed() || self.size() as u64 >= self.room
    }

    /// It holds as much as it can.
    pub(in crate::forward) fn is_packed(&self) -> bool {
        self.records.len() >= self.records_max || self.size() >= BYTES_FULL
    }

    fn size(&self) -> usize {
        self.texts.len() + self.bytes.len()
    }

    /// It is full with this many records.
    pub(in crate::forward) fn at_most(&mut self, records: usize) {
        self.records_max = records;
    }

    /// The link has room for `bytes`.
    pub(in crate::forward) fn allow(&mut self, bytes: u64) {
        self.room = bytes;
    }

    pub(in crate::forward) fn len(&self) -> usize {
        self.records.len()
    }

    pub(in crate::forward) fn clear(&mut self) {
        self.records.clear();
        self.texts.clear();
        self.texts.shrink_to(BYTES_KEPT);
        self.bytes.clear();
        self.bytes.shrink_to(BYTES_KEPT);
        self.records.shrink_to(2 * RECORDS_FULL);
    }

    /// All records with their routes, in the order they were added.
    pub(in crate::forward) fn iter(&self) -> impl Iterator<Item = (usize, OutRecord<'_>)> {
        let mut texts =
            Texts { key_start: 0, topic_start: 0, topic: false, origin_start: 0, end: 0 };
        self.records.iter().map(move |meta| {
            texts = meta.texts.unwrap_or(texts);
            (meta.route, self.view(meta, texts))
        })
    }

    fn view(&self, meta: &Meta, texts: Texts) -> OutRecord<'_> {
        let text = |from: usize, to: usize| &self.texts[from..to];
        OutRecord {
            offset: meta.offset,
            last: meta.last,
            index: meta.index,
            partition: meta.partition,
            time_ms: meta.time_ms,
            key: text(texts.key_start, texts.topic_start),
            topic: texts.topic.then(|| text(texts.topic_start, texts.origin_start)),
            origin: Some(text(texts.origin_start, texts.end)).filter(|origin| !origin.is_empty()),
            gap: meta.gap,
            value: &self.bytes[meta.value_start..meta.end],
            kind: meta.kind,
        }
    }
}

/// A record that is being added.
pub(in crate::forward) struct Entry<'b> {
    batch: &'b mut Batch,
    head: Head,
    texts: Option<Texts>,
}

impl Entry<'_> {
    /// The one value of the record.
    pub(in crate::forward) fn value(mut self, time_ms: i64, value: &[u8]) {
        self.push(time_ms, None, |bytes| bytes.extend_from_slice(value));
    }

    /// One of its rows; `write` appends the value.
    pub(in crate::forward) fn row(
        &mut self,
        time_ms: i64,
        index: u32,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.push(time_ms, Some(index), write);
    }

    fn push(&mut self, time_ms: i64, index: Option<u32>, write: impl FnOnce(&mut Vec<u8>)) {
        let Head { route, offset, last, partition, gap, kind } = self.head;
        let value_start = self.batch.bytes.len();
        write(&mut self.batch.bytes);
        let end = self.batch.bytes.len();
        let texts = self.texts.take();
        self.batch.records.push(Meta {
            route,
            offset,
            last,
            index,
            partition,
            time_ms,
            gap,
            kind,
            texts,
            value_start,
            end,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(offset: u64) -> Head {
        let kind = ValueKind::Json;
        Head { route: 3, offset, last: offset, partition: 1, gap: None, kind }
    }

    #[test]
    fn rows_share_the_key_and_topic_of_their_record() {
        let mut batch = Batch::default();
        let mut rows = batch.entry(head(7), "pump", Some("a/b"));
        rows.row(10, 0, |bytes| bytes.push(b'1'));
        rows.row(20, 1, |bytes| bytes.push(b'2'));
        batch.entry(head(8), "fan", None).value(30, b"3");
        let seen: Vec<_> = batch
            .iter()
            .map(|(route, r)| (route, r.offset, r.index, r.key, r.topic, r.value, r.time_ms))
            .collect();
        assert_eq!(
            seen,
            [
                (3, 7, Some(0), "pump", Some("a/b"), &b"1"[..], 10),
                (3, 7, Some(1), "pump", Some("a/b"), b"2", 20),
                (3, 8, None, "fan", None, b"3", 30),
            ]
        );
    }

    #[test]
    fn an_origin_stays_that_of_the_first_journal() {
        let mut batch = Batch::default();
        let origin = Origin {
            gateway: "field",
            incarnation: "i",
            stream: "climate",
            route: "t",
            offset: 7,
            last: 7,
            index: Some(2),
            first: None,
        };
        for origin in [Some(origin), None, Some(Origin { first: Some("f/i/s/1"), ..origin })] {
            batch.set_origin(origin);
            batch.entry(head(1), "k", Some("t")).value(0, b"v");
        }
        let seen: Vec<_> = batch.iter().map(|(_, record)| (record.topic, record.origin)).collect();
        let of = |origin| (Some("t"), origin);
        assert_eq!(seen, [of(Some("field/i/climate/7.2")), of(None), of(Some("f/i/s/1"))]);
    }

    #[test]
    fn a_cleared_batch_gives_a_blown_up_arena_back() {
        let mut batch = Batch::default();
        batch.entry(head(0), "k", None).value(0, &vec![0; 3 * BYTES_KEPT]);
        assert!(batch.is_full());
        batch.clear();
        assert_eq!(batch.len(), 0);
        assert!(batch.bytes.capacity() <= BYTES_KEPT, "{}", batch.bytes.capacity());
    }
}
