//! Which records a command is about.

use std::collections::BTreeSet;

use super::place::Log;
use crate::config::parse_time;
use crate::exit::{Code, Failure};

#[derive(clap::Args)]
pub(super) struct Select {
    /// Only this stream
    #[arg(long)]
    pub(super) stream: Option<String>,
    /// Only this partition of the stream
    #[arg(long, value_name = "N", requires = "stream")]
    pub(super) partition: Option<u16>,
    /// Only this key
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Start here: an offset, `earliest`, an RFC 3339 time, or a time ago such as -1h
    #[arg(long, default_value = "earliest", allow_hyphen_values = true, value_parser = parse_bound)]
    pub(super) from: Bound,
    /// Stop before this: an offset, an RFC 3339 time, or a time ago such as -1h
    #[arg(long, allow_hyphen_values = true, value_parser = parse_bound)]
    pub(super) to: Option<Bound>,
}

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Offset(u64),
    /// ms since 1970.
    Time(i64),
}

/// A [`Select`] for one log.
pub(super) struct Wanted {
    /// Partitions of the journal; `None`: all.
    pub(super) partitions: Option<BTreeSet<u16>>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) from: Bound,
    pub(super) to: Option<Bound>,
}

impl Select {
    /// What it means in `log`.
    pub(super) fn of(&self, log: &Log) -> Result<Wanted, Failure> {
        let partitions = match &self.stream {
            None => None,
            Some(name) => Some(self.numbers(log, name)?),
        };
        let key = self.key.as_ref().map(|key| key.clone().into_bytes());
        Ok(Wanted { partitions, key, from: self.from, to: self.to })
    }

    /// Whether a record lies between `from` and `to`.
    pub(super) fn in_range(&self, offset: u64, time_ms: i64) -> bool {
        in_range(self.from, self.to, offset, time_ms)
    }

    fn numbers(&self, log: &Log, name: &str) -> Result<BTreeSet<u16>, Failure> {
        let stream = log.stream(name)?;
        let Some(wanted) = self.partition else {
            return Ok(stream.partitions.iter().copied().collect());
        };
        let number = stream.partitions.get(usize::from(wanted)).ok_or_else(|| {
            let count = stream.partitions.len();
            let fault =
                format!("stream {name:?} has {count} partitions, from 0; there is no {wanted}");
            Failure::new(Code::Usage, fault)
        })?;
        Ok(BTreeSet::from([*number]))
    }
}

impl Wanted {
    pub(super) fn has_partition(&self, number: u16) -> bool {
        self.partitions.as_ref().is_none_or(|partitions| partitions.contains(&number))
    }

    /// Whether a record of a wanted partition is wanted.
    pub(super) fn has(&self, record: &log_lite::Record<'_>) -> bool {
        in_range(self.from, self.to, record.offset, record.time_ms)
            && self.key.as_ref().is_none_or(|key| key == record.key)
    }

    /// No record at `offset` or behind it is wanted. Times are in no order, so that they do not say.
    pub(super) fn ends_before(&self, offset: u64) -> bool {
        matches!(self.to, Some(Bound::Offset(end)) if end <= offset)
    }
}

fn in_range(from: Bound, to: Option<Bound>, offset: u64, time_ms: i64) -> bool {
    let after = match from {
        Bound::Offset(first) => offset >= first,
        Bound::Time(first_ms) => time_ms >= first_ms,
    };
    let before = match to {
        None => true,
        Some(Bound::Offset(end)) => offset < end,
        Some(Bound::Time(end_ms)) => time_ms < end_ms,
    };
    after && before
}

fn parse_bound(text: &str) -> Result<Bound, String> {
    bound(text, jiff::Timestamp::now().as_millisecond())
}

fn bound(text: &str, now_ms: i64) -> Result<Bound, String> {
    if text == "earliest" {
        return Ok(Bound::Offset(0));
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago_ms = i64::try_from(parse_time(ago)?.as_millis()).unwrap_or(i64::MAX);
        return Ok(Bound::Time(now_ms.saturating_sub(ago_ms)));
    }
    if let Ok(offset) = text.parse() {
        return Ok(Bound::Offset(offset));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Bound::Time(time.as_millisecond())),
        Err(_) => Err("write an offset, `earliest`, an RFC 3339 time such as \
                       2026-01-31T08:00:00Z, or a time ago such as -1h"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: u64, time_ms: i64) -> log_lite::Record<'static> {
        log_lite::Record { offset, partition: 3, time_ms, key: b"a", value: b"" }
    }

    #[test]
    fn an_end_of_a_range_is_an_offset_a_time_or_a_time_ago() {
        assert_eq!(bound("17", 0), Ok(Bound::Offset(17)));
        assert_eq!(bound("earliest", 0), Ok(Bound::Offset(0)));
        assert_eq!(bound("-2h", 10_000_000), Ok(Bound::Time(2_800_000)));
        assert_eq!(bound("2025-11-21T04:40:00Z", 0), Ok(Bound::Time(1_763_700_000_000)));
        assert!(bound("yesterday", 0).expect_err("no time").contains("RFC 3339"));
        assert!(bound("-1 fortnight", 0).is_err());
    }

    #[test]
    fn a_range_holds_its_start_and_not_its_end() {
        let mut wanted = Wanted {
            partitions: None,
            key: None,
            from: Bound::Offset(5),
            to: Some(Bound::Offset(7)),
        };
        let has = |wanted: &Wanted, offset, time_ms| wanted.has(&record(offset, time_ms));
        assert_eq!([4, 5, 6, 7].map(|offset| has(&wanted, offset, 0)), [false, true, true, false]);
        assert!(wanted.ends_before(7) && !wanted.ends_before(6));
        (wanted.from, wanted.to) = (Bound::Time(50), Some(Bound::Time(70)));
        assert_eq!([49, 50, 69, 70].map(|time| has(&wanted, 1, time)), [false, true, true, false]);
        assert!(!wanted.ends_before(u64::MAX));
        wanted.key = Some(b"b".to_vec());
        assert!(!has(&wanted, 1, 50));
    }
}
