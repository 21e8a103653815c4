//! When an edge node may be asked for its births again. Pure, and not kept: after a restart one
//! request more is no harm.

use std::collections::BTreeMap;

/// The time between two requests to one edge node.
const EVERY_MS: i64 = 10_000;

/// Edge nodes that were asked lately; while there are more, the others wait.
const ASKED_MAX: usize = 10_000;

/// Who was asked when.
#[derive(Default)]
pub(super) struct Requests {
    asked_ms: BTreeMap<String, i64>,
}

impl Requests {
    /// True if `node` may be asked at `now_ms`; it then has been.
    pub(super) fn ask(&mut self, node: &str, now_ms: i64) -> bool {
        // A clock that was set back does not silence a node.
        let is_lately = |asked_ms: i64| (0..EVERY_MS).contains(&now_ms.saturating_sub(asked_ms));
        if self.asked_ms.get(node).is_some_and(|asked_ms| is_lately(*asked_ms)) {
            return false;
        }
        if self.asked_ms.len() >= ASKED_MAX {
            self.asked_ms.retain(|_, asked_ms| is_lately(*asked_ms));
        }
        if self.asked_ms.len() >= ASKED_MAX {
            return false;
        }
        self.asked_ms.insert(node.to_owned(), now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_node_is_asked_once_in_ten_seconds() {
        let mut requests = Requests::default();
        assert!(requests.ask("g/a", 1000) && requests.ask("g/b", 1000));
        assert!(!requests.ask("g/a", 1000) && !requests.ask("g/a", 10_999));
        assert!(requests.ask("g/a", 11_000));
        assert!(requests.ask("g/a", 5000), "the clock was set back");
    }

    #[test]
    fn a_flood_of_names_fills_the_memory_to_its_bound_and_no_further() {
        let mut requests = Requests::default();
        for number in 0..ASKED_MAX {
            assert!(requests.ask(&number.to_string(), 0));
        }
        assert!(!requests.ask("one more", 9_999));
        assert!(requests.ask("one more", 10_000));
        assert_eq!(requests.asked_ms.len(), 1);
    }
}
