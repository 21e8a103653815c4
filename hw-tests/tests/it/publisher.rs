//! A publisher that knows what it was promised, and when. What breaks its connection does not stop
//! it: it comes back to its session and sends again what was not acknowledged, as MQTT asks.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::wire::{PubRel, Publish, QoS, Received, Wire};

/// Messages that wait for their acknowledgement at most.
const WINDOW: usize = 8;

/// Packet ids that are used, again and again.
const IDS: u16 = 100;

/// Fill of a message at most, in bytes.
const FILL_MAX: u32 = 6_000;

/// A message, and when what happened to it, in ticks of the test's clock.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    id: u16,
    pub(crate) sent: u64,
    /// PUBREC: the gateway has it, and never forgets.
    received: Option<u64>,
    /// PUBACK or PUBCOMP.
    done: Option<u64>,
}

impl Message {
    /// When it was promised to be kept.
    pub(crate) fn promised(&self) -> Option<u64> {
        self.received.or(self.done)
    }
}

/// What a publisher does, and with whom.
pub(crate) struct Task<'a> {
    /// Where the gateway is at the moment.
    pub(crate) address: &'a (dyn Fn() -> Option<SocketAddr> + Sync),
    pub(crate) clock: &'a (dyn Fn() -> u64 + Sync),
    /// Whether another message is to be sent, when there are so many.
    pub(crate) more: &'a (dyn Fn(usize) -> bool + Sync),
    /// Whether now.
    pub(crate) due: &'a (dyn Fn(usize) -> bool + Sync),
    /// Gives up then.
    pub(crate) until: Instant,
}

/// What a publisher writes to.
#[derive(Clone, Debug)]
enum Subject {
    Topic(String),
    /// Keys of a state stream below a topic, each half as often as the one before: `topic/key/number`.
    Keys(String),
}

/// The key of the message `number`, of a publisher of keys.
pub(crate) fn key_of(number: usize) -> u32 {
    (number + 1).trailing_zeros()
}

/// Whether the message `number` deletes its key: each third of a key does.
pub(crate) fn deletes(number: usize) -> bool {
    ((number + 1) >> (key_of(number) + 1)) % 3 == 2
}

#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    pub(crate) client: String,
    pub(crate) qos: QoS,
    subject: Subject,
    /// By number.
    pub(crate) messages: Vec<Message>,
    in_flight: BTreeMap<u16, usize>,
    last_id: u16,
    /// Since when its session is promised to be there.
    session: Option<u64>,
    /// Connections that found no session though it was promised.
    pub(crate) sessions_lost: usize,
}

impl Publisher {
    pub(crate) fn new(client: &str, qos: QoS, topic: &str) -> Self {
        Self::of(client, qos, Subject::Topic(topic.to_owned()))
    }

    /// Sets and deletes keys below `topic`, some of them often.
    pub(crate) fn of_keys(client: &str, qos: QoS, topic: &str) -> Self {
        Self::of(client, qos, Subject::Keys(topic.to_owned()))
    }

    fn of(client: &str, qos: QoS, subject: Subject) -> Self {
        Self {
            client: client.to_owned(),
            qos,
            subject,
            messages: Vec::new(),
            in_flight: BTreeMap::new(),
            last_id: 0,
            session: None,
            sessions_lost: 0,
        }
    }

    /// What it knew at `moment`.
    pub(crate) fn at(&self, moment: u64) -> Self {
        let by_then = |time: Option<u64>| time.filter(|time| *time <= moment);
        let messages: Vec<Message> = self
            .messages
            .iter()
            .take_while(|message| message.sent <= moment)
            .map(|message| Message {
                received: by_then(message.received),
                done: by_then(message.done),
                ..message.clone()
            })
            .collect();
        let in_flight = messages
            .iter()
            .enumerate()
            .filter(|(_, message)| message.done.is_none())
            .map(|(number, message)| (message.id, number))
            .collect();
        let last_id = messages.last().map_or(0, |message| message.id);
        Self {
            messages,
            in_flight,
            last_id,
            session: by_then(self.session),
            sessions_lost: 0,
            ..self.clone()
        }
    }

    /// All that it sent is acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Publishes until no more may be sent and all is acknowledged, or time is up.
    pub(crate) fn run(&mut self, task: &Task<'_>) {
        while Instant::now() < task.until && (!self.is_done() || (task.more)(self.messages.len())) {
            let connected = (task.address)().map(|address| self.converse(address, task));
            if !matches!(connected, Some(Ok(()))) {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn converse(&mut self, address: SocketAddr, task: &Task<'_>) -> io::Result<()> {
        let (mut wire, present) = Wire::connect(address, &self.client)?;
        self.sessions_lost += usize::from(self.session.is_some() && !present);
        self.session.get_or_insert((task.clock)());
        let again: Vec<Received> =
            self.in_flight.iter().map(|(id, number)| self.again(*id, *number)).collect();
        wire.send(&again)?;
        while Instant::now() < task.until {
            let mut fresh = Vec::new();
            let mut more = (task.more)(self.messages.len());
            while more && self.in_flight.len() < WINDOW && (task.due)(self.messages.len()) {
                fresh.push(self.next((task.clock)()));
                more = (task.more)(self.messages.len());
            }
            if self.is_done() && !more {
                return Ok(());
            }
            wire.send(&fresh)?;
            if let Some(packet) = wire.receive()? {
                self.take(&packet, (task.clock)(), &mut wire)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, packet: &Received, now: u64, wire: &mut Wire) -> io::Result<()> {
        match packet {
            Received::PubAck(ack) => self.settle(ack.pkid, now),
            Received::PubComp(ack) => self.settle(ack.pkid, now),
            Received::PubRec(ack) => {
                if let Some(number) = self.in_flight.get(&ack.pkid) {
                    self.messages[*number].received.get_or_insert(now);
                }
                wire.send(&[Received::PubRel(PubRel::new(ack.pkid))])?;
            }
            _ => {}
        }
        Ok(())
    }

    fn settle(&mut self, id: u16, now: u64) {
        if let Some(number) = self.in_flight.remove(&id) {
            self.messages[number].done = Some(now);
        }
    }

    fn next(&mut self, now: u64) -> Received {
        let number = self.messages.len();
        let id = (0..IDS)
            .map(|step| (self.last_id + step) % IDS + 1)
            .find(|id| !self.in_flight.contains_key(id))
            .expect("there are more ids than messages in flight");
        self.last_id = id;
        self.in_flight.insert(id, number);
        self.messages.push(Message { id, sent: now, received: None, done: None });
        self.publish(id, number, false)
    }

    fn again(&self, id: u16, number: usize) -> Received {
        if self.messages[number].received.is_some() {
            Received::PubRel(PubRel::new(id))
        } else {
            self.publish(id, number, true)
        }
    }

    fn publish(&self, id: u16, number: usize, dup: bool) -> Received {
        let (topic, payload, retain) = match &self.subject {
            // Each tenth is retained, so that the table of retained messages changes all the time.
            Subject::Topic(topic) => {
                (topic.clone(), self.payload(number), number.is_multiple_of(10))
            }
            Subject::Keys(topic) => {
                let payload = if deletes(number) { String::new() } else { self.payload(number) };
                (format!("{topic}/{}/{number}", key_of(number)), payload, false)
            }
        };
        let mut publish = Publish::new(topic, self.qos, payload);
        publish.pkid = id;
        publish.dup = dup;
        publish.retain = retain;
        Received::Publish(publish)
    }

    fn payload(&self, number: usize) -> String {
        let fill =
            "x".repeat((number as u32).wrapping_mul(2_654_435_761) as usize % FILL_MAX as usize);
        format!("{{\"from\":\"{}\",\"n\":{number},\"fill\":\"{fill}\"}}", self.client)
    }
}

/// Who published this payload, and its number there.
pub(crate) fn identity(payload: &[u8]) -> Option<(String, usize)> {
    let json: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let number = usize::try_from(json["n"].as_u64()?).ok()?;
    Some((json["from"].as_str()?.to_owned(), number))
}
