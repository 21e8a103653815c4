//! Where a route goes on after a start: what the upstream says, what the gateway remembers and what
//! the journal has must agree. Pure.

use super::dead::Dead;
use super::position::Position;
use super::stored::Witness;

/// What the gateway itself remembers of a route: a hint that spares work, and a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Mark {
    /// The position as the upstream last confirmed it; empty if it never did.
    pub(in crate::forward) committed: Position,
    /// What of the journal is either confirmed or does not belong to the route.
    pub(in crate::forward) scanned: Position,
    /// The upstream was found to have offsets up to here that this journal did not give it. It
    /// stays: the journal grows past it, with other records.
    pub(in crate::forward) lost: Option<u64>,
    /// The end of the journal at the first start since the upstream was last asked: it cannot have
    /// more from here. `None` once it was asked.
    pub(in crate::forward) bound: Option<u64>,
    /// Records that are refused for good, until their gap is confirmed.
    pub(in crate::forward) dead: Vec<Dead>,
}

impl Mark {
    /// Of a route that has sent nothing and begins at `from`.
    pub(in crate::forward) fn new(from: u64) -> Self {
        let scanned = Position::up_to(from);
        Self { committed: Position::default(), scanned, lost: None, bound: None, dead: Vec::new() }
    }
}

/// What an upstream says about a route when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::forward) struct RouteStart {
    /// What it has; `None` if it knows nothing of the route.
    pub(in crate::forward) position: Option<Position>,
    /// One above the highest offset that it has.
    pub(in crate::forward) reach: u64,
    /// The highest record that it has, where it knows.
    pub(in crate::forward) witness: Option<Witness>,
    /// Its word counts alone. False where what it had may be carried away, as with files; then it
    /// goes on from the mark.
    pub(in crate::forward) is_truth: bool,
}

impl RouteStart {
    /// From an upstream that has `position` and is believed.
    pub(in crate::forward) fn truth(position: Option<Position>, witness: Option<Witness>) -> Self {
        let reach = position.as_ref().map_or(0, Position::end);
        Self { position, reach, witness, is_truth: true }
    }
}

/// Why a route must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::forward) enum Halted {
    /// The upstream has offsets that this journal did not give it.
    #[error(
        "the upstream has offsets up to {reach}, this journal gave it those below {bound} at most: \
         the journal was lost or is an older copy (a backup?), or another gateway runs with a copy \
         of it. Nothing is sent, so that no offset stands for two records. Start with a new data \
         directory (it gets an incarnation of its own), or bring the lost journal back"
    )]
    LogLost {
        /// One above the highest offset there.
        reach: u64,
        /// What the journal can have given.
        bound: u64,
    },
    /// The upstream's newest record is another one than the journal's.
    #[error(
        "the record at offset {offset} is not the one that the upstream has: the data directory is \
         an older copy (a backup?) that has grown since, or a copy of it runs beside it. Nothing is \
         sent, so that no offset stands for two records. Start with a new data directory (it gets \
         an incarnation of its own), or bring the original back"
    )]
    Foreign {
        /// Where they differ.
        offset: u64,
    },
    /// It confirmed a position and has none now.
    #[error(
        "the upstream confirmed offsets below {committed} and has no position now: was the topic \
         headwater.positions deleted, or is it another cluster? Restore it, or give the upstream \
         another name in the configuration to send all that the journal holds again"
    )]
    Missing {
        /// What it confirmed.
        committed: u64,
    },
    /// It confirmed more than it has now.
    #[error(
        "the upstream confirmed offsets below {committed} and now says {next}: it lost what it had \
         acknowledged. Nothing is sent, so that nothing is doubled. Give the upstream another name \
         in the configuration to send all that the journal holds again"
    )]
    WentBack {
        /// What it confirmed.
        committed: u64,
        /// What it says.
        next: u64,
    },
}

impl Halted {
    /// What the mark has to remember of it, because the journal may outgrow it.
    pub(in crate::forward) fn lost(self) -> Option<u64> {
        match self {
            Self::LogLost { reach, .. } => Some(reach),
            Self::Foreign { offset } => Some(offset.saturating_add(1)),
            Self::Missing { .. } | Self::WentBack { .. } => None,
        }
    }
}

/// Where a route stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Resumed {
    /// What the upstream has, or what is not the route's and may be told it as such.
    pub(in crate::forward) confirmed: Position,
    /// The same, and what else is known not to be the route's.
    pub(in crate::forward) covered: Position,
}

/// Where a route goes on. The journal ends at `end`, and cannot have given the upstream offsets at
/// or above `bound`.
///
/// # Errors
/// [`Halted`]: it must not.
pub(in crate::forward) fn resume(
    upstream: &RouteStart,
    mark: &Mark,
    bound: u64,
    end: u64,
) -> Result<Resumed, Halted> {
    let beyond = |reach: u64, bound: u64| (reach > bound).then_some(reach);
    let lost = mark.lost.or(beyond(mark.scanned.end(), end)).or(beyond(upstream.reach, bound));
    if let Some(reach) = lost {
        return Err(Halted::LogLost { reach, bound: bound.min(end) });
    }
    let committed = &mark.committed;
    let Some(position) = &upstream.position else {
        if upstream.is_truth && !committed.is_empty() {
            return Err(Halted::Missing { committed: committed.end() });
        }
        let covered = mark.scanned.clone();
        // Nothing below the first hole was the route's, or the upstream had it once.
        return Ok(Resumed { confirmed: Position::up_to(covered.next()), covered });
    };
    let (confirmed, mut covered) = (position.clone(), position.clone());
    if upstream.is_truth && !position.covers(committed) {
        return Err(Halted::WentBack { committed: committed.end(), next: position.next() });
    }
    // A mark of before the first commit says where the route was to begin, and the upstream knows.
    let is_newest = position == committed || !upstream.is_truth;
    if is_newest && !committed.is_empty() {
        covered.merge(&mark.scanned);
    }
    Ok(Resumed { confirmed, covered })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u64, u64)]) -> Position {
        let mut position = Position::default();
        ranges.iter().for_each(|(first, end)| position.insert(*first, *end));
        position
    }

    fn mark(committed: &[(u64, u64)], scanned: &[(u64, u64)]) -> Mark {
        Mark { committed: set(committed), scanned: set(scanned), ..Mark::new(0) }
    }

    fn covered(start: &RouteStart, mark: &Mark) -> Result<Position, Halted> {
        resume(start, mark, 100, 110).map(|resumed| resumed.covered)
    }

    #[test]
    fn a_route_goes_on_where_upstream_and_journal_agree_and_nowhere_else() {
        let truth = |next: Option<u64>| RouteStart::truth(next.map(Position::up_to), None);
        let at = |next| Ok(Position::up_to(next));
        let confirmed = mark(&[(0, 30)], &[(0, 40)]);
        assert_eq!(covered(&truth(None), &Mark::new(5)), at(5), "a new route: from its begin");
        assert_eq!(covered(&truth(None), &mark(&[], &[(0, 40)])), at(40), "nothing of it so far");
        assert_eq!(covered(&truth(Some(30)), &Mark::new(99)), at(30), "the mark was lost");
        assert_eq!(covered(&truth(Some(30)), &confirmed), at(40));
        assert_eq!(covered(&truth(Some(50)), &confirmed), at(50), "the upstream knows more");
        let missing = Err(Halted::Missing { committed: 30 });
        assert_eq!(covered(&truth(None), &confirmed), missing);
        let back = Err(Halted::WentBack { committed: 30, next: 20 });
        assert_eq!(covered(&truth(Some(20)), &confirmed), back);
        let lost = Err(Halted::LogLost { reach: 101, bound: 100 });
        assert_eq!(covered(&truth(Some(101)), &Mark::new(0)), lost);
        assert_eq!(covered(&truth(Some(50)), &mark(&[(0, 50)], &[(0, 105)])), at(105));
        let past = Err(Halted::LogLost { reach: 111, bound: 100 });
        assert_eq!(covered(&truth(Some(50)), &mark(&[(0, 50)], &[(0, 111)])), past);
        let known = Mark { lost: Some(101), ..Mark::new(0) };
        assert_eq!(covered(&truth(Some(50)), &known), lost, "it stays lost");
        let files = RouteStart {
            position: Some(Position::up_to(10)),
            reach: 60,
            witness: None,
            is_truth: false,
        };
        assert_eq!(covered(&files, &mark(&[(0, 60)], &[(0, 60)])), at(60), "carried away");
        assert_eq!(covered(&files, &Mark::new(0)), at(10));
    }

    #[test]
    fn a_set_of_ranges_is_resumed_with_its_holes() {
        let ranges = set(&[(0, 10), (50, 60)]);
        let start = RouteStart::truth(Some(ranges.clone()), None);
        let same = mark(&[(0, 10), (50, 60)], &[(0, 12), (50, 70)]);
        assert_eq!(covered(&start, &same), Ok(set(&[(0, 12), (50, 70)])));
        let older = mark(&[(0, 10), (50, 55)], &[(0, 12), (50, 55)]);
        assert_eq!(covered(&start, &older), Ok(ranges));
        let other = mark(&[(0, 11)], &[(0, 11)]);
        let back = Err(Halted::WentBack { committed: 11, next: 10 });
        assert_eq!(covered(&start, &other), back);
    }
}
