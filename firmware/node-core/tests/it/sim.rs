//! A node, its flash, a link and a gateway, in simulated time.

use crate::{gateway::Gateway, nor::Nor};
use headwater_shared::{node::decode, topic::Subject};
use node_core::{
    Action, ChannelConfig, Event, Node, NodeConfig, PAYLOAD_BYTES_MAX, Sampler, SealPolicy,
    SessionPolicy, Ticket,
};
use std::{collections::VecDeque, num::NonZeroU32};

pub const PERIOD_MS: u32 = 25;
const LATENCY_MS: u64 = 7;
const FLASH_PAGES: usize = 16;
const SENDABLE_MAX: usize = 8;

/// What the gateway hears of the node, and the node of the gateway.
enum Message {
    Publish { subject: Subject, ticket: Option<Ticket>, payload: Vec<u8> },
    Acknowledge(Ticket),
    Time(Vec<u8>),
}

/// One start of the node, as the test knows it.
pub struct Boot {
    pub epoch: u32,
    /// When it started, by the simulation's clock.
    pub started_ms: u64,
    pub values: Vec<[i64; 2]>,
    /// Readings that only RAM held when it ended.
    pub unsealed: u16,
}

pub struct Sim {
    pub now_ms: u64,
    pub flash: Nor,
    pub gateway: Gateway,
    pub boots: Vec<Boot>,
    pub node: Option<Node<Nor>>,
    sampler: Sampler,
    /// False: nothing gets through, and the node is told after a while.
    pub link_works: bool,
    /// The gateway's answers are lost while this is set.
    pub loses_answers: bool,
    connected: bool,
    connects_at_ms: Option<u64>,
    told_at_ms: Option<u64>,
    in_flight: usize,
    /// Counts connections, so that what an old one still carries is told apart.
    connection: u64,
    to_gateway: VecDeque<(u64, u64, Message)>,
    to_node: VecDeque<(u64, Message)>,
}

pub fn config() -> NodeConfig<'static> {
    NodeConfig {
        id: "pump-7",
        firmware: "test 1",
        period_ms: NonZeroU32::new(PERIOD_MS).expect("not 0"),
        channels: &[
            ChannelConfig { name: "temperature", unit: "°C", scale: 2 },
            ChannelConfig { name: "humidity", unit: "%RH", scale: 2 },
        ],
        seal: SealPolicy { readings_max: 40, age_ms_max: 5_000 },
        session: SessionPolicy { ack_ms_max: 4_000, ..SessionPolicy::default() },
    }
}

impl Sim {
    pub fn new() -> Self {
        Self::with_flash(FLASH_PAGES)
    }

    pub fn with_flash(pages: usize) -> Self {
        let mut sim = Self {
            now_ms: 0,
            flash: Nor::new(pages),
            gateway: Gateway::new(),
            boots: Vec::new(),
            node: None,
            sampler: Sampler::new(0, NonZeroU32::MIN),
            link_works: true,
            loses_answers: false,
            connected: false,
            connects_at_ms: None,
            told_at_ms: None,
            in_flight: 0,
            connection: 0,
            to_gateway: VecDeque::new(),
            to_node: VecDeque::new(),
        };
        sim.boot();
        sim
    }

    /// Cuts the node's power, and gives it back.
    pub fn reset(&mut self) {
        self.drop_node();
        self.flash.power_up();
        self.boot();
    }

    /// As [`Self::reset`], and the power goes again at this operation of the start, if it gets there.
    pub fn reset_twice(&mut self, operations: u64) {
        self.drop_node();
        self.flash.power_up();
        self.flash.cut_after(operations);
        self.boot();
    }

    fn drop_node(&mut self) {
        if let (Some(node), Some(boot)) = (self.node.take(), self.boots.last_mut()) {
            boot.unsealed = node.unsealed();
        }
        self.connected = false;
        (self.connects_at_ms, self.told_at_ms) = (None, None);
        self.to_node.clear();
        self.in_flight = 0;
    }

    fn boot(&mut self) {
        let size = self.flash.size();
        let Ok(node) = Node::boot(self.flash.clone(), 0..size, &config(), 77) else {
            assert!(self.flash.is_dead(), "only a power cut keeps a node from starting");
            return self.reset();
        };
        let (epoch, started_ms) = (node.boot_epoch(), self.now_ms);
        self.boots.push(Boot { epoch, started_ms, values: Vec::new(), unsealed: 0 });
        self.sampler = Sampler::new(0, config().period_ms);
        self.node = Some(node);
    }

    /// Ends the connection, if there is one; the node hears of it later, if ever.
    pub fn cut_connection(&mut self) {
        if !self.connected {
            return;
        }
        self.connected = false;
        self.to_gateway.clear();
        self.to_node.clear();
        self.told_at_ms = Some(self.now_ms + 30);
    }

    pub fn run_ms(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.tick();
            self.now_ms += 1;
        }
    }

    /// Runs until the gateway has all that was sealed.
    pub fn drain(&mut self) {
        (self.link_works, self.loses_answers) = (true, false);
        for _ in 0..600 {
            self.run_ms(100);
            if self.node.as_ref().is_some_and(|node| node.blocks_waiting() == 0) {
                return;
            }
        }
        panic!("after a minute of a good link blocks still wait");
    }

    fn uptime_ms(&self) -> u64 {
        self.now_ms - self.boots.last().map_or(0, |boot| boot.started_ms)
    }

    fn tick(&mut self) {
        self.sample();
        self.carry_to_gateway();
        self.carry_to_node();
        self.connect();
        self.act();
        if self.flash.is_dead() {
            self.reset();
        }
    }

    fn sample(&mut self) {
        let uptime_ms = self.uptime_ms();
        let (Some(node), Some(boot)) = (&mut self.node, self.boots.last_mut()) else { return };
        if let Some(time_ms) = self.sampler.take(uptime_ms) {
            let values = reading(boot.epoch, boot.values.len());
            boot.values.push(values);
            node.sample(time_ms, &values).expect("two channels");
        }
    }

    fn carry_to_gateway(&mut self) {
        while self.to_gateway.front().is_some_and(|(at_ms, ..)| *at_ms <= self.now_ms) {
            let Some((_, connection, Message::Publish { subject, ticket, payload })) =
                self.to_gateway.pop_front()
            else {
                continue;
            };
            // The gateway closes an old connection when the node comes by a new one.
            if connection != self.connection {
                continue;
            }
            let answer = self.gateway.take(self.now_ms, subject, &payload);
            if self.loses_answers || !self.connected {
                continue;
            }
            let at_ms = self.now_ms + LATENCY_MS;
            self.to_node.extend(answer.map(|bytes| (at_ms, Message::Time(bytes))));
            self.to_node.extend(ticket.map(|ticket| (at_ms, Message::Acknowledge(ticket))));
        }
    }

    fn carry_to_node(&mut self) {
        let uptime_ms = self.uptime_ms();
        while self.to_node.front().is_some_and(|(at_ms, _)| *at_ms <= self.now_ms) {
            let (Some((_, message)), Some(node)) = (self.to_node.pop_front(), &mut self.node)
            else {
                return;
            };
            match message {
                Message::Acknowledge(ticket) => {
                    self.in_flight -= 1;
                    node.event(uptime_ms, Event::Acknowledged(ticket));
                }
                Message::Time(bytes) => {
                    node.event(uptime_ms, Event::Time(decode(&bytes).expect("a time response")));
                }
                Message::Publish { .. } => panic!("the gateway publishes no blocks"),
            }
        }
    }

    fn connect(&mut self) {
        let uptime_ms = self.uptime_ms();
        let Some(node) = &mut self.node else { return };
        if self.told_at_ms.take_if(|at_ms| *at_ms <= self.now_ms).is_some() {
            self.in_flight = 0;
            node.event(uptime_ms, Event::Disconnected);
        }
        if self.connects_at_ms.take_if(|at_ms| *at_ms <= self.now_ms).is_some() {
            self.connected = self.link_works;
            self.in_flight = 0;
            if self.connected {
                self.connection += 1;
                self.gateway.connected();
            }
            let event = if self.connected { Event::Connected } else { Event::Disconnected };
            node.event(uptime_ms, event);
        }
    }

    fn act(&mut self) {
        let uptime_ms = self.uptime_ms();
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        let Some(node) = &mut self.node else { return };
        loop {
            match node.step(uptime_ms, self.in_flight < SENDABLE_MAX, &mut payload) {
                Action::Wait { until_ms } => {
                    assert!(until_ms > uptime_ms, "a wait for what has passed");
                    return;
                }
                Action::Connect => self.connects_at_ms = Some(self.now_ms + LATENCY_MS),
                Action::Disconnect => {
                    self.connected = false;
                    self.to_gateway.clear();
                    self.to_node.clear();
                    self.told_at_ms = None;
                }
                Action::Publish(publish) => {
                    self.in_flight += usize::from(publish.ticket.is_some());
                    let message = Message::Publish {
                        subject: publish.subject,
                        ticket: publish.ticket,
                        payload: publish.payload.to_vec(),
                    };
                    if self.connected && self.link_works {
                        let at_ms = self.now_ms + LATENCY_MS;
                        self.to_gateway.push_back((at_ms, self.connection, message));
                    }
                }
            }
        }
    }

    /// Every reading of every boot is at the gateway but the last ones, which only RAM held:
    /// at most those unsealed, and `in_seal` more where the power went while a block was stored.
    pub fn check_all_delivered(&self, in_seal: usize) {
        for (index, boot) in self.boots.iter().enumerate() {
            let rows = self.gateway.rows(boot.epoch);
            let is_last = index + 1 == self.boots.len();
            let unsealed = match (&self.node, is_last) {
                (Some(node), true) => node.unsealed(),
                _ => boot.unsealed,
            };
            let sealed = boot.values.len() - usize::from(unsealed);
            let in_seal = if is_last { 0 } else { in_seal };
            assert!(
                rows.len() <= sealed && rows.len() + in_seal >= sealed,
                "boot {}: {} of {sealed} sealed readings came",
                boot.epoch,
                rows.len()
            );
            for (number, (sample, (_, values))) in rows.iter().enumerate() {
                assert_eq!(*sample as usize, number, "boot {}: a hole", boot.epoch);
                assert_eq!(values[..], boot.values[number], "boot {}: {number}", boot.epoch);
            }
        }
    }
}

/// The reading number `sample` of a boot: a walk, so that blocks compress as real ones do.
fn reading(epoch: u32, sample: usize) -> [i64; 2] {
    let mix =
        (u64::from(epoch) * 1_000_003 + sample as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
    [2000 + (sample as i64 / 7) + (mix as i64 & 7), 4500 - (sample as i64 % 100) * 3]
}
