//! From PUBLISH until a reader of committed records has it.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hw_tests::gateway::GatewayProcess;
use hw_tests::kafka::Kafka;
use hw_tests::qemu::free_port;
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

const MESSAGES: usize = 60;
/// Not a whole second, so that messages fall on each part of an interval.
const EVERY: Duration = Duration::from_millis(1_013);
/// Where the measured messages go.
pub(crate) const TOPIC: &str = "plant.live";

/// Without load, or beside 50 connections of the program `load`, each of which has one message on its
/// way, on a stream and a route of their own.
pub(crate) fn run(load: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let kafka = Kafka::start(&dir.path().join("kafka"))?;
    kafka.make_topic(TOPIC, 1)?;
    kafka.make_topic("plant.load", 3)?;
    let (mqtt, http) = (free_port()?, free_port()?);
    let config = dir.path().join("headwater.toml");
    let brokers = kafka.brokers();
    std::fs::write(
        &config,
        format!(
            "[gateway]\nid = \"latency\"\ndata_dir = \"data\"\n[mqtt]\nlisten = \"127.0.0.1:{mqtt}\"\n\
             [http]\nlisten = \"127.0.0.1:{http}\"\n[[stream]]\nname = \"data\"\n\
             topic = \"data/{{device}}\"\nkey = \"device\"\nformat = \"json\"\n\
             [[stream]]\nname = \"load\"\ntopic = \"load/{{device}}\"\nkey = \"device\"\n\
             format = \"bytes\"\npartitions = 3\n\
             [upstream.cluster]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\n\
             [[route]]\nstream = \"data\"\nupstream = \"cluster\"\ntopic = \"{TOPIC}\"\n\
             [[route]]\nstream = \"load\"\nupstream = \"cluster\"\ntopic = \"plant.load\"\n"
        ),
    )?;
    let gateway = GatewayProcess::start(&config, http)?;
    let Some(load) = load else {
        let live = measure(mqtt, brokers, |number| number < MESSAGES)?;
        live.print("one a second, default settings (bar p50 60 ms)");
        return Ok(());
    };
    let seconds = EVERY.as_secs_f64() * MESSAGES as f64 + 2.0;
    let publisher = Command::new(load)
        .args(["publish", "--addr", &format!("127.0.0.1:{mqtt}"), "--connections", "50"])
        .args(["--window", "1", "--payload", "200", "--random", "--seconds", &seconds.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let live = measure(mqtt, brokers, |number| number < MESSAGES)?;
    let routes = gateway.get("/api/v1/routes")?;
    let said = String::from_utf8(publisher.wait_with_output()?.stdout)?;
    println!("beside it: {}; {} of its records wait in the end", said.trim(), routes[1]["lag"]);
    live.print("one a second, at full load (bar p50: the interval, 1 s)");
    Ok(())
}

/// What became of messages that were published one by one.
pub(crate) struct Live {
    sent: usize,
    /// Of those that were seen but for the first, which find connections and transactions new; rising.
    seen_ms: Vec<f64>,
    /// Of the same, until the gateway acknowledged them; rising.
    stored_ms: Vec<f64>,
}

/// So many are not counted.
const FIRST: usize = 5;

impl Live {
    pub(crate) fn print(&self, what: &str) {
        let Self { sent, seen_ms, stored_ms } = self;
        let show = |to: &str, all: &[f64]| {
            let at = |part: usize| all.get(all.len() * part / 100).copied().unwrap_or(f64::NAN);
            let most = all.last().copied().unwrap_or(f64::NAN);
            println!(
                "PUBLISH to {to}, {what}: {} of {sent} counted, p50 {:.1} ms, p90 {:.1} ms, most \
                 {most:.1} ms",
                all.len(),
                at(50),
                at(90)
            );
        };
        show("a reader of committed records", seen_ms);
        show("PUBACK", stored_ms);
    }
}

/// Publishes a message a second on `data/a` while `going` says so, and reads [`TOPIC`].
pub(crate) fn measure(
    mqtt: u16,
    brokers: &str,
    going: impl Fn(usize) -> bool,
) -> Result<Live, Box<dyn Error>> {
    let reader = reader(brokers)?;
    let (client, mut connection) = Client::new(MqttOptions::new("bench", "127.0.0.1", mqtt), 16);
    let (acknowledge, acknowledged) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for event in connection.iter() {
            if matches!(event, Ok(Event::Incoming(Packet::PubAck(_)))) {
                // Nobody listens any more once all is measured.
                let _ = acknowledge.send(Instant::now());
            }
        }
    });
    let mut sent = BTreeMap::new();
    let mut seen_ms = Vec::new();
    while going(sent.len()) {
        let number = sent.len();
        let next = Instant::now() + EVERY;
        sent.insert(number, Instant::now());
        client.publish("data/a", QoS::AtLeastOnce, false, format!(r#"{{"n":{number}}}"#))?;
        while Instant::now() < next {
            let Some(message) = reader.poll(Duration::from_millis(1)) else { continue };
            let value: serde_json::Value =
                serde_json::from_slice(message?.payload().unwrap_or_default())?;
            let number = value["n"].as_u64().and_then(|number| usize::try_from(number).ok());
            let at = number.and_then(|number| sent.get(&number)).ok_or("a record of ours")?;
            seen_ms.push(at.elapsed().as_secs_f64() * 1_000.0);
        }
    }
    let stored = acknowledged.try_iter().zip(sent.values());
    let stored_ms = stored.map(|(at, sent)| (at - *sent).as_secs_f64() * 1_000.0).collect();
    Ok(Live { sent: sent.len(), seen_ms: counted(seen_ms), stored_ms: counted(stored_ms) })
}

fn counted(mut ms: Vec<f64>) -> Vec<f64> {
    let mut counted = ms.split_off(ms.len().min(FIRST));
    counted.sort_by(f64::total_cmp);
    counted
}

fn reader(brokers: &str) -> Result<BaseConsumer, Box<dyn Error>> {
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "latency")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "10")
        .create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(TOPIC, 0, Offset::Beginning)?;
    reader.assign(&from)?;
    Ok(reader)
}
