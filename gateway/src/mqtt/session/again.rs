//! What was in flight when the last connection ended goes out once more.

use headwater_shared::envelope::Publish;

use super::outbound::{Offer, Outbound, left_s};
use super::position::{InFlight, Phase};
use crate::mqtt::frame::{self, Outgoing};
use crate::mqtt::packet::reason;

impl Outbound {
    /// True if one more message may be sent again: what an earlier connection has left keeps to the
    /// receive maximum of this one too [MQTT-3.3.4-9].
    pub(crate) fn may_send_again(&self) -> bool {
        self.window.may_send_again()
    }

    /// Sends again what was in flight when the last connection ended, unless the client has
    /// acknowledged it since.
    pub(crate) fn send_again(
        &mut self,
        now_ms: i64,
        entry: InFlight,
        message: &Publish<'_>,
        out: &mut Vec<u8>,
    ) -> Offer {
        if !self.window.mark_sent(entry.id) {
            return Offer::NotForUs;
        }
        // Of QoS 2 the client may have a part: what was sent does not expire [MQTT-4.3.3-7].
        let qos = if entry.phase == Phase::Once { 1 } else { 2 };
        let left_s = match left_s(now_ms, message) {
            Some(0) if qos == 1 => None,
            left_s => Some(left_s.map(|left_s| left_s.max(1))),
        };
        let Some(left_s) = left_s.filter(|_| self.may_receive(message)) else {
            self.forget(entry.id);
            return Offer::Expired;
        };
        let mut identifiers = Vec::new();
        self.filters.matches(message.topic, |number| {
            identifiers.extend(self.subscriptions[number as usize].identifier);
        });
        let mut properties = Vec::new();
        self.put_properties(left_s, message, &mut properties, &identifiers);
        let outgoing = Outgoing {
            dup: true,
            qos,
            retain: entry.retain,
            topic: message.topic,
            id: entry.id,
            properties: &properties,
            payload: message.payload,
        };
        if outgoing.size(self.subscriber.version) > self.packet_bytes_max() {
            self.forget(entry.id);
            return Offer::TooLarge;
        }
        outgoing.put(out, self.subscriber.version);
        Offer::Sent
    }

    /// Sends PUBREL again for a message that the client has received.
    pub(crate) fn release_again(&mut self, id: u16, out: &mut Vec<u8>) {
        if self.window.mark_sent(id) {
            frame::put_ack(out, self.subscriber.version, frame::PUBREL, id, reason::SUCCESS);
        }
    }
}
