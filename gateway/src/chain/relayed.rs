//! What another gateway says of a message, read from its user properties. Pure.

use headwater_shared::envelope::{Gap, GapCause, GapUnit};
use headwater_shared::origin::{Origin, property};
use serde_json::Value as Json;

/// Texts of an identity are at most so long; each is kept for every route.
const TEXT_BYTES_MAX: usize = 1024;

/// A message that another gateway had in its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed<'a> {
    /// Its identity there.
    pub(crate) origin: Origin<'a>,
    /// Event time, ms since 1970.
    pub(crate) time_ms: i64,
    /// The stream's key.
    pub(crate) key: &'a str,
    /// The payload says that something is missing.
    pub(crate) is_gap: bool,
    /// The generation of the journal in which all that it sent before is.
    pub(crate) generation: u64,
}

#[derive(Default)]
struct Said<'a> {
    gateway: Option<&'a str>,
    incarnation: Option<&'a str>,
    stream: Option<&'a str>,
    route: Option<&'a str>,
    offset: Option<&'a str>,
    last: Option<&'a str>,
    index: Option<&'a str>,
    time: Option<&'a str>,
    key: Option<&'a str>,
    first: Option<&'a str>,
    is_gap: bool,
}

impl<'a> Relayed<'a> {
    /// Reads the properties of a message of the client that may speak for `gateway`. `None`: it
    /// has no identity, and is a message like any other.
    ///
    /// # Errors
    /// What of its identity is missing or wrong.
    pub(crate) fn read(
        gateway: &str,
        properties: impl Iterator<Item = (&'a str, &'a str)>,
        generation: u64,
    ) -> Result<Option<Self>, String> {
        let said = Said::hear(properties);
        let (None, None) = (said.gateway, said.offset) else {
            return said.relayed(gateway, generation).map(Some);
        };
        Ok(None)
    }
}

impl<'a> Said<'a> {
    fn hear(properties: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut said = Self::default();
        for (name, value) in properties {
            let place = match name {
                property::GATEWAY => &mut said.gateway,
                property::INCARNATION => &mut said.incarnation,
                property::STREAM => &mut said.stream,
                property::ROUTE => &mut said.route,
                property::OFFSET => &mut said.offset,
                property::LAST => &mut said.last,
                property::INDEX => &mut said.index,
                property::TIME => &mut said.time,
                property::KEY => &mut said.key,
                property::ORIGIN => &mut said.first,
                property::GAP => {
                    said.is_gap = true;
                    continue;
                }
                _ => continue,
            };
            *place = Some(value);
        }
        said
    }

    fn relayed(&self, gateway: &str, generation: u64) -> Result<Relayed<'a>, String> {
        let named = text(property::GATEWAY, self.gateway)?;
        if named != gateway {
            return Err(format!(
                "it speaks for the gateway {named:?}, and its [[user]] has gateway = {gateway:?}"
            ));
        }
        let offset = number(property::OFFSET, self.offset)?;
        let last = self.last.map_or(Ok(offset), |last| number(property::LAST, Some(last)))?;
        let index = self.index.map(|index| number(property::INDEX, Some(index))).transpose()?;
        if last < offset {
            return Err(format!("{} is before {}", property::LAST, property::OFFSET));
        }
        Ok(Relayed {
            origin: Origin {
                gateway: named,
                incarnation: text(property::INCARNATION, self.incarnation)?,
                stream: text(property::STREAM, self.stream)?,
                route: text(property::ROUTE, self.route)?,
                offset,
                last,
                index,
                first: self.first.map(|first| text(property::ORIGIN, Some(first))).transpose()?,
            },
            time_ms: number(property::TIME, self.time)?,
            key: self.key.ok_or_else(|| missing(property::KEY))?,
            is_gap: self.is_gap,
            generation,
        })
    }
}

fn missing(name: &str) -> String {
    format!("a message of a gateway without {name}")
}

fn text<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, String> {
    let value = value.ok_or_else(|| missing(name))?;
    if (1..=TEXT_BYTES_MAX).contains(&value.len()) {
        Ok(value)
    } else {
        Err(format!("{name} has {} bytes; 1 to {TEXT_BYTES_MAX} are taken", value.len()))
    }
}

fn number<T: std::str::FromStr>(name: &str, value: Option<&str>) -> Result<T, String> {
    let value = value.ok_or_else(|| missing(name))?;
    value.parse().map_err(|_| format!("{name} is no number of its kind"))
}

/// A gap as its gateway tells it, without what is below the offset `from`.
///
/// # Errors
/// What cannot be read.
pub(crate) fn read_gap<'a>(json: &'a Json, from: u64) -> Result<Gap<'a>, &'static str> {
    let gap = &json["gap"];
    let first = gap["first"].as_u64().ok_or("a gap without first")?;
    let last = gap["last"].as_u64().ok_or("a gap without last")?;
    let unit = match gap["unit"].as_str() {
        Some("offsets") => GapUnit::Offsets,
        Some("sequences") => GapUnit::Sequences,
        Some("timesms") => GapUnit::TimesMs,
        _ => return Err("a gap without a unit that is known"),
    };
    let cut = unit == GapUnit::Offsets && (first..=last).contains(&from) && from > first;
    let first = if cut { from } else { first };
    let count = if cut { Some(last - first + 1) } else { gap["count"].as_u64() };
    Ok(Gap {
        cause: cause(gap["cause"].as_str()),
        source: gap["source"].as_str().unwrap_or_default(),
        unit,
        first,
        last,
        count,
        boot_epoch: gap["boot_epoch"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
    })
}

/// One that is not known here is a refusal of the gateway's upstream: there was no room for it.
fn cause(text: Option<&str>) -> GapCause {
    match text {
        Some("retention") => GapCause::Retention,
        Some("reset") => GapCause::Reset,
        Some("nodeoverflow") => GapCause::NodeOverflow,
        Some("damage") => GapCause::Damage,
        Some("expired") => GapCause::Expired,
        Some("transit") => GapCause::Transit,
        _ => GapCause::Overload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::gap_json;

    const WHOLE: [(&str, &str); 8] = [
        ("hw.gateway", "field"),
        ("hw.incarnation", "i"),
        ("hw.stream", "climate"),
        ("hw.route", "{topic}"),
        ("hw.offset", "7"),
        ("hw.index", "3"),
        ("hw.time", "-5"),
        ("hw.key", ""),
    ];

    #[test]
    fn an_identity_is_read_whole_or_not_at_all() {
        let said = WHOLE.into_iter().chain([("else", "x"), ("hw.topic", "t")]);
        let relayed = Relayed::read("field", said, 4).expect("whole").expect("there");
        let origin = relayed.origin;
        assert_eq!((origin.offset, origin.last, origin.index), (7, 7, Some(3)));
        assert_eq!((relayed.time_ms, relayed.key, relayed.generation), (-5, "", 4));
        for left_out in WHOLE {
            let said = WHOLE.into_iter().filter(|said| *said != left_out);
            let read = Relayed::read("field", said, 0);
            match left_out.0 {
                "hw.index" => assert_eq!(read.expect("whole").expect("there").origin.index, None),
                name => assert!(read.expect_err(name).contains(name)),
            }
        }
        assert_eq!(Relayed::read("field", [("hw.time", "x")].into_iter(), 0), Ok(None));
    }

    #[test]
    fn nobody_speaks_for_another_gateway_and_no_number_is_guessed() {
        let problem = Relayed::read("barn", WHOLE.into_iter(), 0).expect_err("another");
        assert!(problem.contains("gateway = \"barn\""), "{problem}");
        let long = "x".repeat(2000);
        for (name, value) in [
            ("hw.offset", "-1"),
            ("hw.offset", "99999999999999999999999"),
            ("hw.last", "6"),
            ("hw.index", "4294967296"),
            ("hw.time", "noon"),
            ("hw.stream", ""),
            ("hw.route", &long),
        ] {
            let said = WHOLE.into_iter().chain([(name, value)]);
            assert!(Relayed::read("field", said, 0).is_err(), "{name} {value:.10}");
        }
    }

    #[test]
    fn a_gap_is_the_same_there_and_here() {
        let gap = Gap {
            cause: GapCause::NodeOverflow,
            source: "pump",
            unit: GapUnit::Sequences,
            first: 10,
            last: 13,
            count: None,
            boot_epoch: 2,
        };
        assert_eq!(read_gap(&gap_json(&gap), 12), Ok(gap.clone()));
        let offsets = Gap { unit: GapUnit::Offsets, count: Some(4), ..gap };
        let json = gap_json(&offsets);
        assert_eq!(read_gap(&json, 10), Ok(offsets.clone()));
        assert_eq!(read_gap(&json, 12), Ok(Gap { first: 12, count: Some(2), ..offsets }));
        assert!(read_gap(&serde_json::json!({ "gap": 7 }), 0).is_err());
    }
}
