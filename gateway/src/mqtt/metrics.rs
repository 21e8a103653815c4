//! What the front door counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::listen::Way;

/// A reason code of MQTT 5, as `0x81`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    reason: String,
}

/// How connections come in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WayLabel {
    way: &'static str,
}

/// Counters of the front door; clones share them.
#[derive(Clone, Debug, Default)]
pub struct MqttMetrics {
    /// Connections at the moment.
    pub connections: Gauge,
    /// Connections that were accepted with CONNACK.
    pub connects: Counter,
    /// Packets received behind CONNECT.
    pub packets: Counter,
    /// PUBLISH packets received.
    pub received: Counter,
    /// QoS 0 messages that were not taken: their client may not publish there, or they are too large.
    pub dropped: Counter,
    /// Acknowledgements and other answers that waited for the disk, sent.
    pub acknowledged: Counter,
    /// PUBLISH packets sent to subscribers.
    pub delivered: Counter,
    /// Messages whose time to live was over before a subscriber got them.
    pub expired: Counter,
    /// Messages that a subscriber did not get because it takes no packet of that size.
    pub too_large: Counter,
    /// Records that retention deleted or damage took before a subscriber had them.
    pub missed: Counter,
    /// Second copies of QoS 2 messages, dropped.
    pub duplicates: Counter,
    /// Wills published.
    pub wills: Counter,
    /// Connections ended because a commit failed under an acknowledgement.
    pub lost_commits: Counter,
    /// Logins refused unheard, for too many wrong ones from their address.
    pub logins_limited: Counter,
    /// Bytes read from clients.
    pub bytes_in: Counter,
    /// Bytes written to clients.
    pub bytes_out: Counter,
    highest: Arc<AtomicU64>,
    faults: Family<ReasonLabel, Counter<u64, AtomicU64>>,
    refused: Family<ReasonLabel, Counter<u64, AtomicU64>>,
    arrived: Family<WayLabel, Counter<u64, AtomicU64>>,
    unopened: Family<WayLabel, Counter<u64, AtomicU64>>,
}

impl MqttMetrics {
    /// Names the counters.
    pub fn register(&self, registry: &mut Registry) {
        let gauge = self.connections.clone();
        registry.register("mqtt_connections", "MQTT connections at the moment", gauge);
        let mut add =
            |name, help, counter: &Counter| registry.register(name, help, counter.clone());
        add("mqtt_connects", "Connections accepted", &self.connects);
        add("mqtt_packets", "Packets received behind CONNECT", &self.packets);
        add("mqtt_received", "PUBLISH packets received", &self.received);
        add("mqtt_dropped", "QoS 0 messages not allowed or too large", &self.dropped);
        add("mqtt_acknowledged", "Answers sent once their record was on disk", &self.acknowledged);
        add("mqtt_delivered", "PUBLISH packets sent to subscribers", &self.delivered);
        add("mqtt_expired", "Deliveries dropped for message expiry", &self.expired);
        add("mqtt_too_large", "Deliveries dropped for packet size", &self.too_large);
        add("mqtt_missed", "Records gone before a subscriber had them", &self.missed);
        add("mqtt_duplicates", "Second copies of QoS 2 messages dropped", &self.duplicates);
        add("mqtt_wills", "Wills published", &self.wills);
        add("mqtt_lost_commits", "Connections ended by a failed commit", &self.lost_commits);
        let limited = "Logins refused unheard after too many wrong ones";
        add("mqtt_logins_limited", limited, &self.logins_limited);
        add("mqtt_received_bytes", "Bytes read from clients", &self.bytes_in);
        add("mqtt_sent_bytes", "Bytes written to clients", &self.bytes_out);
        let faults = self.faults.clone();
        registry.register("mqtt_faults", "Connections ended for what the client did", faults);
        let refused = self.refused.clone();
        registry.register("mqtt_refused", "Connections refused with CONNACK", refused);
        let arrived = self.arrived.clone();
        registry.register("mqtt_arrived", "Sockets accepted, by their way in", arrived);
        let unopened = self.unopened.clone();
        registry.register("mqtt_unopened", "Sockets that failed before MQTT began", unopened);
    }

    /// A connection has entered its session.
    pub(crate) fn connected(&self) {
        let now = self.connections.inc() + 1;
        self.highest.fetch_max(u64::try_from(now).unwrap_or(0), Ordering::Relaxed);
    }

    /// The most connections there were at a time.
    pub(crate) fn connections_highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    pub(crate) fn fault(&self, reason: u8) {
        self.faults.get_or_create(&label(reason)).inc();
    }

    pub(crate) fn refuse(&self, reason: u8) {
        self.refused.get_or_create(&label(reason)).inc();
    }

    pub(crate) fn arrived(&self, way: Way) {
        self.arrived.get_or_create(&WayLabel { way: way.name() }).inc();
    }

    pub(crate) fn unopened(&self, way: Way) {
        self.unopened.get_or_create(&WayLabel { way: way.name() }).inc();
    }

    /// Sockets accepted and sockets that failed before MQTT began, on this way in.
    pub fn arrivals(&self, way: Way) -> (u64, u64) {
        let label = WayLabel { way: way.name() };
        let count = |family: &Family<WayLabel, Counter<u64, AtomicU64>>| {
            family.get(&label).map_or(0, |counter| counter.get())
        };
        (count(&self.arrived), count(&self.unopened))
    }

    /// Connections that were ended with this reason code for what the client did.
    pub fn faults(&self, reason: u8) -> u64 {
        self.faults.get(&label(reason)).map_or(0, |counter| counter.get())
    }
}

fn label(reason: u8) -> ReasonLabel {
    ReasonLabel { reason: format!("0x{reason:02X}") }
}
