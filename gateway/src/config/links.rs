//! What an upstream's link may carry.

/// Minutes of a day.
const DAY: i64 = 24 * 60;

/// Bounds of a metered link; nothing is bounded by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkConfig {
    /// Bytes a second.
    pub max_rate: Option<u64>,
    /// Bytes a day, by UTC.
    pub daily_budget: Option<u64>,
    /// When only urgent routes send.
    pub quiet_hours: Vec<QuietHours>,
}

/// A part of each day, by UTC; it may pass midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietHours {
    first: i64,
    end: i64,
}

impl QuietHours {
    /// From `22:00-06:00`.
    ///
    /// # Errors
    /// A text that says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let (hour, minute): (i64, i64) = (hour.parse().ok()?, minute.parse().ok()?);
            ((0..24).contains(&hour) && (0..60).contains(&minute)).then_some(hour * 60 + minute)
        };
        let both = text.split_once('-').and_then(|(a, b)| Some((minute(a)?, minute(b)?)));
        match both {
            Some((first, end)) if first != end => Ok(Self { first, end }),
            Some(_) => Err(format!("{text:?} would be all day; remove the routes, or pause them")),
            None => Err(format!("{text:?}: write hours of UTC as \"22:00-06:00\"")),
        }
    }

    /// Minutes until it ends, at `minute` of a day; `None` outside.
    pub fn left(&self, minute: i64) -> Option<i64> {
        let length = (self.end - self.first).rem_euclid(DAY);
        let into = (minute - self.first).rem_euclid(DAY);
        (into < length).then_some(length - into)
    }
}

impl std::fmt::Display for QuietHours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { first, end } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", first / 60, first % 60, end / 60, end % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_read_as_written_and_may_pass_midnight() {
        let night = QuietHours::parse("22:00-06:30").expect("hours");
        assert_eq!(night.to_string(), "22:00-06:30");
        assert_eq!(night.left(21 * 60 + 59), None);
        assert_eq!(night.left(22 * 60), Some(8 * 60 + 30));
        assert_eq!(night.left(6 * 60 + 29), Some(1));
        assert_eq!(night.left(6 * 60 + 30), None);
        for wrong in ["22-06", "24:00-06:00", "22:00", "05:00-05:00", "", "a:b-c:d"] {
            let problem = QuietHours::parse(wrong).expect_err(wrong);
            assert!(problem.contains(wrong), "{problem}");
        }
    }
}
