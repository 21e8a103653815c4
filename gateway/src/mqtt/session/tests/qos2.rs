//! A client that retries, a journal that loses what was not synced, and a connection that breaks
//! anywhere: each message enters the log once.

use std::collections::VecDeque;
use std::sync::Arc;

use headwater_shared::envelope::{Envelope, Publish, Session as SessionRecord};
use proptest::prelude::*;

use super::{each_packet, session};
use crate::journal::{Durable, Record, Ticket};
use crate::mqtt::frame::{Outgoing, PUBCOMP, PUBREC, PUBREL, put_ack, read_ack, split};
use crate::mqtt::packet::{Fault, Packet, Version};
use crate::mqtt::session::{Action, Change, Session};
use crate::mqtt::state::MqttState;
use crate::projection::{Entry, Projection};

/// Few ids, so that they are used again and again.
const IDS: u16 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    ClientSends,
    ServerReads,
    Commit,
    Settle,
    ClientReads,
    /// The connection breaks; both sides lose what was under way.
    Break,
    /// The gateway dies: what was not synced is gone.
    Crash,
    /// The disk refuses a commit and the gateway lives.
    CommitFails,
}

const ALL: [Step; 8] = [
    Step::ClientSends,
    Step::ServerReads,
    Step::Commit,
    Step::Settle,
    Step::ClientReads,
    Step::Break,
    Step::Crash,
    Step::CommitFails,
];

/// A healthy round: what happens when nothing breaks.
const ROUND: [Step; 5] =
    [Step::ClientSends, Step::ServerReads, Step::Commit, Step::Settle, Step::ClientReads];

/// The client's side of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Publishing,
    Releasing,
}

struct Client {
    /// The number of the message, which is its payload.
    number: u8,
    count: u8,
    phase: Phase,
    sent: bool,
    tried: bool,
}

impl Client {
    fn id(&self) -> u16 {
        u16::from(self.number) % IDS + 1
    }

    fn done(&self) -> bool {
        self.number >= self.count
    }

    fn send(&mut self, wire: &mut Vec<u8>) {
        if self.done() || self.sent {
            return;
        }
        self.sent = true;
        match self.phase {
            Phase::Releasing => put_ack(wire, Version::V4, PUBREL, self.id(), 0),
            Phase::Publishing => {
                let outgoing = Outgoing {
                    dup: self.tried,
                    qos: 2,
                    retain: false,
                    topic: "t",
                    id: self.id(),
                    properties: &[],
                    payload: &[self.number],
                };
                outgoing.put(wire, Version::V4);
                self.tried = true;
            }
        }
    }

    fn receive(&mut self, kind: u8, id: u16) {
        if id != self.id() || self.done() {
            return;
        }
        match (kind, self.phase) {
            (PUBREC, Phase::Publishing) => {
                self.phase = Phase::Releasing;
                self.sent = false;
            }
            (PUBCOMP, Phase::Releasing) => {
                self.number += 1;
                self.phase = Phase::Publishing;
                self.sent = false;
                self.tried = false;
            }
            _ => {}
        }
    }
}

struct World {
    client: Client,
    session: Session,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    pending: VecDeque<Vec<u8>>,
    durable: Durable,
    log: Vec<u8>,
    projection: Box<dyn Projection>,
    state: Arc<MqttState>,
}

impl World {
    fn new(count: u8) -> Self {
        let state = Arc::new(MqttState::default());
        let mut world = Self {
            client: Client {
                number: 0,
                count,
                phase: Phase::Publishing,
                sent: false,
                tried: false,
            },
            session: session(Version::V4, true, super::Stored::default()),
            to_server: Vec::new(),
            to_client: Vec::new(),
            pending: VecDeque::new(),
            durable: Durable { end: 0, generation: 0, closed: false },
            log: Vec::new(),
            projection: state.projection(),
            state,
        };
        world.record(&Change::Begin { expiry_s: 60 });
        world.commit();
        world
    }

    fn append(&mut self, envelope: &Envelope<'_>) -> Ticket {
        let mut buffer = vec![0; envelope.size_max()];
        let value = envelope.encode(&mut buffer).expect("room").to_vec();
        let offset = self.durable.end + self.pending.len() as u64;
        self.pending.push_back(value);
        Ticket { offset, generation: self.durable.generation }
    }

    fn record(&mut self, change: &Change) -> Ticket {
        let change = change.encode();
        self.append(&Envelope::Session(SessionRecord { client: "c", change: &change }))
    }

    fn commit(&mut self) {
        for value in std::mem::take(&mut self.pending) {
            if let Ok(Envelope::Publish(publish)) = Envelope::decode(&value) {
                self.log.push(publish.payload[0]);
            }
            let (offset, value) = (self.durable.end, value.into());
            let key = bytes::Bytes::new();
            let record = Record { offset, partition: 0, time_ms: 0, key, value };
            self.projection.apply(&[Entry::of(&record)]);
            self.durable.end += 1;
        }
    }

    /// The client connects again and finds its session as the state has it.
    fn reconnect(&mut self) {
        self.to_server.clear();
        self.to_client.clear();
        self.client.sent = false;
        let stored = self.state.session("c").expect("the session lasts");
        self.session = session(Version::V4, true, stored);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::ClientSends => self.client.send(&mut self.to_server),
            Step::ServerReads => self.server_reads(),
            Step::Commit => self.commit(),
            Step::Settle => {
                if self.session.settle(&self.durable, &mut self.to_client).is_err() {
                    self.reconnect();
                }
            }
            Step::ClientReads => {
                let bytes = std::mem::take(&mut self.to_client);
                let mut rest = &bytes[..];
                while let Some(frame) = split(rest, 100).expect("our own bytes") {
                    let (id, _) = read_ack(&frame, Version::V4).expect("an acknowledgement");
                    self.client.receive(frame.kind, id);
                    rest = &rest[frame.whole.len()..];
                }
            }
            // The client id is free again only when all that was recorded is in the state.
            Step::Break => {
                self.commit();
                self.reconnect();
            }
            Step::Crash => {
                self.pending.clear();
                self.reconnect();
            }
            Step::CommitFails => {
                self.pending.clear();
                self.durable.generation += 1;
            }
        }
    }

    fn server_reads(&mut self) {
        let bytes = std::mem::take(&mut self.to_server);
        let left = each_packet(&bytes, Version::V4, |packet| self.serve(packet));
        assert_eq!(left, Ok(0), "the client sends whole packets");
    }

    fn serve(&mut self, packet: Packet<'_>) -> Result<(), Fault> {
        match self.session.packet(packet, &mut self.to_client)? {
            Action::Store(message) => {
                let ticket = self.append(&Envelope::Publish(Publish {
                    topic: &message.topic,
                    client: "c",
                    arrival_ms: 0,
                    qos: message.qos,
                    retain: false,
                    packet_id: Some(message.id),
                    properties: &[],
                    rejected: None,
                    payload: message.payload,
                }));
                self.session.stored(message.id, message.qos, ticket);
            }
            Action::Release(id) => {
                let ticket = self.record(&Change::Release(id));
                self.session.released(id, ticket);
            }
            other => assert_eq!(other, Action::Done),
        }
        Ok(())
    }

    /// Lets the client finish with nothing in its way.
    fn finish(mut self) -> Vec<u8> {
        for _ in 0..u32::from(self.client.count) * 2 + 4 {
            ROUND.into_iter().for_each(|step| self.step(step));
        }
        assert!(self.client.done(), "the client is never left without an answer");
        self.log
    }
}

fn expected(count: u8) -> Vec<u8> {
    (0..count).collect()
}

#[test]
fn a_message_of_qos_2_enters_once_whatever_breaks_at_whatever_step() {
    for fault in [Step::Break, Step::Crash, Step::CommitFails] {
        for at in 0..60 {
            for again_after in 0..12 {
                let mut world = World::new(5);
                let healthy = ROUND.into_iter().cycle();
                for (index, step) in healthy.take(60).enumerate() {
                    if index == at || index == at + again_after {
                        world.step(fault);
                    }
                    world.step(step);
                }
                assert_eq!(world.finish(), expected(5), "{fault:?} at {at}, {again_after}");
            }
        }
    }
}

proptest! {
    #[test]
    fn a_message_of_qos_2_enters_once_in_any_order_of_events(
        steps in proptest::collection::vec(0..ALL.len(), 0..200)
    ) {
        let mut world = World::new(6);
        for step in steps {
            world.step(ALL[step]);
        }
        prop_assert_eq!(world.finish(), expected(6));
    }
}

#[test]
fn an_answer_waits_for_its_record_and_for_the_answers_before_it() {
    let mut session = session(Version::V4, false, super::Stored::default());
    let mut out = Vec::new();
    session.stored(1, 1, Ticket { offset: 10, generation: 0 });
    session.stored(2, 2, Ticket { offset: 11, generation: 0 });
    session.stored(3, 1, Ticket { offset: 12, generation: 0 });
    let durable = |end| Durable { end, generation: 0, closed: false };
    assert_eq!(session.settle(&durable(10), &mut out), Ok(0));
    assert_eq!(session.settle(&durable(12), &mut out), Ok(2));
    assert_eq!(out, [0x40, 2, 0, 1, 0x50, 2, 0, 2]);
    let failed = Durable { end: 12, generation: 1, closed: false };
    assert_eq!(session.settle(&failed, &mut out), Err(super::super::Lost));
    assert_eq!(out.len(), 8, "nothing was promised for the third");
}
