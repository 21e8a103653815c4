//! The same conversation with a foreign broker and with the front door: what a subscriber sees is
//! the same.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, Publish};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

use crate::door::Door;

/// What a subscriber saw of a message.
type Seen = (String, Vec<u8>, QoS, bool);

/// Starts rumqttd on a thread of its own, which ends with the process: it has no way to stop it.
fn foreign_broker() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = free.local_addr().expect("bound");
    drop(free);
    let server = ServerSettings {
        name: "peer".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5_000,
            max_payload_size: 20_480,
            max_inflight_count: 100,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let router = RouterConfig {
        max_connections: 10,
        max_outgoing_packet_count: 200,
        max_segment_size: 1 << 20,
        max_segment_count: 4,
        ..RouterConfig::default()
    };
    let v4 = Some(HashMap::from([("peer".to_owned(), server)]));
    let mut broker = Broker::new(Config { router, v4, ..Config::default() });
    std::thread::spawn(move || broker.start().expect("rumqttd runs on a free port"));
    for _ in 0..200 {
        if TcpStream::connect(listen).is_ok() {
            return listen;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("rumqttd does not listen on {listen}");
}

async fn next(events: &mut EventLoop) -> Incoming {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), events.poll()).await;
        if let Event::Incoming(packet) = event.expect("an answer within 20 s").expect("a link") {
            return packet;
        }
    }
}

async fn connect(broker: SocketAddr, id: &str) -> (AsyncClient, EventLoop) {
    let options = MqttOptions::new(id, broker.ip().to_string(), broker.port());
    let (client, mut events) = AsyncClient::new(options, 64);
    assert!(matches!(next(&mut events).await, Incoming::ConnAck(_)));
    (client, events)
}

/// Publishes at each QoS, below and beside the filter, retained and not; returns what came through.
async fn converse(broker: SocketAddr) -> Vec<Seen> {
    let (subscriber, mut incoming) = connect(broker, "subscriber").await;
    subscriber.subscribe("plant/+/climate", QoS::AtLeastOnce).await.expect("queued");
    while !matches!(next(&mut incoming).await, Incoming::SubAck(_)) {}

    let (publisher, mut answers) = connect(broker, "publisher").await;
    let messages = [
        ("plant/1/climate", QoS::AtLeastOnce, "first"),
        ("plant/1/other", QoS::AtLeastOnce, "beside the filter"),
        ("plant/2/climate", QoS::AtMostOnce, "second"),
        ("plant/1/climate/deep", QoS::AtLeastOnce, "below the filter"),
        ("plant/3/climate", QoS::AtLeastOnce, "third"),
        ("plant/1/climate", QoS::AtLeastOnce, ""),
        ("plant/1/climate", QoS::AtLeastOnce, "last"),
    ];
    let acknowledged = messages.iter().filter(|(_, qos, _)| *qos == QoS::AtLeastOnce).count();
    for (topic, qos, payload) in messages {
        publisher.publish(topic, qos, false, payload).await.expect("queued");
    }
    let mut left = acknowledged;
    while left > 0 {
        left -= usize::from(matches!(next(&mut answers).await, Incoming::PubAck(_)));
    }
    let mut seen = Vec::new();
    loop {
        if let Incoming::Publish(Publish { topic, payload, qos, retain, .. }) =
            next(&mut incoming).await
        {
            let last = &payload[..] == b"last";
            seen.push((topic, payload.to_vec(), qos, retain));
            if last {
                return seen;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_sees_what_it_would_see_at_a_foreign_broker() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let door = Door::open(dir.path(), "");
    let ours = converse(door.address).await;
    assert_eq!(ours.len(), 5, "{ours:?}");
    let foreign = tokio::task::spawn_blocking(foreign_broker).await.expect("it starts");
    let theirs = converse(foreign).await;
    // rumqttd 0.20 hands on what was published at QoS 0 at the QoS of the subscription; the
    // specification has the lower of the two [MQTT-3.8.4-8].
    assert_eq!(ours[1].2, QoS::AtMostOnce);
    let without_qos = |seen: Vec<Seen>| -> Vec<(String, Vec<u8>, bool)> {
        seen.into_iter().map(|(topic, payload, _, retain)| (topic, payload, retain)).collect()
    };
    assert_eq!(without_qos(ours), without_qos(theirs));
}
