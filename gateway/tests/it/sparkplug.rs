//! Industrial devices as they come: Sparkplug B through the real gateway.

use std::path::Path;
use std::time::{Duration, Instant};

use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use serde_json::Value as Json;

use crate::cli::lines;
use crate::process::{Gateway, config, get, headwater, text};

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

const TIME_MS: u64 = 1_763_700_000_000;

const LINE: &str = r#"
[[stream]]
name = "line"
topic = "spBv1.0/#"
format = "sparkplug-b"
[[query]]
sql = """CREATE STREAM means AS SELECT metric, window_start, count(*) AS n, avg(value) AS mean
         FROM line WHERE message = 'NDATA' GROUP BY metric, tumble(INTERVAL '10' SECOND)"""
[upstream.files]
kind = "directory"
path = "out"
[[route]]
stream = "line"
upstream = "files"
topic = "line"
"#;

/// Names temperature (1), level (2) and state (3); another encoder made it.
const NBIRTH: &str = include_str!("../../src/sparkplug/frozen/nbirth.hex");
const NDEATH: &str = include_str!("../../src/sparkplug/frozen/ndeath.hex");
const REBIRTH: &str = include_str!("../../src/sparkplug/frozen/rebirth.hex");

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("hex")).collect()
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// A payload with one double: field 2 of `sparkplug_b.proto`, with its alias or its name.
fn payload(seq: u8, metric: Result<u64, &str>, time_ms: u64, value: f64) -> Vec<u8> {
    let mut inner = Vec::new();
    match metric {
        Ok(alias) => {
            inner.push(0x10);
            varint(&mut inner, alias);
        }
        Err(name) => {
            inner.extend([0x0a, u8::try_from(name.len()).expect("short")]);
            inner.extend(name.as_bytes());
            inner.extend([0x10, 1]);
        }
    }
    inner.push(0x18);
    varint(&mut inner, time_ms);
    inner.extend([0x20, 10, 0x69]);
    inner.extend(value.to_le_bytes());
    let mut out = vec![0x08];
    varint(&mut out, time_ms);
    out.extend([0x12, u8::try_from(inner.len()).expect("short")]);
    out.extend(inner);
    out.push(0x18);
    varint(&mut out, seq.into());
    out
}

/// An edge node's connection, and a host's.
struct Client {
    client: AsyncClient,
    events: EventLoop,
}

impl Client {
    fn open(gateway: &Gateway, id: &str) -> Self {
        let options = MqttOptions::new(id, "127.0.0.1", gateway.mqtt.port());
        let (client, events) = AsyncClient::new(options, 100);
        Self { client, events }
    }

    async fn until<T>(&mut self, mut found: impl FnMut(Incoming) -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Event::Incoming(incoming) = self.events.poll().await.expect("connected")
                    && let Some(found) = found(incoming)
                {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("in time")
    }

    /// Publishes and waits until it is stored.
    async fn publish(&mut self, topic: &str, payload: Vec<u8>) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.expect("queued");
        self.until(|incoming| matches!(incoming, Incoming::PubAck(_)).then_some(())).await;
    }

    async fn subscribe(&mut self, filter: &str) {
        self.client.subscribe(filter, QoS::AtLeastOnce).await.expect("queued");
        self.until(|incoming| matches!(incoming, Incoming::SubAck(_)).then_some(())).await;
    }

    async fn message(&mut self) -> rumqttc::Publish {
        self.until(|incoming| match incoming {
            Incoming::Publish(message) => Some(message),
            _ => None,
        })
        .await
    }
}

fn records(gateway: &Gateway, stream: &str) -> Vec<Json> {
    let (status, body) = get(gateway.http, &format!("/api/v1/streams/{stream}/records?limit=100"));
    assert_eq!(status, 200, "{body}");
    lines(body.as_bytes())
}

/// The records of `stream`, once there are `count`.
fn wait_for(gateway: &Gateway, stream: &str, count: usize) -> Vec<Json> {
    let started = Instant::now();
    loop {
        let found = records(gateway, stream);
        if found.len() >= count {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{count} records of {stream}, got {found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Rows that the route has written.
fn forwarded(dir: &Path) -> Vec<Json> {
    let files = std::fs::read_dir(dir.join("out/line/0")).into_iter().flatten().flatten();
    let files = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
    let mut files: Vec<_> = files.collect();
    files.sort();
    files.iter().flat_map(|file| lines(&std::fs::read(file).expect("whole"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_by_alias_are_rows_of_queries_and_routes_also_after_a_kill() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = config(dir.path(), LINE);
    let mut gateway = Gateway::start(&path);
    let mut node = Client::open(&gateway, "press");
    let (nbirth, ndata) = ("spBv1.0/plant/NBIRTH/press", "spBv1.0/plant/NDATA/press");
    node.publish(nbirth, bytes(NBIRTH)).await;
    node.publish(ndata, payload(1, Ok(1), TIME_MS, 20.0)).await;
    node.publish(ndata, payload(2, Ok(1), TIME_MS + 1000, 22.0)).await;
    gateway.signal("-KILL");
    gateway.wait();

    let gateway = Gateway::start(&path);
    let mut node = Client::open(&gateway, "press");
    node.publish(ndata, payload(3, Ok(1), TIME_MS + 2000, 24.0)).await;
    node.publish(ndata, payload(4, Ok(1), TIME_MS + 60_000, 30.0)).await;
    let means = wait_for(&gateway, "means", 1);
    let expected = serde_json::json!({
        "metric": "temperature", "window_start": TIME_MS, "n": 3, "mean": 22.0
    });
    assert_eq!(means[0]["value"], expected);
    assert_eq!(records(&gateway, "line.rejected").len(), 0);

    // The same alias stands for another metric from now on, and for the old one before.
    node.publish(nbirth, payload(0, Err("pressure"), TIME_MS + 61_000, 1.5)).await;
    node.publish(ndata, payload(1, Ok(1), TIME_MS + 62_000, 1.75)).await;
    let shown = records(&gateway, "line");
    let name = |index: usize| shown[index]["value"]["metrics"][0]["metric"].clone();
    assert_eq!((name(1), name(6)), ("temperature".into(), "pressure".into()));
    assert_eq!(shown[1]["key"], "plant/press");

    let started = Instant::now();
    // Five metrics of the first birth and one of each message after it.
    let rows = loop {
        let rows = forwarded(dir.path());
        if rows.len() >= 11 {
            break rows;
        }
        assert!(started.elapsed() < PATIENCE, "{rows:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let row = rows[5].get("value").unwrap_or(&rows[5]);
    assert_eq!(row["path"], "plant/press/temperature", "{row}");
    assert_eq!((&row["value"], &row["seq"]), (&20.0.into(), &1.into()));
    assert_eq!(row["device"], Json::Null);

    gateway.signal("-KILL");
    let file = path.to_str().expect("UTF-8");
    let output = headwater(&["log", "show", "-c", file, "--stream", "line", "--from", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let first = &lines(&output.stdout)[0]["value"];
    assert_eq!(first["metrics"][0]["metric"], "temperature", "{first}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_alias_and_a_hole_in_the_sequence_ask_for_births() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::start(&config(dir.path(), LINE));
    let mut host = Client::open(&gateway, "scada");
    host.subscribe("spBv1.0/+/NCMD/+").await;
    let mut node = Client::open(&gateway, "nodes");
    // Of a stranger, twice: it is asked once.
    for seq in [7, 8] {
        let data = payload(seq, Ok(1), TIME_MS, 1.0);
        node.publish("spBv1.0/plant/NDATA/stranger", data).await;
    }
    node.publish("spBv1.0/plant/NBIRTH/press", bytes(NBIRTH)).await;
    let data = |seq| payload(seq, Ok(1), TIME_MS, 1.0);
    node.publish("spBv1.0/plant/NDATA/press", data(1)).await;
    node.publish("spBv1.0/plant/NDATA/press", data(4)).await;

    let first = host.message().await;
    assert_eq!(first.topic, "spBv1.0/plant/NCMD/stranger");
    assert_eq!((first.qos, first.retain), (QoS::AtMostOnce, false));
    // The times are of now.
    let wanted = bytes(REBIRTH);
    let metric = wanted.windows(20).position(|part| part == b"Node Control/Rebirth");
    assert_eq!(first.payload.len(), wanted.len());
    assert_eq!(first.payload.windows(20).position(|part| part == b"Node Control/Rebirth"), metric);
    assert_eq!(host.message().await.topic, "spBv1.0/plant/NCMD/press");

    let rejected = wait_for(&gateway, "line.rejected", 2);
    let reason = rejected[0]["value"]["rejected"].as_str().expect("a reason");
    assert_eq!(reason, "alias 1: plant/stranger has no birth, or has died since");
    let (_, gaps) = get(gateway.http, "/api/v1/gaps");
    let gaps: Json = serde_json::from_str(&gaps).expect("JSON");
    let text = gaps.to_string();
    assert!(text.contains("\"transit\"") && text.contains("plant/press"), "{text}");

    // The will of the edge node ends its session.
    node.publish("spBv1.0/plant/NDEATH/press", bytes(NDEATH)).await;
    node.publish("spBv1.0/plant/NDATA/press", data(5)).await;
    assert_eq!(wait_for(&gateway, "line.rejected", 3).len(), 3);
    let (_, status) = get(gateway.http, "/api/v1/status");
    let status: Json = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["edge_nodes"], serde_json::json!({ "known": 1, "alive": 0 }));
    let (_, metrics) = get(gateway.http, "/metrics");
    assert!(metrics.contains("headwater_sparkplug_rebirths_total 2\n"), "{metrics}");
    assert!(metrics.contains("headwater_intake_rejected_total 3\n"), "{metrics}");
}
