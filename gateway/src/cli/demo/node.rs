//! A node as the firmware runs it, on a simulated chip and flash in memory, with rumqttc as its
//! link. Sampling is a task of its own, so it does not slip while the link is down.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use headwater_shared::block::BlockDecoder;
use headwater_shared::node::decode;
use headwater_shared::topic::{Subject, topic};
use node_core::sim_chip::SimChip;
use node_core::{
    Action, ChannelConfig, Event, Node, NodeConfig, PAYLOAD_BYTES_MAX, Publish, SCALE, Sampler,
    SealPolicy, Sensor, SessionPolicy, Ticket,
};
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet};
use rumqttc::v5::{AsyncClient, Event as Mqtt, MqttOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::flash::Flash;

/// Messages between node and link; more than the node's window.
const QUEUE: usize = 32;

/// What a node did.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub(super) readings: u64,
    pub(super) acknowledged: u64,
    pub(super) blocks: u64,
    pub(super) block_bytes: u64,
}

impl Sent {
    pub(super) fn add(&mut self, other: &Self) {
        self.readings += other.readings;
        self.acknowledged += other.acknowledged;
        self.blocks += other.blocks;
        self.block_bytes += other.block_bytes;
    }
}

/// One simulated node.
pub(super) struct SimulatedNode {
    number: u32,
    gateway: SocketAddr,
    start: Instant,
    node: Node<Flash>,
    link: Option<Link>,
    sent: Sent,
}

/// A connection, or the attempt at one.
struct Link {
    client: AsyncClient,
    events: mpsc::Receiver<Option<Mqtt>>,
    /// Tickets of publishes that rumqttc has not given a packet id yet, in order, with what
    /// their acknowledgement will count.
    queued: VecDeque<(Option<Ticket>, Sent)>,
    in_flight: BTreeMap<u16, (Ticket, Sent)>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SimulatedNode {
    pub(super) fn new(number: u32, gateway: SocketAddr) -> Self {
        let id = format!("node-{:02}", number + 1);
        let channel = |name, unit| ChannelConfig { name, unit, scale: SCALE };
        let config = NodeConfig {
            id: &id,
            firmware: concat!("headwater-demo ", env!("CARGO_PKG_VERSION")),
            period_ms: PERIOD_MS,
            channels: &[channel("temperature", "°C"), channel("humidity", "%RH")],
            seal: SealPolicy { readings_max: 32, age_ms_max: 1_000 },
            session: SessionPolicy::default(),
        };
        let node = Node::boot(Flash::erased(), 0..Flash::SIZE, &config, number)
            .expect("the demo's nodes keep the rules of the wire, and memory does not fail");
        let sent = Sent::default();
        Self { number, gateway, start: Instant::now(), node, link: None, sent }
    }

    fn now_ms(&self) -> u64 {
        millis(self.start)
    }

    /// Samples until told to stop, and ends when the last block is acknowledged.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Sent {
        let (sender, mut readings) = mpsc::channel(QUEUE);
        tokio::spawn(sample(self.number, self.start, stop.clone(), sender));
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        loop {
            let wake_ms = self.act(&mut payload).await;
            let stopping = *stop.borrow();
            if stopping && readings.is_empty() && readings.is_closed() {
                self.node.reading_failed(self.now_ms());
                if self.node.unsealed() == 0 && self.node.blocks_waiting() == 0 {
                    return self.sent;
                }
            }
            let wake = self.start + Duration::from_millis(wake_ms.min(self.now_ms() + 100));
            tokio::select! {
                reading = readings.recv(), if !readings.is_closed() || !readings.is_empty() => {
                    if let Some((time_ms, values)) = reading {
                        self.node.sample(time_ms, &values).expect("two channels, two values");
                        self.sent.readings += 1;
                    }
                }
                event = next_event(&mut self.link) => self.take(event),
                () = sleep_until(wake.into()) => {}
                _ = stop.changed(), if !stopping => {}
            }
        }
    }

    /// Does what the node says until it says wait; returns until when.
    async fn act(&mut self, payload: &mut [u8; PAYLOAD_BYTES_MAX]) -> u64 {
        loop {
            let now_ms = self.now_ms();
            let can_send = self.link.as_ref().is_some_and(|link| link.queued.len() < QUEUE / 2);
            match self.node.step(now_ms, can_send, payload) {
                Action::Wait { until_ms } => return until_ms,
                Action::Connect => self.connect(),
                Action::Disconnect => self.link = None,
                Action::Publish(publish) => {
                    let topic = topic(self.node.id(), publish.subject);
                    let topic = topic.expect("the node's id was checked at boot").to_string();
                    if let Some(link) = &mut self.link {
                        link.publish(topic, &publish).await;
                    }
                }
            }
        }
    }

    fn connect(&mut self) {
        let id = self.node.id().to_owned();
        let mut options = MqttOptions::new(&id, self.gateway.ip().to_string(), self.gateway.port());
        options.set_clean_start(true).set_keep_alive(Duration::from_secs(20));
        let mut will = [0; PAYLOAD_BYTES_MAX];
        let will = self.node.will(&mut will).to_vec();
        let status = topic(&id, Subject::Status).expect("the id was checked").to_string();
        options.set_last_will(LastWill::new(status, will, QoS::AtLeastOnce, true, None));
        let (client, mut events) = AsyncClient::new(options, QUEUE);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let task = tokio::spawn(async move {
            loop {
                let event = events.poll().await.ok();
                let ended = event.is_none();
                if sender.send(event).await.is_err() || ended {
                    return;
                }
            }
        });
        let (queued, in_flight) = (VecDeque::new(), BTreeMap::new());
        self.link = Some(Link { client, events: receiver, queued, in_flight, task });
    }

    /// `None`: the link is down.
    fn take(&mut self, event: Option<Mqtt>) {
        let now_ms = self.now_ms();
        let Some(link) = &mut self.link else { return };
        match event {
            None => {
                self.link = None;
                self.node.event(now_ms, Event::Disconnected);
            }
            Some(Mqtt::Incoming(Packet::ConnAck(_))) => {
                let reply = topic(self.node.id(), Subject::TimeReply).expect("the id was checked");
                // A full queue would be the node's own window: it cannot be.
                drop(link.client.try_subscribe(reply.to_string(), QoS::AtMostOnce));
                self.node.event(now_ms, Event::Connected);
            }
            Some(Mqtt::Outgoing(Outgoing::Publish(id))) => {
                if let Some((Some(ticket), block)) = link.queued.pop_front() {
                    link.in_flight.insert(id, (ticket, block));
                }
            }
            Some(Mqtt::Incoming(Packet::PubAck(ack))) => {
                if let Some((ticket, block)) = link.in_flight.remove(&ack.pkid) {
                    self.sent.add(&block);
                    self.node.event(now_ms, Event::Acknowledged(ticket));
                }
            }
            Some(Mqtt::Incoming(Packet::Publish(publish))) => {
                if let Ok(reply) = decode(&publish.payload) {
                    self.node.event(now_ms, Event::Time(reply));
                }
            }
            Some(_) => {}
        }
    }
}

impl Link {
    async fn publish(&mut self, topic: String, publish: &Publish<'_>) {
        let qos = if publish.ticket.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let mut block = Sent::default();
        if publish.subject == Subject::Blocks
            && let Ok(decoder) = BlockDecoder::new(publish.payload)
        {
            block.acknowledged = u64::from(decoder.header().count);
            block.blocks = 1;
            block.block_bytes = publish.payload.len() as u64;
        }
        self.queued.push_back((publish.ticket, block));
        // A link that is down answers with its own event, and the node sends again.
        drop(self.client.publish(topic, qos, publish.retain, publish.payload.to_vec()).await);
    }
}

/// The next event of the link; never without one.
async fn next_event(link: &mut Option<Link>) -> Option<Mqtt> {
    match link {
        Some(link) => link.events.recv().await.flatten(),
        None => std::future::pending().await,
    }
}

fn millis(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

const PERIOD_MS: NonZeroU32 = NonZeroU32::new(super::PERIOD_MS).expect("a period is not 0");

/// Reads the chip on the node's schedule.
async fn sample(
    number: u32,
    start: Instant,
    stop: watch::Receiver<bool>,
    readings: mpsc::Sender<(u64, [i64; 2])>,
) {
    let clock = move || u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut sensor = Sensor::new(SimChip::new(world(number), clock), Delay);
    let mut sampler = Sampler::new(millis(start), PERIOD_MS);
    while !*stop.borrow() {
        sleep_until((start + Duration::from_millis(sampler.due_ms())).into()).await;
        let Some(time_ms) = sampler.take(millis(start)) else { continue };
        if let Ok(climate) = sensor.read().await
            && readings.send((time_ms, climate.values())).await.is_err()
        {
            return;
        }
    }
}

/// A day of a room in a minute, in 0.01 °C and 0.01 %RH; each node's room is a little different.
fn world(number: u32) -> impl Iterator<Item = (i32, i32)> {
    (0_u32..).map(move |step| {
        let phase = f64::from(step) / 600.0 * std::f64::consts::TAU + f64::from(number);
        let draught = f64::from(step.wrapping_mul(2_654_435_761) >> 24) / 255.0 - 0.5;
        let temperature = 21.5 + 3.0 * phase.sin() + 0.2 * draught;
        let humidity = 45.0 - 6.0 * phase.sin() + 0.5 * draught;
        (centi(temperature), centi(humidity))
    })
}

#[expect(clippy::cast_possible_truncation, reason = "a climate is far from the limits of i32")]
fn centi(value: f64) -> i32 {
    (value * 100.0).round() as i32
}

/// Waits as the runtime does.
struct Delay;

impl embedded_hal_async::delay::DelayNs for Delay {
    async fn delay_ns(&mut self, ns: u32) {
        tokio::time::sleep(Duration::from_nanos(ns.into())).await;
    }
}
