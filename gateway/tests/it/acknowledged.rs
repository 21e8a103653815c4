//! Acknowledged means stored: a real front door over a disk that drops what was not synced, whose
//! power goes at every single step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use headwater::catalog::Catalog;
use headwater::config::Config;
use headwater::journal::{Journal, JournalOptions};
use headwater::mqtt::{MqttMetrics, MqttServer, MqttState};
use headwater::node::Nodes;
use headwater::projection::Follower;
use headwater::sparkplug::Sparkplug;
use headwater::stream::{Intake, IntakeMetrics, Streams};
use headwater_shared::envelope::Envelope;
use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, Outgoing};
use tokio::sync::watch;

use crate::power::Disk;

const MESSAGES: u32 = 24;

const CONFIG: &str = r#"
[gateway]
id = "durable"
data_dir = "unused"
[mqtt]
listen = "127.0.0.1:0"
[[stream]]
name = "climate"
topic = "sensors/{device}"
key = "device"
format = "json"
partitions = 3
"#;

/// Small segments, so that the power also goes while one is made.
fn options() -> JournalOptions {
    JournalOptions { segment_size: 2048, zero_fill_step: 512, ..JournalOptions::default() }
}

/// Publishes until all is acknowledged or the power is off; returns what was acknowledged.
async fn publish_over(disk: &Disk, qos: QoS) -> BTreeSet<u32> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Ok((log, _)) = log_lite::Journal::open(disk.clone(), options()) else {
        return BTreeSet::new();
    };
    let journal = Journal::on(log, dir.path());
    let config = Config::parse("test", CONFIG).expect("a good configuration");
    let catalog = Arc::new(Catalog::open(&dir.path().join("catalog")).expect("a catalog"));
    let streams = Arc::new(Streams::new(&config, &catalog).expect("partitions"));
    let nodes = Arc::new(Nodes::default());
    let chain = Arc::new(headwater::chain::Chain::default());
    let state = Arc::new(MqttState::default());
    let sparkplug = Arc::new(Sparkplug::new(&streams));
    let projections =
        vec![nodes.projection(), sparkplug.projection(), state.projection(), chain.projection()];
    let follower = Follower::start(journal.clone(), catalog, projections).expect("a follower");
    let applied = follower.applied();
    let follower = tokio::spawn(follower.run());
    let intake =
        Intake::new(journal.clone(), streams, nodes, sparkplug, chain, IntakeMetrics::default());
    let server = MqttServer::bind(&config.mqtt, intake, state, applied, MqttMetrics::default())
        .expect("a free port");
    let address = server.local_addr().expect("it listens");
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(server.run(stopped));
    let acknowledged = publish_all(address.port(), qos, disk).await;
    stop.send_replace(true);
    server.await.expect("the server ends");
    tokio::task::spawn_blocking(move || journal.close()).await.expect("the journal ends");
    follower.await.expect("the follower ends");
    acknowledged
}

async fn publish_all(port: u16, qos: QoS, disk: &Disk) -> BTreeSet<u32> {
    let mut options = MqttOptions::new("publisher", "127.0.0.1", port);
    options.set_inflight(4).set_keep_alive(Duration::from_secs(30));
    let (client, mut events) = AsyncClient::new(options, MESSAGES as usize);
    for number in 0..MESSAGES {
        let topic = format!("sensors/{}", number % 5);
        let payload = format!("{{\"number\":{number}}}");
        client.publish(topic, qos, false, payload).await.expect("the queue holds all");
    }
    let mut acknowledged = BTreeSet::new();
    let mut ids = std::collections::BTreeMap::new();
    let mut next = 0;
    while acknowledged.len() < MESSAGES as usize && !disk.is_off() {
        // A door whose disk is gone closes the connection, or stays silent until the cut is seen.
        let event = tokio::time::timeout(Duration::from_millis(50), events.poll()).await;
        match event {
            Ok(Ok(Event::Outgoing(Outgoing::Publish(id)))) => {
                ids.insert(id, next);
                next += 1;
            }
            Ok(Ok(Event::Incoming(Incoming::PubAck(ack)))) => {
                acknowledged.extend(ids.get(&ack.pkid));
            }
            // PUBREC already promises: the client drops the payload when it has it.
            Ok(Ok(Event::Incoming(Incoming::PubRec(ack)))) => {
                acknowledged.extend(ids.get(&ack.pkid));
            }
            Ok(Err(_)) => break,
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    acknowledged
}

/// The numbers that are in the log after the power is back, in its order.
fn stored(disk: &Disk) -> Vec<u32> {
    let survivor = disk.survivor();
    let (log, _) = log_lite::Journal::open(survivor.clone(), options()).expect("it recovers");
    let end = log.end();
    drop(log);
    let mut reader = log_lite::Reader::open(survivor).expect("it can be read");
    let mut numbers = Vec::new();
    while let Some(batch) = reader.next(end).expect("nothing is damaged") {
        for record in batch.records() {
            if let Ok(Envelope::Publish(publish)) = Envelope::decode(record.value)
                && publish.topic.starts_with("sensors/")
            {
                let text = std::str::from_utf8(publish.payload).expect("the payload is JSON");
                let number = text.trim_start_matches("{\"number\":").trim_end_matches('}');
                numbers.push(number.parse().expect("as published"));
            }
        }
    }
    numbers
}

async fn power_cut_at_every_step(qos: QoS) {
    let whole = Disk::default();
    let all = publish_over(&whole, qos).await;
    assert_eq!(all.len(), MESSAGES as usize, "without a cut all is acknowledged");
    let steps = whole.calls() + 1;
    let mut partly = 0;
    for cut in 0..steps {
        let disk = Disk::cut_at(cut);
        let acknowledged = publish_over(&disk, qos).await;
        let stored = stored(&disk);
        let unique: BTreeSet<u32> = stored.iter().copied().collect();
        assert!(
            acknowledged.is_subset(&unique),
            "cut at {cut}: acknowledged {acknowledged:?}, stored {stored:?}"
        );
        assert_eq!(unique.len(), stored.len(), "cut at {cut}: one publish, one record");
        partly += usize::from(!acknowledged.is_empty() && acknowledged.len() < all.len());
    }
    assert!(partly > 3, "some cuts came between acknowledgements, {partly} of {steps} did");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_puback_survives_a_power_cut_at_every_step() {
    power_cut_at_every_step(QoS::AtLeastOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pubrec_survives_a_power_cut_at_every_step() {
    power_cut_at_every_step(QoS::ExactlyOnce).await;
}
