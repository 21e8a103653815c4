//! How keys of tables stand in topics. Pure.
//!
//! ```text
//! $table/devices/pump%2F7      the key "pump/7" of the table devices
//! ```

use std::borrow::Cow;

/// What topics of tables start with.
pub(crate) const TOPIC_ROOT: &str = "$table/";

/// True for a topic, or a pattern of topics, of tables.
pub(crate) fn is_table_topic(topic: &str) -> bool {
    topic.starts_with(TOPIC_ROOT) || topic == "$table"
}

/// The pattern of the topics of a table with the key column `key`.
pub(crate) fn pattern_of(table: &str, key: &str) -> String {
    format!("{TOPIC_ROOT}{table}/{{{key}}}")
}

/// What a named level of `topic` stands for: itself, but in topics of tables, where the way in has
/// written as `%2F` what may not stand in a level.
pub(crate) fn value_of<'a>(topic: &str, level: &'a str) -> Cow<'a, str> {
    if !is_table_topic(topic) || !level.contains('%') {
        return Cow::Borrowed(level);
    }
    let mut bytes = Vec::with_capacity(level.len());
    let mut rest = level.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%').and_then(hex);
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(level), Cow::Owned)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let code = digits
        .iter()
        .try_fold(0, |code, digit| char::from(*digit).to_digit(16).map(|digit| code * 16 + digit));
    u8::try_from(code?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inbound::TopicTemplate;

    proptest! {
        #[test]
        fn a_key_comes_back_from_its_topic_as_it_was(key in any::<String>()) {
            let topic = TopicTemplate::of_table("devices").fill(|_| &key);
            let level = topic.strip_prefix("$table/devices/").expect("its topic");
            prop_assert!(!level.contains(['/', '+', '#']));
            prop_assert_eq!(value_of(&topic, level), key);
        }
    }

    #[test]
    fn levels_of_other_topics_and_what_is_no_code_stay_as_they_are() {
        assert_eq!(value_of("plant/%2F", "%2F"), "%2F");
        for level in ["%", "%2", "%zz", "a%+1", "%FF"] {
            assert_eq!(value_of("$table/t/x", level), level);
        }
        assert!(is_table_topic("$table/x") && !is_table_topic("$tables/x"));
    }
}
