//! An MQTT peer in memory, a plain broker or another gateway, that fails on cue; and what a route to
//! it does then.

use std::sync::{Arc, Mutex, MutexGuard};
use std::{io, mem};

use bytes::BytesMut;
use headwater_shared::envelope::{Envelope, Publish as Stored};
use headwater_shared::origin::property;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Packet, PubAck, Publish,
};

use super::{Clock, World};
use crate::chain::{Chain, Relayed, Verdict};
use crate::config::{MqttUpstream, MqttVersion};
use crate::forward::run::Identity;
use crate::forward::upstream::mqtt::link::Wire;
use crate::forward::upstream::mqtt::topic::Names;
use crate::forward::upstream::mqtt::wire::Dial;
use crate::forward::upstream::mqtt::{Mqtt, MqttRoute, POLICY};
use crate::journal::{Durable, Record};
use crate::projection::{Entry, Projection};

/// What happens at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The link is cut before anything of the step.
    Cut,
    /// The link is cut in the middle of what is written.
    CutInside,
    /// The link is cut before the answer to the step.
    CutAfter,
    /// The peer crashes and loses what it has not committed.
    PeerCrash,
    /// The peer crashes once it has committed, before it answers.
    PeerCrashCommitted,
    /// A commit of the peer fails; it goes on without what was in it.
    CommitFails,
    /// The gateway that sends crashes, and its marks are those that were saved.
    Crash,
    /// The same, and its marks are lost.
    CrashMarksLost,
}

const FAULTS: [Fault; 8] = [
    Fault::Cut,
    Fault::CutInside,
    Fault::CutAfter,
    Fault::PeerCrash,
    Fault::PeerCrashCommitted,
    Fault::CommitFails,
    Fault::Crash,
    Fault::CrashMarksLost,
];

/// The peer; it survives cuts and crashes of the other side.
#[derive(Clone)]
struct Peer {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// It is a gateway, which drops second copies and acknowledges what it has committed.
    gateway: Option<Door>,
    /// What is there for good.
    durable: Vec<Message>,
    /// What is not.
    pending: Vec<Message>,
    /// Ids to acknowledge once what is pending is durable.
    owed: Vec<u16>,
    /// Bytes of the connection that are on the way to the peer, and back.
    inbuf: BytesMut,
    out: BytesMut,
    connection: u64,
    steps: u64,
    fault: Option<(u64, Fault)>,
    crashed: Option<Fault>,
    now_ms: u64,
}

struct Door {
    chain: Arc<Chain>,
    projection: Box<dyn Projection>,
    generation: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Message {
    topic: String,
    payload: Vec<u8>,
    says: Vec<(String, String)>,
}

impl Message {
    fn said(&self, name: &str) -> &str {
        let found = self.says.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).expect("every message has it")
    }

    fn offset(&self) -> u64 {
        self.said(property::OFFSET).parse().expect("a number")
    }

    fn relayed(&self, generation: u64) -> Relayed<'_> {
        let says = self.says.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Relayed::read("g", says, generation).expect("whole").expect("there")
    }

    /// As a gateway stores it.
    fn record(&self, offset: u64) -> Record {
        let envelope = Envelope::Publish(Stored {
            topic: &self.topic,
            client: "g-up",
            arrival_ms: 0,
            qos: 1,
            retain: false,
            packet_id: None,
            properties: &[],
            rejected: None,
            payload: &self.payload,
        });
        let relayed = self.relayed(0);
        let mut value = vec![0; envelope.size_max() + relayed.origin.size_max()];
        let used = relayed.origin.encode(&envelope, &mut value).expect("an upper bound").len();
        value.truncate(used);
        let (key, value) = (relayed.key.to_owned().into(), value.into());
        Record { offset, partition: 0, time_ms: relayed.time_ms, key, value }
    }
}

impl Door {
    fn new(durable: &[Message], generation: u64) -> Self {
        let chain = Arc::new(Chain::default());
        let mut projection = chain.projection();
        for (offset, message) in (0..).zip(durable) {
            projection.apply(&[Entry::of(&message.record(offset))]);
        }
        // A restart may find a snapshot; it is the same.
        let snapshot = projection.snapshot();
        projection.restore(&snapshot).expect("its own");
        chain.open(Durable { end: durable.len() as u64, generation, closed: false });
        Self { chain, projection, generation }
    }
}

impl Peer {
    fn new(is_gateway: bool) -> Self {
        let inner = Inner {
            gateway: is_gateway.then(|| Door::new(&[], 0)),
            durable: Vec::new(),
            pending: Vec::new(),
            owed: Vec::new(),
            inbuf: BytesMut::new(),
            out: BytesMut::new(),
            connection: 0,
            steps: 0,
            fault: None,
            crashed: None,
            now_ms: 0,
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics with it")
    }
}

impl Inner {
    /// What comes at this step.
    fn step(&mut self) -> Option<Fault> {
        self.steps += 1;
        let fault = self.fault.filter(|(at, _)| *at == self.steps).map(|(_, fault)| fault);
        if matches!(fault, Some(Fault::Crash | Fault::CrashMarksLost)) {
            self.crashed = fault;
        }
        fault
    }

    fn hang_up(&mut self) {
        self.connection += 1;
        self.inbuf.clear();
        self.out.clear();
        self.owed.clear();
    }

    fn crash(&mut self) {
        self.pending.clear();
        self.hang_up();
        let durable = &self.durable;
        self.gateway = self.gateway.take().map(|_| Door::new(durable, 0));
    }

    fn commit(&mut self) {
        for message in mem::take(&mut self.pending) {
            let offset = self.durable.len() as u64;
            if let Some(door) = &mut self.gateway {
                door.projection.apply(&[Entry::of(&message.record(offset))]);
            }
            self.durable.push(message);
        }
        for id in mem::take(&mut self.owed) {
            PubAck::new(id, None).write(&mut self.out).expect("room");
        }
    }

    fn commit_fails(&mut self) {
        self.pending.clear();
        self.hang_up();
        if let Some(door) = &mut self.gateway {
            door.generation += 1;
        }
    }

    fn take_packets(&mut self) {
        loop {
            match Packet::read(&mut self.inbuf, None) {
                Ok(Packet::Connect(..)) => self.welcome(),
                Ok(Packet::Publish(publish)) => self.publish(&publish),
                Ok(Packet::PingReq(_)) => {
                    rumqttc::v5::mqttbytes::v5::PingResp::write(&mut self.out).expect("room");
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => return,
            }
        }
    }

    fn welcome(&mut self) {
        let mut user_properties = Vec::new();
        if let Some(door) = &self.gateway {
            user_properties.push((property::GATEWAY.to_owned(), "g".to_owned()));
            for reached in door.chain.reached("g", "i") {
                let says = format!("{} {} {}", reached.last, reached.stream, reached.route);
                user_properties.push((property::REACHED.to_owned(), says));
            }
        }
        let properties = ConnAckProperties {
            session_expiry_interval: None,
            receive_max: Some(3),
            max_qos: None,
            retain_available: None,
            max_packet_size: None,
            assigned_client_identifier: None,
            topic_alias_max: None,
            reason_string: None,
            user_properties,
            wildcard_subscription_available: None,
            subscription_identifiers_available: None,
            shared_subscription_available: None,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        };
        let code = ConnectReturnCode::Success;
        let connack = ConnAck { session_present: false, code, properties: Some(properties) };
        connack.write(&mut self.out).expect("room");
    }

    fn publish(&mut self, publish: &Publish) {
        let topic = String::from_utf8(publish.topic.to_vec()).expect("a topic");
        let says = publish.properties.clone().expect("an identity").user_properties;
        let message = Message { topic, payload: publish.payload.to_vec(), says };
        self.owed.push(publish.pkid);
        let Some(door) = &mut self.gateway else { return self.pending.push(message) };
        let (end, generation) = (self.durable.len() as u64, door.generation);
        let mut live = door.chain.live(Durable { end, generation, closed: false }).expect("known");
        let relayed = message.relayed(generation);
        match live.admit(&relayed.origin) {
            Verdict::Fresh { .. } => {
                live.accept(&relayed.origin);
                drop(live);
                self.pending.push(message);
            }
            Verdict::Duplicate => {}
            Verdict::Full => panic!("there are two routes"),
        }
    }
}

/// A connection, as long as it has the number of the peer's.
struct Connection {
    peer: Peer,
    number: u64,
}

impl Dial for Peer {
    type Wire = Connection;

    fn dial(&mut self) -> io::Result<Connection> {
        let mut inner = self.lock();
        inner.hang_up();
        let number = inner.connection;
        drop(inner);
        Ok(Connection { peer: self.clone(), number })
    }
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Wire for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.peer.lock();
        if inner.connection != self.number {
            return Err(broken());
        }
        let fault = inner.step();
        let reaches = match fault {
            None | Some(Fault::CutAfter | Fault::PeerCrash | Fault::PeerCrashCommitted) => bytes,
            Some(Fault::CutInside) => &bytes[..bytes.len() / 2],
            Some(_) => &[],
        };
        inner.inbuf.extend_from_slice(reaches);
        inner.take_packets();
        match fault {
            None => return Ok(()),
            Some(Fault::PeerCrash) => inner.crash(),
            Some(Fault::PeerCrashCommitted) => {
                inner.commit();
                inner.crash();
            }
            Some(Fault::CommitFails) => inner.commit_fails(),
            Some(_) => inner.hang_up(),
        }
        Err(broken())
    }

    fn read(&mut self, into: &mut BytesMut, wait_ms: u64) -> io::Result<()> {
        let mut inner = self.peer.lock();
        if inner.connection != self.number {
            return Err(broken());
        }
        match inner.step() {
            None => {
                inner.commit();
                let out = inner.out.split();
                if out.is_empty() {
                    inner.now_ms += wait_ms.max(1);
                }
                into.extend_from_slice(&out);
                return Ok(());
            }
            Some(Fault::CutAfter) => {
                inner.commit();
                inner.hang_up();
            }
            Some(Fault::PeerCrash) => inner.crash(),
            Some(Fault::PeerCrashCommitted) => {
                inner.commit();
                inner.crash();
            }
            Some(Fault::CommitFails) => inner.commit_fails(),
            Some(_) => inner.hang_up(),
        }
        Err(broken())
    }

    fn now_ms(&self) -> u64 {
        self.peer.lock().now_ms
    }
}

fn upstream(world: &World, peer: &Peer) -> Mqtt<Peer> {
    let config = MqttUpstream {
        host: "peer".into(),
        port: 1883,
        version: MqttVersion::V5,
        client_id: None,
        username: None,
        password: None,
        keep_alive_s: 30,
        tls: None,
        exactly_once: peer.lock().gateway.is_some(),
    };
    let identity = Identity { gateway: "g".into(), incarnation: "i".into() };
    let route = |route: &crate::config::RouteConfig| {
        let stream = world.streams.get(&route.stream).expect("configured");
        MqttRoute::new(&route.stream, "{topic}", false, "g", Names::of(stream))
    };
    let routes = World::routes().iter().map(route).collect();
    Mqtt::new(peer.clone(), "up", &config, &identity, routes)
}

/// Runs the route until the fault has come and all is there; what the peer has then.
fn run(base: &World, is_gateway: bool, fault: Option<(u64, Fault)>) -> (World, Peer) {
    let world = World { log: Arc::default(), ..base.clone() };
    let peer = Peer::new(is_gateway);
    peer.lock().fault = fault;
    let append = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            world.append(if number % 4 == 1 { "other" } else { "data" }, number);
        }
    };
    let clock = Clock::default();
    append(0..15);
    let (mut engine, _) = world.engine(POLICY, upstream(&world, &peer));
    for turn in 0..60 {
        if turn == 20 {
            append(15..22);
        }
        clock.run(&mut engine, 1);
        let crashed = peer.lock().crashed.take();
        if let Some(crash) = crashed {
            if crash == Fault::CrashMarksLost {
                world.log().marks.clear();
            }
            engine = world.engine(POLICY, upstream(&world, &peer)).0;
        }
    }
    append(22..25);
    clock.run(&mut engine, 60);
    (world, peer)
}

/// Of a stream, the offsets that the peer has, in its order.
fn offsets(peer: &Peer, stream: &str) -> Vec<u64> {
    let inner = peer.lock();
    let of = inner.durable.iter().filter(|message| message.said(property::STREAM) == stream);
    of.map(Message::offset).collect()
}

fn expected(world: &World, stream: &str) -> Vec<u64> {
    let mut all: Vec<u64> = world.expected(stream, 0).into_values().flatten().collect();
    all.sort_unstable();
    all
}

/// Each step that a run without a fault has, with each fault; and the run without one.
fn every_fault(is_gateway: bool, check: impl Fn(&str, &World, &Peer)) {
    let base = World::new();
    let (world, peer) = run(&base, is_gateway, None);
    check("no fault", &world, &peer);
    let steps = peer.lock().steps;
    assert!(steps > 20, "{steps} steps");
    for at in 1..=steps {
        for fault in FAULTS {
            let (world, peer) = run(&base, is_gateway, Some((at, fault)));
            check(&format!("{fault:?} at step {at}"), &world, &peer);
        }
    }
}

#[test]
fn nothing_is_lost_or_out_of_order_at_a_broker_and_copies_have_one_identity() {
    every_fault(false, |case, world, peer| {
        // A broker that crashes before it commits has acknowledged nothing of it.
        for stream in ["data", "other"] {
            let mut firsts = Vec::new();
            for offset in offsets(peer, stream) {
                if !firsts.contains(&offset) {
                    firsts.push(offset);
                }
            }
            assert_eq!(firsts, expected(world, stream), "{case}: {stream}");
        }
        let inner = peer.lock();
        for message in &inner.durable {
            let same = |other: &&Message| {
                other.offset() == message.offset()
                    && other.said(property::STREAM) == message.said(property::STREAM)
            };
            assert!(inner.durable.iter().filter(same).all(|other| other == message), "{case}");
        }
    });
}

#[test]
fn each_record_is_at_another_gateway_once_and_in_order_wherever_either_side_fails() {
    every_fault(true, |case, world, peer| {
        for stream in ["data", "other"] {
            assert_eq!(offsets(peer, stream), expected(world, stream), "{case}: {stream}");
        }
        for message in &peer.lock().durable {
            assert!(message.topic.starts_with(message.said(property::STREAM)), "{case}");
            assert_eq!(message.said(property::TIME), "5", "{case}: event time travels");
            assert!(message.topic.ends_with(message.said(property::KEY)), "{case}: the key too");
        }
    });
}

#[test]
fn a_journal_that_was_restored_from_an_older_copy_sends_nothing_over_the_newer_records() {
    let (world, peer) = run(&World::new(), true, None);
    let before = peer.lock().durable.len();
    {
        let mut log = world.log();
        log.records.truncate(5);
        log.marks.clear();
    }
    world.append("data", 99);
    let clock = Clock::default();
    let (mut engine, scores) = world.engine(POLICY, upstream(&world, &peer));
    clock.run(&mut engine, 60);
    assert_eq!(peer.lock().durable.len(), before);
    let error = scores.statuses(6).remove(0).last_error.expect("an alarm");
    assert!(error.contains("the journal was lost or is an older copy"), "{error}");
}
