//! A small log that fills because an upstream is down: publishers wait, or the oldest go and say so.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions};
use serde_json::Value as Json;

use crate::process::{Gateway, config, get};

const MESSAGES: usize = 60;
const PAYLOAD_BYTES: usize = 100 << 10;

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

fn rules(when_full: &str, more: &str) -> String {
    format!(
        "[log]\nsegment_size = \"2 MiB\"\nmax_size = \"4 MiB\"\nwhen_full = \"{when_full}\"\n{more}\n\
         [[stream]]\nname = \"data\"\ntopic = \"data/{{device}}\"\nkey = \"device\"\n\
         format = \"json\"\n[[query]]\nsql = \"CREATE STREAM counts AS SELECT device, \
         window_start, count(*) AS n FROM data GROUP BY device, tumble(INTERVAL '1' SECOND)\"\n\
         [upstream.files]\nkind = \"directory\"\npath = \"out\"\n[[route]]\nstream = \"data\"\n\
         upstream = \"files\"\ntopic = \"data\"\n"
    )
}

fn options(client: &str, http: SocketAddr) -> MqttOptions {
    let mut options = MqttOptions::new(client, "127.0.0.1", http.port());
    options.set_max_packet_size(1 << 20, 1 << 20).set_inflight(4);
    options.set_keep_alive(Duration::from_secs(600));
    options
}

/// Publishes at QoS 1; the number that is acknowledged so far can be watched.
fn publish_all(mqtt: SocketAddr, messages: usize) -> (Arc<AtomicUsize>, JoinHandle<()>) {
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&acknowledged);
    let publisher = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (client, mut events) = AsyncClient::new(options("publisher", mqtt), messages);
            let pad = "x".repeat(PAYLOAD_BYTES);
            for number in 0..messages {
                let payload = format!("{{\"n\":{number},\"pad\":\"{pad}\"}}");
                client.publish("data/a", QoS::AtLeastOnce, false, payload).await.expect("queued");
            }
            while count.load(Ordering::Relaxed) < messages {
                let event = tokio::time::timeout(PATIENCE, events.poll()).await;
                let event = event.expect("the publisher goes on").expect("a connection");
                if matches!(event, Event::Incoming(Incoming::PubAck(_))) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    });
    (acknowledged, publisher)
}

/// Asks until `wanted` says so; returns the answer.
fn ask_until(http: SocketAddr, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
    let started = Instant::now();
    loop {
        let (status, body) = get(http, path);
        if wanted(status, &body) {
            return body;
        }
        assert!(started.elapsed() < PATIENCE, "{path}: {status} {body}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A directory cannot be made where a file is.
fn break_upstream(dir: &Path) {
    std::fs::write(dir.join("out"), "in the way").expect("a temporary file");
}

fn mend_upstream(dir: &Path) {
    std::fs::remove_file(dir.join("out")).expect("the file in the way");
}

/// What arrived at the upstream: numbers of messages, and gap records.
fn arrived(dir: &Path) -> (Vec<u64>, Vec<Json>) {
    let (mut numbers, mut gaps) = (Vec::new(), Vec::new());
    let partition = dir.join("out/data/0");
    let mut files: Vec<_> = std::fs::read_dir(partition)
        .expect("it was forwarded")
        .map(|file| file.expect("an entry").path())
        .collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "ndjson")) {
        for line in std::fs::read_to_string(file).expect("NDJSON").lines() {
            let record: Json = serde_json::from_str(line).expect("NDJSON");
            match record["value"]["n"].as_u64() {
                Some(number) => numbers.push(number),
                None => gaps.push(record["value"]["gap"].clone()),
            }
        }
    }
    (numbers, gaps)
}

fn stop(mut gateway: Gateway) {
    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0));
}

/// Subscribes, and returns when the SUBACK and then so many messages came.
fn subscribe(mqtt: SocketAddr, messages: usize, subscribed: &AtomicUsize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (client, mut events) = AsyncClient::new(options("subscriber", mqtt), 10);
        client.subscribe("data/#", QoS::AtMostOnce).await.expect("queued");
        while subscribed.load(Ordering::Relaxed) <= messages {
            let event = tokio::time::timeout(PATIENCE, events.poll()).await;
            let event = event.expect("in time").expect("a connection");
            if matches!(event, Event::Incoming(Incoming::SubAck(_) | Incoming::Publish(_))) {
                subscribed.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

#[test]
fn a_full_log_that_blocks_holds_publishers_until_the_upstream_is_back_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    break_upstream(dir.path());
    let path = config(dir.path(), &rules("block", ""));
    let mut gateway = Gateway::start(&path);
    let (acknowledged, publisher) = publish_all(gateway.mqtt, MESSAGES);
    let reason = ask_until(gateway.http, "/ready", |status, _| status == 503);
    for part in ["forward/files/data->data", "bring its upstream back", "publishers wait"] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    let held = acknowledged.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(500));
    assert!(acknowledged.load(Ordering::Relaxed) <= held + 4, "only what was under way");
    assert!(held < MESSAGES);
    let (_, metrics) = get(gateway.http, "/metrics");
    assert!(metrics.contains("headwater_journal_blocked 1"), "{metrics}");
    subscribe(gateway.mqtt, 0, &AtomicUsize::new(0));

    // A start finds the log as full as it was, and no reader has to be asked twice.
    publisher_gives_up(&acknowledged, publisher, &mut gateway);
    let gateway = Gateway::start(&path);
    let before = acknowledged.load(Ordering::Relaxed);
    let (acknowledged, publisher) = publish_all(gateway.mqtt, MESSAGES);
    ask_until(gateway.http, "/ready", |status, _| status == 503);
    assert!(acknowledged.load(Ordering::Relaxed) < MESSAGES);
    mend_upstream(dir.path());
    publisher.join().expect("all is acknowledged");
    ask_until(gateway.http, "/ready", |status, _| status == 200);
    stop(gateway);
    let (numbers, gaps) = arrived(dir.path());
    let unique: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(unique.len(), MESSAGES, "{numbers:?}");
    assert!(numbers.len() >= before + MESSAGES, "{} of {before}", numbers.len());
    assert!(gaps.is_empty(), "{gaps:?}");
}

/// The gateway ends, and with it the publisher's connection.
fn publisher_gives_up(
    acknowledged: &AtomicUsize,
    publisher: JoinHandle<()>,
    gateway: &mut Gateway,
) {
    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0), "a full log does not keep the gateway from ending");
    assert!(publisher.join().is_err(), "{acknowledged:?} is not all");
}

#[test]
fn a_full_log_that_drops_the_oldest_leaves_gap_records_here_and_at_the_upstream() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    break_upstream(dir.path());
    let path = config(dir.path(), &rules("drop-oldest", ""));
    let gateway = Gateway::start(&path);
    let (_, publisher) = publish_all(gateway.mqtt, MESSAGES);
    publisher.join().expect("nobody waits");
    assert_eq!(get(gateway.http, "/ready").0, 200);
    ask_until(gateway.http, "/api/v1/gaps", |_, body| body.contains("retention"));
    mend_upstream(dir.path());
    ask_until(gateway.http, "/api/v1/routes", |_, body| body.contains("\"lag\":0"));
    let (_, told) = get(gateway.http, "/api/v1/gaps");
    stop(gateway);
    let (numbers, gaps) = arrived(dir.path());
    assert_eq!(numbers.last(), Some(&(MESSAGES as u64 - 1)), "the newest are there");
    assert!(numbers.len() < MESSAGES && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert!(gaps.iter().all(|gap| gap["cause"] == "retention"), "{gaps:?}");
    let told: Json = serde_json::from_str(&told).expect("JSON");
    let (counted, told) = gaps_of(&told)
        .iter()
        .filter_map(|gap| gap["count"].as_u64())
        .fold((0, 0), |(counted, told), count| (counted + count, told + 1));
    let lost = (MESSAGES - numbers.len()) as u64;
    assert!((lost..=lost + told).contains(&counted), "{counted} of {lost}, or gap records too");
}

/// The gaps of the stream `data`.
fn gaps_of(told: &Json) -> Vec<Json> {
    let newest = told["newest"].as_array().expect("a list");
    let of_data = newest.iter().filter(|gap| gap["stream"] == "data" && gap["partition"] == 0);
    of_data.map(|gap| gap["gap"].clone()).collect()
}

#[test]
fn what_is_too_old_is_deleted_and_named_where_nobody_had_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    break_upstream(dir.path());
    let path = config(dir.path(), &rules("drop-oldest", "max_age = \"1s\""));
    let gateway = Gateway::start(&path);
    let port = gateway.mqtt.port();
    crate::cli::publish(port, &[("data/a", "{\"n\":1}"), ("data/a", "{\"n\":2}")]);
    let told = ask_until(gateway.http, "/api/v1/gaps", |_, body| {
        crate::cli::publish(port, &[("data/a", "{\"n\":3}")]);
        body.contains("expired")
    });
    let told: Json = serde_json::from_str(&told).expect("JSON");
    let gaps = gaps_of(&told);
    assert!(gaps[0]["count"].as_u64() >= Some(2), "{gaps:?}");
    assert_eq!(gaps[0]["cause"], "expired");
    stop(gateway);
}

#[test]
fn who_keeps_up_is_served_from_memory() {
    const ROUNDS: usize = 16;
    const A_ROUND: usize = 2;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = config(dir.path(), &rules("drop-oldest", ""));
    let gateway = Gateway::start(&path);
    let received = Arc::new(AtomicUsize::new(0));
    let (mqtt, count) = (gateway.mqtt, Arc::clone(&received));
    let subscriber = std::thread::spawn(move || subscribe(mqtt, ROUNDS * A_ROUND, &count));
    let wait_for = |number| {
        let started = Instant::now();
        while received.load(Ordering::Relaxed) < number {
            assert!(started.elapsed() < PATIENCE, "{received:?} of {number}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for(1);
    for round in 1..=ROUNDS {
        let (_, publisher) = publish_all(gateway.mqtt, A_ROUND);
        publisher.join().expect("all is acknowledged");
        wait_for(1 + round * A_ROUND);
        ask_until(gateway.http, "/api/v1/queries", |_, body| body.contains("\"lag\":0"));
        // The route shows its position once it has committed, but reads every 20 ms.
        std::thread::sleep(Duration::from_millis(100));
    }
    subscriber.join().expect("all came");
    let (_, metrics) = get(gateway.http, "/metrics");
    let reads = |from: &str| -> u64 {
        let name = format!("headwater_journal_reads_total{{from=\"{from}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name.as_str()));
        line.expect("the counter is there").parse().expect("a number")
    };
    assert!(reads("memory") > 0);
    assert_eq!(reads("disk"), 0, "three times what memory holds went through");
    stop(gateway);
}
