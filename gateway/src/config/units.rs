//! Sizes (`16 MiB`) and times (`500ms`, `7d`) as users write them.

use std::time::Duration;

/// Bytes from `"256 KiB"`, `"4 GiB"`, `"1 MB"` or a plain number of bytes.
///
/// # Errors
/// A text that says what to write.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let remedy = || format!("{text:?} is not a size: write a number and B, KiB, MiB, GiB or TiB");
    let (number, unit) = split(text).ok_or_else(remedy)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "TiB" => 1 << 40,
        _ => return Err(remedy()),
    };
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is more bytes than fit in 64 bits"))
}

/// A time from `"500ms"`, `"30s"`, `"5m"`, `"12h"` or `"7d"`.
///
/// # Errors
/// A text that says what to write.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let remedy = || format!("{text:?} is not a time: write a number and ms, s, m, h or d");
    let (number, unit) = split(text).ok_or_else(remedy)?;
    let factor_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(remedy()),
    };
    number
        .checked_mul(factor_ms)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is too long a time"))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_as_written() {
        assert_eq!(parse_size("16 MiB"), Ok(16 << 20));
        assert_eq!(parse_size("256KiB"), Ok(256 << 10));
        assert_eq!(parse_size("512"), Ok(512));
        assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_time("7d"), Ok(Duration::from_secs(7 * 86_400)));
    }

    #[test]
    fn what_is_no_size_says_what_to_write() {
        for text in ["", "MiB", "16 mib", "-1 B", "99999999999 TiB"] {
            let problem = parse_size(text).expect_err(text);
            assert!(problem.contains(text), "{problem}");
        }
        assert!(parse_time("5 fortnights").expect_err("no unit").contains("ms, s, m, h or d"));
    }
}
