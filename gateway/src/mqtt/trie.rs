//! Topic filters by level, so that a topic is compared with the levels it has and not with every
//! filter.

use std::collections::BTreeMap;

/// Levels of a filter or a topic; what has more is refused at the door.
pub(crate) const LEVELS_MAX: usize = 128;

type NodeId = u32;
const ROOT: NodeId = 0;

#[derive(Clone, Debug, Default)]
struct Node {
    children: BTreeMap<Box<str>, NodeId>,
    plus: Option<NodeId>,
    /// Values of the filters that end here.
    here: Vec<u32>,
    /// Values of those that go on with `#`, which takes this level too.
    rest: Vec<u32>,
}

/// Filters, each with a number.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicTrie {
    /// Empty while there is no filter.
    nodes: Vec<Node>,
}

impl TopicTrie {
    /// Adds `filter`, which is one ([`crate::stream::is_filter`]), with `value`.
    pub(crate) fn insert(&mut self, filter: &str, value: u32) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = ROOT;
        for level in filter.split('/') {
            if level == "#" {
                self.node_mut(at).rest.push(value);
                return;
            }
            at = self.child(at, level);
        }
        self.node_mut(at).here.push(value);
    }

    /// Calls `found` with the number of each filter that matches `topic`.
    pub(crate) fn matches(&self, topic: &str, mut found: impl FnMut(u32)) {
        let Some(root) = self.nodes.first() else { return };
        // Wildcards do not reach `$` topics at their first level [MQTT-4.7.2-1].
        let hidden = topic.starts_with('$');
        if !hidden {
            root.rest.iter().copied().for_each(&mut found);
        }
        // The nodes that the levels so far lead to: one, unless filters have wildcards in common.
        let mut reached = vec![ROOT];
        let mut next = Vec::new();
        for (depth, level) in topic.split('/').enumerate() {
            for id in reached.drain(..) {
                let node = self.node(id);
                let plus = node.plus.filter(|_| depth > 0 || !hidden);
                next.extend(node.children.get(level).copied().into_iter().chain(plus));
            }
            if next.is_empty() {
                return;
            }
            std::mem::swap(&mut reached, &mut next);
            for &id in &reached {
                self.node(id).rest.iter().copied().for_each(&mut found);
            }
        }
        for id in reached {
            self.node(id).here.iter().copied().for_each(&mut found);
        }
    }

    fn child(&mut self, at: NodeId, level: &str) -> NodeId {
        let fresh = NodeId::try_from(self.nodes.len()).expect("far fewer filters than that");
        let node = self.node_mut(at);
        let known = match level {
            "+" => node.plus,
            _ => node.children.get(level).copied(),
        };
        if let Some(known) = known {
            return known;
        }
        match level {
            "+" => node.plus = Some(fresh),
            _ => {
                node.children.insert(level.into(), fresh);
            }
        }
        self.nodes.push(Node::default());
        fresh
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stream::{filter_matches, is_filter};

    fn found(filters: &[String], topic: &str) -> Vec<u32> {
        let mut trie = TopicTrie::default();
        for (number, filter) in filters.iter().enumerate() {
            trie.insert(filter, u32::try_from(number).expect("few"));
        }
        let mut found = Vec::new();
        trie.matches(topic, |number| found.push(number));
        found.sort_unstable();
        found
    }

    proptest! {
        #[test]
        fn it_finds_what_comparing_with_each_filter_finds(
            filters in prop::collection::vec("([ab$+]{0,2}/){0,3}([ab$+]{0,2}|#)", 0..8),
            topic in "([ab$]{0,2}/){0,3}[ab$]{0,2}",
        ) {
            let filters: Vec<String> = filters.into_iter().filter(|f| is_filter(f)).collect();
            let expected: Vec<u32> = (0_u32..)
                .zip(&filters)
                .filter(|(_, filter)| filter_matches(filter, &topic))
                .map(|(number, _)| number)
                .collect();
            prop_assert_eq!(found(&filters, &topic), expected);
        }
    }
}
