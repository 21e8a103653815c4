//! Topic aliases towards a client of MQTT 5: a topic that comes often is sent once.

use std::collections::HashMap;

use crate::mqtt::properties;

/// Aliases that one connection is given at most, whatever the client would take.
const GIVEN_MAX: u16 = 16;

/// Topics that an alias would make longer.
const TOPIC_BYTES_MIN: usize = 4;

/// What the client knows so far.
#[derive(Debug)]
pub(crate) struct Aliases {
    max: u16,
    known: HashMap<Box<str>, u16>,
}

/// How a topic goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// As it is.
    Topic,
    /// As it is, and with this alias from now on.
    Both(u16),
    /// As this alias alone.
    Alias(u16),
}

impl Aliases {
    /// The client takes up to `max` aliases.
    pub(crate) fn new(max: u16) -> Self {
        Self { max: max.min(GIVEN_MAX), known: HashMap::new() }
    }

    /// How `topic` is to be sent. The first topics get the aliases; none is taken back, as both
    /// sides would have to agree on what is under way.
    pub(crate) fn spell(&self, topic: &str) -> Spelling {
        if self.max == 0 || topic.len() < TOPIC_BYTES_MIN {
            return Spelling::Topic;
        }
        if let Some(alias) = self.known.get(topic) {
            return Spelling::Alias(*alias);
        }
        match u16::try_from(self.known.len()) {
            Ok(given) if given < self.max => Spelling::Both(given + 1),
            _ => Spelling::Topic,
        }
    }

    /// A packet with this spelling of `topic` is on its way.
    pub(crate) fn sent(&mut self, topic: &str, spelling: Spelling) {
        if let Spelling::Both(alias) = spelling {
            self.known.insert(topic.into(), alias);
        }
    }
}

impl Spelling {
    /// The topic as the packet has it; the alias is appended to `properties`.
    pub(crate) fn put<'a>(self, topic: &'a str, properties: &mut Vec<u8>) -> &'a str {
        let (topic, alias) = match self {
            Self::Topic => return topic,
            Self::Both(alias) => (topic, alias),
            Self::Alias(alias) => ("", alias),
        };
        properties::put_alias(properties, alias);
        topic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_spelt_out_once_and_the_first_topics_get_the_aliases() {
        let mut aliases = Aliases::new(2);
        for (topic, expected) in [
            ("plant/1", Spelling::Both(1)),
            ("plant/1", Spelling::Alias(1)),
            ("abc", Spelling::Topic),
            ("plant/2", Spelling::Both(2)),
            ("plant/3", Spelling::Topic),
            ("plant/2", Spelling::Alias(2)),
        ] {
            let spelling = aliases.spell(topic);
            assert_eq!(spelling, expected, "{topic}");
            aliases.sent(topic, spelling);
        }
        assert_eq!(Aliases::new(0).spell("plant/1"), Spelling::Topic, "it takes none");
    }
}
