//! Log lines about clients, at a bounded rate and of bounded length.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use super::peer::Peer;

/// So many lines in so much time; the rest is counted and said in one line.
const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// So much of what a client sent goes into a line; a stranger may call itself by 64 KiB.
const SHOWN_BYTES_MAX: usize = 256;

#[derive(Debug)]
struct Window {
    start: Instant,
    lines: u32,
    held_back: u64,
}

/// Says what clients did wrong.
#[derive(Debug)]
pub(crate) struct Complaints {
    window: Mutex<Window>,
}

impl Complaints {
    pub(crate) fn new(now: Instant) -> Self {
        Self { window: Mutex::new(Window { start: now, lines: 0, held_back: 0 }) }
    }

    /// Logs what `client` at `peer` did wrong, or counts it.
    pub(crate) fn log(&self, client: &str, peer: &Peer, why: &dyn std::fmt::Display) {
        let Some(held_back) = self.admit(Instant::now()) else { return };
        if held_back > 0 {
            warn!(held_back, "more connections went wrong than there were lines for");
        }
        let (client, why) = (shown(client), why.to_string());
        warn!(client, %peer, reason = %shown(&why), "connection ended");
    }

    /// `None` where the line is held back; else how many were held back in the last window.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held_back = 0;
        if now.saturating_duration_since(window.start) >= WINDOW {
            held_back = window.held_back;
            *window = Window { start: now, lines: 0, held_back: 0 };
        }
        if window.lines >= LINES_MAX {
            window.held_back += 1;
            return None;
        }
        window.lines += 1;
        Some(held_back)
    }
}

/// The beginning of `text`.
fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_the_beginning_of_what_a_client_sent() {
        assert_eq!(shown("pump-7"), "pump-7");
        assert_eq!(shown(&"x".repeat(65_000)).len(), SHOWN_BYTES_MAX);
        assert_eq!(shown(&"€".repeat(1000)), "€".repeat(85), "no part of a character");
    }

    #[test]
    fn a_flood_of_complaints_is_held_back_and_counted() {
        let start = Instant::now();
        let complaints = Complaints::new(start);
        let said = (0..100).filter(|_| complaints.admit(start).is_some()).count();
        assert_eq!(said, LINES_MAX as usize);
        assert_eq!(complaints.admit(start + WINDOW), Some(90));
    }
}
