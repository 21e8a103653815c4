//! A subscriber that answers in its own time, a journal that loses what was not synced, and a
//! connection that breaks anywhere: each message of QoS 2 reaches the subscriber once, in order.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use headwater_shared::envelope::{Envelope, Publish, Session as SessionRecord};
use proptest::prelude::*;

use super::{each_packet, session};
use crate::journal::{Durable, Record, Ticket};
use crate::mqtt::frame::{
    PUBCOMP, PUBLISH, PUBREC, PUBREL, put_ack, read_ack, read_publish, split,
};
use crate::mqtt::packet::{Fault, Packet, Version};
use crate::mqtt::session::{Action, Change, InFlight, Offer, Phase, Session, Subscription};
use crate::mqtt::state::MqttState;
use crate::projection::{self, Projection};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    ServerSends,
    ClientReads,
    ServerReads,
    Commit,
    Settle,
    /// The position is recorded, as it is every few seconds.
    Save,
    /// The connection breaks; both sides lose what was under way, the server records where it is.
    Break,
    /// The gateway dies: what was not synced is gone.
    Crash,
    /// The disk refuses a commit and the gateway lives.
    CommitFails,
}

const ALL: [Step; 9] = [
    Step::ServerSends,
    Step::ClientReads,
    Step::ServerReads,
    Step::Commit,
    Step::Settle,
    Step::Save,
    Step::Break,
    Step::Crash,
    Step::CommitFails,
];

/// A healthy round: what happens when nothing breaks.
const ROUND: [Step; 5] =
    [Step::ServerSends, Step::ClientReads, Step::ServerReads, Step::Commit, Step::Settle];

/// What a record of the journal is to the subscriber.
enum Entry {
    Message(u8),
    Other,
}

struct World {
    log: Vec<Entry>,
    pending: VecDeque<Change>,
    durable: Durable,
    projection: Box<dyn Projection>,
    state: Arc<MqttState>,
    session: Session,
    again: VecDeque<InFlight>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// The client's session: ids it has received and that were not released.
    unreleased: BTreeSet<u16>,
    delivered: Vec<u8>,
}

impl World {
    fn new(count: u8) -> Self {
        let state = Arc::new(MqttState::default());
        let mut world = Self {
            log: Vec::new(),
            pending: VecDeque::new(),
            durable: Durable { end: 0, generation: 0, closed: false },
            projection: state.projection(),
            state,
            session: session(Version::V4, true, super::Stored::default()),
            again: VecDeque::new(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            unreleased: BTreeSet::new(),
            delivered: Vec::new(),
        };
        let subscription = Subscription {
            filter: "t".to_owned(),
            qos: 2,
            no_local: false,
            retain_as_published: false,
            identifier: None,
            since: 0,
        };
        world.record(Change::Begin { expiry_s: 60 });
        world.record(Change::Subscribe(vec![subscription]));
        world.commit();
        for number in 0..count {
            world.log.push(Entry::Message(number));
        }
        world.durable.end = world.log.len() as u64;
        world.reconnect();
        world
    }

    fn record(&mut self, change: Change) -> Ticket {
        let offset = self.durable.end + self.pending.len() as u64;
        self.pending.push_back(change);
        Ticket { offset, generation: self.durable.generation }
    }

    fn commit(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            let change = change.encode();
            let envelope = Envelope::Session(SessionRecord { client: "c", change: &change });
            let mut buffer = vec![0; envelope.size_max()];
            let value = envelope.encode(&mut buffer).expect("room").to_vec().into();
            let (offset, key) = (self.durable.end, bytes::Bytes::new());
            let record = Record { offset, partition: 0, time_ms: 0, key, value };
            self.projection.apply(&[projection::Entry::of(&record)]);
            self.log.push(Entry::Other);
            self.durable.end += 1;
        }
    }

    /// The client connects again and finds its session as the state has it.
    fn reconnect(&mut self) {
        self.to_server.clear();
        self.to_client.clear();
        let stored = self.state.session("c").expect("the session lasts");
        self.session = session(Version::V4, true, stored);
        self.again = self.session.outbound.again().into();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::ServerSends => self.server_sends(),
            Step::ClientReads => self.client_reads(),
            Step::ServerReads => {
                let bytes = std::mem::take(&mut self.to_server);
                let left = each_packet(&bytes, Version::V4, |packet| self.serve(packet));
                assert_eq!(left, Ok(0), "the client sends whole packets");
            }
            Step::Commit => self.commit(),
            Step::Settle => {
                if self.session.settle(&self.durable, &mut self.to_client).is_err() {
                    self.reconnect();
                }
            }
            Step::Save => {
                let position = self.session.outbound.position();
                self.record(Change::Reached(position));
            }
            Step::Break => {
                let position = self.session.outbound.position();
                self.record(Change::Detach { at_ms: 0, expiry_s: 60, position });
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

    /// As the deliverer does: what was in flight first, then the log from the position.
    fn server_sends(&mut self) {
        while let Some(entry) = self.again.pop_front() {
            if entry.phase == Phase::Released {
                self.session.outbound.release_again(entry.id, &mut self.to_client);
                continue;
            }
            let number = [self.number_at(entry.offset).expect("in flight are messages")];
            let outbound = &mut self.session.outbound;
            outbound.send_again(0, entry, &message(&number), &mut self.to_client);
        }
        while self.session.outbound.next() < self.durable.end {
            let offset = self.session.outbound.next();
            let Some(number) = self.number_at(offset) else {
                self.session.outbound.skip_to(offset + 1);
                continue;
            };
            let number = [number];
            let offer =
                self.session.outbound.offer(0, offset, &message(&number), &mut self.to_client);
            if offer == Offer::Full {
                return;
            }
        }
    }

    fn number_at(&self, offset: u64) -> Option<u8> {
        match self.log[usize::try_from(offset).expect("few")] {
            Entry::Message(number) => Some(number),
            Entry::Other => None,
        }
    }

    /// A client that hands a message on when it first sees its id (4.3.3, method B).
    fn client_reads(&mut self) {
        let bytes = std::mem::take(&mut self.to_client);
        let mut rest = &bytes[..];
        while let Some(frame) = split(rest, 100).expect("our own bytes") {
            if frame.kind == PUBLISH {
                let publish = read_publish(&frame, Version::V4).expect("our own bytes");
                if self.unreleased.insert(publish.id) {
                    self.delivered.push(publish.payload[0]);
                }
                put_ack(&mut self.to_server, Version::V4, PUBREC, publish.id, 0);
            } else {
                assert_eq!(frame.kind, PUBREL);
                let (id, _) = read_ack(&frame, Version::V4).expect("an acknowledgement");
                self.unreleased.remove(&id);
                put_ack(&mut self.to_server, Version::V4, PUBCOMP, id, 0);
            }
            rest = &rest[frame.whole.len()..];
        }
    }

    fn serve(&mut self, packet: Packet<'_>) -> Result<(), Fault> {
        match self.session.packet(packet, &mut self.to_client)? {
            Action::Received { id, offset } => {
                let ticket = self.record(Change::Received(offset));
                self.session.received(id, ticket);
            }
            other => assert_eq!(other, Action::Done),
        }
        Ok(())
    }

    /// Lets everything come to rest.
    fn finish(mut self, count: u8) -> Vec<u8> {
        for _ in 0..u32::from(count) * 3 + 6 {
            ROUND.into_iter().for_each(|step| self.step(step));
        }
        assert!(self.unreleased.is_empty(), "the client is never left with an open id");
        assert_eq!(self.session.outbound.again(), [], "nor the server");
        self.delivered
    }
}

fn message(number: &[u8]) -> Publish<'_> {
    Publish {
        topic: "t",
        client: "other",
        arrival_ms: 0,
        qos: 2,
        retain: false,
        packet_id: None,
        properties: &[],
        rejected: None,
        payload: number,
    }
}

fn expected(count: u8) -> Vec<u8> {
    (0..count).collect()
}

#[test]
fn a_message_of_qos_2_arrives_once_whatever_breaks_at_whatever_step() {
    for fault in [Step::Break, Step::Crash, Step::CommitFails, Step::Save] {
        for again in [Step::Break, Step::Crash, Step::CommitFails] {
            for at in 0..40 {
                for after in 0..10 {
                    let mut world = World::new(5);
                    for (index, step) in ROUND.into_iter().cycle().take(40).enumerate() {
                        if index == at {
                            world.step(fault);
                        }
                        if index == at + after {
                            world.step(again);
                        }
                        world.step(step);
                    }
                    let what = format!("{fault:?} at {at}, {again:?} {after} later");
                    assert_eq!(world.finish(5), expected(5), "{what}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn a_message_of_qos_2_arrives_once_in_any_order_of_events(
        steps in proptest::collection::vec(0..ALL.len(), 0..200)
    ) {
        let mut world = World::new(6);
        for step in steps {
            world.step(ALL[step]);
        }
        prop_assert_eq!(world.finish(6), expected(6));
    }
}
