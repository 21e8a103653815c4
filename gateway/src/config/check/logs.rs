//! `[log]`, `[logs.NAME]` and the `log` of a stream.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::super::{LogConfig, NamedLogConfig, WhenFull, parse_size, parse_time, raw};
use super::{Checker, check_name};

const SEGMENT_BYTES: RangeInclusive<u64> = (2 << 20)..=(1 << 30);
const SEGMENT_DEFAULT: u32 = 16 << 20;
const MAX_DEFAULT: u64 = 4 << 30;
const AGE_MIN: Duration = Duration::from_secs(1);
const GRACE_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

impl Checker<'_> {
    pub(super) fn log(&mut self, raw: &raw::Log) -> LogConfig {
        let when_full =
            self.take_or("log.when_full", raw.when_full.as_ref(), WhenFull::DropOldest, |text| {
                match text.as_str() {
                    "drop-oldest" => Ok(WhenFull::DropOldest),
                    "block" => Ok(WhenFull::Block),
                    _ => Err(format!("{text:?}: write \"drop-oldest\" or \"block\"")),
                }
            });
        let segment_bytes = self.segment_size("log", raw.segment_size.as_ref());
        let max_bytes = self.max_size("log", raw.max_size.as_ref(), segment_bytes);
        let max_age = self.max_age("log", raw.max_age.as_ref());
        LogConfig {
            segment_bytes,
            max_bytes: max_bytes.unwrap_or(MAX_DEFAULT.max(2 * u64::from(segment_bytes))),
            max_age,
            when_full,
        }
    }

    pub(super) fn logs(
        &mut self,
        raw: &BTreeMap<Spanned<String>, raw::NamedLog>,
    ) -> BTreeMap<String, NamedLogConfig> {
        let mut logs = BTreeMap::new();
        for (name, log) in raw {
            let key = format!("logs.{}", name.get_ref());
            let checked = self.take(&key, name, |name| check_name(name));
            let segment_bytes = self.segment_size(&key, log.segment_size.as_ref());
            let max_bytes = self.max_size(&key, log.max_size.as_ref(), segment_bytes);
            let max_age = self.max_age(&key, log.max_age.as_ref());
            let grace_key = format!("{key}.tombstone_grace");
            let is_compact = log.compact.unwrap_or(false);
            let grace =
                self.take_or(&grace_key, log.tombstone_grace.as_ref(), GRACE_DEFAULT, |text| {
                    if is_compact {
                        return parse_time(text);
                    }
                    Err("only a log with compact = true has tombstones; add that or remove the key"
                        .to_owned())
                });
            if let Some(name) = checked {
                let compact = is_compact.then_some(grace);
                let config = NamedLogConfig { segment_bytes, max_bytes, max_age, compact };
                logs.insert(name, config);
            }
        }
        logs
    }

    pub(super) fn log_of_stream(
        &mut self,
        log: Option<&Spanned<String>>,
        logs: &BTreeMap<Spanned<String>, raw::NamedLog>,
    ) -> Option<String> {
        self.take("stream.log", log?, |name| {
            if logs.keys().any(|known| known.get_ref() == name) {
                return Ok(name.clone());
            }
            Err(format!("there is no [logs.{name}]; add it, or remove the key"))
        })
    }

    fn segment_size(&mut self, log: &str, text: Option<&Spanned<String>>) -> u32 {
        self.take_or(&format!("{log}.segment_size"), text, SEGMENT_DEFAULT, |text| {
            let bytes = parse_size(text)?;
            if SEGMENT_BYTES.contains(&bytes) {
                Ok(u32::try_from(bytes).expect("the range fits in 32 bits"))
            } else {
                Err(format!("{text:?}: write a size from 2 MiB to 1 GiB"))
            }
        })
    }

    fn max_size(
        &mut self,
        log: &str,
        text: Option<&Spanned<String>>,
        segment_bytes: u32,
    ) -> Option<u64> {
        self.take(&format!("{log}.max_size"), text?, |text| {
            let bytes = parse_size(text)?;
            if bytes >= 2 * u64::from(segment_bytes) {
                Ok(bytes)
            } else {
                Err(format!("{text:?} is less than two segments of {segment_bytes} bytes"))
            }
        })
    }

    fn max_age(&mut self, log: &str, text: Option<&Spanned<String>>) -> Option<Duration> {
        self.take(&format!("{log}.max_age"), text?, |text| {
            let age = parse_time(text)?;
            if age >= AGE_MIN {
                Ok(age)
            } else {
                Err(format!("{text:?}: write at least 1s, or leave it out to keep by size alone"))
            }
        })
    }
}
