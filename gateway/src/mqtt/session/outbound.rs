//! What goes out to a subscriber: which records are for it, in what form, and how many at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_shared::envelope::Publish;

use super::aliases::Aliases;
use super::change::{Subscription, put};
use super::position::{Entry, InFlight, Phase, Position, Received, Window, id_of};
use super::stored::Stored;
use crate::mqtt::auth::Access;
use crate::mqtt::frame::{self, Outgoing};
use crate::mqtt::lookout;
use crate::mqtt::packet::{Fault, Version, reason};
use crate::mqtt::properties;
use crate::mqtt::share;
use crate::mqtt::sys;
use crate::mqtt::trie::TopicTrie;

/// QoS 1 and 2 messages on their way to one subscriber; fewer where its receive maximum says so.
pub(crate) const WINDOW_MAX: u16 = 128;

/// A position is worth a record of its own after this many records that were not for the session.
const POSITION_STRIDE: u64 = lookout::STRIDE;

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
    /// Topic aliases that the client takes.
    pub(crate) alias_max: u16,
    /// The session outlives the connection.
    pub(crate) lasts: bool,
    pub(crate) access: Arc<Access>,
}

/// A message of a shared subscription whose exchange is over: the subscription, and the offset.
pub(crate) type Done = (Arc<str>, u64);

/// The subscriptions of a session, its window and its position.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(super) subscriber: Subscriber,
    pub(super) subscriptions: Vec<Subscription>,
    /// The filters of those that are not shared, with their place in `subscriptions`.
    pub(super) filters: TopicTrie,
    pub(super) window: Window,
    /// Offsets at or behind `next` of which the client has said that it has them.
    received: BTreeSet<u64>,
    aliases: Aliases,
    next: u64,
    /// What was published before the client came back goes out at QoS 1 and 2 only.
    attached_at: u64,
    /// Position when it was last recorded, and whether something was sent since.
    recorded: (u64, bool),
    done: Vec<Done>,
    properties: Vec<u8>,
    matching: Vec<u32>,
}

impl Outbound {
    /// Goes on from `stored`; `end` is the end of the journal now.
    pub(crate) fn new(subscriber: Subscriber, stored: Stored, end: u64) -> Self {
        let next = stored.position.next;
        let window_max = usize::from(subscriber.receive_maximum.min(WINDOW_MAX));
        let window = Window::new(stored.position, &stored.received, window_max);
        let aliases = Aliases::new(subscriber.alias_max);
        let mut outbound = Self {
            subscriber,
            subscriptions: stored.subscriptions,
            filters: TopicTrie::default(),
            window,
            received: stored.received.range(next..).copied().collect(),
            aliases,
            next,
            attached_at: end,
            recorded: (next, false),
            done: Vec::new(),
            properties: Vec::new(),
            matching: Vec::new(),
        };
        outbound.index();
        outbound
    }

    fn index(&mut self) {
        self.filters = TopicTrie::default();
        for (number, subscription) in (0_u32..).zip(&self.subscriptions) {
            if !share::is_shared(&subscription.filter) {
                self.filters.insert(&subscription.filter, number);
            }
        }
    }

    /// True if the log is read for this session alone.
    pub(crate) fn has_own(&self) -> bool {
        self.own_filters().next().is_some()
    }

    /// The filters for which the log is read for this session alone.
    pub(crate) fn own_filters(&self) -> impl Iterator<Item = &str> {
        let filters = self.subscriptions.iter().map(|s| s.filter.as_str());
        filters.filter(|filter| is_own(filter))
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

    /// How many QoS 1 and 2 messages may still go out.
    pub(crate) fn room(&self) -> usize {
        self.window.room()
    }

    /// True if `$SYS` topics are wanted.
    pub(crate) fn wants_figures(&self) -> bool {
        self.subscriptions.iter().any(|s| sys::is_sys(&s.filter))
    }

    /// What is in flight, oldest first.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = &Entry> {
        self.window.entries()
    }

    /// What is in flight and has to be sent again in a new connection, oldest first.
    pub(crate) fn again(&self) -> Vec<InFlight> {
        self.window.entries().map(|entry| entry.flight).collect()
    }

    /// What a later connection needs to go on from here. What a shared subscription gave at QoS 1
    /// is for its other members then; of QoS 2 the client may have a part [MQTT-4.8.2-4].
    pub(crate) fn position(&self) -> Position {
        let stays = |entry: &&Entry| entry.share.is_none() || entry.flight.phase != Phase::Once;
        let in_flight = self.window.entries().filter(stays).map(|entry| entry.flight).collect();
        Position { next: self.next, in_flight }
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
        let new = put(&mut self.subscriptions, subscription);
        if new && let Some(added) = self.subscriptions.last() {
            let number = u32::try_from(self.subscriptions.len() - 1).expect("at most 1000");
            if !share::is_shared(&added.filter) {
                self.filters.insert(&added.filter, number);
            }
        }
        new
    }

    /// True if there was such a subscription.
    pub(crate) fn unsubscribe(&mut self, filter: &str) -> bool {
        let before = self.subscriptions.len();
        self.subscriptions.retain(|s| s.filter != filter);
        let existed = self.subscriptions.len() < before;
        if existed {
            self.index();
        }
        existed
    }

    /// Looks at the kind of an answer, before it is taken.
    ///
    /// # Errors
    /// The message went out in this connection at a QoS, or is in a state, that has another answer.
    pub(crate) fn examine(&self, id: u16, answers: &[Phase]) -> Result<(), Fault> {
        if self.window.contradicts(id, answers) {
            return Err(Fault::protocol(format!("not the answer that packet id {id} waits for")));
        }
        Ok(())
    }

    /// PUBACK. An id that was not in flight is no reason to do anything.
    pub(crate) fn acknowledged(&mut self, id: u16) {
        let entry = self.window.acknowledged(id);
        self.over(entry);
    }

    /// PUBREC with its reason code. A client that refuses the message ends its exchange; of one
    /// that takes it that is to be recorded before PUBREL goes out.
    pub(crate) fn received(&mut self, id: u16, code: u8) -> Option<Received> {
        if code >= reason::UNSPECIFIED {
            let entry = self.window.refused(id);
            self.over(entry);
            return None;
        }
        Some(self.window.received(id))
    }

    /// PUBCOMP.
    pub(crate) fn completed(&mut self, id: u16) {
        let entry = self.window.completed(id);
        self.over(entry);
    }

    /// Gives up an id whose record is no longer to be had.
    pub(crate) fn forget(&mut self, id: u16) {
        let entry = self.window.forget(id);
        self.over(entry);
    }

    fn over(&mut self, entry: Option<Entry>) {
        let Some(entry) = entry else { return };
        self.recorded.1 = true;
        if let Some(share) = entry.share {
            self.done.push((share, entry.flight.offset));
        }
    }

    /// Messages of shared subscriptions whose exchange is over since the last call.
    pub(crate) fn take_done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
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
        if self.received.contains(&offset) {
            return self.release_known(offset, out);
        }
        let mut matching = std::mem::take(&mut self.matching);
        matching.clear();
        self.filters.matches(message.topic, |number| matching.push(number));
        let ours = message.client == &*self.subscriber.client;
        let subscription = |number: &u32| &self.subscriptions[*number as usize];
        matching.retain(|number| {
            let subscription = subscription(number);
            subscription.since <= offset && !(subscription.no_local && ours)
        });
        let granted = matching.iter().map(|number| subscription(number).qos).max();
        let retain = message.retain
            && matching.iter().any(|number| subscription(number).retain_as_published);
        let identifiers = matching.iter().filter_map(|number| subscription(number).identifier);
        let offer = match granted.map(|granted| granted.min(message.qos)) {
            None => Offer::NotForUs,
            Some(0) if offset < self.attached_at => Offer::NotForUs,
            Some(qos) => {
                let identifiers: Vec<u32> = identifiers.collect();
                let how = How { offset, qos, retain, identifiers: &identifiers, share: None };
                self.send(now_ms, &how, message, out)
            }
        };
        self.matching = matching;
        offer
    }

    /// The client had this message before the gateway died, so its exchange goes on from there.
    fn release_known(&mut self, offset: u64, out: &mut Vec<u8>) -> Offer {
        let flight = InFlight::new(offset, Phase::Released, false);
        let Some(id) = self.window.admit(flight, None) else { return Offer::Full };
        self.received.remove(&offset);
        frame::put_ack(out, self.subscriber.version, frame::PUBREL, id, reason::SUCCESS);
        Offer::NotForUs
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
        if subscription.no_local && message.client == &*self.subscriber.client {
            return Offer::NotForUs;
        }
        let qos = subscription.qos.min(message.qos);
        let identifiers = subscription.identifier;
        let how =
            How { offset, qos, retain: true, identifiers: identifiers.as_slice(), share: None };
        self.send(now_ms, &how, message, out)
    }

    /// Sends a `$SYS` figure: for the subscription of `fresh`, or for all that match.
    pub(crate) fn offer_figure(
        &mut self,
        topic: &str,
        text: &str,
        fresh: Option<&str>,
        out: &mut Vec<u8>,
    ) {
        let message = Publish {
            topic,
            client: "",
            arrival_ms: 0,
            qos: 0,
            retain: true,
            packet_id: None,
            properties: &[],
            rejected: None,
            payload: text.as_bytes(),
        };
        let offset = u64::MAX;
        match fresh {
            Some(filter) => self.offer_retained(0, offset, filter, &message, out),
            None => self.try_offer(0, offset, &message, out),
        };
    }

    /// Offers a message that the group of the shared subscription `filter` gives to this client.
    pub(crate) fn offer_shared(
        &mut self,
        now_ms: i64,
        offset: u64,
        filter: &Arc<str>,
        message: &Publish<'_>,
        out: &mut Vec<u8>,
    ) -> Offer {
        let Some(subscription) = self.subscriptions.iter().find(|s| *s.filter == **filter) else {
            self.done.push((Arc::clone(filter), offset));
            return Offer::NotForUs;
        };
        let identifiers = subscription.identifier;
        let how = How {
            offset,
            qos: subscription.qos.min(message.qos),
            retain: subscription.retain_as_published && message.retain,
            identifiers: identifiers.as_slice(),
            share: Some(filter),
        };
        let offer = self.send(now_ms, &how, message, out);
        // Nothing waits for an answer of the client.
        if offer != Offer::Full && (offer != Offer::Sent || how.qos == 0) {
            self.done.push((Arc::clone(filter), offset));
        }
        offer
    }

    pub(super) fn may_receive(&self, message: &Publish<'_>) -> bool {
        self.subscriber.access.may_receive(message.topic)
    }

    /// The largest packet that the client takes, in bytes.
    pub(crate) fn packet_bytes_max(&self) -> usize {
        usize::try_from(self.subscriber.packet_bytes_max).unwrap_or(usize::MAX)
    }

    /// Writes the properties for this subscriber.
    pub(super) fn put_properties(
        &self,
        left_s: Option<u32>,
        message: &Publish<'_>,
        properties: &mut Vec<u8>,
        identifiers: &[u32],
    ) {
        if self.subscriber.version == Version::V5 {
            let identifiers = identifiers.iter().copied();
            properties::put_delivery(properties, message.properties, left_s, identifiers);
        }
    }

    fn send(
        &mut self,
        now_ms: i64,
        how: &How<'_>,
        message: &Publish<'_>,
        out: &mut Vec<u8>,
    ) -> Offer {
        if !self.may_receive(message) {
            return Offer::NotForUs;
        }
        let left_s = left_s(now_ms, message);
        if left_s == Some(0) {
            return Offer::Expired;
        }
        let mut properties = std::mem::take(&mut self.properties);
        properties.clear();
        self.put_properties(left_s, message, &mut properties, how.identifiers);
        let offer = self.put_message(how, message, &mut properties, out);
        self.properties = properties;
        offer
    }

    fn put_message(
        &mut self,
        how: &How<'_>,
        message: &Publish<'_>,
        properties: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Offer {
        let version = self.subscriber.version;
        let spelling = self.aliases.spell(message.topic);
        let topic = spelling.put(message.topic, properties);
        let id = if how.qos == 0 { 0 } else { id_of(how.offset) };
        let (qos, retain, payload) = (how.qos, how.retain, message.payload);
        let outgoing = Outgoing { dup: false, qos, retain, topic, id, properties, payload };
        if outgoing.size(version) > self.packet_bytes_max() {
            return Offer::TooLarge;
        }
        let phase = if qos == 1 { Phase::Once } else { Phase::Sent };
        let flight = InFlight::new(how.offset, phase, retain);
        if qos > 0 && self.window.admit(flight, how.share).is_none() {
            return Offer::Full;
        }
        self.recorded.1 = true;
        outgoing.put(out, version);
        self.aliases.sent(message.topic, spelling);
        Offer::Sent
    }
}

/// True for a filter for which the log is read for its session alone.
pub(crate) fn is_own(filter: &str) -> bool {
    !share::is_shared(filter) && !sys::is_sys(filter)
}

/// The seconds that are left of the message's time to live, if it has one; 0 when it is over.
pub(super) fn left_s(now_ms: i64, message: &Publish<'_>) -> Option<u32> {
    if message.properties.is_empty() {
        return None;
    }
    let expiry_s = properties::expiry_s(message.properties)?;
    let age_ms = now_ms.saturating_sub(message.arrival_ms).max(0);
    Some(expiry_s.saturating_sub(u32::try_from(age_ms / 1000).unwrap_or(u32::MAX)))
}

/// How a message goes out.
struct How<'a> {
    offset: u64,
    qos: u8,
    retain: bool,
    /// Of the subscriptions that it is for.
    identifiers: &'a [u32],
    share: Option<&'a Arc<str>>,
}
