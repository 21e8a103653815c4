use std::sync::Arc;

use headwater_shared::block::{BlockEncoder, BlockSpec, Clock, Kind};
use headwater_shared::envelope::{Output, Tick};

use super::*;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::node::Nodes;
use crate::sparkplug::Sparkplug;
use crate::stream::Stream;

pub(super) const TIME_MS: i64 = 1_763_700_000_000;

/// What an upstream gets, in short.
#[derive(Debug, PartialEq)]
pub(super) struct Sent {
    pub(super) time_ms: i64,
    pub(super) index: Option<u32>,
    pub(super) topic: Option<String>,
    pub(super) gap: Option<&'static str>,
    pub(super) kind: ValueKind,
    pub(super) value: Vec<u8>,
}

impl Sent {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.value).expect("text")
    }
}

const STREAMS: &str = "[[stream]]\nname = \"readings\"\ntopic = \"r/{device}\"\nkey = \"device\"\n\
                       format = \"json\"\n\
                       [[stream]]\nname = \"nodes\"\ntopic = \"headwater/v1/{node}/blocks\"\n\
                       key = \"node\"\nformat = \"blocks\"\n\
                       [[stream]]\nname = \"any\"\ntopic = \"any/#\"\nformat = \"bytes\"\n";

/// Encodes one record of `stream` with the key `pump` as a route of `format` does.
fn sent(stream: &str, format: RouteFormat, envelope: &Envelope<'_>) -> Vec<Sent> {
    sent_of(STREAMS, stream, format, envelope)
}

pub(super) fn sent_of(
    streams: &str,
    stream: &str,
    format: RouteFormat,
    envelope: &Envelope<'_>,
) -> Vec<Sent> {
    try_sent_of(streams, stream, format, envelope).expect("it fits")
}

/// The same, or why the record does not fit.
pub(super) fn try_sent_of(
    streams: &str,
    stream: &str,
    format: RouteFormat,
    envelope: &Envelope<'_>,
) -> Result<Vec<Sent>, String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let catalog = Catalog::open(&dir.path().join("catalog")).expect("new");
    let text = format!("[gateway]\nid = \"g\"\ndata_dir = \"d\"\n{streams}");
    let config = Config::parse("test", &text).expect("a configuration");
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
    let mut encoder = Encoder::new(0, stream, format, rows, &streams);
    if format == RouteFormat::Avro {
        encoder = in_avro(encoder, streams.get(stream).expect("configured"));
    }
    if let Err(why) = encoder.encode(&record, 0, &mut batch) {
        assert_eq!(batch.len(), 0, "all of it or nothing");
        return Err(why);
    }
    let own = |record: crate::forward::engine::batch::OutRecord<'_>| {
        assert_eq!((record.offset, record.last, record.key), (17, 17, "pump"));
        Sent {
            time_ms: record.time_ms,
            index: record.index,
            topic: record.topic.map(str::to_owned),
            gap: record.gap,
            kind: record.kind,
            value: record.value.to_vec(),
        }
    };
    Ok(batch.iter().map(|(_, record)| own(record)).collect())
}

/// Under an id that the registry has given.
pub(in crate::forward) fn in_avro(encoder: Encoder, stream: &Stream) -> Encoder {
    let writer = Writer::new(Shape::of(stream).expect("it has one")).expect("a schema");
    encoder.with_avro(writer, Slot::new(Some(0x0102_0304), String::new()))
}

pub(super) fn publish<'a>(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
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

pub(super) fn block() -> Vec<u8> {
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
    for (payload, expected) in
        [(&b"warm"[..], r#""warm""#), (b"[1, 2]", "[1,2]"), (b"\xff\x00", r#"{"base64":"/wA="}"#)]
    {
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

#[test]
fn the_delete_of_a_key_has_no_value_in_any_format() {
    let streams = "[logs.state]\ncompact = true\n[[stream]]\nname = \"state\"\ntopic = \"s/{device}\"\n\
                   key = \"device\"\nformat = \"json\"\nlog = \"state\"\n\
                   columns = { v = \"double\" }\n\
                   [[stream]]\nname = \"raw\"\ntopic = \"raw/{device}\"\nkey = \"device\"\n\
                   format = \"bytes\"\nlog = \"state\"\n\
                   [[stream]]\nname = \"plain\"\ntopic = \"p/{device}\"\nformat = \"bytes\"\n";
    let empty = Envelope::Publish(publish("s/pump", b""));
    for format in [RouteFormat::Json, RouteFormat::Original, RouteFormat::Avro] {
        for stream in ["state", "raw"] {
            let sent = sent_of(streams, stream, format, &empty);
            let [only] = &sent[..] else { panic!("{sent:?}") };
            assert_eq!((only.kind, only.gap), (ValueKind::Delete, None), "{stream} {format:?}");
        }
    }
    let sent = sent_of(streams, "plain", RouteFormat::Original, &empty);
    assert_eq!((sent[0].kind, &sent[0].value[..]), (ValueKind::Payload, &b""[..]), "no state");
}
