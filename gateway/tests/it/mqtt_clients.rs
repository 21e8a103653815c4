//! The front door, through the clients that devices use.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{Filter, PublishProperties, SubscribeProperties};
use rumqttc::{mqttbytes::QoS, v5};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::door::Door;

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of 3.1.1 whose events are polled by a task of its own.
struct V4 {
    client: rumqttc::AsyncClient,
    messages: mpsc::Receiver<rumqttc::Publish>,
    acks: mpsc::Receiver<()>,
}

impl V4 {
    fn open(door: &Door, id: &str) -> Self {
        let options = rumqttc::MqttOptions::new(id, "127.0.0.1", door.address.port());
        let (client, mut events) = rumqttc::AsyncClient::new(options, 100);
        let (to_messages, messages) = mpsc::channel(10_000);
        let (to_acks, acks) = mpsc::channel(10_000);
        tokio::spawn(async move {
            use rumqttc::{Event, Packet};
            loop {
                let sent = match events.poll().await {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        to_messages.send(publish).await.is_ok()
                    }
                    Ok(Event::Incoming(
                        Packet::PubAck(_) | Packet::PubComp(_) | Packet::SubAck(_),
                    )) => to_acks.send(()).await.is_ok(),
                    Ok(_) => true,
                    Err(_) => false,
                };
                if !sent {
                    return;
                }
            }
        });
        Self { client, messages, acks }
    }

    async fn message(&mut self) -> rumqttc::Publish {
        timeout(PATIENCE, self.messages.recv()).await.expect("in time").expect("connected")
    }

    async fn ack(&mut self) {
        timeout(PATIENCE, self.acks.recv()).await.expect("in time").expect("connected");
    }

    async fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &str) {
        self.client.publish(topic, qos, retain, payload).await.expect("queued");
        if qos != QoS::AtMostOnce {
            self.ack().await;
        }
    }

    async fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.client.subscribe(filter, qos).await.expect("queued");
        self.ack().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_every_qos_reach_a_subscriber_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let mut subscriber = V4::open(&door, "s");
    subscriber.subscribe("a/#", QoS::AtLeastOnce).await;
    let mut publisher = V4::open(&door, "p");
    for (number, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]
        .into_iter()
        .cycle()
        .take(30)
        .enumerate()
    {
        publisher.publish("a/b", qos, false, &number.to_string()).await;
    }
    for number in 0..30_u8 {
        let message = subscriber.message().await;
        assert_eq!(message.payload, number.to_string());
        let expected = if number % 3 == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        assert_eq!((message.qos, message.retain), (expected, false));
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_gets_every_retained_message_and_then_every_live_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let mut publisher = V4::open(&door, "p");
    for number in 0..300 {
        publisher
            .client
            .publish(format!("r/{number}"), QoS::AtLeastOnce, true, "old")
            .await
            .expect("queued");
    }
    for _ in 0..300 {
        publisher.ack().await;
    }
    publisher.publish("r/7", QoS::AtLeastOnce, true, "").await;
    let mut subscriber = V4::open(&door, "s");
    subscriber.client.subscribe("r/#", QoS::AtLeastOnce).await.expect("queued");
    publisher.publish("r/8", QoS::AtLeastOnce, true, "new").await;
    // Nothing retains the end: it goes to who has subscribed before it, so that is waited for.
    subscriber.ack().await;
    publisher.publish("r/end", QoS::AtLeastOnce, false, "end").await;
    let mut retained = std::collections::BTreeMap::new();
    let mut last_of_8 = String::new();
    loop {
        let message = subscriber.message().await;
        let payload = String::from_utf8_lossy(&message.payload).into_owned();
        if message.topic == "r/8" {
            last_of_8 = payload.clone();
        }
        if message.retain {
            assert_eq!(retained.insert(message.topic, payload), None, "once each");
        } else if payload == "end" {
            break;
        }
    }
    assert_eq!(last_of_8, "new");
    // r/8 came retained or live, by which of the two was first at the door.
    let expected = (0..300).filter(|n| ![7, 8].contains(n)).map(|n| format!("r/{n}"));
    retained.remove("r/8");
    assert!(
        retained
            .keys()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>()
            .iter()
            .eq(expected.collect::<std::collections::BTreeSet<_>>().iter())
    );
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_lags_gets_all_of_a_flood() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let mut subscriber = V4::open(&door, "s");
    subscriber.subscribe("flood", QoS::AtLeastOnce).await;
    let mut publisher = V4::open(&door, "p");
    const COUNT: u32 = 5000;
    let payload = "x".repeat(300);
    for number in 0..COUNT {
        let text = format!("{number} {payload}");
        publisher.client.publish("flood", QoS::AtLeastOnce, false, text).await.expect("queued");
    }
    for _ in 0..COUNT {
        publisher.ack().await;
    }
    for number in 0..COUNT {
        let message = subscriber.message().await;
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        assert!(text.starts_with(&format!("{number} ")), "{number}: {}", &text[..12]);
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_version_5_attaches_to_a_message_travels_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let options = v5::MqttOptions::new("c5", "127.0.0.1", door.address.port());
    let (client, mut events) = v5::AsyncClient::new(options, 10);
    let filter = Filter::new("a/+", v5::mqttbytes::QoS::AtLeastOnce);
    let identifier = SubscribeProperties { id: Some(9), user_properties: Vec::new() };
    client.subscribe_many_with_properties([filter], identifier).await.expect("queued");
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(1000),
        topic_alias: Some(1),
        response_topic: Some("re/ply".to_owned()),
        correlation_data: Some("corr".into()),
        user_properties: vec![("k".to_owned(), "1".to_owned()), ("k".to_owned(), "2".to_owned())],
        subscription_identifiers: Vec::new(),
        content_type: Some("text/plain".to_owned()),
    };
    let mut published = false;
    let received = timeout(PATIENCE, async {
        loop {
            use v5::mqttbytes::v5::Packet;
            match events.poll().await.expect("connected") {
                v5::Event::Incoming(Packet::SubAck(_)) if !published => {
                    published = true;
                    let qos = v5::mqttbytes::QoS::AtLeastOnce;
                    client
                        .publish_with_properties("a/b", qos, false, "x", properties.clone())
                        .await
                        .expect("queued");
                }
                v5::Event::Incoming(Packet::Publish(publish)) => return publish,
                _ => {}
            }
        }
    });
    let received = received.await.expect("in time").properties.expect("properties");
    let left_s = received.message_expiry_interval.expect("the time that is left");
    assert!((1..=1000).contains(&left_s));
    let expected = PublishProperties {
        topic_alias: None,
        subscription_identifiers: vec![9],
        message_expiry_interval: Some(left_s),
        ..properties
    };
    assert_eq!(received, expected);
    door.close().await;
}
