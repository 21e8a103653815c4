//! How many bytes a day reach the device, and how long a card lasts at that: read off the log.
//!
//! A commit is one write, and the device writes whole blocks of 4 KiB: it gets those from the first
//! byte of a commit to its last. Most commits write over zeros that were written ahead, so each
//! byte of the log costs the device that zero as well. What the file system and the card write for
//! themselves is not in the log and not counted.

use std::collections::BTreeMap;
use std::ops::Range;

use headwater_shared::envelope::Envelope;

/// The block of a file system and, at least, of a card.
const BLOCK: u64 = 4096;
/// The rate is that of the last day before the newest record.
const WINDOW_MINUTES: i64 = 24 * 60;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: u128 = 86_400_000;

/// Adds up commits, by the minute in which they were made.
#[derive(Debug, Default)]
pub(super) struct Budget {
    minutes: BTreeMap<i64, Minute>,
    /// When records arrived that are looked at: first and last, in ms.
    open: Option<Commit>,
}

#[derive(Debug)]
struct Commit {
    segment: u64,
    bytes: Range<u64>,
    asked: u64,
    arrival_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Minute {
    first_ms: i64,
    last_ms: i64,
    asked: u64,
    device: u64,
    commits: u64,
}

/// What was written in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Writes {
    /// From the first arrival to the last.
    pub(super) span_ms: u64,
    pub(super) commits: u64,
    /// Bytes of keys and values.
    pub(super) asked: u64,
    /// Bytes that the device got for them.
    pub(super) device: u64,
}

impl Budget {
    /// The next batch of the log.
    pub(super) fn batch(&mut self, batch: &log_lite::BatchView<'_>) {
        if batch.starts_commit() {
            self.close();
        }
        let continues = self.open.as_ref().is_some_and(|commit| commit.segment == batch.segment());
        if !continues {
            self.close();
            self.open = Some(Commit {
                segment: batch.segment(),
                bytes: batch.bytes(),
                asked: 0,
                arrival_ms: None,
            });
        }
        let commit = self.open.as_mut().expect("it was opened above");
        commit.bytes.end = batch.bytes().end;
        for record in batch.records() {
            commit.asked += (record.key.len() + record.value.len()) as u64;
            commit.arrival_ms = arrival_ms(record.value).or(commit.arrival_ms);
        }
    }

    fn close(&mut self) {
        let Some(commit) = self.open.take() else { return };
        // A commit without a time of arrival (a query's output) was made right behind the last.
        let newest = self.minutes.last_key_value().map(|(_, minute)| minute.last_ms);
        let Some(at_ms) = commit.arrival_ms.or(newest) else { return };
        let minute = self.minutes.entry(at_ms.div_euclid(MINUTE_MS)).or_insert(Minute {
            first_ms: at_ms,
            last_ms: at_ms,
            asked: 0,
            device: 0,
            commits: 0,
        });
        minute.first_ms = minute.first_ms.min(at_ms);
        minute.last_ms = minute.last_ms.max(at_ms);
        minute.asked += commit.asked;
        minute.device += device_bytes(&commit.bytes);
        minute.commits += 1;
    }

    /// What the last day wrote; `None` where no record says when it arrived.
    pub(super) fn writes(mut self) -> Option<Writes> {
        self.close();
        let newest = *self.minutes.last_key_value()?.0;
        let day = self.minutes.range(newest.saturating_sub(WINDOW_MINUTES)..);
        let (mut first_ms, mut last_ms) = (i64::MAX, i64::MIN);
        let mut writes = Writes { span_ms: 0, commits: 0, asked: 0, device: 0 };
        for (_, minute) in day {
            first_ms = first_ms.min(minute.first_ms);
            last_ms = last_ms.max(minute.last_ms);
            writes.asked += minute.asked;
            writes.device += minute.device;
            writes.commits += minute.commits;
        }
        writes.span_ms = last_ms.abs_diff(first_ms);
        Some(writes)
    }
}

impl Writes {
    /// Bytes a day that callers asked to store; `None` where the span is too short for a rate.
    pub(super) fn asked_a_day(&self) -> Option<u64> {
        self.a_day(self.asked)
    }

    /// Bytes a day that reach the device.
    pub(super) fn device_a_day(&self) -> Option<u64> {
        self.a_day(self.device)
    }

    /// Device bytes for each byte asked.
    pub(super) fn amplification(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a ratio is shown with two digits")]
        let ratio = self.device as f64 / self.asked as f64;
        (self.asked > 0).then_some(ratio)
    }

    /// Years until a card is worn that takes `endurance` bytes.
    pub(super) fn years(&self, endurance: u64) -> Option<f64> {
        let a_day = self.device_a_day().filter(|bytes| *bytes > 0)?;
        #[expect(clippy::cast_precision_loss, reason = "years are shown with two digits")]
        let days = endurance as f64 / a_day as f64;
        Some(days / 365.25)
    }

    fn a_day(&self, bytes: u64) -> Option<u64> {
        let a_day = (u128::from(bytes) * DAY_MS).checked_div(u128::from(self.span_ms))?;
        Some(u64::try_from(a_day).unwrap_or(u64::MAX))
    }
}

/// The blocks that a commit touches, and the zeros that it stands on.
fn device_bytes(commit: &Range<u64>) -> u64 {
    let blocks = commit.end.div_ceil(BLOCK) - commit.start / BLOCK;
    blocks * BLOCK + (commit.end - commit.start)
}

/// When the gateway took a record in, where the record says so.
fn arrival_ms(value: &[u8]) -> Option<i64> {
    match Envelope::decode(value).ok()? {
        Envelope::Publish(publish) => Some(publish.arrival_ms),
        Envelope::Tick(tick) => Some(tick.now_ms),
        Envelope::Session(_) | Envelope::Output(_) | Envelope::Gap(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_shared::envelope::Tick;
    use log_lite::{Journal, JournalOptions, Reader};

    /// A log of commits, each of the given number of records, made at the given time.
    fn budget(commits: &[(i64, usize)]) -> Budget {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (mut log, _) = Journal::open_dir(dir.path(), JournalOptions::default()).expect("a log");
        for (now_ms, records) in commits {
            let mut buffer = [0; 64];
            let value = Envelope::Tick(Tick { now_ms: *now_ms });
            let value = value.encode(&mut buffer).expect("it fits");
            for number in 0..*records {
                // A partition each, so that a commit is of several batches.
                log.append(number as u16, 0, b"", value).expect("room");
            }
            log.commit().expect("room on disk");
        }
        let mut budget = Budget::default();
        let mut reader = Reader::open_dir(dir.path()).expect("the log");
        while let Some(batch) = reader.next(u64::MAX).expect("it is whole") {
            budget.batch(&batch);
        }
        budget
    }

    #[test]
    fn each_commit_costs_the_device_at_least_a_block() {
        let writes = budget(&[(0, 1), (10_000, 3), (20_000, 1)]).writes().expect("times");
        assert_eq!((writes.commits, writes.span_ms), (3, 20_000));
        assert_eq!(writes.device / BLOCK, 3, "{writes:?}");
        assert_eq!(writes.device_a_day(), Some(writes.device * 4320));
        assert!(writes.amplification().is_some_and(|ratio| ratio > 100.0));
        let years = writes.years(writes.device * 4320 * 731).expect("a rate");
        assert!((years - 2.0).abs() < 0.01, "{years}");
    }

    #[test]
    fn only_the_last_day_counts() {
        let day_ms = 86_400_000;
        let writes = budget(&[(0, 1), (9 * day_ms, 1), (9 * day_ms + 5000, 1)]).writes();
        let writes = writes.expect("times");
        assert_eq!((writes.commits, writes.span_ms), (2, 5000));
    }

    #[test]
    fn an_empty_log_and_one_record_have_no_rate() {
        assert_eq!(budget(&[]).writes(), None);
        let one = budget(&[(7, 1)]).writes().expect("a time");
        assert_eq!(
            (one.commits, one.span_ms, one.device_a_day(), one.years(1)),
            (1, 0, None, None)
        );
    }

    #[test]
    fn a_commit_across_a_block_costs_both() {
        assert_eq!(device_bytes(&(4000..4100)), 2 * BLOCK + 100);
        assert_eq!(device_bytes(&(4096..4196)), BLOCK + 100);
    }
}
