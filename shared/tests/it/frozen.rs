//! The bytes of every version, as WIRE.md shows them. They never change.

use headwater_shared::block::{BlockDecoder, BlockEncoder, BlockSpec, Clock, Kind, Step, Value};
use headwater_shared::envelope::{
    Envelope, Gap, GapCause, GapUnit, Output, Publish, Session, Tick,
};
use headwater_shared::node::{
    self, Announce, Channel, Message, NodeGap, Status, TimeRequest, TimeResponse,
};
use headwater_shared::origin::{Origin, property};
use headwater_shared::topic::{self, Subject};

const WIRE: &str = include_str!("../../WIRE.md");

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
}

/// Fails unless `encoded` is `hex` and an example of WIRE.md starts with it.
fn assert_frozen(encoded: &[u8], hex: &str) {
    let found: Vec<String> = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found.join(" "), hex.split_whitespace().collect::<Vec<_>>().join(" "));
    let is_shown = WIRE.split("```text").skip(1).any(|example| {
        example.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(&found.join(" "))
    });
    assert!(is_shown, "no example of WIRE.md starts with {hex}");
}

/// Fails unless an example of WIRE.md is this block of version 1, which is read and not written.
fn assert_block_1(spec: &BlockSpec<'_>, base_ms: u64, rows: &[(u64, &[i64])], hex: &str) {
    let frozen = bytes(hex);
    assert_frozen(&frozen, hex);
    let mut decoder = BlockDecoder::new(&frozen).expect("a block");
    assert_header(&decoder, spec, base_ms, rows.len());
    let mut values = vec![0; decoder.header().channels()];
    for (time_ms, expected) in rows {
        assert_eq!(decoder.next_row(&mut values), Some(Ok(*time_ms)));
        assert_eq!(values, *expected);
    }
    assert_eq!(decoder.next_row(&mut values), None);
}

fn assert_block(spec: &BlockSpec<'_>, base_ms: u64, rows: &[(u64, &[Value<'_>])], hex: &str) {
    let mut buffer = [0; 512];
    let mut block = BlockEncoder::new(&mut buffer, spec, base_ms).expect("a spec");
    for (time_ms, values) in rows {
        block.push_values(*time_ms, values).expect("room");
    }
    assert_frozen(block.finish(), hex);
    let frozen = bytes(hex);
    let mut decoder = BlockDecoder::new(&frozen).expect("a block");
    assert_header(&decoder, spec, base_ms, rows.len());
    let mut values = vec![Value::Boolean(false); decoder.header().channels()];
    for (time_ms, expected) in rows {
        assert_eq!(decoder.next_values(&mut values), Some(Ok(*time_ms)));
        assert_eq!(values, *expected);
    }
    assert_eq!(decoder.next_values(&mut values), None);
}

fn assert_header(decoder: &BlockDecoder<'_>, spec: &BlockSpec<'_>, base_ms: u64, rows: usize) {
    let header = decoder.header();
    assert_eq!((header.boot_epoch, header.sequence), (spec.boot_epoch, spec.sequence));
    assert_eq!((header.first_sample, header.clock), (spec.first_sample, spec.clock));
    assert_eq!((header.period_ms, header.kinds()), (spec.period_ms, spec.kinds));
    assert_eq!((header.base_ms, usize::from(header.count)), (base_ms, rows));
}

fn assert_message<M: Message + PartialEq + std::fmt::Debug>(message: &M, hex: &str) {
    let mut buffer = [0; 1024];
    assert_frozen(node::encode(message, &mut buffer).expect("room"), hex);
    assert_eq!(node::decode::<M>(&bytes(hex)).as_ref(), Ok(message));
}

fn assert_envelope(envelope: &Envelope<'_>, hex: &str) {
    let mut buffer = [0; 1024];
    assert_frozen(envelope.encode(&mut buffer).expect("room"), hex);
    assert_eq!(Envelope::decode(&bytes(hex)).as_ref(), Ok(envelope));
}

#[test]
fn a_block_of_version_1_with_one_punctual_channel_before_the_clock_is_known() {
    let spec = BlockSpec {
        boot_epoch: 2,
        sequence: 0,
        first_sample: 0,
        clock: Clock::SinceBoot,
        period_ms: 500,
        kinds: &[Kind::Decimal { scale: 2 }],
    };
    assert_block_1(
        &spec,
        1500,
        &[(1500, &[2179]), (2000, &[2179]), (2500, &[2181]), (3000, &[2180])],
        "03 b0 a6 5d 11 02 00 00 dc 0b e8 07 02 04 1a 20 c8 2c 00",
    );
}

#[test]
fn a_block_of_version_1_with_jitter_a_gap_and_a_leap() {
    let spec = BlockSpec {
        boot_epoch: 2,
        sequence: 7,
        first_sample: 300,
        clock: Clock::Unix,
        period_ms: 1000,
        kinds: &[Kind::Decimal { scale: 2 }, Kind::Decimal { scale: 0 }],
    };
    let start = 1_763_700_000_000;
    assert_block_1(
        &spec,
        start,
        &[
            (start, &[-5, 1013]),
            (start + 1000, &[-7, 1013]),
            (start + 2003, &[-4, 1014]),
            (start + 3001, &[0, 1014]),
            (start + 64_001, &[1, i64::MIN]),
        ],
        "99 7b bb 63 29 02 07 ac 02 80 8a d9 a5 aa 33 03 02 00 05 02 08 45 fd 50 \
         44 1b c8 17 83 ff fc 8e a6 02 ff ff c0 ff ff ff ff ff ff f0 26",
    );
}

#[test]
fn a_block_of_one_punctual_channel() {
    let spec = BlockSpec {
        boot_epoch: 2,
        sequence: 3,
        first_sample: 12,
        clock: Clock::SinceBoot,
        period_ms: 500,
        kinds: &[Kind::Decimal { scale: 2 }],
    };
    let row = |time_ms, digits| (time_ms, [Value::Decimal(digits)]);
    let rows = [row(1500, 2179), row(2000, 2179), row(2500, 2181), row(3000, 2183)];
    let rows = rows.each_ref().map(|(time_ms, row)| (*time_ms, &row[..]));
    let hex = "d2 2f 10 32 12 05 03 a4 1f 06 12 04 1a 20 c8 2d 80";
    assert_block(&spec, 1500, &rows, hex);
}

#[test]
fn a_block_of_every_kind() {
    let spec = BlockSpec {
        boot_epoch: 2,
        sequence: 7,
        first_sample: 300,
        clock: Clock::Unix,
        period_ms: 1000,
        kinds: &[
            Kind::Decimal { scale: 0 },
            Kind::Grid { scale: 4, step: Step { up: 1, parts: 3 } },
            Kind::Grid { scale: 0, step: Step { up: 5, parts: 1 } },
            Kind::Unsigned,
            Kind::Float32,
            Kind::Float64,
            Kind::Boolean,
            Kind::Text,
        ],
    };
    let start = 1_763_700_000_000;
    let row = |late_ms, decimal, third, five, unsigned, float, is, text| {
        let values = [
            Value::Decimal(decimal),
            Value::Decimal(third),
            Value::Decimal(five),
            Value::Unsigned(unsigned),
            Value::Float32(float),
            Value::Float64(f64::from(float)),
            Value::Boolean(is),
            Value::Text(text),
        ];
        (start + late_ms, values)
    };
    let rows = [
        row(0, 1013, 216_667, 402, u64::MAX, 21.5, true, "on"),
        row(1003, 1014, 216_667, 407, 0, 21.5, true, "off"),
        row(2001, i64::MIN, 217_500, 402, 1, -0.0, false, "on"),
        row(64_001, i64::MAX, 210_000, 400, 2, f32::INFINITY, false, "on"),
        row(65_001, 0, 213_333, 410, 4, f32::NEG_INFINITY, true, ""),
    ];
    let rows = rows.each_ref().map(|(time_ms, row)| (*time_ms, &row[..]));
    let hex = "e2 f7 9c e4 ea 04 07 0d c0 9e db 1a 10 24 06 20 \
         03 05 30 40 50 60 70 05 ac 02 01 17 f5 04 02 c0 \
         42 00 28 35 80 00 08 06 b0 00 00 00 00 00 1e 02 \
         6f 6e 83 60 50 18 13 c0 03 6f 66 66 7f fe 07 ff \
         ff ff ff ff ff 81 4d a0 8c c0 dc 1a f0 10 c0 35 \
         a7 ff 23 b9 20 60 4f fb 25 ff 05 ff e0 03 ff c0 \
         ff ff ff ff ff ff ff fb 33 30 03 80 07 c0 00";
    assert_block(&spec, start, &rows, hex);
}

#[test]
fn messages_of_a_node() {
    let channel = |name, unit, scale| Channel {
        name: heapless::String::try_from(name).unwrap(),
        unit: heapless::String::try_from(unit).unwrap(),
        scale,
        period_ms: 1000,
    };
    let announce = Announce {
        node: heapless::String::try_from("pump-7").unwrap(),
        boot_epoch: 2,
        firmware: heapless::String::try_from("qemu 0.1.0").unwrap(),
        channels: [channel("temperature", "°C", 2), channel("humidity", "%", 1)]
            .into_iter()
            .collect(),
    };
    assert_message(
        &announce,
        "01 06 70 75 6d 70 2d 37 02 0a 71 65 6d 75 20 30 2e 31 2e 30 02 0b 74 65 \
         6d 70 65 72 61 74 75 72 65 03 c2 b0 43 02 e8 07 08 68 75 6d 69 64 69 74 \
         79 01 25 01 e8 07",
    );
    let request = TimeRequest { boot_epoch: 2, uptime_ms: 5000, nonce: 9 };
    assert_message(&request, "01 02 88 27 09");
    let response = TimeResponse { nonce: 9, uptime_ms: 5000, unix_ms: 1_763_700_000_000 };
    assert_message(&response, "01 09 88 27 80 8a d9 a5 aa 33");
    let online = Status::Online { boot_epoch: 2, blocks_waiting: 3, blocks_dropped: 0, gap: None };
    assert_message(&online, "01 00 02 03 00 00");
    let gap = NodeGap { boot_epoch: 1, first_sequence: 10, last_sequence: 13, rows: 400 };
    let dropping =
        Status::Online { boot_epoch: 2, blocks_waiting: 120, blocks_dropped: 4, gap: Some(gap) };
    assert_message(&dropping, "01 00 02 78 04 01 01 0a 0d 90 03");
    assert_message(&Status::Offline { boot_epoch: 2 }, "01 01 02");
}

#[test]
fn records_of_the_journal() {
    let publish = Publish {
        topic: "sensors/a/climate",
        client: "a",
        arrival_ms: 1_763_700_000_000,
        qos: 2,
        retain: false,
        packet_id: Some(17),
        properties: &[],
        rejected: None,
        payload: b"{\"t\":21.5}",
    };
    assert_envelope(
        &Envelope::Publish(publish.clone()),
        "01 00 11 73 65 6e 73 6f 72 73 2f 61 2f 63 6c 69 6d 61 74 65 01 61 80 94 \
         b2 cb d4 66 02 00 01 11 00 00 0a 7b 22 74 22 3a 32 31 2e 35 7d",
    );
    let rejected =
        Publish { qos: 1, packet_id: None, rejected: Some("no JSON"), payload: b"{", ..publish };
    assert_envelope(
        &Envelope::Publish(rejected),
        "01 00 11 73 65 6e 73 6f 72 73 2f 61 2f 63 6c 69 6d 61 74 65 01 61 80 94 \
         b2 cb d4 66 01 00 00 00 01 07 6e 6f 20 4a 53 4f 4e 01 7b",
    );
    assert_envelope(
        &Envelope::Session(Session { client: "a", change: &[1, 0, 17] }),
        "01 01 01 61 03 01 00 11",
    );
    let output =
        Output { query: "climate_1m", sequence: 3, input_offset: 300, payload: b"{\"n\":60}" };
    assert_envelope(
        &Envelope::Output(output),
        "01 02 0a 63 6c 69 6d 61 74 65 5f 31 6d 03 ac 02 08 7b 22 6e 22 3a 36 30 \
         7d",
    );
    assert_envelope(&Envelope::Tick(Tick { now_ms: 1_763_700_000_000 }), "01 03 80 94 b2 cb d4 66");
    let gap = Gap {
        cause: GapCause::NodeOverflow,
        source: "pump-7",
        unit: GapUnit::Sequences,
        first: 10,
        last: 13,
        count: Some(400),
        boot_epoch: 1,
    };
    assert_envelope(&Envelope::Gap(gap), "01 04 02 06 70 75 6d 70 2d 37 01 0a 0d 01 90 03 01");
}

#[test]
fn records_that_another_gateway_had() {
    let publish = Publish {
        topic: "s/a",
        client: "site-link",
        arrival_ms: 1_763_700_000_000,
        qos: 1,
        retain: false,
        packet_id: None,
        properties: &[],
        rejected: None,
        payload: b"{}",
    };
    let origin = Origin {
        gateway: "field-1",
        incarnation: "6f0c",
        stream: "climate",
        route: "{topic}",
        offset: 300,
        last: 300,
        index: None,
        first: None,
    };
    let envelope = Envelope::Publish(publish);
    assert_origin(
        &origin,
        &envelope,
        "02 07 66 69 65 6c 64 2d 31 04 36 66 30 63 07 63 6c 69 6d 61 74 65 07 7b 74 6f 70 69 63 7d \
         ac 02 ac 02 00 00 00 03 73 2f 61 09 73 69 74 65 2d 6c 69 6e 6b 80 94 b2 cb d4 66 01 00 00 \
         00 00 02 7b 7d",
    );
    let first = Some("f/6f0c/c/7");
    let origin =
        Origin { gateway: "g", offset: 9, last: 12, index: Some(3), first, route: "t", ..origin };
    assert_origin(
        &origin,
        &Envelope::Tick(Tick { now_ms: 0 }),
        "02 01 67 04 36 66 30 63 07 63 6c 69 6d 61 74 65 01 74 09 0c 01 03 01 0a 66 2f 36 66 30 63 \
         2f 63 2f 37 03 00",
    );
}

fn assert_origin(origin: &Origin<'_>, envelope: &Envelope<'_>, hex: &str) {
    let mut buffer = vec![0; origin.size_max() + envelope.size_max()];
    let encoded = origin.encode(envelope, &mut buffer).expect("an upper bound");
    assert_frozen(encoded, hex);
    assert_eq!(Origin::of(encoded), Some(*origin));
    assert_eq!(Envelope::decode(encoded).as_ref(), Ok(envelope));
    let mut plain = vec![0; envelope.size_max()];
    assert_eq!(Origin::of(envelope.encode(&mut plain).expect("room")), None);
}

#[test]
fn properties_between_gateways_are_those_of_the_document() {
    use property::*;
    for name in [
        GATEWAY,
        INCARNATION,
        STREAM,
        ROUTE,
        OFFSET,
        LAST,
        INDEX,
        TIME,
        KEY,
        TOPIC,
        GAP,
        ORIGIN,
        REACHED,
    ] {
        assert!(name.starts_with(PREFIX));
        assert!(WIRE.contains(&format!("| `{name}` |")), "WIRE.md does not show {name}");
    }
}

#[test]
fn topics_are_those_of_the_document() {
    for subject in [
        Subject::Blocks,
        Subject::Status,
        Subject::Announce,
        Subject::Time,
        Subject::TimeReply,
        Subject::Logs,
        Subject::Command,
    ] {
        let topic = topic::topic("pump-7", subject).unwrap();
        assert_eq!(topic::parse(&topic), Some(("pump-7", subject)));
        let shown = format!("| `{}` |", topic.replace("pump-7", "{node}"));
        assert!(WIRE.contains(&shown), "WIRE.md does not show {topic}");
    }
}
