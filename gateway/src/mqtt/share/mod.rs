//! Shared subscriptions (`$share/GROUP/FILTER`): the members of a group get each message once
//! between them. A group reads the log from one position; any member that has something to do deals
//! out for all.

mod group;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use group::{Group, Token, Want};

use super::deliver::{message_of, read, record_at};
use super::session::Position;
use crate::journal::{Journal, Reader, Record};
use crate::stream::filter_matches;

/// What filters of shared subscriptions start with.
const PREFIX: &str = "$share/";

/// Messages that a member is given before it has fetched them.
const QUEUE_MAX: usize = 32;

/// Records that are looked at before others get their turn.
const RECORDS_A_TURN: usize = 2_000;

/// Bytes of records that are read at a time.
const READ_BYTES: usize = 16 << 10;

/// True for the filter of a shared subscription.
pub(crate) fn is_shared(filter: &str) -> bool {
    filter.starts_with(PREFIX)
}

/// What a subscription's topics are compared with: behind the group's name, if it is shared. `None`
/// for a shared one without a proper name or without a filter [MQTT-4.8.2-1, MQTT-4.8.2-2].
pub(crate) fn topics_of(filter: &str) -> Option<&str> {
    let Some(rest) = filter.strip_prefix(PREFIX) else { return Some(filter) };
    let (name, topics) = rest.split_once('/')?;
    (!name.is_empty() && !name.contains(['+', '#'])).then_some(topics)
}

/// The groups that have members, or whose members may come back.
#[derive(Default)]
pub(crate) struct Shares {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    groups: HashMap<Arc<str>, Arc<Mutex<Live>>>,
    last_token: Token,
}

struct Live {
    group: Group<Record>,
    reader: Reader,
    wakes: HashMap<Token, Arc<Notify>>,
    /// Its position is recorded: a member's session outlives its connection.
    recorded: bool,
}

impl Shares {
    /// Makes a client a member of `filter`'s group; a new group goes on at `position`. With `anew`
    /// nobody has held the subscription: a group without members is a new one.
    pub(crate) fn join(
        &self,
        filter: &str,
        wake: &Arc<Notify>,
        journal: &Journal,
        anew: bool,
        position: impl FnOnce() -> Position,
    ) -> Membership {
        let mut inner = lock(&self.inner);
        inner.last_token += 1;
        let token = inner.last_token;
        if anew && inner.groups.get(filter).is_some_and(|live| lock(live).group.is_empty()) {
            inner.groups.remove(filter);
        }
        let (name, live) = match inner.groups.get_key_value(filter) {
            Some((name, live)) => (Arc::clone(name), Arc::clone(live)),
            None => {
                let name: Arc<str> = filter.into();
                let position = position();
                let reader = journal.reader(position.next);
                let group = Group::new(&position);
                let live = Live { group, reader, wakes: HashMap::new(), recorded: false };
                let live = Arc::new(Mutex::new(live));
                inner.groups.insert(Arc::clone(&name), Arc::clone(&live));
                (name, live)
            }
        };
        let mut state = lock(&live);
        state.group.join(token);
        state.wakes.insert(token, Arc::clone(wake));
        drop(state);
        Membership { filter: name, token, live }
    }

    /// The exchange of a message that the group of `filter` gave is over.
    pub(crate) fn done(&self, filter: &str, offset: u64) {
        if let Some(live) = self.live(filter) {
            lock(&live).group.done(offset);
        }
    }

    /// A member did not finish the message; another gets it.
    pub(crate) fn give_back(&self, filter: &str, offset: u64) {
        if let Some(live) = self.live(filter) {
            let mut live = lock(&live);
            live.group.give_back(offset);
            live.wake_all();
        }
    }

    /// Forgets a group, unless it has members; true if it is not there now.
    pub(crate) fn forget(&self, filter: &str) -> bool {
        let mut inner = lock(&self.inner);
        let deserted = inner.groups.get(filter).is_some_and(|live| lock(live).group.is_empty());
        if deserted {
            inner.groups.remove(filter);
        }
        !inner.groups.contains_key(filter)
    }

    fn live(&self, filter: &str) -> Option<Arc<Mutex<Live>>> {
        lock(&self.inner).groups.get(filter).cloned()
    }
}

/// One client's part in a group. It has to be given up by [`Membership::leave`].
pub(crate) struct Membership {
    filter: Arc<str>,
    token: Token,
    live: Arc<Mutex<Live>>,
}

/// What a member was given: offset and the record.
pub(crate) type Given = VecDeque<(u64, Record)>;

impl Membership {
    /// The filter as the client wrote it.
    pub(crate) fn filter(&self) -> &Arc<str> {
        &self.filter
    }

    /// Deals out what there is, for all members, and fetches what was given to this one, which has
    /// room for `room` messages. True if there is more to look at.
    pub(crate) fn fetch(&self, room: usize, journal: &Journal) -> (Given, bool) {
        let mut live = lock(&self.live);
        live.group.set_room(self.token, room.min(QUEUE_MAX));
        let topics = topics_of(&self.filter).unwrap_or_default();
        let more = live.deal(self.token, topics, journal);
        (live.group.fetch(self.token), more)
    }

    /// A commit failed and its offsets are given anew from `end` on.
    pub(crate) fn rewind(&self, end: u64) {
        lock(&self.live).group.rewind(end);
    }

    /// The group's position is to be recorded from now on; returns it.
    pub(crate) fn record(&self) -> Position {
        let mut live = lock(&self.live);
        live.recorded = true;
        live.group.position()
    }

    /// The group's position, if it is recorded and has changed since it was last asked for.
    pub(crate) fn position_to_record(&self) -> Option<Position> {
        let mut live = lock(&self.live);
        (live.recorded && live.group.take_moved()).then(|| live.group.position())
    }

    /// Gives up the part; what was not fetched goes to others. A group that is not recorded ends
    /// with its last member.
    pub(crate) fn leave(self, shares: &Shares) {
        let mut live = lock(&self.live);
        live.wakes.remove(&self.token);
        live.group.leave(self.token);
        live.wake_all();
        let ends = live.group.is_empty() && !live.recorded;
        drop(live);
        if ends {
            shares.forget(&self.filter);
        }
    }
}

impl Live {
    /// Deals out until nobody has room, the log has no more, or it is others' turn, which is true.
    fn deal(&mut self, dealer: Token, topics: &str, journal: &Journal) -> bool {
        let mut looked_at = 0;
        while looked_at < RECORDS_A_TURN {
            match self.group.want() {
                Want::Nothing => return false,
                Want::Returned(offset) => {
                    looked_at += 1;
                    match record_at(journal, offset) {
                        Some(record) => self.give(dealer, offset, record),
                        None => self.group.pass(offset),
                    }
                }
                Want::From(offset) => {
                    let count = self.deal_from(dealer, offset, topics, journal);
                    if count == 0 {
                        return false;
                    }
                    looked_at += count;
                }
            }
        }
        true
    }

    /// Deals out records from `offset` on; returns how many were looked at.
    fn deal_from(&mut self, dealer: Token, offset: u64, topics: &str, journal: &Journal) -> usize {
        if self.reader.position() != offset {
            self.reader.seek(offset);
        }
        let records = match read(&mut self.reader, journal, u64::MAX, READ_BYTES) {
            Ok(records) => records,
            Err(problem) => {
                tracing::warn!(%problem, "a shared subscription goes on behind a gap");
                let position = self.reader.position();
                self.group.skip_to(position);
                return usize::from(position > offset);
            }
        };
        let mut looked_at = 0;
        for record in records {
            if self.group.want() == Want::Nothing {
                break;
            }
            looked_at += 1;
            let offset = record.offset;
            let wanted = message_of(&record).is_some_and(|m| filter_matches(topics, m.topic));
            if wanted {
                self.give(dealer, offset, record);
            } else {
                self.group.pass(offset);
            }
        }
        looked_at
    }

    fn give(&mut self, dealer: Token, offset: u64, record: Record) {
        let Some(token) = self.group.give(offset, record) else { return };
        if token != dealer
            && let Some(wake) = self.wakes.get(&token)
        {
            wake.notify_one();
        }
    }

    fn wake_all(&self) {
        for token in self.group.members() {
            if let Some(wake) = self.wakes.get(&token) {
                wake.notify_one();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_filter_has_a_name_and_a_filter() {
        for (filter, expected) in [
            ("a/#", Some("a/#")),
            ("$share/g/a/#", Some("a/#")),
            ("$share/g//x", Some("/x")),
            ("$share/g", None),
            ("$share//a", None),
            ("$share/+/a", None),
            ("$shared/g/a", Some("$shared/g/a")),
        ] {
            assert_eq!(topics_of(filter), expected, "{filter}");
        }
    }
}
