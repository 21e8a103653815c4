//! A gateway of a test's own, and clients that say what they are told to.

use std::collections::VecDeque;
use std::time::Duration;

use super::answer::{Answer, ConnAck, Message};
use super::packet::{
    Connect, DISCONNECT, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Publish, QOS1, QOS2, SUBACK,
    UNSUBACK, Version, ack, subscribe, unsubscribe,
};
use crate::door::Door;
use crate::raw::Raw;

/// Long enough that what is on its way would have come.
const SILENCE: Duration = Duration::from_millis(150);

/// A directory in memory, where there is one: hundreds of gateways are opened, and what a disk does
/// is for other tests.
fn directory() -> std::io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

/// A front door over a new data directory.
pub(crate) struct Gateway {
    pub(crate) door: Door,
    _dir: tempfile::TempDir,
}

impl Gateway {
    pub(crate) fn open() -> Self {
        Self::with("")
    }

    /// With more configuration, behind `[mqtt]`.
    pub(crate) fn with(extra: &str) -> Self {
        let dir = directory().expect("a directory");
        Self { door: Door::open(dir.path(), extra), _dir: dir }
    }

    pub(crate) async fn close(self) {
        self.door.close().await;
    }

    /// Sends CONNECT; what comes back is up to the test.
    pub(crate) async fn dial(&self, version: Version, connect: &[u8]) -> Client {
        let mut raw = Raw::open(self.door.address).await;
        raw.send(connect).await;
        Client { raw, version, last_id: 0, early: VecDeque::new() }
    }

    /// Sends CONNECT and reads CONNACK.
    pub(crate) async fn connect(&self, connect: &Connect) -> (Client, ConnAck) {
        let mut client = self.dial(connect.version, &connect.bytes()).await;
        let answer = client.next().await;
        (client, ConnAck::read(connect.version, &answer))
    }

    /// A client that was let in.
    pub(crate) async fn enter(&self, connect: &Connect) -> Client {
        let (client, connack) = self.connect(connect).await;
        assert_eq!(connack.code, 0, "{connack:?}");
        client
    }

    /// A client with a clean session.
    pub(crate) async fn join(&self, version: Version, name: &str) -> Client {
        self.enter(&Connect::new(version, name)).await
    }

    /// CONNECT is not answered: the socket just closes.
    pub(crate) async fn hangs_up(&self, version: Version, connect: &[u8]) {
        self.dial(version, connect).await.closed().await;
    }

    /// CONNECT is refused with this code of its version, and the socket closes.
    pub(crate) async fn refuses(&self, connect: &Connect, code: u8) {
        let (mut client, connack) = self.connect(connect).await;
        assert_eq!((connack.flags, connack.code), (0, code), "{connect:?}");
        client.closed().await;
    }

    /// CONNECT breaks the format: 3.1.1 is not answered, 5 is told this code.
    pub(crate) async fn rejects(&self, connect: &Connect, code: u8) {
        match connect.version {
            Version::V3 => self.hangs_up(Version::V3, &connect.bytes()).await,
            Version::V5 => self.refuses(connect, code).await,
        }
    }
}

/// A client.
pub(crate) struct Client {
    raw: Raw,
    pub(crate) version: Version,
    last_id: u16,
    /// Messages that came while an answer was waited for.
    early: VecDeque<Vec<u8>>,
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.raw.send(bytes).await;
    }

    async fn packet(&mut self) -> Option<Vec<u8>> {
        match self.early.pop_front() {
            Some(packet) => Some(packet),
            None => self.raw.packet().await,
        }
    }

    /// The next packet.
    pub(crate) async fn next(&mut self) -> Answer {
        Answer::read(&self.packet().await.expect("a packet, but the door closed"))
    }

    /// The next packet that is no message. Messages are free to come before an answer; they are
    /// the next ones after it.
    async fn reply(&mut self) -> Answer {
        loop {
            let packet = self.raw.packet().await.expect("an answer, but the door closed");
            if packet[0] >> 4 != PUBLISH {
                return Answer::read(&packet);
            }
            self.early.push_back(packet);
        }
    }

    /// The next packet is exactly this.
    pub(crate) async fn expect(&mut self, bytes: &[u8]) {
        let packet = self.packet().await;
        assert_eq!(packet.as_deref(), Some(bytes));
    }

    /// The next packet is a message.
    pub(crate) async fn message(&mut self) -> Message {
        let answer = self.next().await;
        Message::read(self.version, &answer)
    }

    /// The next packet is a message, which is acknowledged as its QoS asks.
    pub(crate) async fn take(&mut self) -> Message {
        let message = self.message().await;
        match message.qos {
            0 => {}
            1 => self.send(&ack(PUBACK, message.id)).await,
            _ => {
                self.send(&ack(PUBREC, message.id)).await;
                self.expect(&ack(PUBREL, message.id)).await;
                self.send(&ack(PUBCOMP, message.id)).await;
            }
        }
        message
    }

    /// The socket closes without another word.
    pub(crate) async fn closed(&mut self) {
        assert_eq!(self.packet().await, None, "nothing more was to come");
    }

    /// The gateway ends the connection: 5 is told this reason, 3.1.1 is told nothing.
    pub(crate) async fn ended(&mut self, reason: u8) {
        if self.version == Version::V5 {
            let answer = self.next().await;
            assert_eq!((answer.first, answer.body.first()), (DISCONNECT << 4, Some(&reason)));
        }
        self.closed().await;
    }

    /// Sends what breaks the protocol; the gateway ends the connection.
    pub(crate) async fn breaks(mut self, bytes: &[u8], reason: u8) {
        self.send(bytes).await;
        self.ended(reason).await;
    }

    /// Sends a last word; the gateway closes the connection without one.
    pub(crate) async fn breaks_off(mut self, bytes: &[u8]) {
        self.send(bytes).await;
        self.closed().await;
    }

    /// Nothing comes for a while.
    pub(crate) async fn silent(&mut self) {
        let packet = tokio::time::timeout(SILENCE, self.packet()).await;
        assert!(packet.is_err(), "nothing was to come, but {packet:?}");
    }

    /// The gateway still serves this client, and nothing else comes first.
    pub(crate) async fn ping(&mut self) {
        self.send(&[0xC0, 0]).await;
        self.expect(&[0xD0, 0]).await;
    }

    pub(crate) fn fresh_id(&mut self) -> u16 {
        self.last_id += 1;
        self.last_id
    }

    /// Subscribes; returns the code.
    pub(crate) async fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(&[], &[(filter, options)]).await[0]
    }

    /// Subscribes with properties to several filters; returns the codes.
    pub(crate) async fn subscribe_with(
        &mut self,
        properties: &[Vec<u8>],
        filters: &[(&str, u8)],
    ) -> Vec<u8> {
        let id = self.fresh_id();
        self.send(&subscribe(self.version, id, properties, filters)).await;
        let answer = self.reply().await;
        assert_eq!((answer.first, answer.id()), (SUBACK << 4, id), "{answer:?}");
        answer.codes(self.version)
    }

    /// Unsubscribes; returns the codes, none in 3.1.1.
    pub(crate) async fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let id = self.fresh_id();
        self.send(&unsubscribe(self.version, id, filters)).await;
        let answer = self.reply().await;
        assert_eq!((answer.first, answer.id()), (UNSUBACK << 4, id), "{answer:?}");
        answer.codes(self.version)
    }

    /// Publishes, and completes the exchange that the QoS asks for.
    pub(crate) async fn publish(&mut self, flags: u8, topic: &str, payload: &str) {
        self.publish_with(Publish::new(flags, topic, 0, payload)).await;
    }

    /// As [`Client::publish`], with an id of the client's own.
    pub(crate) async fn publish_with(&mut self, mut publish: Publish) {
        publish.id = self.fresh_id();
        let id = publish.id;
        self.send(&publish.bytes(self.version)).await;
        match publish.flags & (QOS1 | QOS2) {
            0 => {}
            QOS1 => self.replied(PUBACK, id).await,
            _ => {
                self.replied(PUBREC, id).await;
                self.send(&ack(PUBREL, id)).await;
                self.replied(PUBCOMP, id).await;
            }
        }
    }

    async fn replied(&mut self, kind: u8, id: u16) {
        let answer = self.reply().await;
        assert_eq!((answer.kind(), answer.id(), answer.reason()), (kind, id, 0), "{answer:?}");
    }

    /// Nothing more has come for this client than the test has read: the next message that
    /// `publisher` sends is the next to arrive.
    pub(crate) async fn has_all(&mut self, publisher: &mut Self) {
        self.subscribe("the/end", 0).await;
        publisher.publish(QOS1, "the/end", "end").await;
        let message = self.message().await;
        assert_eq!(message.topic, "the/end", "nothing was to come, but {message:?}");
    }

    /// Says goodbye, and sees the socket close.
    pub(crate) async fn leave(mut self) {
        self.send(&[0xE0, 0]).await;
        self.closed().await;
    }
}
