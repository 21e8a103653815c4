//! A table from a compacted topic of a real broker, while the gateway is killed again and again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hw_tests::gateway::{GatewayProcess, binary};
use hw_tests::kafka::Kafka;
use hw_tests::qemu::free_port;
use hw_tests::random::Random;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value as Json;

const TOPIC: &str = "plant.devices";
const PARTITIONS: u16 = 3;
/// Nothing here takes as long on a machine that works.
const LONG: Duration = Duration::from_secs(120);

/// Values by key.
type Rows = BTreeMap<String, u64>;

fn write_config(dir: &Path, http_port: u16, brokers: &str) -> PathBuf {
    let text = format!(
        r#"
[gateway]
id = "with-tables"
data_dir = "data"
[mqtt]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:{http_port}"
[upstream.cluster]
kind = "kafka"
brokers = "{brokers}"
[[table]]
name = "devices"
from = "cluster:{TOPIC}"
key = "device"
"#
    );
    let path = dir.join("headwater.toml");
    fs::write(&path, text).expect("a configuration");
    path
}

/// Updates and deletes of keys, on the topic and in `rows`; some records are no rows.
fn update(brokers: &str, rows: &mut Rows, random: &mut Random, count: u64) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("partitioner", "murmur2_random")
        .create()
        .expect("a producer");
    for _ in 0..count {
        let key = format!("pump/{}", random.below(200));
        let value = random.below(1_000_000);
        let payload = format!("{{\"value\":{value}}}");
        let record = BaseRecord::<str, str>::to(TOPIC).key(&key);
        let record = match random.below(10) {
            0 | 1 => {
                rows.remove(&key);
                record
            }
            2 => record.payload("no JSON"),
            _ => {
                rows.insert(key.clone(), value);
                record.payload(&payload)
            }
        };
        producer.send(record).map_err(|(problem, _)| problem).expect("there is room");
    }
    producer.flush(Duration::from_secs(30)).expect("the broker has them");
}

fn table(gateway: &GatewayProcess) -> Rows {
    let (status, body) = gateway.request("/api/v1/tables/devices?limit=10000").expect("an answer");
    assert_eq!(status, 200, "{body}");
    let row = |line: &str| {
        let row: Json = serde_json::from_str(line).expect("NDJSON");
        let key = row["device"].as_str().expect("a text").to_owned();
        (key, row["value"].as_u64().expect("a number"))
    };
    body.lines().filter(|line| line.starts_with('{')).map(row).collect()
}

fn wait_for(gateway: &GatewayProcess, wanted: &Rows) {
    let end = Instant::now() + LONG;
    while table(gateway) != *wanted {
        assert!(Instant::now() < end, "{}", gateway.log_tail());
        thread::sleep(Duration::from_millis(100));
    }
}

fn status(gateway: &GatewayProcess) -> Json {
    gateway.get("/api/v1/tables").expect("an answer")[0].clone()
}

/// Exit code and words of `headwater check --online`.
fn check_online(config: &Path) -> (Option<i32>, String) {
    let output = Command::new(binary().expect("the binary"))
        .args(["check", "--online", "-c"])
        .arg(config)
        .output()
        .expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_table_holds_the_last_value_of_each_key_of_its_topic_although_the_gateway_is_killed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kafka = Kafka::start(&dir.path().join("kafka")).expect("a broker");
    let http_port = free_port().expect("a port");
    let config = write_config(dir.path(), http_port, kafka.brokers());
    let (code, said) = check_online(&config);
    assert!(code == Some(1) && said.contains("cleanup.policy=compact"), "{said}");
    kafka.make_compacted_topic(TOPIC, PARTITIONS).expect("a topic");
    let (code, said) = check_online(&config);
    assert!(code == Some(0) && said.contains("may read"), "{said}");

    let (mut rows, mut random) = (Rows::new(), Random::new(7));
    update(kafka.brokers(), &mut rows, &mut random, 500);
    let mut gateway = GatewayProcess::start(&config, http_port).expect("a gateway");
    for round in 1..=5 {
        update(kafka.brokers(), &mut rows, &mut random, 400);
        thread::sleep(Duration::from_millis(60 + 130 * round));
        gateway.kill_and_restart().expect("it comes back");
    }
    wait_for(&gateway, &rows);
    // What changed while it was away, deletes too.
    gateway.kill();
    update(kafka.brokers(), &mut rows, &mut random, 400);
    gateway.kill_and_restart().expect("it comes back");
    wait_for(&gateway, &rows);
    let status_now = status(&gateway);
    assert_eq!(
        (status_now["state"].as_str(), status_now["keys"].as_u64()),
        (Some("running"), Some(rows.len() as u64))
    );

    gateway.kill();
    kafka.delete_topic(TOPIC).expect("it was there");
    let end = Instant::now() + LONG;
    while let Err(problem) = kafka.make_compacted_topic(TOPIC, PARTITIONS) {
        assert!(Instant::now() < end, "{problem}");
        thread::sleep(Duration::from_millis(200));
    }
    gateway.kill_and_restart().expect("it comes back");
    let end = Instant::now() + LONG;
    while status(&gateway)["state"] != "stopped" {
        assert!(Instant::now() < end, "{}", gateway.log_tail());
        thread::sleep(Duration::from_millis(100));
    }
    let why = status(&gateway)["last_error"].to_string();
    assert!(why.contains("Give the table another name"), "{why}");
    assert_eq!(table(&gateway), rows, "a topic that was made anew deletes nothing");
}
