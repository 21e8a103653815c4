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

impl Node {
    fn is_bare(&self) -> bool {
        self.children.is_empty()
            && self.plus.is_none()
            && self.here.is_empty()
            && self.rest.is_empty()
    }
}

/// Filters, each with numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicTrie {
    /// Empty while there is no filter.
    nodes: Vec<Node>,
    /// Nodes that are no longer used.
    free: Vec<NodeId>,
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
                return put(&mut self.node_mut(at).rest, value);
            }
            at = self.child_or_new(at, level);
        }
        put(&mut self.node_mut(at).here, value);
    }

    /// Takes `value` from `filter`, and gives back what only that needed.
    pub(crate) fn remove(&mut self, filter: &str, value: u32) {
        if self.nodes.is_empty() {
            return;
        }
        let mut at = ROOT;
        let mut way = Vec::new();
        let mut goes_on = false;
        for level in filter.split('/') {
            if level == "#" {
                goes_on = true;
                break;
            }
            let Some(child) = self.child(at, level) else { return };
            way.push((at, level));
            at = child;
        }
        let node = self.node_mut(at);
        let values = if goes_on { &mut node.rest } else { &mut node.here };
        values.retain(|known| *known != value);
        self.prune(at, way);
    }

    /// Takes away the node `at` and those on the `way` to it, as far as nothing needs them.
    fn prune(&mut self, mut at: NodeId, mut way: Vec<(NodeId, &str)>) {
        while self.node(at).is_bare() {
            let Some((parent, level)) = way.pop() else {
                *self = Self::default();
                return;
            };
            let node = self.node_mut(parent);
            match level {
                "+" => node.plus = None,
                _ => {
                    node.children.remove(level);
                }
            }
            *self.node_mut(at) = Node::default();
            self.free.push(at);
            at = parent;
        }
    }

    /// Calls `found` with the number of each filter that matches `topic`.
    pub(crate) fn matches(&self, topic: &str, mut found: impl FnMut(u32)) {
        if self.nodes.is_empty() {
            return;
        }
        // Wildcards do not reach `$` topics at their first level [MQTT-4.7.2-1].
        if topic.starts_with('$') {
            let (level, rest) = first_level(topic);
            if let Some(&child) = self.node(ROOT).children.get(level) {
                self.below(child, rest, &mut found);
            }
            return;
        }
        self.below(ROOT, Some(topic), &mut found);
    }

    /// The filters of `id` and below that match the levels `rest`; as deep as the filters are.
    fn below(&self, id: NodeId, rest: Option<&str>, found: &mut impl FnMut(u32)) {
        let node = self.node(id);
        node.rest.iter().copied().for_each(&mut *found);
        let Some(rest) = rest else {
            node.here.iter().copied().for_each(found);
            return;
        };
        let (level, rest) = first_level(rest);
        for child in node.children.get(level).copied().into_iter().chain(node.plus) {
            self.below(child, rest, found);
        }
    }

    fn child(&self, at: NodeId, level: &str) -> Option<NodeId> {
        let node = self.node(at);
        match level {
            "+" => node.plus,
            _ => node.children.get(level).copied(),
        }
    }

    fn child_or_new(&mut self, at: NodeId, level: &str) -> NodeId {
        if let Some(known) = self.child(at, level) {
            return known;
        }
        let fresh = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            NodeId::try_from(self.nodes.len() - 1).expect("far fewer filters than that")
        });
        let node = self.node_mut(at);
        match level {
            "+" => node.plus = Some(fresh),
            _ => {
                node.children.insert(level.into(), fresh);
            }
        }
        fresh
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }
}

fn put(values: &mut Vec<u32>, value: u32) {
    if !values.contains(&value) {
        values.push(value);
    }
}

/// The first level of a topic, and the others if there are any.
fn first_level(topic: &str) -> (&str, Option<&str>) {
    match topic.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (topic, None),
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
        fn a_filter_that_is_taken_away_leaves_the_others_and_no_memory(
            filters in prop::collection::vec("([ab$+]{0,2}/){0,3}([ab$+]{0,2}|#)", 0..8),
            gone in 0..8_usize,
            topic in "([ab$]{0,2}/){0,3}[ab$]{0,2}",
        ) {
            let filters: Vec<String> = filters.into_iter().filter(|f| is_filter(f)).collect();
            let gone = gone.min(filters.len());
            let mut trie = TopicTrie::default();
            for (number, filter) in (0_u32..).zip(&filters) {
                trie.insert(filter, number);
            }
            for (number, filter) in (0_u32..).zip(&filters[..gone]) {
                trie.remove(filter, number);
                trie.remove(filter, number);
            }
            let mut left = Vec::new();
            trie.matches(&topic, |number| left.push(number));
            left.sort_unstable();
            let expected: Vec<u32> = (0_u32..)
                .zip(&filters)
                .filter(|(number, filter)| {
                    *number as usize >= gone && filter_matches(filter, &topic)
                })
                .map(|(number, _)| number)
                .collect();
            prop_assert_eq!(left, expected);
            for (number, filter) in (0_u32..).zip(&filters) {
                trie.remove(filter, number);
            }
            prop_assert!(trie.nodes.is_empty() && trie.free.is_empty());
        }

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
