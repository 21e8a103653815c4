//! Routes to MQTT brokers, and gateways in a chain, over sockets.

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use headwater::mqtt::hash_password;
use rumqttc::v5;
use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, Packet, PublishProperties};
use rumqttc::{Client, Event, Incoming, MqttOptions, QoS};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use serde_json::Value as Json;

use crate::process::{Gateway, config, get};
use crate::ways::pki::{Ca, Files};

const PATIENCE: Duration = Duration::from_secs(30);

const CLIMATE: &str = "[[stream]]\nname = \"climate\"\ntopic = \"s/{device}/climate\"\n\
                       key = \"device\"\nformat = \"json\"\ntime = \"ts\"\n";

fn user(name: &str, more: &str) -> String {
    let hash = hash_password("secret").expect("a hash");
    format!("[[user]]\nname = \"{name}\"\npassword = \"{hash}\"\n{more}\n")
}

fn server(name: &str) -> (SocketAddr, ServerSettings) {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = free.local_addr().expect("bound");
    let connections = ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: 20_480,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let name = name.to_owned();
    let settings =
        ServerSettings { name, listen, tls: None, next_connection_delay_ms: 1, connections };
    (listen, settings)
}

/// rumqttd on a thread of its own, which ends with the process: its address for 3.1.1 and for 5.
fn broker() -> (SocketAddr, SocketAddr) {
    let ((at_4, v4), (at_5, v5)) = (server("v4"), server("v5"));
    let router = RouterConfig {
        max_connections: 10,
        max_outgoing_packet_count: 200,
        max_segment_size: 1 << 20,
        max_segment_count: 4,
        ..RouterConfig::default()
    };
    let v4 = Some(HashMap::from([("v4".to_owned(), v4)]));
    let v5 = Some(HashMap::from([("v5".to_owned(), v5)]));
    let mut broker = Broker::new(Config { router, v4, v5, ..Config::default() });
    std::thread::spawn(move || broker.start().expect("rumqttd runs on free ports"));
    for address in [at_4, at_5] {
        eventually("rumqttd listens", || TcpStream::connect(address).ok());
    }
    (at_4, at_5)
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Publishes readings of devices `d0` and `d1`.
fn publish(door: SocketAddr, numbers: std::ops::Range<u64>) {
    let options = MqttOptions::new("devices", door.ip().to_string(), door.port());
    let (client, mut connection) = Client::new(options, 100);
    let mut left = numbers.clone().count();
    for number in numbers {
        let topic = format!("s/d{}/climate", number % 2);
        let payload = format!("{{\"ts\":{},\"n\":{number}}}", 1_763_700_000_000 + number);
        client.publish(topic, QoS::AtLeastOnce, false, payload).expect("it goes");
    }
    for event in connection.iter() {
        left -= usize::from(matches!(event.expect("a link"), Event::Incoming(Incoming::PubAck(_))));
        if left == 0 {
            return;
        }
    }
}

fn records(gateway: &Gateway, stream: &str) -> Vec<Json> {
    let (_, body) = get(gateway.http, &format!("/api/v1/streams/{stream}/records?from=earliest"));
    body.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn route(gateway: &Gateway) -> Json {
    let (_, body) = get(gateway.http, "/api/v1/routes");
    serde_json::from_str::<Json>(&body).expect("JSON")[0].take()
}

#[test]
fn a_foreign_broker_of_either_version_gets_a_route_in_order() {
    let at_4 = broker().0;
    let options = MqttOptions::new("watch", at_4.ip().to_string(), at_4.port());
    let (watch, mut watching) = Client::new(options, 10);
    watch.subscribe("up/#", QoS::AtLeastOnce).expect("it goes");
    for event in watching.iter() {
        if matches!(event.expect("a link"), Event::Incoming(Incoming::SubAck(_))) {
            break;
        }
    }
    let fresh = broker().1;
    for (version, broker) in [("3.1.1", at_4), ("5", fresh)] {
        let dir = tempfile::tempdir().expect("a directory");
        let more = format!(
            "{CLIMATE}[upstream.broker]\nkind = \"mqtt\"\nbroker = \"{broker}\"\n\
             version = \"{version}\"\n[[route]]\nstream = \"climate\"\nupstream = \"broker\"\n\
             topic = \"up/{{device}}\"\n"
        );
        let gateway = Gateway::start(&config(dir.path(), &more));
        publish(gateway.mqtt, 0..40);
        let route = eventually("the route has dealt with all", || {
            let route = route(&gateway);
            assert!(route["last_error"].is_null(), "{version}: {route}");
            Some(route).filter(|route| route["lag"] == 0)
        });
        assert_eq!((&route["state"], &route["records"]), (&"running".into(), &40.into()));
        let mut seen = Vec::new();
        // A subscriber of 3.1.1 to a message with properties ends rumqttd 0.20.
        if version == "5" {
            continue;
        }
        for event in watching.iter() {
            if let Event::Incoming(Incoming::Publish(message)) = event.expect("a link") {
                let json: Json = serde_json::from_slice(&message.payload).expect("JSON");
                let number = json["n"].as_u64().expect("a number");
                assert_eq!(message.topic, format!("up/d{}", number % 2));
                seen.push(number);
            }
            if seen.len() == 40 {
                break;
            }
        }
        assert_eq!(seen, (0..40).collect::<Vec<_>>(), "{version}");
    }
}

#[test]
fn a_chain_over_tls_brings_topic_key_and_time_and_a_stranger_is_no_gateway() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().expect("a directory"));
    let files = Files::new(dir.path(), &ca, &ca.sign("localhost"));
    let own = ca.sign("link");
    fs::write(dir.path().join("own.pem"), &own.pem).expect("a file");
    fs::write(dir.path().join("own.key"), own.key.serialize_pem()).expect("a file");
    let may = "publish = [\"s/#\"]\ngateway = \"test\"";
    let address = server("site").0;
    let secure = files.section(true).replace("127.0.0.1:0", &address.to_string());
    let site_dir = tempfile::tempdir().expect("a directory");
    let site = |may: &str| format!("{secure}{CLIMATE}{}", user("link", may));
    let stranger = Gateway::start(&config(site_dir.path(), &site("publish = [\"s/#\"]")));
    let more = format!(
        "{CLIMATE}[upstream.site]\nkind = \"mqtt\"\nbroker = \"localhost:{}\"\n\
         exactly_once = true\ntls = {{ ca = \"ca.pem\", certificate = \"own.pem\", key = \
         \"own.key\" }}\n[[route]]\nstream = \"climate\"\nupstream = \"site\"\n\
         topic = \"{{topic}}\"\nformat = \"original\"\n",
        address.port()
    );
    let field = Gateway::start(&config(dir.path(), &more));
    publish(field.mqtt, 0..10);
    let error = eventually("the stranger is refused", || {
        route(&field)["last_error"].as_str().map(str::to_owned)
    });
    assert!(error.contains("gateway = \"test\""), "{error}");
    assert!(records(&stranger, "climate").is_empty());
    drop(stranger);
    let site = Gateway::start(&config(site_dir.path(), &site(may)));
    let there = records(&field, "climate");
    assert_eq!(there.len(), 10);
    let here = until_there(&site, there.len());
    for (there, here) in there.iter().zip(&here) {
        for part in ["topic", "key", "time", "value"] {
            assert_eq!(there[part], here[part], "{part}");
        }
    }
}

fn until_there(site: &Gateway, count: usize) -> Vec<Json> {
    // A refused connection is tried again at leisure, in up to half a minute.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let here = records(site, "climate");
        if here.len() >= count {
            assert_eq!(here.len(), count);
            return here;
        }
        assert!(Instant::now() < until, "{here:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A client of MQTT 5 that says properties.
struct Speaker {
    client: v5::Client,
    connection: v5::Connection,
}

impl Speaker {
    fn enter(door: SocketAddr, name: &str) -> Self {
        let mut options = v5::MqttOptions::new(name, door.ip().to_string(), door.port());
        options.set_credentials(name, "secret");
        let (client, connection) = v5::Client::new(options, 10);
        Self { client, connection }
    }

    /// What the gateway answers to a message.
    fn say(&mut self, topic: &str, says: &[(&str, &str)]) -> Result<(), DisconnectReasonCode> {
        let user_properties =
            says.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let properties = PublishProperties { user_properties, ..PublishProperties::default() };
        let payload = "{\"ts\":2000000,\"n\":1}";
        let sent = self.client.publish_with_properties(
            topic,
            QoS5::AtLeastOnce,
            false,
            payload,
            properties,
        );
        sent.expect("it goes");
        for event in self.connection.iter() {
            match event {
                Ok(v5::Event::Incoming(Packet::PubAck(_))) => return Ok(()),
                Ok(_) => {}
                Err(v5::ConnectionError::MqttState(v5::StateError::ServerDisconnect {
                    reason_code,
                    ..
                })) => return Err(reason_code),
                Err(problem) => panic!("{problem}"),
            }
        }
        panic!("no answer");
    }
}

fn identity<'a>(gateway: &'a str, offset: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("hw.gateway", gateway),
        ("hw.incarnation", "i"),
        ("hw.stream", "climate"),
        ("hw.route", "{topic}"),
        ("hw.offset", offset),
        ("hw.time", "1000"),
        ("hw.key", "d9"),
        ("colour", "red"),
    ]
}

#[test]
fn an_identity_is_believed_from_the_gateway_that_it_names_and_from_nobody_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let more = format!(
        "{CLIMATE}{}{}",
        user("device", "publish = [\"s/#\"]"),
        user("link", "publish = [\"s/d1/#\"]\ngateway = \"field\"")
    );
    let gateway = Gateway::start(&config(dir.path(), &more));
    let times = || -> Vec<i64> {
        records(&gateway, "climate").iter().filter_map(|record| record["time"].as_i64()).collect()
    };
    let mut device = Speaker::enter(gateway.mqtt, "device");
    for _ in 0..2 {
        assert_eq!(device.say("s/d1/climate", &identity("field", "7")), Ok(()));
    }
    let forged = times();
    assert_eq!(forged.len(), 2, "data like any other");
    assert!(forged.iter().all(|time| *time == 2_000_000), "{forged:?}");

    let mut link = Speaker::enter(gateway.mqtt, "link");
    for offset in ["5", "6", "6", "5"] {
        assert_eq!(link.say("s/d1/climate", &identity("field", offset)), Ok(()));
    }
    assert_eq!(times().len(), 4, "second copies are dropped, and a device claims nothing");
    let last = records(&gateway, "climate").pop().expect("it is there");
    assert_eq!((&last["time"], &last["key"]), (&1000.into(), &"d9".into()));

    let refused = Err(DisconnectReasonCode::NotAuthorized);
    for (topic, says) in [
        ("s/d1/climate", identity("barn", "9")),
        ("s/d1/climate", identity("field", "9")[..3].to_vec()),
        ("s/d2/climate", identity("field", "9")),
    ] {
        let mut link = Speaker::enter(gateway.mqtt, "link");
        assert_eq!(link.say(topic, &says), refused, "{topic} {says:?}");
    }
    assert_eq!(times().len(), 4);
}

#[test]
fn what_is_here_of_a_gateway_survives_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = config(
        dir.path(),
        &format!("{CLIMATE}{}", user("link", "publish = [\"s/#\"]\ngateway = \"field\"")),
    );
    for round in 0..3_u64 {
        let gateway = Gateway::start(&file);
        let mut link = Speaker::enter(gateway.mqtt, "link");
        for offset in 0..=round {
            let offset = offset.to_string();
            assert_eq!(link.say("s/d1/climate", &identity("field", &offset)), Ok(()));
        }
        let records = records(&gateway, "climate");
        assert_eq!(records.len() as u64, round + 1, "{records:?}");
        gateway.signal("-KILL");
    }
}
