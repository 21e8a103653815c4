//! How far a session has read, and what is on its way to the client.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What the exchange of a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// QoS 1: PUBACK.
    Once,
    /// QoS 2: PUBREC.
    Sent,
    /// QoS 2, the client has the message: PUBCOMP.
    Released,
}

/// A message that the client has not acknowledged: the offset of its record, and its packet id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InFlight {
    pub(crate) offset: u64,
    pub(crate) id: u16,
    pub(crate) phase: Phase,
    /// It went out with the retain flag.
    pub(crate) retain: bool,
}

impl InFlight {
    /// With the id that follows from the offset.
    pub(crate) fn new(offset: u64, phase: Phase, retain: bool) -> Self {
        Self { offset, id: id_of(offset), phase, retain }
    }
}

/// How far a session has read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The offset of the next record to look at.
    pub(crate) next: u64,
    /// Sent and not acknowledged, oldest first.
    pub(crate) in_flight: Vec<InFlight>,
}

/// The packet id that a record goes out with. It follows from the offset, so that after a crash the
/// same message has the same id, and a client that has it already knows it by that.
pub(crate) fn id_of(offset: u64) -> u16 {
    u16::try_from(offset % u64::from(u16::MAX)).expect("below 65,535") + 1
}

/// What PUBREC means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// No exchange has this id.
    Unknown,
    /// It is known already.
    Again,
    /// The client has the message of the record at this offset.
    New(u64),
}

/// A message in flight, and the shared subscription that gave it, if one did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) flight: InFlight,
    pub(crate) share: Option<Arc<str>>,
    /// In this connection, so that it counts against the client's receive maximum.
    is_sent: bool,
}

/// The messages in flight to one client, oldest first.
#[derive(Debug)]
pub(crate) struct Window {
    entries: VecDeque<Entry>,
    max: usize,
}

impl Window {
    /// What an earlier connection left, with at most `max` at a time from now on; `received` are
    /// the offsets of what the client has since said it has.
    pub(crate) fn new(position: Position, received: &BTreeSet<u64>, max: usize) -> Self {
        let mut in_flight = position.in_flight;
        for entry in &mut in_flight {
            if entry.phase == Phase::Sent && received.contains(&entry.offset) {
                entry.phase = Phase::Released;
            }
        }
        for &offset in received.range(..position.next) {
            if in_flight.iter().all(|entry| entry.offset != offset) {
                in_flight.push(InFlight::new(offset, Phase::Released, false));
            }
        }
        let entries =
            in_flight.into_iter().map(|flight| Entry { flight, share: None, is_sent: false });
        Self { entries: entries.collect(), max }
    }

    /// How many more messages may go out.
    pub(crate) fn room(&self) -> usize {
        self.max.saturating_sub(self.entries.len())
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Takes a message in and returns its id; `None` if there is no room, or its id is still
    /// another's.
    pub(crate) fn admit(&mut self, flight: InFlight, share: Option<&Arc<str>>) -> Option<u16> {
        let id = flight.id;
        if self.room() == 0 || self.entries.iter().any(|entry| entry.flight.id == id) {
            return None;
        }
        self.entries.push_back(Entry { flight, share: share.cloned(), is_sent: true });
        Some(id)
    }

    /// True if one more of those that an earlier connection has left may go out.
    pub(crate) fn may_send_again(&self) -> bool {
        self.entries.iter().filter(|entry| entry.is_sent).count() < self.max
    }

    /// Counts it as sent in this connection; false if its exchange is over.
    pub(crate) fn mark_sent(&mut self, id: u16) -> bool {
        let entry = self.entries.iter_mut().find(|entry| entry.flight.id == id);
        entry.map(|entry| entry.is_sent = true).is_some()
    }

    /// True if the message of `id` went out in this connection and waits for none of these answers.
    /// What an earlier connection sent is no contradiction: either side may have forgotten.
    pub(crate) fn contradicts(&self, id: u16, answers: &[Phase]) -> bool {
        let entry = self.entries.iter().find(|entry| entry.flight.id == id);
        entry.is_some_and(|entry| entry.is_sent && !answers.contains(&entry.flight.phase))
    }

    /// PUBACK. The message that waited for it, if one did.
    pub(crate) fn acknowledged(&mut self, id: u16) -> Option<Entry> {
        self.end(id, Some(Phase::Once))
    }

    /// PUBREC of a client that takes the message.
    pub(crate) fn received(&mut self, id: u16) -> Received {
        match self.entries.iter_mut().map(|entry| &mut entry.flight).find(|f| f.id == id) {
            Some(flight) if flight.phase == Phase::Sent => {
                flight.phase = Phase::Released;
                Received::New(flight.offset)
            }
            Some(flight) if flight.phase == Phase::Released => Received::Again,
            _ => Received::Unknown,
        }
    }

    /// PUBREC of a client that refuses the message: its exchange is over.
    pub(crate) fn refused(&mut self, id: u16) -> Option<Entry> {
        self.end(id, Some(Phase::Sent))
    }

    /// PUBCOMP. The message that waited for it, if one did.
    pub(crate) fn completed(&mut self, id: u16) -> Option<Entry> {
        self.end(id, Some(Phase::Released))
    }

    /// Gives up an id whose record is no longer to be had.
    pub(crate) fn forget(&mut self, id: u16) -> Option<Entry> {
        self.end(id, None)
    }

    fn end(&mut self, id: u16, phase: Option<Phase>) -> Option<Entry> {
        let ends = |entry: &Entry| {
            entry.flight.id == id && phase.is_none_or(|phase| entry.flight.phase == phase)
        };
        let index = self.entries.iter().position(ends)?;
        self.entries.remove(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::new(Position::default(), &BTreeSet::new(), 10)
    }

    #[test]
    fn an_id_follows_from_the_offset_and_is_never_0() {
        assert_eq!([0, 1, 65_534, 65_535, u64::MAX].map(id_of), [1, 2, 65_535, 1, 1]);
    }

    #[test]
    fn an_id_that_is_still_in_flight_is_waited_for() {
        let mut window = window();
        let once = |offset| InFlight::new(offset, Phase::Once, false);
        assert_eq!(window.admit(once(3), None), Some(4));
        assert_eq!(window.admit(once(3 + 65_535), None), None);
        assert!(window.acknowledged(4).is_some());
        assert_eq!(window.admit(once(3 + 65_535), None), Some(4));
    }

    #[test]
    fn each_answer_ends_only_the_exchange_that_waits_for_it() {
        let mut window = window();
        window.admit(InFlight::new(0, Phase::Once, false), None);
        window.admit(InFlight::new(1, Phase::Sent, false), None);
        assert_eq!(window.received(1), Received::Unknown, "a PUBREC for QoS 1");
        assert_eq!(window.acknowledged(2), None, "a PUBACK for QoS 2");
        assert_eq!(window.completed(2), None, "a PUBCOMP before PUBREC");
        assert_eq!(window.received(2), Received::New(1));
        assert_eq!(window.received(2), Received::Again);
        assert_eq!(window.refused(2), None, "too late");
        assert!(window.completed(2).is_some() && window.acknowledged(1).is_some());
        assert_eq!(window.room(), 10);
    }

    #[test]
    fn only_what_this_connection_sent_is_contradicted() {
        let flights = |ids: std::ops::Range<u64>| {
            ids.zip([Phase::Once, Phase::Sent, Phase::Released])
                .map(|(offset, phase)| InFlight::new(offset, phase, false))
        };
        let earlier = Position { next: 3, in_flight: flights(0..3).collect() };
        let mut window = Window::new(earlier, &BTreeSet::new(), 10);
        for flight in flights(3..6) {
            window.admit(flight, None);
        }
        let contradicted = |answers: &[Phase]| {
            (1..=7).filter(|&id| window.contradicts(id, answers)).collect::<Vec<_>>()
        };
        assert_eq!(contradicted(&[Phase::Once]), [5, 6], "by PUBACK");
        assert_eq!(contradicted(&[Phase::Sent, Phase::Released]), [4], "by PUBREC");
        assert_eq!(contradicted(&[Phase::Released]), [4, 5], "by PUBCOMP");
        assert!(window.mark_sent(1) && window.contradicts(1, &[Phase::Sent]), "sent again");
    }

    #[test]
    fn what_the_client_has_is_released_and_not_sent_again() {
        let sent = |offset| InFlight::new(offset, Phase::Sent, false);
        let position = Position { next: 8, in_flight: vec![sent(5), sent(6)] };
        let window = Window::new(position, &BTreeSet::from([3, 6, 9]), 10);
        let flights = window.entries().map(|entry| (entry.flight.offset, entry.flight.phase));
        let expected = [(5, Phase::Sent), (6, Phase::Released), (3, Phase::Released)];
        assert_eq!(flights.collect::<Vec<_>>(), expected, "9 is still to be offered");
    }
}
