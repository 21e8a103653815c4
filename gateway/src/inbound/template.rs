//! Topics with places for what a record says: `shop/{kind}/{key}`.

use std::fmt;

use crate::stream::is_topic;
use crate::table::TOPIC_ROOT;

/// A topic with `{names}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(String),
}

impl TopicTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            let end = rest[start..].find('}').map(|length| start + length);
            let end = end.ok_or_else(|| format!("{text:?}: a {{ without its }}"))?;
            let name = &rest[start + 1..end];
            let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if name.is_empty() || !fits {
                return Err(format!("{text:?}: write a name of a-z A-Z 0-9 _ between {{ and }}"));
            }
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            parts.push(Part::Name(name.to_owned()));
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let bare = rest_of(&parts);
        if bare.starts_with('$') || bare.contains('}') || !is_topic(&bare) {
            return Err(format!("{text:?} is not a topic: no wildcards, no $ in front"));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Where rows of a table are published, `{key}` being their key.
    pub(crate) fn of_table(table: &str) -> Self {
        let root = format!("{TOPIC_ROOT}{table}/");
        let text = format!("{root}{{key}}");
        Self { text, parts: vec![Part::Text(root), Part::Name("key".to_owned())] }
    }

    /// The names in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The topic, with `value` of each name. What may not stand in a level is written as `%2F` and
    /// the like, so each value stays inside its level.
    pub(crate) fn fill<'a>(&self, value: impl Fn(&str) -> &'a str) -> String {
        let mut topic = String::with_capacity(self.text.len() + 16);
        for part in &self.parts {
            match part {
                Part::Text(text) => topic.push_str(text),
                Part::Name(name) => put_level(&mut topic, value(name)),
            }
        }
        topic
    }
}

impl fmt::Display for TopicTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The topic with each name as a letter: what every filled one has in common.
fn rest_of(parts: &[Part]) -> String {
    let text = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Name(_) => "x".to_owned(),
    };
    parts.iter().map(text).collect()
}

fn put_level(topic: &mut String, value: &str) {
    use fmt::Write as _;
    for (index, char) in value.chars().enumerate() {
        let is_special = matches!(char, '/' | '+' | '#' | '%' | '\0') || char.is_control();
        if !is_special && (char != '$' || index > 0 || !topic.is_empty()) {
            topic.push(char);
            continue;
        }
        let mut bytes = [0; 4];
        for byte in char.encode_utf8(&mut bytes).bytes() {
            write!(topic, "%{byte:02X}").expect("a String takes any text");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_inside_their_level() {
        let template = TopicTemplate::parse("shop/{kind}/n-{key}").expect("a template");
        assert_eq!(template.names().collect::<Vec<_>>(), ["kind", "key"]);
        let fill =
            |kind: &'static str| template.fill(move |name| if name == "kind" { kind } else { "7" });
        assert_eq!(fill("order"), "shop/order/n-7");
        assert_eq!(fill("a/b+#%\n"), "shop/a%2Fb%2B%23%25%0A/n-7");
        let first = TopicTemplate::parse("{a}").expect("a template");
        assert_eq!(first.fill(|_| "$SYS"), "%24SYS");
    }

    #[test]
    fn a_template_that_makes_no_topic_is_refused() {
        for wrong in ["", "a/{b", "a/{}", "a/{b c}", "a/+", "a/#", "$SYS/{x}", "a}b"] {
            assert!(TopicTemplate::parse(wrong).is_err(), "{wrong}");
        }
    }
}
