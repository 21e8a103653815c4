//! Topics, topic filters (MQTT 5, section 4.7) and patterns with named levels.

use std::borrow::Cow;
use std::fmt;

/// The longest topic or filter, in bytes: what the two length bytes of MQTT can say.
const TOPIC_BYTES_MAX: usize = 65_535;

/// True for a topic name that may be published to: not empty, no wildcard, no NUL.
pub fn is_topic(topic: &str) -> bool {
    (1..=TOPIC_BYTES_MAX).contains(&topic.len()) && !topic.contains(['+', '#', '\0'])
}

/// True for a topic filter: `+` alone in its level, `#` alone in the last.
pub fn is_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.len() > TOPIC_BYTES_MAX || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let last = levels.peek().is_none();
        match level {
            "+" => {}
            "#" if last => {}
            _ if level.contains(['+', '#']) => return false,
            _ => {}
        }
    }
    true
}

/// True if `topic` matches `filter`; a filter that starts with a wildcard does not match a topic
/// that starts with `$` [MQTT-4.7.2-1].
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic_levels = topic.split('/');
    for level in filter.split('/') {
        match (level, topic_levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    topic_levels.next().is_none()
}

/// A topic filter whose single-level wildcards may have names: `sensors/{device}/climate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern {
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(String),
    Capture(String),
    Any,
    Rest,
}

impl TopicPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A text that says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut levels = Vec::new();
        let mut filter = Vec::new();
        for level in text.split('/') {
            let capture = level.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let parsed = match (level, capture) {
                ("+", _) => Level::Any,
                ("#", _) => Level::Rest,
                (_, Some(name)) if is_column(name) => Level::Capture(name.to_owned()),
                _ if level.contains(['{', '}']) => {
                    return Err(format!(
                        "{level:?}: a named level is {{name}}, alone between two slashes, of \
                         letters, digits and _"
                    ));
                }
                _ => Level::Literal(level.to_owned()),
            };
            if let Level::Capture(name) = &parsed
                && levels.contains(&parsed)
            {
                return Err(format!("{{{name}}} stands twice in {text:?}"));
            }
            filter.push(if matches!(parsed, Level::Capture(_)) { "+" } else { level });
            levels.push(parsed);
        }
        if is_filter(&filter.join("/")) {
            Ok(Self { levels })
        } else {
            Err(format!("{text:?} is not a topic filter: + and # stand alone in their level"))
        }
    }

    /// The names of the captured levels, in order.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().filter_map(|level| match level {
            Level::Capture(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// True if `topic` matches.
    pub fn matches(&self, topic: &str) -> bool {
        self.walk(topic, |_, _| {})
    }

    /// The captured levels of a topic that matches, with their names.
    pub fn capture<'a>(&'a self, topic: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        let mut captured = Vec::new();
        self.walk(topic, |name, level| captured.push((name, level))).then_some(captured)
    }

    /// A topic that matches: `level` gives what stands for a level by its name, or for one or more
    /// levels without a name.
    pub(crate) fn fill<'a>(&self, level: impl Fn(Option<&str>) -> Cow<'a, str>) -> String {
        let levels: Vec<Cow<'_, str>> = self
            .levels
            .iter()
            .map(|known| match known {
                Level::Literal(text) => Cow::Borrowed(text.as_str()),
                Level::Capture(name) => level(Some(name)),
                Level::Any | Level::Rest => level(None),
            })
            .collect();
        levels.join("/")
    }

    fn walk<'a>(&'a self, topic: &'a str, mut on_capture: impl FnMut(&'a str, &'a str)) -> bool {
        if topic.starts_with('$') && !matches!(self.levels.first(), Some(Level::Literal(_))) {
            return false;
        }
        let mut topic_levels = topic.split('/');
        for level in &self.levels {
            match (level, topic_levels.next()) {
                (Level::Rest, _) => return true,
                (Level::Any, Some(_)) => {}
                (Level::Capture(name), Some(other)) => on_capture(name, other),
                (Level::Literal(level), Some(other)) if level == other => {}
                _ => return false,
            }
        }
        topic_levels.next().is_none()
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, level) in self.levels.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            match level {
                Level::Literal(text) => f.write_str(text)?,
                Level::Capture(name) => write!(f, "{{{name}}}")?,
                Level::Any => f.write_str("+")?,
                Level::Rest => f.write_str("#")?,
            }
        }
        Ok(())
    }
}

/// A name that SQL takes without quotes.
fn is_column(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_specification_says() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/uptime", false),
            ("+/monitor", "$SYS/monitor", false),
            ("$SYS/#", "$SYS/uptime", true),
        ] {
            assert_eq!(filter_matches(filter, topic), expected, "{filter} {topic}");
            let pattern = TopicPattern::parse(filter).expect(filter);
            assert_eq!(pattern.matches(topic), expected, "pattern {filter} {topic}");
        }
    }

    #[test]
    fn filters_with_a_wildcard_inside_a_level_are_refused() {
        for filter in ["sport+", "sport/tennis#", "sport/#/ranking", "", "a\0b"] {
            assert!(!is_filter(filter), "{filter}");
        }
        assert!(is_topic("ümlaut/7") && !is_topic("a/+") && !is_topic(""));
    }

    #[test]
    fn named_levels_are_captured() {
        let pattern = TopicPattern::parse("plant/{line}/+/{device}/#").expect("a pattern");
        assert_eq!(
            pattern.capture("plant/7/x/pump/a/b"),
            Some(vec![("line", "7"), ("device", "pump")])
        );
        assert_eq!(pattern.capture("plant/7/x"), None);
        assert_eq!(pattern.to_string(), "plant/{line}/+/{device}/#");
        for wrong in ["a/{b", "a/x{b}", "a/{}", "{a}/{a}", "{1}"] {
            assert!(TopicPattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
