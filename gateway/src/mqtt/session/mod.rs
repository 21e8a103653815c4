//! The pure core of a session: a packet goes in, at most one action comes out, and what can be
//! answered at once is appended to the caller's buffer. No sockets, no clock.
//!
//! The shell carries an action out and reports back ([`Session::stored`], [`Session::released`],
//! [`Session::subscribed`]...); the acknowledgement then waits in order of receipt until
//! [`Session::settle`] is told that the record it promises is durable.

mod again;
mod aliases;
mod change;
mod connect;
mod old;
mod outbound;
mod position;
mod replies;
mod stored;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use change::{Change, StoredWill, Subscription};
pub(crate) use connect::{Entry, KEEP_ALIVE_S_MAX, admit, examine};
pub(crate) use old::Stored as OldStored;
pub(crate) use outbound::{Offer, Outbound, Subscriber, is_own};
use position::Received;
pub(crate) use position::{InFlight, Phase, Position};
pub(crate) use replies::Lost;
use replies::Replies;
pub(crate) use stored::Stored;

use crate::journal::{Durable, Ticket};
use crate::mqtt::auth::Access;
use crate::mqtt::codec;
use crate::mqtt::frame;
use crate::mqtt::packet::{
    Fault, Filter, Packet, Publish, RetainHandling, Subscribe, Unsubscribe, Version, reason,
};
use crate::mqtt::properties;
use crate::mqtt::share;
use crate::mqtt::sys;
use crate::mqtt::trie::LEVELS_MAX;
use crate::stream::{is_filter, is_topic};

/// QoS 1 and 2 messages that a client may have on the way to the disk; above this its socket is
/// not read.
pub(crate) const RECEIVE_MAXIMUM: u16 = 1024;

/// Topic aliases a client may set; each costs at most one topic of memory.
pub(crate) const ALIAS_MAX: u16 = 16;

/// Subscriptions of one session.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 1000;

/// What the shell has to do for a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<'a> {
    /// Nothing, or it is answered already.
    Done,
    /// Store the message, then [`Session::stored`] or [`Session::not_stored`].
    Store(Message<'a>),
    /// Record that the packet id is released, then [`Session::released`].
    Release(u16),
    /// Record that the client has the message of the record at `offset`, then
    /// [`Session::received`].
    Received { id: u16, offset: u64 },
    /// Record the subscriptions, then [`Session::subscribed`].
    Subscribe(Subscribing),
    /// Record that they are gone, then [`Session::unsubscribed`].
    Unsubscribe(Unsubscribe),
    /// The client says goodbye; with `will`, its will is published all the same.
    Leave { will: bool, expiry_s: Option<u32> },
}

/// A message to store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) topic: Cow<'a, str>,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// 0 for QoS 0.
    pub(crate) id: u16,
    pub(crate) properties: Cow<'a, [u8]>,
}

/// Subscriptions that were granted, and the codes for SUBACK.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subscribing {
    id: u16,
    codes: Vec<u8>,
    /// Their `since` is not known yet.
    pub(crate) granted: Vec<Subscription>,
    handling: Vec<RetainHandling>,
}

/// A client's session while it is connected.
#[derive(Debug)]
pub(crate) struct Session {
    version: Version,
    client: Arc<str>,
    access: Arc<Access>,
    /// The session outlives the connection, or has outlived one: its changes are recorded.
    recorded: bool,
    /// The session outlives this connection, as CONNECT said.
    lasts: bool,
    /// QoS 2 packet ids whose message is stored and not released.
    open: BTreeSet<u16>,
    replies: Replies,
    /// QoS 1 and 2 messages of this connection that are not fully acknowledged.
    unacknowledged: usize,
    aliases: Vec<Option<Box<str>>>,
    /// QoS 0 messages that were not taken, of which the client is not told.
    dropped: u64,
    pub(crate) outbound: Outbound,
}

impl Session {
    /// A session at the start of a connection; `stored` is what earlier connections left.
    pub(crate) fn new(subscriber: Subscriber, recorded: bool, stored: Stored, end: u64) -> Self {
        Self {
            version: subscriber.version,
            client: Arc::clone(&subscriber.client),
            access: Arc::clone(&subscriber.access),
            recorded,
            lasts: subscriber.lasts,
            open: stored.open.clone(),
            replies: Replies::new(subscriber.version),
            unacknowledged: 0,
            aliases: Vec::new(),
            dropped: 0,
            outbound: Outbound::new(subscriber, stored, end),
        }
    }

    /// The version that the client speaks.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The gateway whose records the client may bring in as they are there.
    pub(crate) fn gateway(&self) -> Option<&str> {
        self.access.gateway()
    }

    /// The client id.
    pub(crate) fn client(&self) -> &Arc<str> {
        &self.client
    }

    /// True if the session outlives the connection.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// Other rules from now on, for subscriptions that are there too.
    pub(crate) fn set_access(&mut self, access: Arc<Access>) {
        self.outbound.set_access(Arc::clone(&access));
        self.access = access;
    }

    /// True while so much waits for the disk that the client is not read.
    pub(crate) fn is_full(&self) -> bool {
        self.replies.len() >= usize::from(RECEIVE_MAXIMUM)
    }

    /// True if an acknowledgement waits for the disk.
    pub(crate) fn is_waiting(&self) -> bool {
        self.replies.len() > 0
    }

    /// The next packet of the client.
    ///
    /// # Errors
    /// A [`Fault`] that ends the connection.
    pub(crate) fn packet<'a>(
        &mut self,
        packet: Packet<'a>,
        out: &mut Vec<u8>,
    ) -> Result<Action<'a>, Fault> {
        match packet {
            Packet::Publish(publish) => self.publish(publish),
            Packet::PubAck(id) => {
                self.outbound.examine(id, &[Phase::Once])?;
                self.outbound.acknowledged(id);
                Ok(Action::Done)
            }
            Packet::PubRel(id) => Ok(self.pubrel(id)),
            Packet::PubRec { id, reason } => {
                self.outbound.examine(id, &[Phase::Sent, Phase::Released])?;
                Ok(self.pubrec(id, reason))
            }
            Packet::PubComp(id) => {
                self.outbound.examine(id, &[Phase::Released])?;
                self.outbound.completed(id);
                Ok(Action::Done)
            }
            Packet::Subscribe(subscribe) => {
                if subscribe.filters.iter().any(|f| f.no_local && share::is_shared(&f.filter)) {
                    return Err(Fault::protocol("no local on a shared subscription"));
                }
                self.answer_fits(subscribe.filters.len())?;
                Ok(Action::Subscribe(self.subscribe(subscribe)))
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.answer_fits(unsubscribe.filters.len())?;
                Ok(Action::Unsubscribe(unsubscribe))
            }
            Packet::PingReq => {
                codec::put_pingresp(out);
                Ok(Action::Done)
            }
            Packet::Disconnect { reason, expiry_s } => {
                if !self.lasts && expiry_s.is_some_and(|expiry_s| expiry_s > 0) {
                    return Err(Fault::protocol("a session expiry for a session that had none"));
                }
                // Code 0 alone deletes the will [MQTT-3.14.4-3].
                Ok(Action::Leave { will: reason != reason::SUCCESS, expiry_s })
            }
        }
    }

    fn publish<'a>(&mut self, publish: Publish<'a>) -> Result<Action<'a>, Fault> {
        let topic = self.resolve_alias(&publish)?;
        if !is_topic(&topic) {
            return Err(Fault::new(reason::TOPIC_INVALID, "a topic with a wildcard, or none"));
        }
        if publish.qos == 2 && self.open.contains(&publish.id) {
            self.replies.ack(None, frame::PUBREC, publish.id, reason::SUCCESS);
            return Ok(Action::Done);
        }
        if publish.qos > 0 {
            self.unacknowledged += 1;
            if self.version == Version::V5 && self.unacknowledged > usize::from(RECEIVE_MAXIMUM) {
                let why = format!("more than {RECEIVE_MAXIMUM} messages without acknowledgement");
                return Err(Fault::new(reason::RECEIVE_MAXIMUM, why));
            }
        }
        if sys::is_sys(&topic) || !self.access.may_publish(&topic) {
            self.not_stored(publish.id, publish.qos, reason::NOT_AUTHORIZED)?;
            return Ok(Action::Done);
        }
        let properties = match publish.alias {
            Some(_) => Cow::Owned(properties::without_alias(publish.properties)),
            None => Cow::Borrowed(publish.properties),
        };
        Ok(Action::Store(Message {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            id: publish.id,
            properties,
        }))
    }

    fn resolve_alias<'a>(&mut self, publish: &Publish<'a>) -> Result<Cow<'a, str>, Fault> {
        let Some(alias) = publish.alias else { return Ok(Cow::Borrowed(publish.topic)) };
        if alias == 0 || alias > ALIAS_MAX {
            let why = format!("topic alias {alias}; 1 to {ALIAS_MAX} are taken");
            return Err(Fault::new(reason::TOPIC_ALIAS_INVALID, why));
        }
        self.aliases.resize(usize::from(ALIAS_MAX), None);
        let known = &mut self.aliases[usize::from(alias) - 1];
        if publish.topic.is_empty() {
            match known {
                Some(topic) => Ok(Cow::Owned(topic.to_string())),
                None => Err(Fault::protocol(format!("topic alias {alias} was never set"))),
            }
        } else {
            *known = Some(publish.topic.into());
            Ok(Cow::Borrowed(publish.topic))
        }
    }

    fn pubrec(&mut self, id: u16, code: u8) -> Action<'static> {
        let answer = match self.outbound.received(id, code) {
            None => return Action::Done,
            Some(Received::New(offset)) if self.recorded => return Action::Received { id, offset },
            Some(Received::New(_) | Received::Again) => reason::SUCCESS,
            Some(Received::Unknown) => reason::PACKET_ID_UNKNOWN,
        };
        self.replies.ack(None, frame::PUBREL, id, answer);
        Action::Done
    }

    /// That the client has the message has its place in the journal; PUBREL waits for the disk.
    pub(crate) fn received(&mut self, id: u16, ticket: Ticket) {
        self.replies.ack(Some(ticket), frame::PUBREL, id, reason::SUCCESS);
    }

    fn pubrel(&mut self, id: u16) -> Action<'static> {
        if !self.open.remove(&id) {
            // Released before, and the client did not get the PUBCOMP.
            self.replies.ack(None, frame::PUBCOMP, id, reason::PACKET_ID_UNKNOWN);
            return Action::Done;
        }
        if self.recorded {
            return Action::Release(id);
        }
        self.replies.ack(None, frame::PUBCOMP, id, reason::SUCCESS);
        Action::Done
    }

    /// The message has its place in the journal.
    pub(crate) fn stored(&mut self, id: u16, qos: u8, ticket: Ticket) {
        match qos {
            0 => {}
            1 => self.replies.ack(Some(ticket), frame::PUBACK, id, reason::SUCCESS),
            _ => {
                self.open.insert(id);
                self.replies.ack(Some(ticket), frame::PUBREC, id, reason::SUCCESS);
            }
        }
    }

    /// The message is not stored and never will be; `code` says why.
    ///
    /// # Errors
    /// 3.1.1 has no way to say so but to end the connection: an acknowledgement would be a promise.
    /// A gateway's ends too.
    pub(crate) fn not_stored(&mut self, id: u16, qos: u8, code: u8) -> Result<(), Fault> {
        match (qos, self.version) {
            (0, _) => {
                self.dropped += 1;
                Ok(())
            }
            (_, Version::V4) => Err(Fault::new(code, "a message that is not taken")),
            // A gateway's messages come in order, so none may be taken after one that is not.
            _ if self.access.gateway().is_some() => {
                Err(Fault::new(code, "a message of a gateway that is not taken"))
            }
            (1, Version::V5) => {
                self.replies.ack(None, frame::PUBACK, id, code);
                Ok(())
            }
            (_, Version::V5) => {
                self.replies.ack(None, frame::PUBREC, id, code);
                Ok(())
            }
        }
    }

    /// QoS 0 messages that were not taken since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// The release of `id` has its place in the journal.
    pub(crate) fn released(&mut self, id: u16, ticket: Ticket) {
        self.replies.ack(Some(ticket), frame::PUBCOMP, id, reason::SUCCESS);
    }

    /// An answer with a code for each filter cannot be left out, as a message can
    /// [5: MQTT-3.1.2-24].
    fn answer_fits(&self, codes: usize) -> Result<(), Fault> {
        let remaining = 3 + codes;
        let size = 1 + frame::varint_len(remaining) + remaining;
        if self.version == Version::V5 && size > self.outbound.packet_bytes_max() {
            let why = format!("it takes no packet of {size} B, which the answer has");
            return Err(Fault::new(reason::PACKET_TOO_LARGE, why));
        }
        Ok(())
    }

    fn subscribe(&self, subscribe: Subscribe) -> Subscribing {
        let mut known: BTreeSet<&str> =
            self.outbound.subscriptions().iter().map(|s| s.filter.as_str()).collect();
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        for filter in &subscribe.filters {
            let code = self.judge(filter);
            let full = known.len() >= SUBSCRIPTIONS_MAX && !known.contains(filter.filter.as_str());
            if code < reason::UNSPECIFIED && full {
                codes.push(reason::QUOTA);
                continue;
            }
            if code < reason::UNSPECIFIED {
                known.insert(&filter.filter);
            }
            codes.push(code);
        }
        let mut granted = Vec::new();
        let mut handling = Vec::new();
        for (filter, code) in subscribe.filters.into_iter().zip(&codes) {
            if *code < reason::UNSPECIFIED {
                handling.push(filter.retain_handling);
                granted.push(Subscription {
                    filter: filter.filter,
                    qos: *code,
                    no_local: filter.no_local,
                    retain_as_published: filter.retain_as_published,
                    identifier: subscribe.identifier,
                    since: 0,
                });
            }
        }
        Subscribing { id: subscribe.id, codes, granted, handling }
    }

    /// The code of SUBACK for one filter.
    fn judge(&self, filter: &Filter) -> u8 {
        let Some(topics) = share::topics_of(&filter.filter) else { return reason::FILTER_INVALID };
        if !is_filter(topics) || topics.split('/').count() > LEVELS_MAX {
            reason::FILTER_INVALID
        } else if !self.access.may_subscribe(topics) {
            // 0x87 would say more, but the interoperability tests of others ask for this one.
            reason::UNSPECIFIED
        } else {
            filter.qos
        }
    }

    /// The subscriptions hold from offset `since` on; `ticket` is that of their record, if any.
    /// Returns the filters whose retained messages are to be sent.
    pub(crate) fn subscribed(
        &mut self,
        subscribing: Subscribing,
        since: u64,
        ticket: Option<Ticket>,
        out: &mut Vec<u8>,
    ) -> Vec<String> {
        let mut retained = Vec::new();
        for (subscription, handling) in subscribing.granted.into_iter().zip(subscribing.handling) {
            let filter = subscription.filter.clone();
            let new = self.outbound.subscribe(Subscription { since, ..subscription });
            if share::is_shared(&filter) {
                continue;
            }
            match handling {
                RetainHandling::Always => retained.push(filter),
                RetainHandling::IfNew if new => retained.push(filter),
                RetainHandling::IfNew | RetainHandling::Never => {}
            }
        }
        self.answer(ticket, out, |version, out| {
            codec::put_suback(out, version, subscribing.id, &subscribing.codes);
        });
        retained
    }

    /// The subscriptions are gone; `ticket` is that of the record that says so, if any.
    pub(crate) fn unsubscribed(
        &mut self,
        unsubscribe: &Unsubscribe,
        ticket: Option<Ticket>,
        out: &mut Vec<u8>,
    ) {
        let existed: Vec<bool> =
            unsubscribe.filters.iter().map(|filter| self.outbound.unsubscribe(filter)).collect();
        self.answer(ticket, out, |version, out| {
            codec::put_unsuback(out, version, unsubscribe.id, &existed);
        });
    }

    fn answer(
        &mut self,
        ticket: Option<Ticket>,
        out: &mut Vec<u8>,
        write: impl FnOnce(Version, &mut Vec<u8>),
    ) {
        match ticket {
            None => write(self.version, out),
            Some(ticket) => {
                let mut bytes = Vec::new();
                write(self.version, &mut bytes);
                self.replies.bytes(ticket, bytes);
            }
        }
    }

    /// Appends the answers, in order of receipt, whose records are on disk. Returns how many.
    ///
    /// # Errors
    /// [`Lost`] if a commit failed under one of them: the connection has to end without it.
    pub(crate) fn settle(&mut self, durable: &Durable, out: &mut Vec<u8>) -> Result<u64, Lost> {
        let settled = self.replies.settle(durable, out)?;
        self.unacknowledged = self.unacknowledged.saturating_sub(settled.finished);
        Ok(settled.written)
    }
}

#[cfg(test)]
mod tests;
