//! Failed logins: each source may have some, then it has to wait. Reads no clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::limits::Bucket;
use super::source::Source;

/// Failures that a source of the network may have in so much time. Many devices may share an
/// address, and one with a wrong password must not keep the others out for long.
const FAILURES: (u64, Duration) = (20, Duration::from_secs(40));

/// Programs of this machine have no other address to be told apart by.
const FAILURES_LOCAL: (u64, Duration) = (100, Duration::from_secs(10));

/// Sources that are remembered: some 250 KiB.
const SOURCES_MAX: usize = 4096;

/// Who has failed lately.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    sources: HashMap<Source, Bucket>,
}

impl Attempts {
    /// True if `source` has failed so often that it is not heard now.
    pub(super) fn is_limited(&self, source: Source, now: Instant) -> bool {
        self.sources.get(&source).is_some_and(|bucket| bucket.wait(now) > Duration::ZERO)
    }

    /// A login of `source` has failed.
    pub(super) fn failed(&mut self, source: Source, now: Instant) {
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            self.make_room(now);
        }
        let (amount, per) = if source == Source::Local { FAILURES_LOCAL } else { FAILURES };
        self.sources.entry(source).or_insert_with(|| Bucket::new(amount, per)).event(now, 1);
    }

    /// Forgets those who would be forgiven now, else the one that will be first.
    fn make_room(&mut self, now: Instant) {
        self.sources.retain(|_, bucket| bucket.paid_at() > Some(now));
        if self.sources.len() >= SOURCES_MAX {
            let first = self.sources.iter().min_by_key(|(_, bucket)| bucket.paid_at());
            if let Some(source) = first.map(|(source, _)| *source) {
                self.sources.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORSE: Source = Source::V4(7);

    #[test]
    fn a_source_that_fails_too_often_waits_and_others_do_not() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        let mut failures = 0;
        while !attempts.is_limited(WORSE, now) {
            attempts.failed(WORSE, now);
            failures += 1;
        }
        assert_eq!(failures, FAILURES.0 + 1);
        assert!(!attempts.is_limited(Source::V4(8), now));
        let later = now + FAILURES.1 / 20;
        assert!(!attempts.is_limited(WORSE, later), "one more each two seconds");
        attempts.failed(WORSE, later);
        assert!(attempts.is_limited(WORSE, later));
    }

    #[test]
    fn this_machine_may_fail_more_often() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        (0..FAILURES_LOCAL.0).for_each(|_| attempts.failed(Source::Local, now));
        assert!(!attempts.is_limited(Source::Local, now));
        attempts.failed(Source::Local, now);
        assert!(attempts.is_limited(Source::Local, now));
    }

    #[test]
    fn the_table_has_a_bound_and_forgets_the_worst_last() {
        let mut attempts = Attempts::default();
        let mut now = Instant::now();
        (0..30).for_each(|_| attempts.failed(WORSE, now));
        for number in 0..20_000 {
            attempts.failed(Source::V6(number), now);
            assert!(attempts.sources.len() <= SOURCES_MAX);
        }
        assert!(attempts.is_limited(WORSE, now));
        now += Duration::from_secs(3600);
        attempts.failed(Source::V6(u64::MAX), now);
        assert_eq!(attempts.sources.len(), 1, "an hour forgives all");
    }
}
