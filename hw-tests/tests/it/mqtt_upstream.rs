//! A route to a real mosquitto over a link that is cut a hundred times, and a gateway that is killed
//! among that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use hw_tests::gateway::GatewayProcess;
use hw_tests::proxy::Proxy;
use hw_tests::random::Random;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{Client, Event, MqttOptions};

use crate::feed::Feed;

const CUTS: u64 = 100;
/// After so many cuts the gateway is killed.
const KILL_EVERY: u64 = 20;
/// Between two cuts at most.
const PAUSE_MS: u64 = 300;
const LIMIT: Duration = Duration::from_secs(240);

/// A broker as a process, ended when dropped.
struct Mosquitto {
    child: Child,
    address: SocketAddr,
}

impl Mosquitto {
    fn start(dir: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let config = dir.join("mosquitto.conf");
        let port = address.port();
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n\
             max_inflight_messages 0\n"
        );
        fs::write(&config, text).expect("a configuration");
        let binary = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
        let binary = binary.into_iter().find(|path| Path::new(path).exists());
        let child = Command::new(binary.expect("deploy/setup.sh test installs mosquitto"))
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto starts");
        let broker = Self { child, address };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "mosquitto does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        broker
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // Both fail only for a process that has ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A message as the broker's subscriber saw it.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    topic: String,
    payload: String,
    says: Vec<(String, String)>,
}

impl Seen {
    fn of(publish: &Publish) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let says = publish.properties.clone().expect("an identity").user_properties;
        Self { topic: text(&publish.topic), payload: text(&publish.payload), says }
    }

    fn said(&self, name: &str) -> &str {
        let found = self.says.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("no {name}: {self:?}"), |(_, value)| value)
    }

    fn offset(&self) -> u64 {
        self.said("hw.offset").parse().expect("a number")
    }

    fn number(&self) -> u64 {
        let json: serde_json::Value = serde_json::from_str(&self.payload).expect("JSON");
        json["n"].as_u64().expect("a number")
    }
}

/// Sees all of a broker until `end` has come on the topic `up/end`.
fn subscribe(address: SocketAddr) -> thread::JoinHandle<Vec<Seen>> {
    let mut options = MqttOptions::new("watch", address.ip().to_string(), address.port());
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut connection) = Client::new(options, 10);
    client.subscribe("up/#", QoS::AtLeastOnce).expect("it goes");
    let (ready, is_ready) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        let mut seen = Vec::new();
        for event in connection.iter() {
            match event.expect("this link is not cut") {
                Event::Incoming(Packet::SubAck(_)) => ready.send(()).expect("it is waited for"),
                Event::Incoming(Packet::Publish(publish)) if publish.topic == "up/end" => break,
                Event::Incoming(Packet::Publish(publish)) => seen.push(Seen::of(&publish)),
                _ => {}
            }
        }
        drop(client);
        seen
    });
    is_ready.recv_timeout(Duration::from_secs(20)).expect("it is subscribed");
    thread
}

fn end(address: SocketAddr) {
    let options = MqttOptions::new("end", address.ip().to_string(), address.port());
    let (client, mut connection) = Client::new(options, 10);
    client.publish("up/end", QoS::AtLeastOnce, false, "").expect("it goes");
    for event in connection.iter() {
        if matches!(event, Ok(Event::Incoming(Packet::PubAck(_)))) {
            return;
        }
    }
}

fn config(broker: SocketAddr) -> String {
    format!(
        r#"
[gateway]
id = "cuts"
data_dir = "data"
[mqtt]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
[[stream]]
name = "numbers"
topic = "n/{{device}}"
key = "device"
format = "json"
partitions = 3
[upstream.broker]
kind = "mqtt"
broker = "{broker}"
[[route]]
stream = "numbers"
upstream = "broker"
topic = "up/{{device}}"
"#
    )
}

#[test]
fn a_link_that_is_cut_a_hundred_times_loses_nothing_and_keeps_the_order() {
    let seed = std::env::var("HEADWATER_SEED")
        .map_or(20_261_128, |seed| seed.parse().expect("HEADWATER_SEED is a number"));
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let broker = Mosquitto::start(dir.path());
    let watch = subscribe(broker.address);
    let proxy = Proxy::start().expect("a proxy");
    proxy.set_target(Some(broker.address));
    let file = dir.path().join("headwater.toml");
    fs::write(&file, config(proxy.address())).expect("a configuration");
    let until = Instant::now() + LIMIT;
    let feed = Feed::default();
    let mut gateway = launch(&file, &feed);
    let (sent, cut) = thread::scope(|scope| {
        let feeding = scope.spawn(|| feed.run(until));
        let mut cut = 0;
        while cut < CUTS && Instant::now() < until {
            thread::sleep(Duration::from_millis(random.below(PAUSE_MS)));
            cut += u64::from(proxy.cut() > 0);
            if cut % KILL_EVERY == KILL_EVERY / 2 && random.below(2) == 0 {
                feed.set_address(None);
                gateway.kill();
                gateway = launch(&file, &feed);
                cut += 1;
            }
        }
        feed.stop.store(true, Ordering::SeqCst);
        (feeding.join().expect("it feeds"), cut)
    });
    settled(&gateway, until);
    end(broker.address);
    let seen = watch.join().expect("it watches");
    let copies = check(&seen, sent);
    println!("{cut} cuts (seed {seed}): {sent} acknowledged, {} seen, {copies} copies", seen.len());
}

fn launch(file: &Path, feed: &Feed) -> GatewayProcess {
    let mut gateway = GatewayProcess::launch(file).expect("a gateway");
    let doors = gateway.wait_doors(Duration::from_secs(60));
    let doors = doors.unwrap_or_else(|error| panic!("{error}\n{}", gateway.log_tail()));
    feed.set_address(Some(doors.mqtt));
    gateway
}

/// Waits until the route has dealt with all.
fn settled(gateway: &GatewayProcess, until: Instant) {
    loop {
        let routes = gateway.get("/api/v1/routes").expect("routes");
        let route = &routes[0];
        // What failed last is told until records go again; none may be left.
        if route["lag"] == 0 && route["state"] == "running" {
            return;
        }
        assert!(Instant::now() < until, "{routes}\n{}", gateway.log_tail());
        thread::sleep(Duration::from_millis(100));
    }
}

/// Nothing is lost, firsts are in order, copies are the same. How many copies there are.
fn check(seen: &[Seen], sent: u64) -> usize {
    let mut firsts: BTreeMap<u64, &Seen> = BTreeMap::new();
    let mut highest = None;
    for message in seen {
        match firsts.get(&message.offset()) {
            Some(first) => assert_eq!(*first, message, "a copy is the same"),
            None => {
                assert!(highest < Some(message.offset()), "{message:?} after {highest:?}");
                highest = Some(message.offset());
                firsts.insert(message.offset(), message);
            }
        }
    }
    let numbers: BTreeSet<u64> = firsts.values().map(|message| message.number()).collect();
    let lost: Vec<u64> = (0..sent).filter(|number| !numbers.contains(number)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    for message in firsts.values() {
        assert_eq!(message.said("hw.gateway"), "cuts");
        assert_eq!(message.topic, format!("up/{}", message.said("hw.key")));
    }
    seen.len() - firsts.len()
}
