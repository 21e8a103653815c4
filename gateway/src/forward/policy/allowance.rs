//! What a metered link may carry: bytes a second, bytes a day, and hours at which it rests. Pure.
//!
//! The rate is a bucket that holds a second's worth; what was sent beyond it is a debt that is paid
//! before more goes. Days and hours are those of UTC.

use crate::config::LinkConfig;

const DAY_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;

/// Why nothing goes, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Hold {
    why: Why,
    /// When it ends, ms since 1970.
    pub(in crate::forward) until_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Quiet,
    Budget,
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let minute = self.until_ms.rem_euclid(DAY_MS) / MINUTE_MS;
        let (hour, minute) = (minute / 60, minute % 60);
        match self.why {
            Why::Quiet => write!(f, "quiet hours until {hour:02}:{minute:02} UTC"),
            Why::Budget => {
                write!(f, "the daily budget is spent; it begins anew at {hour:02}:{minute:02} UTC")
            }
        }
    }
}

/// Bytes of a day, as the catalog keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::forward) struct Spent {
    /// Days since 1970.
    pub(in crate::forward) day: i64,
    /// Bytes sent on it.
    pub(in crate::forward) bytes: u64,
}

/// What may go now.
#[derive(Debug)]
pub(in crate::forward) struct Allowance {
    link: LinkConfig,
    /// Thousandths of bytes; below 0 a debt.
    credit: i64,
    filled_ms: u64,
    spent: Spent,
}

impl Allowance {
    /// With what was spent before.
    pub(in crate::forward) fn new(link: LinkConfig, spent: Spent) -> Self {
        let mut allowance = Self { link, credit: 0, filled_ms: 0, spent };
        allowance.credit = allowance.credit_max();
        allowance
    }

    fn credit_max(&self) -> i64 {
        self.link.max_rate.map_or(0, milli)
    }

    /// Time goes on.
    pub(in crate::forward) fn at(&mut self, now_ms: u64, unix_ms: i64) {
        let passed_ms = i64::try_from(now_ms.saturating_sub(self.filled_ms)).unwrap_or(i64::MAX);
        self.filled_ms = now_ms;
        let rate = i64::try_from(self.link.max_rate.unwrap_or(0)).unwrap_or(i64::MAX);
        let more = rate.saturating_mul(passed_ms);
        self.credit = self.credit.saturating_add(more).min(self.credit_max());
        let day = unix_ms.div_euclid(DAY_MS);
        if day != self.spent.day {
            self.spent = Spent { day, bytes: 0 };
        }
    }

    /// Bytes went.
    pub(in crate::forward) fn spend(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_sub(milli(bytes));
        self.spent.bytes = self.spent.bytes.saturating_add(bytes);
    }

    /// Of what was counted as `estimated`, `actual` bytes went.
    pub(in crate::forward) fn correct(&mut self, estimated: u64, actual: u64) {
        self.credit = self.credit.saturating_add(milli(estimated)).saturating_sub(milli(actual));
        let bytes = self.spent.bytes.saturating_add(actual).saturating_sub(estimated);
        self.spent.bytes = bytes;
    }

    /// Bytes that may be sent at once; the last record may go beyond.
    pub(in crate::forward) fn room(&self) -> u64 {
        match self.link.max_rate {
            Some(_) => u64::try_from(self.credit / 1000).unwrap_or(0),
            None => u64::MAX,
        }
    }

    /// When there is room again, ms from now; 0 where there is.
    pub(in crate::forward) fn wait_ms(&self) -> u64 {
        let (0, Some(rate)) = (self.room(), self.link.max_rate) else { return 0 };
        // A byte more than nothing.
        let missing = u64::try_from(1000_i64.saturating_sub(self.credit)).unwrap_or(u64::MAX);
        missing.div_ceil(rate.max(1)).max(1)
    }

    /// Why routes that are not urgent have to wait.
    pub(in crate::forward) fn hold(&self, unix_ms: i64) -> Option<Hold> {
        let spent = self.link.daily_budget.is_some_and(|budget| self.spent.bytes >= budget);
        if spent {
            let until_ms = (unix_ms.div_euclid(DAY_MS) + 1) * DAY_MS;
            return Some(Hold { why: Why::Budget, until_ms });
        }
        let until_ms = self.quiet_until(unix_ms)?;
        Some(Hold { why: Why::Quiet, until_ms })
    }

    /// Hours may follow one another.
    fn quiet_until(&self, unix_ms: i64) -> Option<i64> {
        let mut until_ms = None;
        let mut at_ms = unix_ms;
        for _ in 0..=self.link.quiet_hours.len() {
            let minute = at_ms.rem_euclid(DAY_MS) / MINUTE_MS;
            let ends = self.link.quiet_hours.iter().filter_map(|hours| hours.left(minute));
            let Some(left) = ends.max() else { break };
            at_ms = (at_ms.div_euclid(MINUTE_MS) + left) * MINUTE_MS;
            until_ms = Some(at_ms);
        }
        until_ms
    }

    /// For the catalog.
    pub(in crate::forward) fn spent(&self) -> Spent {
        self.spent
    }

    /// True where what is spent has to outlive a restart.
    pub(in crate::forward) fn has_budget(&self) -> bool {
        self.link.daily_budget.is_some()
    }
}

fn milli(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::QuietHours;

    const NOON_MS: i64 = 20_000 * DAY_MS + DAY_MS / 2;

    fn allowance(max_rate: Option<u64>, daily_budget: Option<u64>, quiet: &[&str]) -> Allowance {
        let quiet_hours =
            quiet.iter().map(|text| QuietHours::parse(text).expect("hours")).collect();
        let link = LinkConfig { max_rate, daily_budget, quiet_hours };
        Allowance::new(link, Spent::default())
    }

    #[test]
    fn a_rate_is_kept_over_any_time_and_a_debt_is_paid_first() {
        let mut metered = allowance(Some(1_000), None, &[]);
        let (mut sent, mut now_ms) = (0, 0);
        while now_ms < 60_000 {
            metered.at(now_ms, NOON_MS);
            if metered.room() > 0 {
                metered.spend(700);
                sent += 700;
            } else {
                now_ms += metered.wait_ms();
            }
        }
        assert!((60_000..=62_400).contains(&sent), "{sent}");
        metered.spend(10_000);
        assert!(metered.wait_ms() >= 9_000, "{}", metered.wait_ms());
        assert_eq!(allowance(None, None, &[]).room(), u64::MAX);
    }

    #[test]
    fn a_budget_holds_until_midnight_and_outlives_a_restart() {
        let mut metered = allowance(None, Some(500), &[]);
        metered.at(0, NOON_MS);
        metered.spend(499);
        assert_eq!(metered.hold(NOON_MS), None);
        metered.spend(1);
        let hold = metered.hold(NOON_MS).expect("spent");
        assert_eq!(hold.until_ms, 20_001 * DAY_MS);
        assert!(hold.to_string().contains("anew at 00:00 UTC"), "{hold}");
        let mut again = Allowance::new(metered.link.clone(), metered.spent());
        again.at(0, NOON_MS + 1);
        assert_eq!(again.hold(NOON_MS + 1), Some(hold));
        again.at(0, hold.until_ms);
        assert_eq!(again.hold(hold.until_ms), None);
    }

    #[test]
    fn quiet_hours_may_pass_midnight_and_follow_one_another() {
        let metered = allowance(None, None, &["22:00-06:00", "06:00-07:30"]);
        let at = |hour: i64| 20_000 * DAY_MS + hour * 3_600_000;
        assert_eq!(metered.hold(at(12)), None);
        for (hour, day) in [(22, 20_001), (26, 20_001), (6, 20_000)] {
            let hold = metered.hold(at(hour)).expect("quiet");
            assert_eq!(hold.until_ms, day * DAY_MS + 7 * 3_600_000 + 1_800_000, "{hour}");
            assert_eq!(hold.to_string(), "quiet hours until 07:30 UTC");
        }
    }
}
