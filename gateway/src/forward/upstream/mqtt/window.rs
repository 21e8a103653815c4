//! Messages on the way: each has a packet id until its acknowledgement has come. Pure.

use std::collections::VecDeque;

/// Packet ids go from 1 to 65535 and round.
#[derive(Debug)]
pub(super) struct Window {
    /// Ids on the way and the routes of their messages, in the order they were sent.
    sent: VecDeque<(u16, usize)>,
    next: u16,
    room: usize,
}

/// An answer to nothing that is on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unknown;

impl Window {
    /// At most `room` messages are on the way at a time; less than there are ids.
    pub(super) fn new(room: u16) -> Self {
        let room = usize::from(room.clamp(1, u16::MAX - 1));
        Self { sent: VecDeque::new(), next: 1, room }
    }

    pub(super) fn is_full(&self) -> bool {
        self.sent.len() >= self.room
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// The id that the next message has.
    ///
    /// # Panics
    /// If the window is full.
    pub(super) fn next(&mut self) -> u16 {
        assert!(!self.is_full(), "the caller waits for room");
        // A peer that answers out of order may leave an old id on the way while ids go round.
        while self.sent.iter().any(|(id, _)| *id == self.next) {
            self.step();
        }
        self.next
    }

    /// The message with the next id, of `route`, was sent.
    pub(super) fn sent(&mut self, route: usize) {
        self.sent.push_back((self.next, route));
        self.step();
    }

    fn step(&mut self) {
        self.next = self.next.checked_add(1).unwrap_or(1);
    }

    /// The peer has answered the message of `id`; its route.
    pub(super) fn answered(&mut self, id: u16) -> Result<usize, Unknown> {
        let at = self.sent.iter().position(|(known, _)| *known == id).ok_or(Unknown)?;
        self.sent.remove(at).map(|(_, route)| route).ok_or(Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(window: &mut Window) -> u16 {
        let id = window.next();
        window.sent(7);
        id
    }

    #[test]
    fn an_id_is_on_the_way_once_however_long_its_answer_takes() {
        let mut window = Window::new(3);
        let stuck = send(&mut window);
        for round in 0..200_000_u32 {
            let id = send(&mut window);
            assert!(id != 0 && id != stuck, "{round}");
            assert_eq!(window.answered(id), Ok(7));
        }
        assert!(!window.is_empty());
        assert_eq!(window.answered(stuck), Ok(7));
        assert_eq!(window.answered(stuck), Err(Unknown));
        assert!(window.is_empty());
    }

    #[test]
    fn a_window_is_full_at_its_size_and_has_room_after_an_answer() {
        let mut window = Window::new(2);
        let first = send(&mut window);
        assert!(!window.is_full());
        send(&mut window);
        assert!(window.is_full());
        assert_eq!(window.answered(first), Ok(7));
        assert!(!window.is_full());
    }
}
