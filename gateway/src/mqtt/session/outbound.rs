//! What goes out to a subscriber: which records are for it, in what form, and how many at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use headwater_shared::envelope::Publish;

use super::change::{InFlight, Position, Subscription, put};
use crate::mqtt::auth::Access;
use crate::mqtt::frame::Outgoing;
use crate::mqtt::packet::Version;
use crate::mqtt::properties;
use crate::stream::filter_matches;

/// QoS 1 messages on their way to one subscriber; fewer where its receive maximum says so.
pub(crate) const WINDOW_MAX: u16 = 128;

/// A position is worth a record of its own after this many records that were not for the session.
const POSITION_STRIDE: u64 = 100_000;

/// What became of a record that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Sent,
    /// It is for none of the subscriptions.
    NotForUs,
    /// Its time to live is over.
    Expired,
    /// The client takes no packet of this size.
    TooLarge,
    /// The window is full; offer it again after an acknowledgement.
    Full,
}

/// What the subscriber is, as CONNECT said.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    pub(crate) version: Version,
    pub(crate) client: Arc<str>,
    pub(crate) receive_maximum: u16,
    pub(crate) packet_bytes_max: u32,
    pub(crate) access: Arc<Access>,
}

/// The subscriptions of a session, its window and its position.
#[derive(Debug)]
pub(crate) struct Outbound {
    subscriber: Subscriber,
    subscriptions: Vec<Subscription>,
    window: VecDeque<InFlight>,
    window_max: usize,
    last_id: u16,
    next: u64,
    /// What was published before the client came back goes out at QoS 1 only.
    attached_at: u64,
    /// Position when it was last recorded, and whether something was sent since.
    recorded: (u64, bool),
    scratch: Vec<u8>,
}

impl Outbound {
    /// Starts at `position`; `end` is the end of the journal now.
    pub(crate) fn new(
        subscriber: Subscriber,
        subscriptions: Vec<Subscription>,
        position: Position,
        end: u64,
    ) -> Self {
        let window_max = usize::from(subscriber.receive_maximum.min(WINDOW_MAX));
        let last_id = position.in_flight.last().map_or(0, |entry| entry.id);
        Self {
            subscriber,
            subscriptions,
            window: position.in_flight.into(),
            window_max,
            last_id,
            next: position.next,
            attached_at: end,
            recorded: (position.next, false),
            scratch: Vec::new(),
        }
    }

    pub(crate) fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// Other rules from now on.
    pub(crate) fn set_access(&mut self, access: Arc<Access>) {
        self.subscriber.access = access;
    }

    /// The offset of the next record to offer.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Records below `offset` are not to be had, or not for this session.
    pub(crate) fn skip_to(&mut self, offset: u64) {
        self.next = self.next.max(offset);
    }

    /// A commit failed and its offsets are given anew from `end` on: what was to start behind it
    /// starts there.
    pub(crate) fn rewind(&mut self, end: u64) {
        self.next = self.next.min(end);
        for subscription in &mut self.subscriptions {
            subscription.since = subscription.since.min(end);
        }
    }

    /// How many QoS 1 messages may still go out.
    pub(crate) fn room(&self) -> usize {
        self.window_max.saturating_sub(self.window.len())
    }

    /// What a later connection needs to go on from here.
    pub(crate) fn position(&self) -> Position {
        Position { next: self.next, in_flight: self.window.iter().copied().collect() }
    }

    /// True if the position is worth a record.
    pub(crate) fn moved(&self) -> bool {
        self.recorded.1 || self.next.saturating_sub(self.recorded.0) > POSITION_STRIDE
    }

    pub(crate) fn position_recorded(&mut self) {
        self.recorded = (self.next, false);
    }

    /// Adds or replaces a subscription; true if there was none of this filter.
    pub(crate) fn subscribe(&mut self, subscription: Subscription) -> bool {
        if self.subscriptions.is_empty() {
            self.next = subscription.since;
        }
        put(&mut self.subscriptions, subscription)
    }

    /// True if there was such a subscription.
    pub(crate) fn unsubscribe(&mut self, filter: &str) -> bool {
        let before = self.subscriptions.len();
        self.subscriptions.retain(|s| s.filter != filter);
        self.subscriptions.len() < before
    }

    /// PUBACK. False for an id that was not in flight, which is no reason to do anything.
    pub(crate) fn acknowledged(&mut self, id: u16) -> bool {
        let Some(index) = self.window.iter().position(|entry| entry.id == id) else { return false };
        self.window.remove(index);
        self.recorded.1 = true;
        true
    }

    /// Offers the record at `offset`; unless the window is full, the position moves behind it.
    pub(crate) fn offer(
        &mut self,
        now_ms: i64,
        offset: u64,
        message: &Publish<'_>,
        out: &mut Vec<u8>,
    ) -> Offer {
        let offer = self.try_offer(now_ms, offset, message, out);
        if offer != Offer::Full {
            self.next = offset + 1;
        }
        offer
    }

    fn try_offer(
        &mut self,
        now_ms: i64,
        offset: u64,
        message: &Publish<'_>,
        out: &mut Vec<u8>,
    ) -> Offer {
        let mut granted = None;
        let mut retain = false;
        for subscription in self.matching(offset, message) {
            granted = granted.max(Some(subscription.qos));
            retain |= subscription.retain_as_published && message.retain;
        }
        let Some(granted) = granted else { return Offer::NotForUs };
        let qos = granted.min(message.qos);
        if (qos == 0 && offset < self.attached_at) || !self.may_receive(message) {
            return Offer::NotForUs;
        }
        self.scratch.clear();
        let mut scratch = std::mem::take(&mut self.scratch);
        let left = self.put_properties(now_ms, message, &mut scratch, |outbound| {
            outbound.matching(offset, message).filter_map(|s| s.identifier)
        });
        let offer = match left {
            Some(()) => self.send(offset, qos, retain, message, &scratch, out),
            None => Offer::Expired,
        };
        self.scratch = scratch;
        offer
    }

    /// Offers a retained message for the subscription of `filter`.
    pub(crate) fn offer_retained(
        &mut self,
        now_ms: i64,
        offset: u64,
        filter: &str,
        message: &Publish<'_>,
        out: &mut Vec<u8>,
    ) -> Offer {
        let Some(subscription) = self.subscriptions.iter().find(|s| s.filter == filter) else {
            return Offer::NotForUs;
        };
        let qos = subscription.qos.min(message.qos);
        let identifier = subscription.identifier;
        if !self.may_receive(message) {
            return Offer::NotForUs;
        }
        let mut properties = Vec::new();
        let left =
            self.put_properties(now_ms, message, &mut properties, |_| identifier.into_iter());
        match left {
            Some(()) => self.send(offset, qos, true, message, &properties, out),
            None => Offer::Expired,
        }
    }

    /// Sends again what was in flight when the last connection ended.
    pub(crate) fn send_again(
        &mut self,
        now_ms: i64,
        entry: InFlight,
        message: &Publish<'_>,
        out: &mut Vec<u8>,
    ) -> Offer {
        let mut properties = Vec::new();
        let left = self.put_properties(now_ms, message, &mut properties, |outbound| {
            outbound.matching(u64::MAX, message).filter_map(|s| s.identifier)
        });
        if left.is_none() || !self.may_receive(message) {
            self.forget(entry.id);
            return Offer::Expired;
        }
        let outgoing = Outgoing {
            dup: true,
            qos: 1,
            retain: false,
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

    /// Gives up an id whose record is no longer to be had.
    pub(crate) fn forget(&mut self, id: u16) {
        self.window.retain(|entry| entry.id != id);
    }

    fn matching<'a>(
        &'a self,
        offset: u64,
        message: &'a Publish<'a>,
    ) -> impl Iterator<Item = &'a Subscription> {
        let ours = message.client == &*self.subscriber.client;
        self.subscriptions.iter().filter(move |s| {
            s.since <= offset && !(s.no_local && ours) && filter_matches(&s.filter, message.topic)
        })
    }

    fn may_receive(&self, message: &Publish<'_>) -> bool {
        self.subscriber.access.may_receive(message.topic)
    }

    fn packet_bytes_max(&self) -> usize {
        usize::try_from(self.subscriber.packet_bytes_max).unwrap_or(usize::MAX)
    }

    /// Writes the properties for this subscriber; none if the message has expired.
    fn put_properties<'a, I: Iterator<Item = u32>>(
        &'a self,
        now_ms: i64,
        message: &Publish<'_>,
        properties: &mut Vec<u8>,
        identifiers: impl FnOnce(&'a Self) -> I,
    ) -> Option<()> {
        let mut left_s = None;
        if !message.properties.is_empty()
            && let Some(expiry_s) = properties::expiry_s(message.properties)
        {
            let age_ms = now_ms.saturating_sub(message.arrival_ms).max(0);
            let age_s = u32::try_from(age_ms / 1000).unwrap_or(u32::MAX);
            left_s = Some(expiry_s.checked_sub(age_s).filter(|left_s| *left_s > 0)?);
        }
        if self.subscriber.version == Version::V5 {
            properties::put_delivery(properties, message.properties, left_s, identifiers(self));
        }
        Some(())
    }

    fn send(
        &mut self,
        offset: u64,
        qos: u8,
        retain: bool,
        message: &Publish<'_>,
        properties: &[u8],
        out: &mut Vec<u8>,
    ) -> Offer {
        // In flight there is nothing but QoS 0 and 1: more than 1 is never granted.
        debug_assert!(qos <= 1, "a subscription was granted more than QoS 1");
        let mut outgoing = Outgoing {
            dup: false,
            qos,
            retain,
            topic: message.topic,
            id: 0,
            properties,
            payload: message.payload,
        };
        if outgoing.size(self.subscriber.version) > self.packet_bytes_max() {
            return Offer::TooLarge;
        }
        if qos > 0 {
            if self.room() == 0 {
                return Offer::Full;
            }
            outgoing.id = self.fresh_id();
            self.window.push_back(InFlight { offset, id: outgoing.id });
        }
        self.recorded.1 = true;
        outgoing.put(out, self.subscriber.version);
        Offer::Sent
    }

    /// The window is far smaller than the 65,535 ids, so there is always a free one.
    fn fresh_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let id = self.last_id;
            if id != 0 && self.window.iter().all(|entry| entry.id != id) {
                return id;
            }
        }
    }
}
