//! `headwater log verify --deep`: records that are whole and still not what their stream holds.

use std::path::Path;

use headwater_shared::block::{BlockEncoder, BlockSpec, Clock, Kind, Value};
use headwater_shared::envelope::{Envelope, Publish};
use log_lite::Journal;
use serde_json::Value as Json;

use crate::cli::publish;
use crate::logs::{caught_up, wait_until};
use crate::process::{Gateway, config, headwater, text};

const STREAMS: &str = r#"
[logs.alarms]
[[stream]]
name = "alarm"
topic = "alarm/{device}"
key = "device"
format = "json"
log = "alarms"
[[stream]]
name = "nodes"
topic = "headwater/v1/{device}/blocks"
key = "device"
format = "blocks"
[[stream]]
name = "notes"
topic = "notes/#"
format = "bytes"
"#;
const BLOCKS: &str = "headwater/v1/node-1/blocks";

/// A data directory with a record of each stream, and one that its stream rejected.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut gateway = Gateway::start(&config(dir.path(), STREAMS));
    let messages = [
        ("alarm/a", "{\"n\":1}"),
        ("alarm/a", "no JSON"),
        ("notes/x", "no JSON either"),
        (BLOCKS, "no block"),
    ];
    publish(gateway.mqtt.port(), &messages);
    wait_until(&gateway, caught_up);
    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0));
    dir
}

/// Exit code and what was said.
fn verify(dir: &Path, more: &[&str]) -> (i32, String, String) {
    let data = dir.join("data");
    let data = data.to_str().expect("UTF-8");
    let output = headwater(&[&["log", "verify", "--data", data], more].concat());
    (output.status.code().expect("it ended"), text(&output.stdout), text(&output.stderr))
}

/// The number of a stream's only partition.
fn number(dir: &Path, stream: &str) -> u16 {
    let manifest = std::fs::read(dir.join("data/streams.json")).expect("a manifest");
    let manifest: Json = serde_json::from_slice(&manifest).expect("JSON");
    let all = manifest["partitions"].as_array().expect("a list");
    let found = all.iter().find(|partition| partition[0] == stream).expect("the stream");
    found[2].as_u64().and_then(|number| number.try_into().ok()).expect("a partition")
}

fn block() -> Vec<u8> {
    let kinds = [Kind::Decimal { scale: 2 }];
    let (boot_epoch, sequence, first_sample, period_ms) = (3, 1, 40, 1000);
    let spec = BlockSpec {
        boot_epoch,
        sequence,
        first_sample,
        clock: Clock::Unix,
        period_ms,
        kinds: &kinds,
    };
    let mut buffer = [0; 128];
    let mut encoder = BlockEncoder::new(&mut buffer, &spec, 1_763_700_000_000).expect("a spec");
    encoder.push_values(1_763_700_000_000, &[Value::Decimal(2150)]).expect("room");
    encoder.finish().to_vec()
}

fn envelope(topic: &str, payload: &[u8]) -> Vec<u8> {
    let envelope = Envelope::Publish(Publish {
        topic,
        client: "",
        arrival_ms: 1_763_700_000_000,
        qos: 1,
        retain: false,
        packet_id: None,
        properties: &[],
        rejected: None,
        payload,
    });
    let mut buffer = vec![0; envelope.size_max()];
    envelope.encode(&mut buffer).expect("room").to_vec()
}

#[test]
fn what_the_gateway_stored_decodes() {
    let dir = filled();
    let (code, said, stderr) = verify(dir.path(), &["--deep"]);
    assert_eq!(code, 0, "{said}{stderr}");
    assert!(said.contains(" decoded, 0 not"), "{said}");
    let (code, said, stderr) = verify(dir.path(), &["--deep", "--log", "alarms"]);
    assert_eq!(code, 0, "{said}{stderr}");
    assert!(said.contains("1 record decoded, 0 not"), "{said}");
}

#[test]
fn records_that_are_not_what_their_stream_holds_are_named_with_the_reason() {
    let dir = filled();
    let (alarm, nodes) = (number(dir.path(), "alarm"), number(dir.path(), "nodes"));
    let mut torn = block();
    torn.truncate(torn.len() - 3);
    let bad: [(u16, &[u8], Vec<u8>, &str); 8] = [
        (alarm, b"a", envelope("alarm/a", b"[1]"), "alarm/0 offset #: not a JSON object"),
        (alarm, b"a", envelope("alarm/a", b"{\"n\":"), "alarm/0 offset #: not a JSON object"),
        (alarm, b"\xFF", envelope("alarm/a", b"{}"), "alarm/0 offset #: its key is not UTF-8"),
        (alarm, b"a", Vec::new(), "alarm/0 offset #: the record is empty"),
        (nodes, b"node-1", envelope(BLOCKS, &torn), "nodes/0 offset #: "),
        (nodes, b"node-2", envelope(BLOCKS, &block()), "its key \"node-2\" is no level"),
        (nodes, b"node-1", envelope("nodes", &block()), "which is no node's topic for blocks"),
        (999, b"a", envelope("alarm/a", b"{}"), "partition 999 of the log is of no stream"),
    ];
    let good = [
        (alarm, &b"a"[..], envelope("alarm/a", b"{\"n\":2}")),
        (alarm, b"a", envelope("alarm/a", b"")),
        (nodes, b"node-1", envelope(BLOCKS, &block())),
    ];
    let journal = dir.path().join("data/journal");
    let (mut log, _) = Journal::open_dir(&journal, Default::default()).expect("a log");
    for (partition, key, value) in good {
        log.append(partition, 0, key, &value).expect("room");
    }
    let mut wanted = Vec::new();
    for (partition, key, value, reason) in bad {
        let offset = log.append(partition, 0, key, &value).expect("room");
        wanted.push((offset, reason.replace('#', &offset.to_string())));
    }
    log.commit().expect("room on disk");
    drop(log);

    assert_eq!(verify(dir.path(), &[]).0, 0, "every checksum is right");
    let (code, said, stderr) = verify(dir.path(), &["--deep"]);
    assert_eq!(code, 1, "{said}");
    let named: Vec<&str> =
        said.lines().filter(|line| line.starts_with("does not decode: ")).collect();
    assert_eq!(named.len(), wanted.len(), "{said}");
    for (line, (offset, reason)) in named.iter().zip(&wanted) {
        assert!(line.contains(&format!(" offset {offset}: ")), "{offset}: {line}");
        assert!(line.contains(reason), "{reason}: {line}");
    }
    assert!(said.contains(" decoded, 8 not"), "{said}");
    assert!(stderr.contains("the records above are whole"), "{stderr}");
    assert_eq!(verify(dir.path(), &["--deep", "--log", "alarms"]).0, 0);
}

#[test]
fn damage_and_what_does_not_decode_are_both_named() {
    let dir = filled();
    let alarm = number(dir.path(), "alarm");
    let journal = dir.path().join("data/journal");
    let (mut log, _) = Journal::open_dir(&journal, Default::default()).expect("a log");
    log.append(alarm, 0, b"a", &envelope("alarm/a", b"to be changed")).expect("room");
    log.commit().expect("room on disk");
    log.append(alarm, 0, b"a", &envelope("alarm/a", b"whole")).expect("room");
    log.commit().expect("room on disk");
    drop(log);
    let segment = journal.join(format!("{:020}.log", 0));
    let mut bytes = std::fs::read(&segment).expect("the first segment");
    let at = bytes.windows(13).position(|part| part == b"to be changed").expect("the message");
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).expect("written");

    let (code, said, stderr) = verify(dir.path(), &["--deep"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("damage: ") && said.contains(" decoded, 1 not"), "{said}");
    assert!(stderr.contains("headwater log repair"), "{stderr}");
}
