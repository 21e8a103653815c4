//! Records that an upstream refuses for good, and how one is found among those that were refused
//! together. Pure.
//!
//! A cluster refuses a whole batch for one record. What was refused is sent again in smaller and
//! smaller transactions, until one record stands alone in what is refused: that one is condemned, a
//! gap record takes its place upstream, and it goes to the stream of dead letters.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Why a record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::forward) enum Cause {
    /// It is larger than the client or the cluster takes.
    TooLarge,
    /// The cluster does not take what it says: its time, its form.
    Refused,
    /// It does not fit the schema of its route.
    Schema,
}

impl Cause {
    /// The header of the gap record in its place.
    pub(in crate::forward) fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::Refused => "refused",
            Self::Schema => "schema",
        }
    }
}

/// A record that is condemned and whose gap is not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::forward) struct Dead {
    /// Its offset.
    pub(in crate::forward) offset: u64,
    /// Its dead letter is at or above this offset.
    pub(in crate::forward) from: u64,
    /// What the gap record says.
    pub(in crate::forward) cause: Cause,
    /// What the upstream said, or why the record does not fit.
    pub(in crate::forward) reason: String,
}

/// A record that was refused, alone or with others of its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Refusal {
    /// The route.
    pub(in crate::forward) route: usize,
    /// Its offset.
    pub(in crate::forward) offset: u64,
    /// What kind of refusal.
    pub(in crate::forward) cause: Cause,
    /// What the upstream said.
    pub(in crate::forward) reason: String,
}

/// The search for the culprit.
#[derive(Debug, Default)]
pub(in crate::forward) struct Probe {
    /// Records that were refused and have not passed since, by route and offset.
    suspects: BTreeSet<(usize, u64)>,
    size: usize,
}

impl Probe {
    /// Records of a transaction at most, while there are suspects.
    pub(in crate::forward) fn size(&self) -> Option<usize> {
        (!self.suspects.is_empty()).then_some(self.size)
    }

    /// These were refused in one transaction. Gives the one that is condemned, if it is known.
    pub(in crate::forward) fn refused(&mut self, refused: Vec<Refusal>) -> Option<Refusal> {
        let all: BTreeSet<_> = refused.iter().map(|one| (one.route, one.offset)).collect();
        if all.len() == 1 {
            self.suspects.retain(|one| !all.contains(one));
            return refused.into_iter().next();
        }
        let before = self.size().unwrap_or(usize::MAX);
        self.size = (all.len().min(before) / 2).max(1);
        self.suspects.extend(all);
        None
    }

    /// The upstream takes nothing of `route` now: it is not looked for there.
    pub(in crate::forward) fn forget(&mut self, route: usize) {
        self.suspects.retain(|one| one.0 != route);
    }

    /// A transaction was confirmed; `is_there` says of a record whether the upstream has it.
    pub(in crate::forward) fn passed(&mut self, is_there: impl Fn(usize, u64) -> bool) {
        self.suspects.retain(|(route, offset)| !is_there(*route, *offset));
        self.size = self.size.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `0..count` in log order; a batch is refused as a whole if it has one of `bad`. Gives
    /// who was condemned and the number of transactions.
    fn search(count: u64, bad: &[u64], batch: usize) -> (Vec<u64>, u32) {
        let mut probe = Probe::default();
        let (mut next, mut condemned, mut transactions) = (0, Vec::new(), 0);
        while next < count {
            transactions += 1;
            let size = probe.size().map_or(batch, |size| size.min(batch)) as u64;
            let end = (next + size).min(count);
            let is_bad = |offset: &u64| bad.contains(offset) && !condemned.contains(offset);
            if (next..end).any(|offset| is_bad(&offset)) {
                let refusal = |offset| Refusal {
                    route: 0,
                    offset,
                    cause: Cause::TooLarge,
                    reason: String::new(),
                };
                let found = probe.refused((next..end).map(refusal).collect());
                condemned.extend(found.map(|found| found.offset));
            } else {
                next = end;
                probe.passed(|_, offset| offset < end);
            }
        }
        (condemned, transactions)
    }

    #[test]
    fn the_culprit_is_found_among_many_and_nobody_else_is_condemned() {
        for bad in [0, 1, 499, 500, 777, 999] {
            let (condemned, transactions) = search(1_000, &[bad], 500);
            assert_eq!(condemned, [bad]);
            assert!(transactions < 40, "{bad}: {transactions}");
        }
        assert_eq!(search(100, &[3, 4, 50, 99], 100).0, [3, 4, 50, 99]);
        let all: Vec<u64> = (0..20).collect();
        assert_eq!(search(20, &all, 7).0, all);
        assert_eq!(search(1_000, &[], 500), (vec![], 2));
    }
}
