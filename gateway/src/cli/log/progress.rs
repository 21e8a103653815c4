//! A progress bar on standard error, where that is a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::human;

const WIDTH: usize = 30;
const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// Bytes done of bytes in all; gone when dropped.
pub(super) struct Bar {
    shown: bool,
    started: Instant,
    drawn: Option<Instant>,
}

impl Bar {
    pub(super) fn new() -> Self {
        let shown = std::io::stderr().is_terminal();
        Self { shown, started: Instant::now(), drawn: None }
    }

    /// One that is never drawn.
    pub(super) fn hidden() -> Self {
        Self { shown: false, ..Self::new() }
    }

    /// Draws, but not more often than an eye can follow.
    pub(super) fn set(&mut self, done: u64, total: u64) {
        // What is done at once needs no bar.
        let due = self.drawn.unwrap_or(self.started).elapsed() >= REDRAW_EVERY;
        if self.shown && due {
            self.drawn = Some(Instant::now());
            draw(&line(done, total, self.started.elapsed()));
        }
    }

    /// Makes room for a line; the bar comes again with the next call of [`Bar::set`] that is due.
    pub(super) fn clear(&self) {
        if self.drawn.is_some() {
            draw("");
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(done: u64, total: u64, elapsed: Duration) -> String {
    let done = done.min(total);
    let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(100);
    let filled = usize::try_from(percent).unwrap_or(0) * WIDTH / 100;
    let a_second = u128::from(done) * 1000 / elapsed.as_millis().max(1);
    format!(
        "[{}{}] {percent:3} % of {}, {}/s",
        "#".repeat(filled),
        " ".repeat(WIDTH - filled),
        human::bytes(total),
        human::bytes(u64::try_from(a_second).unwrap_or(u64::MAX)),
    )
}

#[expect(clippy::print_stderr, reason = "a progress bar on the terminal")]
fn draw(text: &str) {
    eprint!("\r\x1b[K{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_how_much_of_what_and_how_fast() {
        let half = line(512 << 20, 1 << 30, Duration::from_secs(2));
        assert_eq!(
            half,
            format!("[{}{}]  50 % of 1.0 GiB, 256 MiB/s", "#".repeat(15), " ".repeat(15))
        );
    }

    #[test]
    fn nothing_to_do_is_done_and_more_than_all_is_all() {
        assert!(line(0, 0, Duration::ZERO).contains("100 %"));
        assert!(line(9, 3, Duration::ZERO).contains("100 %"));
    }
}
