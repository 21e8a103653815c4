//! Where a route goes on after a start: what the upstream says, what the gateway remembers and what
//! the journal has must agree. Pure.

/// What the gateway itself remembers of a route: a hint that spares work, and a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Mark {
    /// [`super::Position::next`] as the upstream last confirmed it; 0 if it never did.
    pub(in crate::forward) committed: u64,
    /// All below is either confirmed or does not belong to the route.
    pub(in crate::forward) scanned: u64,
    /// The journal was found to end below this offset that the route had seen. It stays: the
    /// journal grows past it, with other records.
    pub(in crate::forward) lost: Option<u64>,
}

/// What an upstream says about a route when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::forward) struct RouteStart {
    /// The first offset that it does not have; `None` if it knows nothing of the route.
    pub(in crate::forward) next: Option<u64>,
    /// One above the highest offset that it has.
    pub(in crate::forward) reach: u64,
    /// Its word counts alone. False where what it had may be carried away, as with files; then it
    /// goes on from the mark.
    pub(in crate::forward) is_truth: bool,
}

/// Why a route must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::forward) enum Halted {
    /// The upstream has offsets that the journal does not.
    #[error(
        "the upstream has offsets up to {reach}, the journal ends at {end}: the journal was lost or \
         is an older copy. Nothing is sent, so that no offset stands for two records. Start with a \
         new data directory (it gets an incarnation of its own), or bring the lost journal back"
    )]
    LogLost {
        /// One above the highest offset there.
        reach: u64,
        /// The end of the journal.
        end: u64,
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

/// Where a route goes on; the journal holds `start..end`.
///
/// # Errors
/// [`Halted`]: it must not.
pub(in crate::forward) fn resume(
    upstream: &RouteStart,
    mark: Option<Mark>,
    start: u64,
    end: u64,
) -> Result<u64, Halted> {
    let lost = mark.and_then(|mark| mark.lost.or((mark.scanned > end).then_some(mark.scanned)));
    if let Some(reach) = lost.or((upstream.reach > end).then_some(upstream.reach)) {
        return Err(Halted::LogLost { reach, end });
    }
    match (upstream.next, mark) {
        // A new route begins with the oldest record; what is not there any more is no gap of it.
        (None, None) => Ok(start),
        (None, Some(mark)) if !upstream.is_truth || mark.committed == 0 => Ok(mark.scanned),
        (None, Some(Mark { committed, .. })) => Err(Halted::Missing { committed }),
        (Some(next), None) => Ok(next),
        (Some(next), Some(mark)) if !upstream.is_truth => Ok(next.max(mark.scanned)),
        (Some(next), Some(mark)) => match next.cmp(&mark.committed) {
            std::cmp::Ordering::Less => Err(Halted::WentBack { committed: mark.committed, next }),
            std::cmp::Ordering::Equal => Ok(next.max(mark.scanned)),
            std::cmp::Ordering::Greater => Ok(next),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_goes_on_where_upstream_and_journal_agree_and_nowhere_else() {
        let truth =
            |next: Option<u64>| RouteStart { next, reach: next.unwrap_or(0), is_truth: true };
        let mark = |committed, scanned| Some(Mark { committed, scanned, lost: None });
        let from = |start: &RouteStart, mark| resume(start, mark, 5, 100);
        assert_eq!(from(&truth(None), None), Ok(5), "a new route: from the oldest");
        assert_eq!(from(&truth(None), mark(0, 40)), Ok(40), "nothing of it so far");
        assert_eq!(from(&truth(Some(30)), None), Ok(30));
        assert_eq!(from(&truth(Some(30)), mark(30, 40)), Ok(40));
        assert_eq!(from(&truth(Some(50)), mark(30, 40)), Ok(50), "the upstream knows more");
        let missing = Err(Halted::Missing { committed: 30 });
        assert_eq!(from(&truth(None), mark(30, 40)), missing);
        let back = Err(Halted::WentBack { committed: 30, next: 20 });
        assert_eq!(from(&truth(Some(20)), mark(30, 40)), back);
        let lost = Err(Halted::LogLost { reach: 101, end: 100 });
        assert_eq!(from(&truth(Some(101)), None), lost);
        assert_eq!(from(&truth(Some(50)), mark(50, 101)), lost);
        let known = Some(Mark { committed: 0, scanned: 0, lost: Some(101) });
        assert_eq!(from(&truth(Some(50)), known), lost, "it stays lost");
        let files = RouteStart { next: Some(10), reach: 60, is_truth: false };
        assert_eq!(from(&files, mark(60, 60)), Ok(60), "files may be carried away");
        assert_eq!(from(&files, None), Ok(10));
    }
}
