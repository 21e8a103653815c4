//! A subscriber's side of a connection: reads the journal from the session's position and offers
//! what it finds, retained messages first where a new subscription asked for them.

use std::collections::VecDeque;
use std::sync::Arc;

use headwater_shared::envelope::{Envelope, Publish};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Notify;

use super::lookout::{Look, Lookout, Watch};
use super::metrics::MqttMetrics;
use super::session::{InFlight, Offer, Outbound, Phase, Position};
use super::share::{Membership, Shares};
use super::state::{MqttState, Retained};
use super::sys::{Feed, Sys};
use crate::journal::{Journal, ReadError, Reader, Record};

/// Nothing is offered while so many bytes wait for the socket.
const OUT_BYTES_MAX: usize = 64 << 10;

/// Bytes of records that are read at a time.
const READ_BYTES_MAX: usize = 32 << 10;
const READ_BYTES_MIN: usize = 2 << 10;

/// Bytes that one QoS 1 message is taken for when the read is sized to the room in the window.
const ROOM_BYTES: usize = 256;

/// Records that are looked at before others get their turn.
const RECORDS_A_TURN: usize = 4_000;

/// Further behind than this, records come from the disk and not from memory.
const FAR_BEHIND: u64 = 2_000;

/// Retained messages taken from the state at a time.
const RETAINED_A_TIME: usize = 32;

/// What has to happen before there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// No subscription: nothing.
    Idle,
    /// The socket takes bytes, or an acknowledgement comes.
    Client,
    /// A commit.
    Durable,
    /// The lookout tells of a record.
    Told,
    /// The state has to catch up with a subscription.
    State,
    /// Nothing; it is the others' turn.
    Turn,
}

/// Where a shared subscription starts that has no members.
pub(crate) struct ShareStart {
    /// Nobody has held it.
    pub(crate) anew: bool,
    pub(crate) position: Position,
}

impl Waiting {
    /// Both have to happen, or either is enough: whatever lets more be done comes first.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Turn, _) | (_, Self::Turn) => Self::Turn,
            (Self::Durable, _) | (_, Self::Durable) => Self::Durable,
            (one, _) => one,
        }
    }
}

/// Retained messages on their way for one subscription.
struct Retaining {
    filter: String,
    /// The state has to have all below this; from here on messages come live.
    since: u64,
    after: Option<String>,
    found: VecDeque<Retained>,
    exhausted: bool,
}

/// What a connection needs for its subscriptions.
pub(crate) struct Deliver {
    reader: Option<Reader>,
    /// Says which records the reader can pass by, once there is a subscription of its own.
    watch: Option<Watch>,
    again: VecDeque<InFlight>,
    retaining: VecDeque<Retaining>,
    /// Its parts in shared subscriptions, and what it was given there and has not sent.
    memberships: Vec<Membership>,
    given: VecDeque<(Arc<str>, u64, Record)>,
    /// Another member has dealt something out to this one, or the lookout has told of something.
    pub(crate) dealt: Arc<Notify>,
    /// The `$SYS` topics, once they were subscribed to.
    pub(crate) feed: Option<Feed>,
}

/// What the deliverer reads from and tells.
pub(crate) struct Sources<'a> {
    pub(crate) journal: &'a Journal,
    pub(crate) lookout: &'a Lookout,
    pub(crate) state: &'a MqttState,
    pub(crate) applied: u64,
    pub(crate) metrics: &'a MqttMetrics,
    pub(crate) now_ms: i64,
}

impl Deliver {
    /// `again` is what has to be sent once more, oldest first.
    pub(crate) fn new(again: Vec<InFlight>) -> Self {
        Self {
            reader: None,
            watch: None,
            again: again.into(),
            retaining: VecDeque::new(),
            memberships: Vec::new(),
            given: VecDeque::new(),
            dealt: Arc::new(Notify::new()),
            feed: None,
        }
    }

    /// The figures that match the session's `$SYS` filters are to be sent when they change, and
    /// those of `retained` at once.
    pub(crate) fn feed(&mut self, sys: &Sys, retained: Vec<String>) {
        let feed = self.feed.get_or_insert_with(|| Feed::new(sys));
        retained.into_iter().for_each(|filter| feed.retained(filter));
    }

    /// The session has a subscription of its own for the records from `since` on.
    pub(crate) fn look_out(
        &mut self,
        lookout: &Lookout,
        filter: &str,
        since: u64,
        journal: &Journal,
    ) {
        let watch = self.watch.get_or_insert_with(|| lookout.join(&self.dealt));
        watch.add(lookout, filter, since, journal.durable().end);
    }

    /// The session has this subscription of its own no more.
    pub(crate) fn look_away(&mut self, lookout: &Lookout, filter: &str) {
        if let Some(watch) = &self.watch {
            watch.remove(lookout, filter);
        }
    }

    /// Looks out no more, and moves `outbound` behind what is known not to be for it.
    pub(crate) fn look_no_more(&mut self, lookout: &Lookout, outbound: &mut Outbound) {
        let Some(watch) = self.watch.take() else { return };
        if let Look::NothingBefore(end) = watch.next(lookout, outbound.next()) {
            outbound.skip_to(end);
        }
        watch.leave(lookout, outbound.own_filters());
    }

    /// Takes part in the shared subscription `filter`.
    /// With `recorded`, returns the position that is to be recorded.
    pub(crate) fn join(
        &mut self,
        shares: &Shares,
        filter: &str,
        recorded: bool,
        journal: &Journal,
        start: ShareStart,
    ) -> Option<Position> {
        if self.memberships.iter().any(|membership| **membership.filter() == *filter) {
            return None;
        }
        let ShareStart { anew, position } = start;
        let membership = shares.join(filter, &self.dealt, journal, anew, || position);
        let position = recorded.then(|| membership.record());
        self.memberships.push(membership);
        position
    }

    /// Takes no more part in the shared subscription `filter`.
    pub(crate) fn part(&mut self, shares: &Shares, filter: &str) {
        let Some(index) = self.memberships.iter().position(|m| **m.filter() == *filter) else {
            return;
        };
        let given = std::mem::take(&mut self.given);
        for (of, offset, record) in given {
            if *of == *filter {
                shares.give_back(filter, offset);
            } else {
                self.given.push_back((of, offset, record));
            }
        }
        self.memberships.remove(index).leave(shares);
    }

    /// Takes no more part in any. Returns how far those have come where that is to be recorded.
    pub(crate) fn leave(&mut self, shares: &Shares) -> Vec<(Arc<str>, Position)> {
        for (filter, offset, _) in self.given.drain(..) {
            shares.give_back(&filter, offset);
        }
        let positions = self.positions_to_record();
        for membership in self.memberships.drain(..) {
            membership.leave(shares);
        }
        positions
    }

    /// True if it takes part in a shared subscription.
    pub(crate) fn is_shared(&self) -> bool {
        !self.memberships.is_empty()
    }

    /// How far the shared subscriptions have come, of those where that is to be recorded now.
    pub(crate) fn positions_to_record(&self) -> Vec<(Arc<str>, Position)> {
        let positions = self.memberships.iter().filter_map(|membership| {
            Some((Arc::clone(membership.filter()), membership.position_to_record()?))
        });
        positions.collect()
    }

    /// Retained messages of `filters` are to be sent, then all from offset `since` on.
    pub(crate) fn retain(&mut self, filters: Vec<String>, since: u64) {
        for filter in filters {
            self.retaining.retain(|job| job.filter != filter);
            self.retaining.push_back(Retaining {
                filter,
                since,
                after: None,
                found: VecDeque::new(),
                exhausted: false,
            });
        }
    }

    /// A commit failed and its offsets are given anew from `end` on.
    pub(crate) fn rewind(&mut self, end: u64) {
        for job in &mut self.retaining {
            job.since = job.since.min(end);
        }
        for membership in &self.memberships {
            membership.rewind(end);
        }
    }

    /// Offers as much as there is room for. Returns how far it came and the records that are gone,
    /// if any.
    pub(crate) fn pump(
        &mut self,
        outbound: &mut Outbound,
        sources: &Sources<'_>,
        out: &mut Vec<u8>,
    ) -> (Waiting, Option<ReadError>) {
        if let Some(waiting) = self.pump_again(outbound, sources, out) {
            return (waiting, None);
        }
        if outbound.subscriptions().is_empty() {
            self.reader = None;
            self.feed = None;
            self.retaining.clear();
            return (Waiting::Idle, None);
        }
        if let Some(feed) = &mut self.feed
            && out.len() < OUT_BYTES_MAX
        {
            feed.take(|topic, text, fresh| outbound.offer_figure(topic, text, fresh, out));
        }
        if let Some(waiting) = self.pump_retained(outbound, sources, out) {
            return (waiting, None);
        }
        let shared = self.pump_shared(outbound, sources, out);
        if !outbound.has_own() {
            self.reader = None;
            outbound.skip_to(sources.journal.durable().end);
            return (shared, None);
        }
        let (own, gone) = self.pump_live(outbound, sources, out);
        (own.or(shared), gone)
    }

    /// Sends what the groups of the shared subscriptions give to this client.
    fn pump_shared(
        &mut self,
        outbound: &mut Outbound,
        sources: &Sources<'_>,
        out: &mut Vec<u8>,
    ) -> Waiting {
        // Without a part in a group there is nothing to wait for: a commit is no reason to look again.
        if self.memberships.is_empty() {
            return Waiting::Idle;
        }
        let mut more = false;
        loop {
            while let Some((filter, offset, record)) = self.given.front() {
                if out.len() >= OUT_BYTES_MAX {
                    return Waiting::Client;
                }
                let offer = message_of(record).map(|message| {
                    outbound.offer_shared(sources.now_ms, *offset, filter, &message, out)
                });
                let offer = offer.unwrap_or(Offer::NotForUs);
                if offer == Offer::Full {
                    return Waiting::Client;
                }
                count(sources.metrics, offer);
                self.given.pop_front();
            }
            if more {
                return Waiting::Turn;
            }
            for membership in &self.memberships {
                let room = outbound.room().saturating_sub(self.given.len());
                let (given, again) = membership.fetch(room, sources.journal);
                let filter = membership.filter();
                self.given.extend(given.into_iter().map(|(o, r)| (Arc::clone(filter), o, r)));
                more |= again;
            }
            if self.given.is_empty() && !more {
                return Waiting::Durable;
            }
        }
    }

    fn pump_again(
        &mut self,
        outbound: &mut Outbound,
        sources: &Sources<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Waiting> {
        while let Some(&entry) = self.again.front() {
            if out.len() >= OUT_BYTES_MAX {
                return Some(Waiting::Client);
            }
            if entry.phase == Phase::Released {
                self.again.pop_front();
                outbound.release_again(entry.id, out);
                continue;
            }
            if !outbound.may_send_again() {
                return Some(Waiting::Client);
            }
            self.again.pop_front();
            let record = record_at(sources.journal, entry.offset);
            let offer = record.as_ref().and_then(|record| match record.envelope() {
                Ok(Envelope::Publish(message)) => {
                    Some(outbound.send_again(sources.now_ms, entry, &message, out))
                }
                _ => None,
            });
            match offer {
                Some(offer) => count(sources.metrics, offer),
                None => {
                    outbound.forget(entry.id);
                    sources.metrics.missed.inc();
                }
            }
        }
        None
    }

    fn pump_retained(
        &mut self,
        outbound: &mut Outbound,
        sources: &Sources<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Waiting> {
        while let Some(job) = self.retaining.front_mut() {
            if sources.applied < job.since {
                return Some(Waiting::State);
            }
            if out.len() >= OUT_BYTES_MAX {
                return Some(Waiting::Client);
            }
            if let Some(retained) = job.found.front() {
                let offer = retained.with(|message| {
                    let offset = retained.offset;
                    outbound.offer_retained(sources.now_ms, offset, &job.filter, message, out)
                });
                if offer == Some(Offer::Full) {
                    return Some(Waiting::Client);
                }
                count(sources.metrics, offer.unwrap_or(Offer::NotForUs));
                job.found.pop_front();
            } else if job.exhausted {
                self.retaining.pop_front();
            } else {
                let after = job.after.take();
                let (found, next) = sources.state.retained(
                    &job.filter,
                    after.as_deref(),
                    job.since,
                    RETAINED_A_TIME,
                );
                job.found = found.into();
                job.exhausted = next.is_none();
                job.after = next;
            }
        }
        None
    }

    fn pump_live(
        &mut self,
        outbound: &mut Outbound,
        sources: &Sources<'_>,
        out: &mut Vec<u8>,
    ) -> (Waiting, Option<ReadError>) {
        let mut looked_at = 0;
        let reader = self.reader.get_or_insert_with(|| sources.journal.reader(outbound.next()));
        let Some(watch) = &self.watch else { return (Waiting::Idle, None) };
        loop {
            if out.len() >= OUT_BYTES_MAX {
                return (Waiting::Client, None);
            }
            if looked_at >= RECORDS_A_TURN {
                return (Waiting::Turn, None);
            }
            let end = match watch.next(sources.lookout, outbound.next()) {
                Look::At(range) => {
                    outbound.skip_to(range.start);
                    range.end
                }
                Look::NothingBefore(end) => {
                    outbound.skip_to(end);
                    return (Waiting::Told, None);
                }
            };
            if reader.position() != outbound.next() {
                reader.seek(outbound.next());
            }
            let bytes_max = (outbound.room() * ROOM_BYTES).clamp(READ_BYTES_MIN, READ_BYTES_MAX);
            let records = match read(reader, sources.journal, end, bytes_max) {
                Ok(records) if records.is_empty() => return (Waiting::Durable, None),
                Ok(records) => records,
                Err(problem) => {
                    let gone = reader.position().saturating_sub(outbound.next());
                    outbound.skip_to(reader.position());
                    sources.metrics.missed.inc_by(gone);
                    let waiting = if gone > 0 { Waiting::Turn } else { Waiting::Durable };
                    return (waiting, Some(problem));
                }
            };
            looked_at += records.len();
            for record in &records {
                if out.len() >= OUT_BYTES_MAX || !offer(outbound, sources, record, out) {
                    return (Waiting::Client, None);
                }
            }
        }
    }
}

/// False if the window is full.
fn offer(
    outbound: &mut Outbound,
    sources: &Sources<'_>,
    record: &Record,
    out: &mut Vec<u8>,
) -> bool {
    let Some(message) = message_of(record) else {
        outbound.skip_to(record.offset + 1);
        return true;
    };
    let offer = outbound.offer(sources.now_ms, record.offset, &message, out);
    count(sources.metrics, offer);
    offer != Offer::Full
}

pub(crate) fn message_of(record: &Record) -> Option<Publish<'_>> {
    match record.envelope() {
        Ok(Envelope::Publish(message)) => Some(message),
        _ => None,
    }
}

fn count(metrics: &MqttMetrics, offer: Offer) {
    match offer {
        Offer::Sent => metrics.delivered.inc(),
        Offer::Expired => metrics.expired.inc(),
        Offer::TooLarge => metrics.too_large.inc(),
        Offer::NotForUs | Offer::Full => 0,
    };
}

pub(crate) fn record_at(journal: &Journal, offset: u64) -> Option<Record> {
    let mut reader = journal.reader(offset);
    let records = read(&mut reader, journal, offset + 1, 1).ok()?;
    records.into_iter().next().filter(|record| record.offset == offset)
}

/// Reads what is below `end`; where the disk may have to be waited for, the runtime's other tasks go on meanwhile.
pub(crate) fn read(
    reader: &mut Reader,
    journal: &Journal,
    end: u64,
    bytes_max: usize,
) -> Result<Vec<Record>, ReadError> {
    let far = journal.durable().end.saturating_sub(reader.position()) > FAR_BEHIND;
    let threads = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if far && threads {
        tokio::task::block_in_place(|| reader.read_to(end, bytes_max))
    } else {
        reader.read_to(end, bytes_max)
    }
}
