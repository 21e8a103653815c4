//! The link: a TCP socket of embassy-net and minimq's MQTT 5 over it.
//!
//! What is published, when, and what an acknowledgement means is node-core's to say. A new minimq
//! session is made for each connection, so nothing is replayed by two layers: what was in flight is
//! still in the outbox.

use crate::SharedNode;
use embassy_futures::select::{Either3, select3};
use embassy_net::{IpEndpoint, Stack, tcp::TcpSocket};
use embassy_time::{Duration, Instant, Timer, with_timeout};
use embedded_storage::nor_flash::NorFlash;
use headwater_shared::{
    node::{self, TimeResponse},
    topic::{Subject, topic},
};
use heapless::{String, Vec};
use minimq::{
    Buffers, ConfigBuilder, Connection, InboundPublish, Op, Publication, QoS, Session, TopicFilter,
    Will,
};
use node_core::{Action, Event, PAYLOAD_BYTES_MAX, Publish, Ticket, WINDOW_MAX};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A write that the gateway does not take for this long ends the connection.
const TCP_TIMEOUT: Duration = Duration::from_secs(15);
const KEEP_ALIVE_S: u16 = 15;
/// The largest message that a gateway sends to a node: the answer to a time request.
const RX_BYTES: usize = 256;
/// Holds a window of blocks, each with its topic, and the largest single message beside them.
const TX_BYTES: usize = 6 * 600 + PAYLOAD_BYTES_MAX + 256;
const TCP_RX_BYTES: usize = 1024;
const TCP_TX_BYTES: usize = 4096;

/// Where the gateway listens, and who the node is to it.
#[derive(Clone, Copy)]
pub struct Gateway<'a> {
    /// Its address and port.
    pub endpoint: IpEndpoint,
    /// User name and password, if it wants them.
    pub login: Option<(&'a str, &'a str)>,
}

/// The memory of the link; lives in a static.
pub struct TalkBuffers {
    tcp_rx: [u8; TCP_RX_BYTES],
    tcp_tx: [u8; TCP_TX_BYTES],
    mqtt_rx: [u8; RX_BYTES],
    mqtt_tx: [u8; TX_BYTES],
    payload: [u8; PAYLOAD_BYTES_MAX],
    will: [u8; PAYLOAD_BYTES_MAX],
}

impl TalkBuffers {
    /// Zeros.
    pub const fn new() -> Self {
        Self {
            tcp_rx: [0; TCP_RX_BYTES],
            tcp_tx: [0; TCP_TX_BYTES],
            mqtt_rx: [0; RX_BYTES],
            mqtt_tx: [0; TX_BYTES],
            payload: [0; PAYLOAD_BYTES_MAX],
            will: [0; PAYLOAD_BYTES_MAX],
        }
    }
}

impl Default for TalkBuffers {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, defmt::Format)]
enum End {
    NoNetwork,
    NoTcp,
    NoMqtt,
    Lost,
    Refused,
    GivenUp,
}

/// Connects, publishes and listens as the node says, for as long as the board runs.
pub async fn talk<F: NorFlash>(
    node: &SharedNode<F>,
    stack: Stack<'_>,
    gateway: Gateway<'_>,
    buffers: &mut TalkBuffers,
) -> ! {
    loop {
        let action =
            node.with(|node, now_ms| match node.step(now_ms, false, &mut buffers.payload) {
                Action::Wait { until_ms } => Some(until_ms),
                Action::Connect => None,
                // Nothing else is asked for without a connection.
                Action::Disconnect | Action::Publish(_) => Some(now_ms),
            });
        match action {
            Some(until_ms) => Timer::at(Instant::from_millis(until_ms)).await,
            None => {
                let end = connection(node, stack, gateway, buffers).await;
                defmt::warn!("link down: {}", end);
                node.with(|node, now_ms| node.event(now_ms, Event::Disconnected));
            }
        }
    }
}

async fn connection<F: NorFlash>(
    node: &SharedNode<F>,
    stack: Stack<'_>,
    gateway: Gateway<'_>,
    buffers: &mut TalkBuffers,
) -> End {
    let TalkBuffers { tcp_rx, tcp_tx, mqtt_rx, mqtt_tx, payload, will } = buffers;
    if with_timeout(CONNECT_TIMEOUT, stack.wait_config_up()).await.is_err() {
        return End::NoNetwork;
    }
    let mut socket = TcpSocket::new(stack, tcp_rx, tcp_tx);
    socket.set_timeout(Some(TCP_TIMEOUT));
    if !matches!(with_timeout(CONNECT_TIMEOUT, socket.connect(gateway.endpoint)).await, Ok(Ok(())))
    {
        return End::NoTcp;
    }
    let (id, will) = node.with(|node, _| {
        let id: String<32> = node.id().try_into().expect("a node id is at most 32 bytes");
        (id, node.will(will))
    });
    let status_topic = topic(&id, Subject::Status).expect("the node id was checked at boot");
    let Some(config) = config(&id, &status_topic, will, gateway, Buffers::new(mqtt_rx, mqtt_tx))
    else {
        return End::NoMqtt;
    };
    let mut session = Session::new(config);
    match with_timeout(CONNECT_TIMEOUT, session.connect(socket)).await {
        Ok(Ok(link)) => Link { node, id: &id, link, in_flight: Vec::new() }.run(payload).await,
        Ok(Err(minimq::Error::Peer(_))) => End::Refused,
        _ => End::NoMqtt,
    }
}

fn config<'a>(
    id: &str,
    status_topic: &str,
    will: &'a [u8],
    gateway: Gateway<'a>,
    buffers: Buffers<'a>,
) -> Option<ConfigBuilder<'a>> {
    let will = Will::new(status_topic, will, &[]).ok()?.retained().qos(QoS::AtLeastOnce);
    let config = ConfigBuilder::new(buffers)
        .client_id(id)
        .ok()?
        .keepalive_interval(KEEP_ALIVE_S)
        .will(will)
        .ok()?;
    match gateway.login {
        Some((name, password)) => config.auth(name, password.as_bytes()).ok(),
        None => Some(config),
    }
}

struct Link<'a, 'l, 'b, F: NorFlash, IO: minimq::Io> {
    node: &'a SharedNode<F>,
    id: &'a str,
    link: Connection<'l, 'b, IO>,
    in_flight: Vec<(Op, Ticket), WINDOW_MAX>,
}

/// What came of waiting.
enum Woken {
    Time(TimeResponse),
    Nothing,
}

impl<F: NorFlash, IO: minimq::Io> Link<'_, '_, '_, F, IO> {
    async fn run(mut self, payload: &mut [u8; PAYLOAD_BYTES_MAX]) -> End {
        let reply = topic(self.id, Subject::TimeReply).expect("the node id was checked at boot");
        if self.link.subscribe(&[TopicFilter::new(&reply)], &[]).await.is_err() {
            return End::Lost;
        }
        self.event(Event::Connected);
        defmt::info!("link up");
        loop {
            self.acknowledge();
            let can_send = self.link.can_publish(QoS::AtLeastOnce) && !self.in_flight.is_full();
            let action = self.node.with(|node, now_ms| node.step(now_ms, can_send, payload));
            match action {
                Action::Publish(publish) => {
                    if let Err(end) = self.publish(&publish).await {
                        return end;
                    }
                }
                Action::Wait { until_ms } => match self.wait(until_ms, &reply).await {
                    Ok(Woken::Time(response)) => self.event(Event::Time(response)),
                    Ok(Woken::Nothing) => {}
                    Err(end) => return end,
                },
                Action::Connect | Action::Disconnect => return End::GivenUp,
            }
        }
    }

    fn event(&self, event: Event) {
        self.node.with(|node, now_ms| node.event(now_ms, event));
    }

    /// Passes on which messages the gateway has acknowledged since.
    fn acknowledge(&mut self) {
        let Self { node, link, in_flight, .. } = self;
        in_flight.retain(|(op, ticket)| {
            if !link.is_complete(op) {
                return true;
            }
            node.with(|node, now_ms| node.event(now_ms, Event::Acknowledged(*ticket)));
            false
        });
    }

    async fn publish(&mut self, publish: &Publish<'_>) -> Result<(), End> {
        let topic = topic(self.id, publish.subject).expect("the node id was checked at boot");
        let mut publication = Publication::bytes(&topic, publish.payload);
        if publish.ticket.is_some() {
            publication = publication.qos(QoS::AtLeastOnce);
        }
        if publish.retain {
            publication = publication.retain();
        }
        let op = self.link.publish(publication).await.map_err(|_| End::Lost)?;
        if let (Some(op), Some(ticket)) = (op, publish.ticket) {
            self.in_flight.push((op, ticket)).expect("can_send has looked for room");
        }
        Ok(())
    }

    /// Until the link has made progress, it is `until_ms`, or a block was sealed.
    async fn wait(&mut self, until_ms: u64, reply: &str) -> Result<Woken, End> {
        // embassy-time counts µs, and 2^63 of them are beyond any node's life.
        let until = Instant::from_millis(until_ms.min(u64::MAX / 2048));
        match select3(self.link.poll(), Timer::at(until), self.node.wait_sealed()).await {
            Either3::First(Ok(Some(message))) => Ok(time_in(&message, reply)),
            Either3::First(Ok(None)) | Either3::Second(()) | Either3::Third(()) => {
                Ok(Woken::Nothing)
            }
            Either3::First(Err(minimq::Error::Peer(_))) => Err(End::Refused),
            Either3::First(Err(_)) => Err(End::Lost),
        }
    }
}

fn time_in(message: &InboundPublish<'_>, reply: &str) -> Woken {
    if message.topic() != reply {
        return Woken::Nothing;
    }
    node::decode(message.payload()).map_or(Woken::Nothing, Woken::Time)
}
