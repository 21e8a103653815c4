//! A token bucket as one moment: when all that came through is paid for. Reads no clock.

use std::time::{Duration, Instant};

/// So much in so much time, and after a silence as much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    amount: u64,
    per: Duration,
    paid_at: Option<Instant>,
}

impl Bucket {
    /// A bucket that is full; `amount` is at least 1.
    pub(crate) fn new(amount: u64, per: Duration) -> Self {
        Self { amount: amount.max(1), per, paid_at: None }
    }

    /// `n` more come at `now`: how long they have to wait. They are counted and have their turn
    /// from then on, so what comes later waits for them too. With `n` of 0 it is only a question.
    pub(crate) fn event(&mut self, now: Instant, n: u64) -> Duration {
        let from = self.paid_at.map_or(now, |paid_at| paid_at.max(now));
        // Beyond what a clock can say there is nothing to wait for.
        self.paid_at = Some(from.checked_add(self.cost(n)).unwrap_or(from));
        (from - now).saturating_sub(self.per)
    }

    /// How long something would have to wait that comes at `now`.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.paid_at
            .map_or(Duration::ZERO, |paid_at| paid_at.saturating_duration_since(now))
            .saturating_sub(self.per)
    }

    /// When it is, or was, full again; `None` where nothing ever came.
    pub(crate) fn paid_at(&self) -> Option<Instant> {
        self.paid_at
    }

    fn cost(&self, n: u64) -> Duration {
        let ns = u128::from(n) * self.per.as_nanos() / u128::from(self.amount);
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A client that sends as fast as it may: how many of `n` come through in `time`.
    fn through(bucket: &mut Bucket, n: u64, time: Duration) -> u64 {
        let start = Instant::now();
        let mut now = start;
        let mut count = 0;
        loop {
            now += bucket.event(now, n);
            if now > start + time {
                return count;
            }
            count += 1;
        }
    }

    #[test]
    fn a_flood_is_held_to_the_rate_and_one_burst() {
        let mut bucket = Bucket::new(100, SECOND);
        assert_eq!(through(&mut bucket, 1, 10 * SECOND), 10 * 100 + 100 + 1);
    }

    #[test]
    fn what_stays_below_the_rate_never_waits() {
        let mut bucket = Bucket::new(100, SECOND);
        let start = Instant::now();
        for number in 0..10_000 {
            let now = start + number * Duration::from_millis(10);
            assert_eq!(bucket.event(now, 1), Duration::ZERO);
        }
    }

    #[test]
    fn something_larger_than_the_bucket_comes_through_and_the_next_pays_for_it() {
        let mut bucket = Bucket::new(1024, SECOND);
        let now = Instant::now();
        assert_eq!(bucket.event(now, 10 * 1024), Duration::ZERO);
        assert_eq!(bucket.event(now, 1), 9 * SECOND);
        assert_eq!(bucket.wait(now + 20 * SECOND), Duration::ZERO);
    }

    #[test]
    fn those_who_wait_have_their_turns_one_after_the_other() {
        let mut bucket = Bucket::new(1, SECOND);
        let now = Instant::now();
        let waits: Vec<u64> = (0..5).map(|_| bucket.event(now, 1).as_secs()).collect();
        assert_eq!(waits, [0, 0, 1, 2, 3]);
        assert_eq!(bucket.event(now, 0), 4 * SECOND, "a question");
        assert_eq!(bucket.event(now, 0), 4 * SECOND, "costs nothing");
    }

    #[test]
    fn amounts_beyond_all_reason_do_not_panic() {
        let mut bucket = Bucket::new(1, SECOND);
        let now = Instant::now();
        for _ in 0..3 {
            bucket.event(now, u64::MAX);
        }
    }
}
