//! What is here of each route of other gateways: pure, in the order of the journal.

use std::collections::BTreeMap;

use headwater_shared::origin::Origin;
use serde::{Deserialize, Serialize};

/// Routes of one gateway, over all its data directories, that are known at most...
const ROUTES_OF_ONE_MAX: usize = 256;
/// ...and of all gateways. What an unknown one sends is then refused: forgetting one would let its
/// second copies in.
const ROUTES_MAX: usize = 4_096;

/// The format of [`State::snapshot`].
const SNAPSHOT_VERSION: u8 = 1;

/// A sequence that comes in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Route {
    incarnation: String,
    stream: String,
    topic: String,
}

/// The newest that is here: the last offset that it stands for, and the row.
type Mark = (u64, u32);

/// All gateways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    gateways: BTreeMap<String, BTreeMap<Route, Mark>>,
}

/// What a record of another gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not here yet. What is below `from` is: a gap may begin with it.
    Fresh { from: u64 },
    /// A second copy.
    Duplicate,
    /// There is no room for another route.
    Full,
}

/// What is here of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) stream: String,
    pub(crate) route: String,
    /// The last offset; more rows of it may be missing.
    pub(crate) last: u64,
}

fn mark_of(origin: &Origin<'_>) -> Mark {
    (origin.last, origin.index.unwrap_or(0))
}

impl Route {
    fn of(origin: &Origin<'_>) -> Self {
        Self {
            incarnation: origin.incarnation.to_owned(),
            stream: origin.stream.to_owned(),
            topic: origin.route.to_owned(),
        }
    }
}

impl State {
    pub(super) fn restore(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&SNAPSHOT_VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|problem| problem.to_string())
            }
            _ => Err("the state of gateways has another version".to_owned()),
        }
    }

    pub(super) fn snapshot(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![SNAPSHOT_VERSION]).expect("a Vec takes any length")
    }

    pub(super) fn judge(&self, origin: &Origin<'_>) -> Verdict {
        let routes = self.gateways.get(origin.gateway);
        match routes.and_then(|routes| routes.get(&Route::of(origin))) {
            Some(mark) if mark_of(origin) <= *mark => Verdict::Duplicate,
            Some(mark) => Verdict::Fresh { from: mark.0.saturating_add(1) },
            None if self.is_full(routes.map_or(0, BTreeMap::len)) => Verdict::Full,
            None => Verdict::Fresh { from: 0 },
        }
    }

    fn is_full(&self, routes: usize) -> bool {
        routes >= ROUTES_OF_ONE_MAX
            || self.gateways.values().map(BTreeMap::len).sum::<usize>() >= ROUTES_MAX
    }

    /// The record of `origin` was appended.
    pub(super) fn accept(&mut self, origin: &Origin<'_>) {
        let routes = self.gateways.entry(origin.gateway.to_owned()).or_default();
        let mark = routes.entry(Route::of(origin)).or_default();
        *mark = (*mark).max(mark_of(origin));
    }

    /// What is here of a data directory of a gateway.
    pub(super) fn reached(&self, gateway: &str, incarnation: &str) -> Vec<Reached> {
        let routes = self.gateways.get(gateway).into_iter().flatten();
        routes
            .filter(|(route, _)| route.incarnation == incarnation)
            .map(|(route, mark)| Reached {
                stream: route.stream.clone(),
                route: route.topic.clone(),
                last: mark.0,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin<'_> = Origin {
        gateway: "g",
        incarnation: "i",
        stream: "s",
        route: "t",
        offset: 0,
        last: 0,
        index: None,
        first: None,
    };

    fn at(offset: u64, index: Option<u32>) -> Origin<'static> {
        Origin { offset, last: offset, index, ..ORIGIN }
    }

    #[test]
    fn what_is_at_or_below_the_newest_of_its_route_is_a_second_copy() {
        let mut state = State::default();
        assert_eq!(state.judge(&at(0, None)), Verdict::Fresh { from: 0 });
        state.accept(&at(7, Some(2)));
        assert_eq!(state.judge(&at(7, Some(2))), Verdict::Duplicate);
        assert_eq!(state.judge(&at(3, None)), Verdict::Duplicate);
        assert_eq!(state.judge(&at(7, Some(3))), Verdict::Fresh { from: 8 });
        assert_eq!(state.judge(&at(9, None)), Verdict::Fresh { from: 8 });
        for other in [
            Origin { gateway: "h", ..at(3, None) },
            Origin { incarnation: "j", ..at(3, None) },
            Origin { stream: "r", ..at(3, None) },
            Origin { route: "u", ..at(3, None) },
        ] {
            assert_eq!(state.judge(&other), Verdict::Fresh { from: 0 }, "{other:?}");
        }
    }

    #[test]
    fn a_gap_that_has_grown_meanwhile_is_told_again_from_where_it_was() {
        let mut state = State::default();
        state.accept(&Origin { offset: 100, last: 199, ..ORIGIN });
        let grown = Origin { offset: 100, last: 299, ..ORIGIN };
        assert_eq!(state.judge(&grown), Verdict::Fresh { from: 200 });
    }

    #[test]
    fn routes_are_bounded_and_those_that_are_known_go_on() {
        let mut state = State::default();
        let route = |number: usize| format!("t{number}");
        for number in 0..ROUTES_OF_ONE_MAX {
            let route = route(number);
            let origin = Origin { route: &route, ..ORIGIN };
            assert_eq!(state.judge(&origin), Verdict::Fresh { from: 0 });
            state.accept(&origin);
        }
        assert_eq!(state.judge(&ORIGIN), Verdict::Full);
        assert_eq!(state.judge(&Origin { route: "t3", ..at(1, None) }), Verdict::Fresh { from: 1 });
        assert_eq!(state.judge(&Origin { gateway: "h", ..ORIGIN }), Verdict::Fresh { from: 0 });
    }

    #[test]
    fn a_snapshot_is_the_state() {
        let mut state = State::default();
        state.accept(&at(7, Some(2)));
        assert_eq!(State::restore(&state.snapshot()), Ok(state.clone()));
        let reached = Reached { stream: "s".into(), route: "t".into(), last: 7 };
        assert_eq!(state.reached("g", "i"), [reached]);
        assert!(state.reached("g", "j").is_empty() && state.reached("h", "i").is_empty());
        assert!(State::restore(&[9]).is_err());
    }
}
