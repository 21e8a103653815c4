//! Where a partition is read from. Pure.

use crate::forward::Extent;

/// What is known of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// The first offset that the journal does not have; `None` if it has nothing of it.
    pub(super) next: Option<u64>,
    /// Where it begins.
    pub(super) begin: i64,
}

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At this offset.
    At(i64),
    /// The cluster no longer has up to `missed` records before `from`.
    Missed { from: i64, missed: i64 },
    /// The partition ends before what was read of it.
    WentBack,
}

/// Where to go on with a partition that holds `extent`.
pub(super) fn place(known: Known, extent: Extent) -> Place {
    let wanted = match known.next {
        Some(next) => i64::try_from(next).unwrap_or(i64::MAX),
        None => known.begin,
    };
    if known.next.is_some() && wanted > extent.high {
        return Place::WentBack;
    }
    if wanted < extent.low {
        return Place::Missed { from: extent.low, missed: extent.low - wanted };
    }
    Place::At(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_goes_on_behind_what_the_journal_has_and_never_skips_silently() {
        let extent = Extent { low: 10, high: 20 };
        let at = |next, begin| place(Known { next, begin }, extent);
        assert_eq!(at(Some(15), 20), Place::At(15));
        assert_eq!(at(None, 20), Place::At(20));
        assert_eq!(at(Some(20), 0), Place::At(20));
        assert_eq!(at(Some(21), 0), Place::WentBack);
        assert_eq!(at(Some(4), 0), Place::Missed { from: 10, missed: 6 });
        assert_eq!(at(None, 4), Place::Missed { from: 10, missed: 6 });
    }
}
