//! From a record of the journal to what travels.

use std::io::Write as _;

use headwater_shared::envelope::{Envelope, Gap, GapCause, GapUnit, Publish};

use crate::config::{Format, RouteFormat};
use crate::forward::engine::batch::{Batch, Head, ValueKind};
use crate::journal::Record;
use crate::stream::{Row, Rows, Streams, Value, gap_json};

/// Writes the records of one route.
pub(in crate::forward) struct Encoder {
    route: usize,
    rows: Rows,
    format: RouteFormat,
    /// How payloads of the stream read; `None` for what the gateway writes itself.
    stream_format: Option<Format>,
    /// The name under which a row shows the key.
    key_column: String,
}

impl Encoder {
    /// For the route number `route` of `stream`.
    pub(in crate::forward) fn new(
        route: usize,
        stream: &str,
        format: RouteFormat,
        rows: Rows,
        streams: &Streams,
    ) -> Self {
        let config = streams.get(stream).and_then(|stream| stream.config.as_ref());
        let key_column = config.and_then(|config| config.key.clone());
        Self {
            route,
            rows,
            format,
            stream_format: streams.format(stream),
            key_column: key_column.unwrap_or_else(|| "key".to_owned()),
        }
    }

    /// Stages what `record`, of the stream's partition `partition`, is for the upstream.
    pub(in crate::forward) fn encode(&self, record: &Record, partition: u16, batch: &mut Batch) {
        let (key, time_ms) = (record.key_str(), record.time_ms);
        batch.set_origin(record.origin());
        match record.envelope() {
            Ok(Envelope::Publish(publish)) => self.publish(record, &publish, partition, batch),
            Ok(Envelope::Output(output)) => {
                let head = self.head(record, partition, ValueKind::Json);
                batch.entry(head, key, None).value(time_ms, output.payload);
            }
            Ok(Envelope::Gap(gap)) => {
                let head = self.head(record, partition, ValueKind::Json);
                let head = Head { gap: Some(cause(gap.cause)), ..head };
                let value = gap_json(&gap).to_string();
                batch.entry(head, key, None).value(time_ms, value.as_bytes());
            }
            Ok(Envelope::Session(_) | Envelope::Tick(_)) => {}
            Err(_) => self.unreadable(record, partition, batch),
        }
    }

    /// Stages the news that offsets `first..end` are not in the journal. Which of them were the
    /// route's nobody knows, so it goes to partition 0.
    pub(in crate::forward) fn gap(
        &self,
        why: GapCause,
        (first, end): (u64, u64),
        now_ms: i64,
        to: &mut Batch,
    ) {
        to.set_origin(None);
        self.missing(why, (first, end), ("", 0, now_ms), to);
    }

    fn head(&self, record: &Record, partition: u16, kind: ValueKind) -> Head {
        let (route, offset) = (self.route, record.offset);
        Head { route, offset, last: offset, partition, gap: None, kind }
    }

    fn publish(&self, record: &Record, publish: &Publish<'_>, partition: u16, batch: &mut Batch) {
        let (key, topic) = (record.key_str(), Some(publish.topic));
        let as_it_came = |kind, batch: &mut Batch| {
            let head = self.head(record, partition, kind);
            batch.entry(head, key, topic).value(record.time_ms, publish.payload);
        };
        match (self.format, self.stream_format) {
            (RouteFormat::Original, _) => as_it_came(ValueKind::Payload, batch),
            (RouteFormat::Blocks, _) => as_it_came(ValueKind::Binary, batch),
            // The delete of a key of a state stream has no value.
            (RouteFormat::Json, Some(Format::Json))
                if publish.payload.is_empty() && publish.rejected.is_none() =>
            {
                as_it_came(ValueKind::Payload, batch);
            }
            (RouteFormat::Json, Some(Format::Json)) if publish.rejected.is_none() => {
                as_it_came(ValueKind::Json, batch);
            }
            (RouteFormat::Json, Some(Format::Blocks | Format::SparkplugB))
                if publish.rejected.is_none() =>
            {
                let Some(rows) = self.rows.of(record) else {
                    self.unreadable(record, partition, batch);
                    return;
                };
                let head = self.head(record, partition, ValueKind::Json);
                let mut entry = batch.entry(head, key, topic);
                for row in &rows {
                    entry.row(row.time_ms, row.index, |bytes| self.row(row, bytes));
                }
            }
            (RouteFormat::Json, _) => {
                let value = self.rows.record_json(record)["value"].to_string();
                let head = self.head(record, partition, ValueKind::Json);
                batch.entry(head, key, topic).value(record.time_ms, value.as_bytes());
            }
        }
    }

    /// What cannot be read travels as a gap; the record itself stays in the journal.
    fn unreadable(&self, record: &Record, partition: u16, batch: &mut Batch) {
        let place = (record.key_str(), partition, record.time_ms);
        self.missing(GapCause::Damage, (record.offset, record.offset + 1), place, batch);
    }

    fn missing(
        &self,
        why: GapCause,
        (first, end): (u64, u64),
        (key, partition, time_ms): (&str, u16, i64),
        batch: &mut Batch,
    ) {
        let last = end.saturating_sub(1).max(first);
        let gap = Gap {
            cause: why,
            source: "",
            unit: GapUnit::Offsets,
            first,
            last,
            count: Some(last - first + 1),
            boot_epoch: 0,
        };
        let (route, kind) = (self.route, ValueKind::Json);
        let head = Head { route, offset: first, last, partition, gap: Some(cause(why)), kind };
        batch.entry(head, key, None).value(time_ms, gap_json(&gap).to_string().as_bytes());
    }

    /// A row as a JSON object; decimals keep the digits that the sensor gave.
    fn row(&self, row: &Row, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut first = true;
        if !row.columns.contains_key("time") {
            member(out, &mut first, "time", &Value::Integer(row.time_ms));
        }
        if !row.columns.contains_key(&self.key_column) {
            member(out, &mut first, &self.key_column, &Value::Text(row.key.clone()));
        }
        for (name, value) in &row.columns {
            member(out, &mut first, name, value);
        }
        out.push(b'}');
    }
}

fn member(out: &mut Vec<u8>, first: &mut bool, name: &str, value: &Value) {
    const INFALLIBLE: &str = "texts and JSON values are written to memory";
    if !std::mem::take(first) {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, name).expect(INFALLIBLE);
    out.push(b':');
    match value {
        Value::Decimal(decimal) => write!(out, "{decimal}").expect(INFALLIBLE),
        Value::Text(text) => serde_json::to_writer(out, text).expect(INFALLIBLE),
        other => serde_json::to_writer(out, &other.to_json()).expect(INFALLIBLE),
    }
}

/// The header of a gap, and its cause in JSON.
fn cause(cause: GapCause) -> &'static str {
    match cause {
        GapCause::Retention => "retention",
        GapCause::Reset => "reset",
        GapCause::NodeOverflow => "nodeoverflow",
        GapCause::Damage => "damage",
        GapCause::Overload => "overload",
        GapCause::Expired => "expired",
        GapCause::Transit => "transit",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_shared::block::{BlockEncoder, BlockSpec, Clock, Kind};
    use headwater_shared::envelope::{Output, Tick};

    use super::*;
    use crate::catalog::Catalog;
    use crate::config::Config;
    use crate::node::Nodes;
    use crate::sparkplug::Sparkplug;

    const TIME_MS: i64 = 1_763_700_000_000;

    /// What an upstream gets, in short.
    #[derive(Debug, PartialEq)]
    struct Sent {
        time_ms: i64,
        index: Option<u32>,
        topic: Option<String>,
        gap: Option<&'static str>,
        value: Vec<u8>,
    }

    impl Sent {
        fn text(&self) -> &str {
            std::str::from_utf8(&self.value).expect("text")
        }
    }

    /// Encodes one record of `stream` with the key `pump` as a route of `format` does.
    fn sent(stream: &str, format: RouteFormat, envelope: &Envelope<'_>) -> Vec<Sent> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let catalog = Catalog::open(&dir.path().join("catalog")).expect("new");
        let text = "[gateway]\nid = \"g\"\ndata_dir = \"d\"\n\
                    [[stream]]\nname = \"readings\"\ntopic = \"r/{device}\"\nkey = \"device\"\n\
                    format = \"json\"\n\
                    [[stream]]\nname = \"nodes\"\ntopic = \"headwater/v1/{node}/blocks\"\n\
                    key = \"node\"\nformat = \"blocks\"\n\
                    [[stream]]\nname = \"any\"\ntopic = \"any/#\"\nformat = \"bytes\"\n";
        let config = Config::parse("test", text).expect("a configuration");
        let streams = Arc::new(Streams::new(&config, &catalog).expect("partitions"));
        let sparkplug = Arc::new(Sparkplug::new(&streams));
        let rows = Rows::new(Arc::clone(&streams), Arc::new(Nodes::default()), sparkplug);
        let mut value = vec![0; envelope.size_max()];
        let used = envelope.encode(&mut value).expect("an upper bound").len();
        value.truncate(used);
        let record = Record {
            offset: 17,
            partition: streams.get(stream).expect("configured").partitions[0],
            time_ms: TIME_MS,
            key: "pump".into(),
            value: value.into(),
        };
        let mut batch = Batch::default();
        Encoder::new(0, stream, format, rows, &streams).encode(&record, 0, &mut batch);
        let own = |record: crate::forward::engine::batch::OutRecord<'_>| {
            assert_eq!((record.offset, record.last, record.key), (17, 17, "pump"));
            Sent {
                time_ms: record.time_ms,
                index: record.index,
                topic: record.topic.map(str::to_owned),
                gap: record.gap,
                value: record.value.to_vec(),
            }
        };
        batch.iter().map(|(_, record)| own(record)).collect()
    }

    fn publish<'a>(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
        Publish {
            topic,
            client: "c",
            arrival_ms: TIME_MS,
            qos: 1,
            retain: false,
            packet_id: None,
            properties: &[],
            rejected: None,
            payload,
        }
    }

    fn block() -> Vec<u8> {
        let spec = BlockSpec {
            boot_epoch: 3,
            sequence: 0,
            first_sample: 40,
            clock: Clock::Unix,
            period_ms: 1000,
            kinds: &[Kind::Decimal { scale: 2 }],
        };
        let mut buffer = [0; 128];
        let base_ms = TIME_MS.unsigned_abs();
        let mut block = BlockEncoder::new(&mut buffer, &spec, base_ms).expect("a block");
        block.push(base_ms, &[2150]).expect("fits");
        block.push(base_ms + 1004, &[-5]).expect("fits");
        block.finish().to_vec()
    }

    #[test]
    fn json_and_original_payloads_travel_with_their_own_bytes() {
        let payload = b"{ \"v\" : 1.50,\n\"v2\":1e3 }";
        let envelope = Envelope::Publish(publish("r/pump", payload));
        for format in [RouteFormat::Json, RouteFormat::Original] {
            let sent = sent("readings", format, &envelope);
            let [only] = &sent[..] else { panic!("{sent:?}") };
            assert_eq!((&only.value[..], only.index, only.gap), (&payload[..], None, None));
            assert_eq!((only.topic.as_deref(), only.time_ms), (Some("r/pump"), TIME_MS));
        }
    }

    #[test]
    fn a_block_is_a_row_a_reading_in_json_with_the_decimals_of_the_sensor() {
        let block = block();
        let envelope = Envelope::Publish(publish("headwater/v1/pump/blocks", &block));
        let rows = sent("nodes", RouteFormat::Json, &envelope);
        assert_eq!(rows.len(), 2);
        for (index, (row, (time_ms, digits))) in
            rows.iter().zip([(TIME_MS, ":21.50"), (TIME_MS + 1004, ":-0.05")]).enumerate()
        {
            assert_eq!(row.index, u32::try_from(index).ok());
            assert_eq!(row.time_ms, time_ms);
            assert!(row.text().contains(digits), "{}", row.text());
            let json: serde_json::Value = serde_json::from_str(row.text()).expect("JSON");
            assert_eq!(json["time"], time_ms);
            assert_eq!(json["node"], "pump");
        }
    }

    #[test]
    fn a_block_goes_byte_for_byte_where_the_route_says_so() {
        let block = block();
        let envelope = Envelope::Publish(publish("headwater/v1/pump/blocks", &block));
        for format in [RouteFormat::Blocks, RouteFormat::Original] {
            let sent = sent("nodes", format, &envelope);
            assert_eq!(sent.len(), 1);
            assert_eq!(sent[0].value, block);
        }
    }

    #[test]
    fn a_block_that_cannot_be_read_is_a_gap_not_a_silence() {
        let mut block = block();
        let last = block.len() - 1;
        block[last] ^= 1;
        let envelope = Envelope::Publish(publish("headwater/v1/pump/blocks", &block));
        let sent = sent("nodes", RouteFormat::Json, &envelope);
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].gap, Some("damage"));
        let json: serde_json::Value = serde_json::from_str(sent[0].text()).expect("JSON");
        assert_eq!((&json["gap"]["first"], &json["gap"]["last"]), (&17.into(), &17.into()));
    }

    #[test]
    fn what_is_no_json_becomes_json_as_the_api_shows_it() {
        for (payload, expected) in [
            (&b"warm"[..], r#""warm""#),
            (b"[1, 2]", "[1,2]"),
            (b"\xff\x00", r#"{"base64":"/wA="}"#),
        ] {
            let envelope = Envelope::Publish(publish("any/x", payload));
            let sent = sent("any", RouteFormat::Json, &envelope);
            assert_eq!(sent[0].text(), expected);
        }
        let rejected = Publish { rejected: Some("why"), ..publish("r/pump", b"no") };
        let sent = sent("readings.rejected", RouteFormat::Json, &Envelope::Publish(rejected));
        let json: serde_json::Value = serde_json::from_str(sent[0].text()).expect("JSON");
        assert_eq!(json, serde_json::json!({ "rejected": "why", "payload": "no" }));
    }

    #[test]
    fn outputs_travel_as_they_are_gaps_with_their_cause_and_ticks_not_at_all() {
        let payload = br#"{"mean":21.5}"#;
        let output = Output { query: "q", sequence: 1, input_offset: 2, payload };
        let row = sent("any", RouteFormat::Json, &Envelope::Output(output));
        assert_eq!((&row[0].value[..], row[0].topic.as_deref()), (&payload[..], None));
        let gap = Gap {
            cause: GapCause::Reset,
            source: "pump",
            unit: GapUnit::TimesMs,
            first: 5,
            last: 9,
            count: None,
            boot_epoch: 2,
        };
        let news = sent("nodes", RouteFormat::Blocks, &Envelope::Gap(gap.clone()));
        assert_eq!(news[0].gap, Some("reset"));
        assert_eq!(news[0].text(), gap_json(&gap).to_string());
        assert_eq!(sent("any", RouteFormat::Json, &Envelope::Tick(Tick { now_ms: 1 })), []);
    }
}
