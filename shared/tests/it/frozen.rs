//! The bytes of version 1, as WIRE.md shows them. They never change.

use headwater_shared::block::{BlockDecoder, BlockEncoder, BlockSpec, Clock};
use headwater_shared::envelope::{
    Envelope, Gap, GapCause, GapUnit, Output, Publish, Session, Tick,
};
use headwater_shared::node::{
    self, Announce, Channel, Message, NodeGap, Status, TimeRequest, TimeResponse,
};
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

fn assert_block(spec: &BlockSpec<'_>, base_ms: u64, rows: &[(u64, &[i64])], hex: &str) {
    let mut buffer = [0; 256];
    let mut block = BlockEncoder::new(&mut buffer, spec, base_ms).expect("a spec");
    for (time_ms, values) in rows {
        block.push(*time_ms, values).expect("room");
    }
    assert_frozen(block.finish(), hex);
    let frozen = bytes(hex);
    let mut decoder = BlockDecoder::new(&frozen).expect("a block");
    let header = *decoder.header();
    assert_eq!((header.boot_epoch, header.sequence), (spec.boot_epoch, spec.sequence));
    assert_eq!((header.first_sample, header.clock), (spec.first_sample, spec.clock));
    assert_eq!((header.period_ms, header.scales()), (spec.period_ms, spec.scales));
    assert_eq!((header.base_ms, usize::from(header.count)), (base_ms, rows.len()));
    let mut values = vec![0; header.channels()];
    for (time_ms, expected) in rows {
        assert_eq!(decoder.next_row(&mut values), Some(Ok(*time_ms)));
        assert_eq!(values, *expected);
    }
    assert_eq!(decoder.next_row(&mut values), None);
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
fn a_block_of_one_punctual_channel_before_the_clock_is_known() {
    let spec = BlockSpec {
        boot_epoch: 2,
        sequence: 0,
        first_sample: 0,
        clock: Clock::SinceBoot,
        period_ms: 500,
        scales: &[2],
    };
    assert_block(
        &spec,
        1500,
        &[(1500, &[2179]), (2000, &[2179]), (2500, &[2181]), (3000, &[2180])],
        "03 b0 a6 5d 11 02 00 00 dc 0b e8 07 02 04 1a 20 c8 2c 00",
    );
}

#[test]
fn a_block_of_two_channels_with_jitter_a_gap_and_a_leap() {
    let spec = BlockSpec {
        boot_epoch: 2,
        sequence: 7,
        first_sample: 300,
        clock: Clock::Unix,
        period_ms: 1000,
        scales: &[2, 0],
    };
    let start = 1_763_700_000_000;
    assert_block(
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
