//! The pure core of one shared subscription: one position in the log, and members that take turns.
//!
//! A record is *out* from when a member gets it until its exchange is over; what a member that
//! leaves had not acknowledged is *returned* and goes to the others first.

use std::collections::{BTreeSet, VecDeque};

use crate::mqtt::session::{InFlight, Phase, Position};

/// Which member of a group; never given twice.
pub(crate) type Token = u64;

/// What the group wants of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The record at this offset, which came back.
    Returned(u64),
    /// Whatever comes from this offset on.
    From(u64),
    /// Nothing: no member has room.
    Nothing,
}

#[derive(Debug)]
struct Member<R> {
    token: Token,
    /// How many more it takes.
    room: usize,
    /// Given, and not fetched yet.
    queue: VecDeque<(u64, R)>,
}

#[derive(Debug)]
pub(crate) struct Group<R> {
    next: u64,
    returned: BTreeSet<u64>,
    out: BTreeSet<u64>,
    /// In the order of their turns: who got the last record is at the end.
    members: VecDeque<Member<R>>,
    moved: bool,
}

impl<R> Group<R> {
    /// Goes on at `position`; what was out then goes to whoever comes.
    pub(crate) fn new(position: &Position) -> Self {
        Self {
            next: position.next,
            returned: position.in_flight.iter().map(|entry| entry.offset).collect(),
            out: BTreeSet::new(),
            members: VecDeque::new(),
            moved: false,
        }
    }

    pub(crate) fn join(&mut self, token: Token) {
        self.members.push_back(Member { token, room: 0, queue: VecDeque::new() });
    }

    /// The member takes no more; what it did not fetch is returned.
    pub(crate) fn leave(&mut self, token: Token) {
        let Some(index) = self.members.iter().position(|member| member.token == token) else {
            return;
        };
        let queue = self.members.remove(index).map(|member| member.queue).unwrap_or_default();
        for (offset, _) in queue {
            self.give_back(offset);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = Token> {
        self.members.iter().map(|member| member.token)
    }

    /// The member takes `room` more messages, those that it has not fetched among them.
    pub(crate) fn set_room(&mut self, token: Token, room: usize) {
        if let Some(member) = self.members.iter_mut().find(|member| member.token == token) {
            member.room = room.saturating_sub(member.queue.len());
        }
    }

    pub(crate) fn want(&self) -> Want {
        if self.members.iter().all(|member| member.room == 0) {
            return Want::Nothing;
        }
        match self.returned.first() {
            Some(&offset) => Want::Returned(offset),
            None => Want::From(self.next),
        }
    }

    /// Gives a record to the member whose turn it is and who has room: that one is told. `None`
    /// where nobody has room.
    pub(crate) fn give(&mut self, offset: u64, record: R) -> Option<Token> {
        let index = self.members.iter().position(|member| member.room > 0)?;
        let mut member = self.members.remove(index)?;
        member.room -= 1;
        member.queue.push_back((offset, record));
        let token = member.token;
        self.members.push_back(member);
        self.pass(offset);
        self.out.insert(offset);
        Some(token)
    }

    /// The record at `offset` is for nobody, or gone.
    pub(crate) fn pass(&mut self, offset: u64) {
        if !self.returned.remove(&offset) {
            self.next = self.next.max(offset + 1);
        }
        self.moved = true;
    }

    /// Records below `offset` are not to be had.
    pub(crate) fn skip_to(&mut self, offset: u64) {
        self.next = self.next.max(offset);
    }

    /// A commit failed and its offsets are given anew from `end` on.
    pub(crate) fn rewind(&mut self, end: u64) {
        self.next = self.next.min(end);
    }

    /// What was given to the member.
    pub(crate) fn fetch(&mut self, token: Token) -> VecDeque<(u64, R)> {
        let member = self.members.iter_mut().find(|member| member.token == token);
        member.map(|member| std::mem::take(&mut member.queue)).unwrap_or_default()
    }

    /// The exchange of this message is over, whatever came of it.
    pub(crate) fn done(&mut self, offset: u64) {
        self.moved |= self.out.remove(&offset);
    }

    /// A member could not finish this one; others get it.
    pub(crate) fn give_back(&mut self, offset: u64) {
        if self.out.remove(&offset) {
            self.returned.insert(offset);
            self.moved = true;
        }
    }

    /// True once after something has changed that [`Group::position`] tells.
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Where the group goes on after the gateway has died.
    pub(crate) fn position(&self) -> Position {
        let again = self.out.union(&self.returned);
        let in_flight = again.map(|&offset| InFlight::new(offset, Phase::Once, false));
        Position { next: self.next, in_flight: in_flight.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives what the group wants of a log that ends at `end`, until it wants no more.
    fn deal(group: &mut Group<()>, end: u64) -> Vec<(u64, Token)> {
        let mut given = Vec::new();
        loop {
            let offset = match group.want() {
                Want::Returned(offset) => offset,
                Want::From(offset) if offset < end => offset,
                Want::From(_) | Want::Nothing => return given,
            };
            given.push((offset, group.give(offset, ()).expect("somebody has room")));
        }
    }

    fn group(members: u64, room: usize) -> Group<()> {
        let mut group = Group::new(&Position::default());
        for token in 0..members {
            group.join(token);
            group.set_room(token, room);
        }
        group
    }

    #[test]
    fn members_take_turns_and_one_without_room_is_passed_over() {
        let mut group = group(3, 2);
        group.set_room(1, 0);
        assert_eq!(deal(&mut group, 9), [(0, 0), (1, 2), (2, 0), (3, 2)]);
        assert_eq!(group.want(), Want::Nothing);
        group.set_room(1, 1);
        assert_eq!(deal(&mut group, 9), [(4, 1)]);
    }

    #[test]
    fn what_a_member_leaves_behind_goes_to_the_others_first() {
        let mut group = group(2, 2);
        deal(&mut group, 4);
        // The first fetched one of its two and had it acknowledged, and fetched the other.
        assert_eq!(group.fetch(0).len(), 2);
        group.done(0);
        group.leave(0);
        group.give_back(2);
        group.fetch(1);
        group.set_room(1, 2);
        assert_eq!(deal(&mut group, 6), [(2, 1), (4, 1)]);
    }

    #[test]
    fn a_group_goes_on_with_all_that_was_not_acknowledged() {
        let mut first = group(2, 2);
        deal(&mut first, 4);
        first.done(1);
        assert!(first.take_moved() && !first.take_moved());
        let mut second = Group::<()>::new(&first.position());
        second.join(7);
        second.set_room(7, 9);
        let offsets: Vec<u64> = deal(&mut second, 6).iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [0, 2, 3, 4, 5]);
    }
}
