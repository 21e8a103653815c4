//! A round trip: commands from the cluster to a device, its answers back to the cluster, while the
//! gateway is killed again and again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hw_tests::gateway::GatewayProcess;
use hw_tests::kafka::Kafka;
use hw_tests::qemu::free_port;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rumqttc::{Client, Event, Incoming, MqttOptions, QoS};

const COMMANDS: u64 = 900;
const EXPIRY_MS: i64 = 600_000;
/// Nothing here takes as long on a machine that works.
const LONG: Duration = Duration::from_secs(120);

fn write_config(dir: &Path, mqtt_port: u16, http_port: u16, brokers: &str) -> PathBuf {
    let text = format!(
        r#"
[gateway]
id = "round-trip"
data_dir = "data"
[mqtt]
listen = "127.0.0.1:{mqtt_port}"
[http]
listen = "127.0.0.1:{http_port}"
[[stream]]
name = "commands"
topic = "plant/{{device}}/command"
key = "device"
format = "json"
[[stream]]
name = "answers"
topic = "plant/{{device}}/answer"
key = "device"
format = "json"
[upstream.cluster]
kind = "kafka"
brokers = "{brokers}"
[[source]]
upstream = "cluster"
topic = "plant.commands"
publish = "plant/{{key}}/command"
expiry = "10m"
from = "earliest"
[[route]]
stream = "answers"
upstream = "cluster"
topic = "plant.answers"
"#
    );
    let path = dir.join("headwater.toml");
    fs::write(&path, text).expect("a configuration");
    path
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("in time")
}

/// Puts the commands `numbers` on the topic; each tenth came too late for its time to live.
fn command(brokers: &str, numbers: std::ops::Range<u64>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("partitioner", "murmur2_random")
        .create()
        .expect("a producer");
    for number in numbers {
        let age_ms = if is_expired(number) { 2 * EXPIRY_MS } else { 0 };
        let (key, payload) = (device(number), format!(r#"{{"n":{number}}}"#));
        let record = BaseRecord::to("plant.commands")
            .key(&key)
            .payload(&payload)
            .timestamp(now_ms() - age_ms);
        producer.send(record).map_err(|(problem, _)| problem).expect("there is room");
    }
    producer.flush(Duration::from_secs(30)).expect("the broker has them");
}

fn device(number: u64) -> String {
    format!("pump-{}", number % 3)
}

fn is_expired(number: u64) -> bool {
    number % 10 == 9
}

/// All devices in one: a lasting session that answers each command and survives the gateway.
struct Device {
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<u64>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Device {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (until, hears) = (Arc::clone(&stop), Arc::clone(&heard));
        let thread = thread::spawn(move || {
            let mut options = MqttOptions::new("devices", "127.0.0.1", port);
            options.set_clean_session(false).set_keep_alive(Duration::from_secs(5));
            let (client, mut connection) = Client::new(options, 4_096);
            while !until.load(Ordering::Relaxed) {
                match connection.recv_timeout(Duration::from_millis(100)) {
                    Ok(Ok(Event::Incoming(Incoming::ConnAck(_)))) => {
                        client.try_subscribe("plant/+/command", QoS::AtLeastOnce).expect("room");
                    }
                    Ok(Ok(Event::Incoming(Incoming::Publish(publish)))) => {
                        let topic = publish.topic.replace("/command", "/answer");
                        hears.lock().expect("whole").push(number_of(&publish.payload));
                        let payload = publish.payload.to_vec();
                        client.try_publish(topic, QoS::AtLeastOnce, false, payload).expect("room");
                    }
                    Ok(Err(_)) => thread::sleep(Duration::from_millis(50)),
                    _ => {}
                }
            }
        });
        Self { stop, heard, thread: Some(thread) }
    }

    fn heard(&self) -> Vec<u64> {
        self.heard.lock().expect("whole").clone()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic of it has been said already.
        drop(self.thread.take().map(thread::JoinHandle::join));
    }
}

fn number_of(payload: &[u8]) -> u64 {
    let value: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
    value["n"].as_u64().expect("a number")
}

/// The numbers in the local stream of commands, in the order of the journal.
fn stored(gateway: &GatewayProcess) -> Vec<u64> {
    let path = "/api/v1/streams/commands/records?from=earliest&limit=100000";
    let (status, body) = gateway.request(path).expect("the API answers");
    assert_eq!(status, 200, "{body}");
    let number = |line: &str| -> u64 {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        record["value"]["n"].as_u64().expect("a number")
    };
    body.lines().filter(|line| line.starts_with('{')).map(number).collect()
}

#[test]
fn commands_come_from_the_cluster_and_answers_go_back_although_the_gateway_is_killed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kafka = Kafka::start(&dir.path().join("kafka")).expect("a broker");
    let (mqtt_port, http_port) = (free_port().expect("a port"), free_port().expect("a port"));
    let config = write_config(dir.path(), mqtt_port, http_port, kafka.brokers());
    kafka.make_topic("plant.commands", 3).expect("a topic");
    command(kafka.brokers(), 0..100);
    let mut gateway = GatewayProcess::start(&config, http_port).expect("a gateway");
    let device = Device::start(mqtt_port);
    for round in 1..=4 {
        command(kafka.brokers(), round * 200 - 100..round * 200 + 100);
        thread::sleep(Duration::from_millis(40 + 110 * round));
        gateway.kill_and_restart().expect("it comes back");
    }
    let wanted: Vec<u64> = (0..COMMANDS).filter(|number| !is_expired(*number)).collect();
    let end = Instant::now() + LONG;
    let answered = loop {
        let answers = kafka.consume_committed("plant.answers").unwrap_or_default();
        let mut numbers: Vec<u64> = answers.iter().map(|answer| number_of(&answer.value)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() >= wanted.len() || Instant::now() > end {
            break numbers;
        }
        thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(answered, wanted, "{}", gateway.log_tail());
    check_order(&stored(&gateway), &wanted);
    let mut heard = device.heard();
    assert!(heard.iter().all(|number| !is_expired(*number)), "expired commands were heard");
    heard.sort_unstable();
    heard.dedup();
    assert_eq!(heard, wanted, "each command was heard");
    let sources = gateway.get("/api/v1/sources").expect("the API answers");
    assert_eq!(sources[0]["name"], "source/cluster/plant.commands");
    assert_eq!(sources[0]["last_error"], serde_json::Value::Null);
    assert_eq!(sources[0]["missed"], 0);
}

/// In the journal each command is there once, those of a device in their order.
fn check_order(stored: &[u64], wanted: &[u64]) {
    let mut sorted = stored.to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, wanted, "each command is stored once");
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for number in stored {
        let before = last.insert(device(*number), *number);
        assert!(before.is_none_or(|before| before < *number), "{before:?} before {number}");
    }
}
