//! The topic of a route as a template: `site/{device}/climate`, or `{topic}` for the topic that a
//! message came on. Pure.

use std::borrow::Cow;

use crate::stream::{Stream, TopicPattern};

/// What stands for a level that is not known, is empty, or cannot be in a topic.
const BLANK: &str = "_";

/// A template names its route at another gateway, which keeps it.
const TEMPLATE_BYTES_MAX: usize = 1024;

/// The longest topic in bytes: what the two length bytes of MQTT can say.
const TOPIC_BYTES_MAX: usize = 65_535;

/// What a route's stream has for templates.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names<'a> {
    /// The topics of the stream, where its messages come by MQTT.
    pub(crate) pattern: Option<&'a TopicPattern>,
    /// The name of its key, if it has one.
    pub(crate) key: Option<&'a str>,
    /// Its records have a topic of their own.
    pub(crate) has_topic: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Topic,
    Key,
    Stream,
    Gateway,
    /// A named level of the stream's topics, or its key by name.
    Level(String),
}

/// A template that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

/// Checks the topic of a route to an MQTT upstream.
///
/// # Errors
/// A text that says what to write.
pub(crate) fn check(text: &str, names: Names<'_>) -> Result<(), String> {
    let template = Template::parse(text)?;
    for part in &template.parts {
        match part {
            Part::Topic if !names.has_topic => {
                return Err(format!(
                    "{text:?}: what a query writes came on no topic; name one, for example \
                     \"site/{{stream}}/{{key}}\""
                ));
            }
            Part::Level(name) if !names.knows(name) => {
                return Err(format!(
                    "{text:?}: {{{name}}} is not known; there are {}",
                    names.all()
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

impl<'a> Names<'a> {
    /// Those of a stream.
    pub(in crate::forward) fn of(stream: &'a Stream) -> Self {
        let config = stream.config.as_ref();
        Self {
            pattern: config.map(|config| &config.topic),
            key: config.and_then(|config| config.key.as_deref()),
            has_topic: true,
        }
    }
}

impl Names<'_> {
    fn levels(&self) -> impl Iterator<Item = &str> {
        self.pattern.into_iter().flat_map(TopicPattern::captures).chain(self.key)
    }

    fn knows(&self, name: &str) -> bool {
        self.levels().any(|level| level == name)
    }

    fn all(&self) -> String {
        let fixed =
            ["key", "stream", "gateway"].into_iter().chain(self.has_topic.then_some("topic"));
        let mut all: Vec<String> =
            fixed.chain(self.levels()).map(|name| format!("{{{name}}}")).collect();
        all.dedup();
        all.join(", ")
    }
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A text that says what to write.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > TEMPLATE_BYTES_MAX {
            return Err("write a topic of 1 to 1024 bytes".to_owned());
        }
        if text.contains(['+', '#', '\0']) {
            return Err(format!("{text:?}: a topic that is published to has no + and no #"));
        }
        if text.starts_with('$') {
            return Err(format!("{text:?}: topics with $ in front belong to the broker"));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, from) = rest.split_at(open);
            let Some((name, after)) = from[1..].split_once('}') else {
                return Err(format!("{text:?}: a {{ without its }}"));
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(part(name));
            rest = after;
        }
        if rest.contains('}') {
            return Err(format!("{text:?}: a }} without its {{"));
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }
}

fn part(name: &str) -> Part {
    match name {
        "topic" => Part::Topic,
        "key" => Part::Key,
        "stream" => Part::Stream,
        "gateway" => Part::Gateway,
        _ => Part::Level(name.to_owned()),
    }
}

/// A template of a route.
pub(super) struct Topics {
    template: Template,
    pattern: Option<TopicPattern>,
    /// The name of the stream's key.
    key: Option<String>,
    stream: String,
    gateway: String,
}

impl Topics {
    pub(super) fn new(template: Template, stream: &str, gateway: &str, names: Names<'_>) -> Self {
        Self {
            template,
            pattern: names.pattern.cloned(),
            key: names.key.map(str::to_owned),
            stream: stream.to_owned(),
            gateway: gateway.to_owned(),
        }
    }

    /// The topic of a record with this key that came on `topic`. What has none, as a gap, gets one
    /// that the stream's topics have too. `None`: it is too long.
    pub(super) fn of(&self, key: &str, topic: Option<&str>) -> Option<String> {
        let captured = topic.and_then(|topic| self.pattern.as_ref()?.capture(topic));
        let level = |name: &str| {
            let captured = captured.iter().flatten().find(|(known, _)| *known == name);
            match captured {
                Some((_, level)) => *level,
                None if self.key.as_deref() == Some(name) => key,
                None => "",
            }
        };
        let mut out = String::new();
        for part in &self.template.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Topic => out.push_str(&whole(&self.original(topic, key, level))),
                Part::Key => out.push_str(&whole(key)),
                Part::Stream => out.push_str(&self.stream),
                Part::Gateway => out.push_str(&self.gateway),
                Part::Level(name) => out.push_str(&one(level(name))),
            }
        }
        if out.starts_with('$') {
            out.replace_range(..1, BLANK);
        }
        (out.len() <= TOPIC_BYTES_MAX).then_some(out)
    }

    fn original<'a>(
        &self,
        topic: Option<&'a str>,
        key: &'a str,
        level: impl Fn(&str) -> &'a str,
    ) -> Cow<'a, str> {
        match (topic, &self.pattern) {
            (Some(topic), _) => Cow::Borrowed(topic),
            (None, Some(pattern)) => Cow::Owned(
                pattern.fill(|name| name.map_or_else(|| BLANK.into(), |n| one(level(n)))),
            ),
            // The key of the stream `mqtt` is the topic.
            (None, None) => Cow::Borrowed(key),
        }
    }
}

/// A value that may have several levels, without what a topic cannot have.
fn whole(value: &str) -> Cow<'_, str> {
    if value.is_empty() {
        return Cow::Borrowed(BLANK);
    }
    if value.contains(['+', '#', '\0']) {
        return Cow::Owned(value.replace(['+', '#', '\0'], BLANK));
    }
    Cow::Borrowed(value)
}

/// A value as one level.
fn one(value: &str) -> Cow<'_, str> {
    match whole(value) {
        Cow::Owned(owned) => Cow::Owned(owned.replace('/', BLANK)),
        Cow::Borrowed(value) if value.contains('/') => Cow::Owned(value.replace('/', BLANK)),
        borrowed => borrowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(template: &str, pattern: Option<&str>, key: Option<&str>) -> Topics {
        let pattern = pattern.map(|pattern| TopicPattern::parse(pattern).expect("a pattern"));
        let names = Names { pattern: pattern.as_ref(), key, has_topic: true };
        check(template, names).expect("a template");
        let template = Template::parse(template).expect("a template");
        Topics::new(template, "climate", "g", names)
    }

    #[test]
    fn levels_of_the_topic_and_the_key_fill_a_template() {
        let pattern = Some("s/{hall}/{device}/climate");
        for (template, expected) in [
            ("site/{device}/{hall}", "site/d7/h1"),
            ("{topic}", "s/h1/d7/climate"),
            ("up/{gateway}/{topic}", "up/g/s/h1/d7/climate"),
            ("{gateway}-{stream}/{key}", "g-climate/d7"),
        ] {
            let topics = topics(template, pattern, Some("device"));
            let topic = topics.of("d7", Some("s/h1/d7/climate"));
            assert_eq!(topic.as_deref(), Some(expected), "{template}");
        }
    }

    #[test]
    fn a_gap_gets_a_topic_of_its_stream() {
        let pattern = TopicPattern::parse("s/{hall}/{device}/+/#").expect("a pattern");
        let topics = topics("{topic}", Some("s/{hall}/{device}/+/#"), Some("device"));
        for (key, expected) in [("d7", "s/_/d7/_/_"), ("", "s/_/_/_/_"), ("a/b", "s/_/a_b/_/_")] {
            let topic = topics.of(key, None).expect("short");
            assert_eq!(topic, expected);
            assert!(pattern.matches(&topic));
        }
        let mqtt = topics_of_mqtt();
        assert_eq!(mqtt.of("a/b", None).as_deref(), Some("a/b"));
    }

    fn topics_of_mqtt() -> Topics {
        topics("{topic}", None, None)
    }

    #[test]
    fn what_a_topic_cannot_have_never_gets_into_one() {
        let keyed = topics("site/{key}", None, None);
        assert_eq!(keyed.of("a+b#c\0/d", Some("t")).as_deref(), Some("site/a_b_c_/d"));
        assert_eq!(keyed.of("", Some("t")).as_deref(), Some("site/_"));
        assert_eq!(keyed.of(&"k".repeat(70_000), Some("t")), None);
        assert_eq!(topics_of_mqtt().of("k", Some("$x/y")).as_deref(), Some("_x/y"));
    }

    #[test]
    fn a_template_that_cannot_be_filled_is_refused_with_what_there_is() {
        let pattern = TopicPattern::parse("s/{device}").expect("a pattern");
        let names = Names { pattern: Some(&pattern), key: Some("id"), has_topic: true };
        let query = Names { pattern: None, key: Some("device"), has_topic: false };
        for (text, names, words) in [
            ("a/{hall}", names, "{key}, {stream}, {gateway}, {topic}, {device}, {id}"),
            ("{topic}", query, "site/{stream}/{key}"),
            ("a/{device", names, "without its }"),
            ("a/device}", names, "without its {"),
            ("a/#", names, "no + and no #"),
            ("$SYS/a", names, "belong to the broker"),
            ("", names, "1 to 1024"),
        ] {
            let problem = check(text, names).expect_err(text);
            assert!(problem.contains(words), "{text}: {problem}");
        }
        assert_eq!(check("a/{device}", query), Ok(()));
    }
}
