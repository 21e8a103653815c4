use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use headwater_shared::envelope::{Envelope, Output, Publish};
use serde_json::json;

use super::Shape;
use crate::config::{Config, RouteFormat};
use crate::forward::format::tests::{Sent, TIME_MS, block, publish, sent_of, try_sent_of};

const STREAMS: &str = r#"
    [[stream]]
    name = "climate"
    topic = "s/{device}/{what}"
    key = "device"
    format = "json"
    time = "ts"
    columns = { temperature = "double", n = "integer", state = "text", "on/off" = "boolean" }
    [[stream]]
    name = "nodes"
    topic = "headwater/v1/{node}/blocks"
    key = "node"
    format = "blocks"
    columns = { c0 = "double" }
    [[stream]]
    name = "any"
    topic = "any/{room}/#"
    format = "bytes"
    [[query]]
    sql = """CREATE STREAM q AS SELECT device, window_start, count(*) AS n, avg(temperature) AS mean
             FROM climate GROUP BY device, tumble(INTERVAL '1' MINUTE)"""
"#;

fn config(streams: &str) -> Config {
    let text = format!("[gateway]\nid = \"g\"\ndata_dir = \"d\"\n{streams}");
    Config::parse("test", &text).expect("a configuration")
}

fn shape(stream: &str) -> Shape {
    let config = config(STREAMS);
    if let Some(query) = config.queries.iter().find(|query| query.plan.name() == stream) {
        return Shape::of_query(stream, query.plan.outputs()).expect("a shape");
    }
    match config.streams.iter().find(|config| config.name == stream) {
        Some(config) => Shape::of_stream(config).expect("a shape"),
        None => Shape::of_other(stream).expect("a shape"),
    }
}

fn sent(stream: &str, envelope: &Envelope<'_>) -> Vec<Sent> {
    sent_of(STREAMS, stream, RouteFormat::Avro, envelope)
}

/// The record behind the framing, read by the library.
fn read(stream: &str, sent: &Sent) -> Vec<(String, Avro)> {
    let (frame, mut body) = sent.value.split_at(5);
    assert_eq!(frame, [0, 1, 2, 3, 4], "Confluent's framing");
    let schema = Schema::parse_str(&shape(stream).text()).expect("a schema");
    let reader = GenericDatumReader::builder(&schema).build().expect("a reader");
    let value = reader.read_value(&mut body).expect("a record");
    assert!(body.is_empty(), "nothing is left over");
    let Avro::Record(fields) = value else { panic!("{value:?}") };
    let plain = |value| match value {
        Avro::Union(_, inner) => *inner,
        other => other,
    };
    fields.into_iter().map(|(name, value)| (name, plain(value))).collect()
}

fn field<'a>(fields: &'a [(String, Avro)], name: &str) -> &'a Avro {
    &fields.iter().find(|(field, _)| field == name).expect(name).1
}

fn climate(payload: &[u8]) -> Vec<Sent> {
    sent("climate", &Envelope::Publish(publish("s/pump/air", payload)))
}

fn text(text: &str) -> Avro {
    Avro::String(text.to_owned())
}

#[test]
fn a_row_of_json_has_its_declared_columns_and_keeps_the_others_as_json() {
    let payload =
        br#"{"ts":1763700000000,"temperature":21,"n":-3,"on/off":true,"x":{"y":[1]},"z":"t"}"#;
    let sent = climate(payload);
    assert_eq!((sent[0].index, sent[0].topic.as_deref()), (None, Some("s/pump/air")));
    let fields = read("climate", &sent[0]);
    for (name, expected) in [
        ("time", Avro::TimestampMillis(TIME_MS)),
        ("device", text("pump")),
        ("what", text("air")),
        ("temperature", Avro::Double(21.0)),
        ("n", Avro::Long(-3)),
        ("state", Avro::Null),
        ("on_off", Avro::Boolean(true)),
    ] {
        assert_eq!(field(&fields, name), &expected, "{name}");
    }
    let Avro::Map(others) = field(&fields, "undeclared") else { panic!("{fields:?}") };
    let expected = [("x", r#"{"y":[1]}"#), ("z", r#""t""#)];
    assert_eq!(others.len(), 2, "{others:?}");
    for (name, json) in expected {
        assert_eq!(others[name], text(json));
    }
}

#[test]
fn a_time_that_says_more_than_the_field_stays_beside_it() {
    let fields = read("climate", &climate(br#"{"ts":"2025-11-21T05:40:00+01:00"}"#)[0]);
    let Avro::Map(others) = field(&fields, "undeclared") else { panic!("{fields:?}") };
    assert_eq!(others["ts"], text("\"2025-11-21T05:40:00+01:00\""));
    let fields = read("climate", &climate(br#"{"ts":1763700000000}"#)[0]);
    assert_eq!(field(&fields, "undeclared"), &Avro::Null);
}

#[test]
fn what_does_not_fit_its_column_is_not_sent_and_named() {
    let warm = publish("s/pump/air", br#"{"ts":1,"temperature":"warm"}"#);
    let warm = Envelope::Publish(warm);
    let why = try_sent_of(STREAMS, "climate", RouteFormat::Avro, &warm).expect_err("no number");
    assert_eq!(why, r#"column temperature: "warm" is no Double"#);
}

#[test]
fn a_block_is_a_row_a_reading() {
    let block = block();
    let envelope = Envelope::Publish(publish("headwater/v1/pump/blocks", &block));
    let sent = sent("nodes", &envelope);
    assert_eq!(sent.len(), 2);
    for (index, (sent, (time_ms, value))) in
        sent.iter().zip([(TIME_MS, 21.5), (TIME_MS + 1004, -0.05)]).enumerate()
    {
        let fields = read("nodes", sent);
        assert_eq!(sent.index, u32::try_from(index).ok());
        assert_eq!(field(&fields, "time"), &Avro::TimestampMillis(time_ms));
        assert_eq!(field(&fields, "node"), &text("pump"));
        assert_eq!(field(&fields, "boot_epoch"), &Avro::Long(3));
        let declared = field(&fields, "c0").clone();
        assert_eq!(declared, Avro::Double(value), "{fields:?}");
    }
}

#[test]
fn bytes_and_rejected_messages_keep_their_payload_byte_for_byte() {
    let envelope = Envelope::Publish(publish("any/kitchen/x", b"\xff\x00"));
    let fields = read("any", &sent("any", &envelope)[0]);
    assert_eq!(field(&fields, "payload"), &Avro::Bytes(vec![0xff, 0]));
    assert_eq!(field(&fields, "room"), &text("kitchen"));
    assert_eq!(field(&fields, "key"), &text("pump"));
    let rejected = Publish { rejected: Some("why"), ..publish("s/pump/air", b"no") };
    let sent = sent("climate.rejected", &Envelope::Publish(rejected));
    let fields = read("climate.rejected", &sent[0]);
    assert_eq!(field(&fields, "rejected"), &text("why"));
    assert_eq!(field(&fields, "payload"), &Avro::Bytes(b"no".to_vec()));
    assert_eq!(field(&fields, "topic"), &text("s/pump/air"));
}

#[test]
fn a_row_of_a_query_has_its_columns() {
    let payload = br#"{"device":"pump","window_start":60000,"n":3,"mean":null}"#;
    let output = Output { query: "q", sequence: 1, input_offset: 2, payload };
    let fields = read("q", &sent("q", &Envelope::Output(output))[0]);
    let expected = [
        ("device", text("pump")),
        ("window_start", Avro::TimestampMillis(60_000)),
        ("n", Avro::Long(3)),
        ("mean", Avro::Null),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn the_schema_of_a_stream_is_the_same_text_at_each_start() {
    let text = shape("climate").text();
    assert_eq!(text, shape("climate").text());
    let schema: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&schema["name"], &schema["namespace"]), (&json!("climate"), &json!("headwater")));
    let fields = schema["fields"].as_array().expect("fields");
    let named = |name: &str| fields.iter().find(|field| field["name"] == name).expect(name);
    assert_eq!(
        *named("on_off"),
        json!({
            "name": "on_off",
            "type": ["null", "boolean"],
            "default": null,
            "doc": "column on/off",
        })
    );
    assert_eq!(*named("device"), json!({ "name": "device", "type": "string", "default": "" }));
}

#[test]
fn columns_may_come_and_go_but_not_change_their_type() {
    let of = |columns: &str| {
        let text = format!(
            "[[stream]]\nname = \"s\"\ntopic = \"s/{{d}}\"\nformat = \"json\"\ncolumns = {columns}\n"
        );
        Shape::of_stream(&config(&text).streams[0]).expect("a shape").text()
    };
    let (one, two) = (of("{ a = \"double\" }"), of("{ a = \"double\", b = \"text\" }"));
    assert_eq!(super::can_read(&two, &one), Ok(()));
    assert_eq!(super::can_read(&one, &two), Ok(()));
    assert!(super::can_read(&of("{ a = \"text\" }"), &one).is_err());
}

#[test]
fn what_avro_cannot_carry_is_refused_by_name() {
    let refused = |stream: &str| {
        let config = config(&format!("[[stream]]\nname = \"s\"\ntopic = \"s/{{d}}\"\n{stream}\n"));
        Shape::of_stream(&config.streams[0]).expect_err("refused")
    };
    let collision =
        refused("format = \"json\"\ncolumns = { \"a b\" = \"text\", \"a.b\" = \"text\" }");
    assert!(collision.contains("a b") && collision.contains("a.b"), "{collision}");
    assert!(refused("format = \"json\"").contains("columns ="));
    assert!(refused("format = \"json\"\ncolumns = { time = \"text\" }").contains("time"));
    assert!(Shape::of_other("q.late").expect_err("refused").contains("json"));
}
