//! Streams in logs of their own: kept longer than the journal, or as the last value of each key.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions};
use serde_json::Value as Json;

use crate::process::{Gateway, config, get, headwater, text};

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

const RULES: &str = r#"
[log]
segment_size = "2 MiB"
max_size = "4 MiB"
[logs.alarms]
segment_size = "2 MiB"
max_age = "365d"
[logs.state]
segment_size = "2 MiB"
compact = true
[[stream]]
name = "alarm"
topic = "alarm/{device}"
key = "device"
format = "json"
partitions = 2
log = "alarms"
[[stream]]
name = "setpoint"
topic = "setpoint/{device}"
key = "device"
format = "json"
log = "state"
[[stream]]
name = "bulk"
topic = "bulk/#"
format = "bytes"
[upstream.files]
kind = "directory"
path = "out"
"#;

const ROUTE: &str = r#"
[[route]]
stream = "alarm"
upstream = "files"
topic = "alarm"
"#;

/// Publishes at QoS 1 and returns when all is acknowledged.
pub(crate) fn publish(gateway: &Gateway, messages: impl Iterator<Item = (String, Vec<u8>)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut options = MqttOptions::new("logs-test", "127.0.0.1", gateway.mqtt.port());
        options.set_max_packet_size(1 << 20, 1 << 20).set_inflight(50);
        let (client, mut events) = AsyncClient::new(options, 100_000);
        let mut left = 0;
        for (topic, payload) in messages {
            client.publish(topic, QoS::AtLeastOnce, false, payload).await.expect("queued");
            left += 1;
        }
        while left > 0 {
            let event = tokio::time::timeout(PATIENCE, events.poll()).await;
            let event = event.expect("in time").expect("a connection");
            left -= usize::from(matches!(event, Event::Incoming(Incoming::PubAck(_))));
        }
    });
}

fn alarms(numbers: std::ops::Range<u32>) -> impl Iterator<Item = (String, Vec<u8>)> {
    numbers.map(|n| (format!("alarm/{}", n % 5), format!("{{\"n\":{n}}}").into_bytes()))
}

/// More than the journal keeps.
pub(crate) fn bulk() -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..80).map(|n| (format!("bulk/{n}"), vec![b'x'; 100 << 10]))
}

fn records(gateway: &Gateway, stream: &str) -> Vec<Json> {
    let path = format!("/api/v1/streams/{stream}/records?limit=10000");
    let (status, body) = get(gateway.http, &path);
    assert_eq!(status, 200, "{body}");
    let lines = body.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
}

fn numbers(records: &[Json]) -> Vec<u64> {
    let mut numbers: Vec<u64> =
        records.iter().filter_map(|record| record["value"]["n"].as_u64()).collect();
    numbers.sort_unstable();
    numbers
}

fn status(gateway: &Gateway) -> Json {
    serde_json::from_str(&get(gateway.http, "/api/v1/status").1).expect("JSON")
}

fn log<'a>(status: &'a Json, name: &str) -> &'a Json {
    let logs = status["logs"].as_array().expect("a list");
    logs.iter().find(|log| log["log"] == name).expect("the log is there")
}

pub(crate) fn wait_until(gateway: &Gateway, wanted: impl Fn(&Json) -> bool) {
    let started = Instant::now();
    loop {
        let status = status(gateway);
        if wanted(&status) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn caught_up(status: &Json) -> bool {
    let logs = status["logs"].as_array().expect("a list");
    logs.iter().all(|log| log["lag"] == 0)
}

fn kill(mut gateway: Gateway) {
    gateway.signal("-KILL");
    gateway.wait();
}

fn stop(mut gateway: Gateway) {
    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0));
}

fn forwarded(dir: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for partition in std::fs::read_dir(dir.join("out/alarm")).expect("it was forwarded") {
        let partition = partition.expect("an entry").path();
        for file in std::fs::read_dir(&partition).into_iter().flatten() {
            let file = file.expect("an entry").path();
            // The manifest beside them has no records.
            if file.extension().is_none_or(|extension| extension != "ndjson") {
                continue;
            }
            let text = std::fs::read_to_string(file).expect("NDJSON");
            for line in text.lines() {
                let record: Json = serde_json::from_str(line).expect("NDJSON");
                let gap = &record["value"]["gap"];
                assert!(gap.is_null(), "nothing is missing: {record}");
                numbers.push(record["value"]["n"].as_u64().expect("an alarm"));
            }
        }
    }
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_stream_in_a_log_of_its_own_outlives_the_journal_for_every_reader() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = config(dir.path(), RULES);
    let gateway = Gateway::start(&path);
    publish(&gateway, alarms(0..50));
    wait_until(&gateway, caught_up);
    publish(&gateway, bulk());
    publish(&gateway, alarms(50..60));
    wait_until(&gateway, |status| status["journal"]["start"].as_u64() > Some(50));
    wait_until(&gateway, caught_up);
    let all: Vec<u64> = (0..60).collect();
    let before = records(&gateway, "alarm");
    assert_eq!(numbers(&before), all);
    kill(gateway);

    // After SIGKILL the same offsets hold the same records, and each is there once.
    let gateway = Gateway::start(&path);
    assert_eq!(records(&gateway, "alarm"), before);
    publish(&gateway, alarms(60..70));
    wait_until(&gateway, caught_up);
    stop(gateway);

    // A route that is new reads from the log what the journal has long deleted.
    let path = config(dir.path(), &format!("{RULES}{ROUTE}"));
    let gateway = Gateway::start(&path);
    wait_until(&gateway, |status| status["routes"][0]["records"] == 70);
    let (_, metrics) = get(gateway.http, "/metrics");
    assert!(metrics.contains("headwater_log_size_bytes{log=\"alarms\"}"), "{metrics}");
    stop(gateway);
    assert_eq!(forwarded(dir.path()), (0..70).collect::<Vec<_>>());
    tools_read_a_named_log(&dir.path().join("data"));
}

fn tools_read_a_named_log(data: &Path) {
    let data = data.to_str().expect("UTF-8");
    let run =
        |args: &[&str], log| headwater(&[&["log"], args, &["--data", data, "--log", log]].concat());
    let shown = run(&["show", "--stream", "alarm", "--from", "earliest"], "alarms");
    let shown: Vec<Json> = text(&shown.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("NDJSON"))
        .collect();
    assert_eq!(numbers(&shown), (0..70).collect::<Vec<_>>());
    let verified = run(&["verify"], "alarms");
    assert!(text(&verified.stdout).contains("70 records"), "{}", text(&verified.stdout));
    assert_eq!(run(&["ls"], "alarms").status.code(), Some(0));
    let unknown = run(&["ls"], "nowhere");
    assert_eq!(unknown.status.code(), Some(66), "{}", text(&unknown.stderr));
    let import = run(&["import", "-"], "alarms");
    assert_eq!(import.status.code(), Some(2), "{}", text(&import.stderr));
}

#[test]
fn a_state_stream_keeps_the_last_value_of_each_key_through_compaction_and_kills() {
    const KEYS: u32 = 40;
    const ROUNDS: u32 = 30;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = config(
        dir.path(),
        &RULES.replace("compact = true", "compact = true\ntombstone_grace = \"0s\""),
    );
    let pad = "p".repeat(8 << 10);
    let setpoints = |round: u32| {
        let pad = pad.clone();
        (0..KEYS).map(move |key| {
            let payload = format!("{{\"n\":{},\"pad\":\"{pad}\"}}", round * 1_000 + key);
            (format!("setpoint/{key}"), payload.into_bytes())
        })
    };
    let mut gateway = Gateway::start(&path);
    for round in 0..ROUNDS {
        publish(&gateway, setpoints(round));
        if round % 10 == 5 {
            kill(gateway);
            gateway = Gateway::start(&path);
        }
    }
    // A key is deleted by an empty payload.
    publish(&gateway, std::iter::once(("setpoint/0".to_owned(), Vec::new())));
    // The newest segment is left alone, so others follow.
    for round in ROUNDS..ROUNDS + 20 {
        publish(&gateway, setpoints(round).filter(|(topic, _)| topic != "setpoint/0"));
    }
    wait_until(&gateway, caught_up);
    wait_until(&gateway, |status| log(status, "state")["compactions"].as_u64() > Some(0));
    let written = ((ROUNDS + 20) * KEYS) as usize;
    wait_until(&gateway, |_| records(&gateway, "setpoint").len() < written * 2 / 3);
    let placed = log(&status(&gateway), "state").clone();
    assert!(placed["compaction_bytes_out"].as_u64() < placed["compaction_bytes_in"].as_u64());
    assert_eq!(placed["last_error"], Json::Null, "{placed}");
    let found = records(&gateway, "setpoint");
    let mut last = BTreeMap::new();
    for record in &found {
        last.insert(
            record["key"].as_str().expect("a key").to_owned(),
            record["value"]["n"].clone(),
        );
    }
    assert_eq!(last.remove("0").unwrap_or_default(), Json::Null, "it was deleted");
    for key in 1..KEYS {
        let newest = (ROUNDS + 19) * 1_000 + key;
        assert_eq!(last[&key.to_string()], newest, "of {} records", found.len());
    }
    stop(gateway);
}
