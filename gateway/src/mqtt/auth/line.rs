//! The line of logins before the one check at a time: sources take turns, and when the line is
//! full the longest gives way. No locks, no clock.

use std::collections::VecDeque;

use super::source::Source;

/// Logins that wait. At tens of ms a check, the last of them is close to the deadline of its
/// handshake.
const WAITING_MAX: usize = 256;

/// Waiting logins, in turns of their sources.
#[derive(Debug)]
pub(super) struct Line<T> {
    /// None of them is empty; the front is next.
    sources: VecDeque<(Source, VecDeque<T>)>,
    count: usize,
}

/// What came of standing in line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined<T> {
    /// There was room.
    Waits,
    /// It waits in place of this one.
    Instead(T),
    /// The line is full, and nobody has more of it than its source.
    Full(T),
}

impl<T> Line<T> {
    pub(super) fn new() -> Self {
        Self { sources: VecDeque::new(), count: 0 }
    }

    /// Takes a place at the end of the source's own line.
    pub(super) fn join(&mut self, source: Source, waiter: T) -> Joined<T> {
        let own = self.sources.iter().position(|(other, _)| *other == source);
        let own_count = own.map_or(0, |index| self.sources[index].1.len());
        let mut instead = None;
        if self.count >= WAITING_MAX {
            let longest = self.sources.iter_mut().max_by_key(|(_, line)| line.len());
            match longest.filter(|(_, line)| line.len() > own_count + 1) {
                Some((_, line)) => instead = line.pop_back(),
                None => return Joined::Full(waiter),
            }
            self.count -= 1;
        }
        self.count += 1;
        match own {
            Some(index) => self.sources[index].1.push_back(waiter),
            None => self.sources.push_back((source, VecDeque::from([waiter]))),
        }
        instead.map_or(Joined::Waits, Joined::Instead)
    }

    /// The next in turn.
    pub(super) fn next(&mut self) -> Option<T> {
        let (source, mut line) = self.sources.pop_front()?;
        let next = line.pop_front();
        self.count -= usize::from(next.is_some());
        if !line.is_empty() {
            self.sources.push_back((source, line));
        }
        next
    }

    /// Sends away those who are not waiting any more.
    pub(super) fn retain(&mut self, mut waits: impl FnMut(&T) -> bool) {
        for (_, line) in &mut self.sources {
            line.retain(&mut waits);
        }
        self.sources.retain(|(_, line)| !line.is_empty());
        self.count = self.sources.iter().map(|(_, line)| line.len()).sum();
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= WAITING_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: Source = Source::V4(1);
    const GOOD: Source = Source::V4(2);

    fn join_all<T: PartialEq>(line: &mut Line<T>, all: impl Iterator<Item = (Source, T)>) {
        for (source, waiter) in all {
            assert!(line.join(source, waiter) == Joined::Waits, "there is room");
        }
    }

    #[test]
    fn a_flood_from_one_source_delays_another_by_one_turn() {
        let mut line = Line::new();
        join_all(&mut line, (0..200).map(|number| (FLOOD, number)));
        assert_eq!(line.join(GOOD, 1000), Joined::Waits);
        assert_eq!((line.next(), line.next(), line.next()), (Some(0), Some(1000), Some(1)));
    }

    #[test]
    fn a_full_line_makes_room_at_the_end_of_its_longest_part() {
        let mut line = Line::new();
        join_all(&mut line, (0..WAITING_MAX).map(|number| (FLOOD, number)));
        assert_eq!(line.join(FLOOD, 9999), Joined::Full(9999));
        assert_eq!(line.join(GOOD, 1000), Joined::Instead(WAITING_MAX - 1));
        line.next();
        assert_eq!(line.next(), Some(1000));
        assert_eq!(line.count, WAITING_MAX - 2);
    }

    #[test]
    fn of_sources_with_one_login_each_none_gives_way() {
        let mut line = Line::new();
        join_all(&mut line, (0..WAITING_MAX as u32).map(|number| (Source::V4(number), number)));
        assert_eq!(line.join(Source::Local, 7), Joined::Full(7));
        line.retain(|number| *number != 0);
        assert_eq!(line.join(Source::Local, 7), Joined::Waits);
        assert_eq!(line.next(), Some(1));
    }

    #[test]
    fn an_empty_line_keeps_nothing() {
        let mut line = Line::new();
        line.join(GOOD, 1);
        assert_eq!((line.next(), line.next()), (Some(1), None));
        assert!(line.sources.is_empty() && line.count == 0);
    }
}
