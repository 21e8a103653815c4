//! Numbers as people read them.

/// `1.5 MiB`: three digits are enough to compare by.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10) as usize;
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = bytes as f64 / (1_u64 << (10 * power)) as f64;
    let digits = if value < 99.95 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[power - 1])
}

/// RFC 3339 to the second; the number itself where no calendar has it.
pub(super) fn time(time_ms: i64) -> String {
    calendar(time_ms, 0)
}

/// RFC 3339 to the millisecond.
pub(super) fn time_ms(time_ms: i64) -> String {
    calendar(time_ms, 3)
}

fn calendar(time_ms: i64, digits: usize) -> String {
    match jiff::Timestamp::from_millisecond(time_ms) {
        Ok(time) => format!("{time:.digits$}"),
        Err(_) => format!("{time_ms} ms"),
    }
}

/// `1 record`, `2 records`.
pub(super) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A span of time in its largest unit that is there twice.
pub(super) fn span(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1_000, "seconds")];
    match UNITS.iter().find(|(unit_ms, _)| ms >= 2 * unit_ms) {
        Some((unit_ms, name)) => format!("{} {name}", ms / unit_ms),
        None => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_three_digits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(300 << 20), "300 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!([count(1, "record"), count(0, "record")], ["1 record", "0 records"]);
    }

    #[test]
    fn times_and_spans_read_as_written() {
        assert_eq!(time(1_763_700_000_999), "2025-11-21T04:40:00Z");
        assert_eq!(time(i64::MAX), "9223372036854775807 ms");
        assert_eq!(span(90_000), "90 seconds");
        assert_eq!(span(86_400_000), "24 hours");
        assert_eq!(span(3 * 86_400_000), "3 days");
        assert_eq!(span(1500), "1500 ms");
    }
}
