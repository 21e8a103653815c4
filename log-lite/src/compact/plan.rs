//! Which segments a round of compaction takes: a function of what they are.

use crate::segment::Head;
use crate::storage::SegmentEntry;

/// A sealed segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) entry: SegmentEntry,
    /// The base of the segment behind it.
    pub(super) end: u64,
    /// Its head, where that can be read.
    pub(super) head: Option<Head>,
}

impl Source {
    /// Whether nothing in it or before it was superseded there, when it was written.
    pub(super) fn is_clean(&self) -> bool {
        self.head.and_then(|head| head.extent).is_some_and(|extent| extent.clean)
    }
}

/// How many of the segments, oldest first, have been through a round before: all up to the last
/// that says so. `None`: the rest is too little to be worth a round.
pub(super) fn first_dirty(sources: &[Source], min_dirty_percent: u8) -> Option<usize> {
    let first = sources.iter().rposition(Source::is_clean).map_or(0, |last| last + 1);
    let bytes = |sources: &[Source]| -> u64 { sources.iter().map(|of| of.entry.bytes).sum() };
    let (dirty, all) = (bytes(&sources[first..]), bytes(sources));
    let enough = u128::from(dirty) * 100 >= u128::from(all) * u128::from(min_dirty_percent);
    (dirty > 0 && enough).then_some(first)
}

/// How much is left of what is read, as far as a round has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Yield {
    read: u64,
    written: u64,
}

impl Yield {
    /// A dirty source of so many bytes left so many.
    pub(super) fn note(&mut self, read: u64, written: u64) {
        self.read += read;
        self.written += written;
    }

    /// Whether a source still goes into an output that has so many bytes, if it shrinks as those
    /// before it did. Where it does not, the output is at most about twice as long as a segment.
    pub(super) fn fits(&self, output_bytes: u64, source: &Source, segment_size: u32) -> bool {
        let bytes = u128::from(source.entry.bytes);
        let left = if source.is_clean() || self.read == 0 {
            bytes
        } else {
            bytes * u128::from(self.written) / u128::from(self.read)
        };
        u128::from(output_bytes) + left <= u128::from(segment_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{ChunkHeader, ChunkKind};
    use crate::segment::Extent;

    fn source(base: u64, bytes: u64, clean: Option<bool>) -> Source {
        let kind = if clean.is_some() { ChunkKind::Compacted } else { ChunkKind::Segment };
        let chunk = ChunkHeader { kind, base_offset: base, base_time_ms: 0, epoch: 0 };
        let extent = clean.map(|clean| Extent { end: base + 10, clean });
        let head = Head { chunk, extent, bad_copy: None };
        let entry = SegmentEntry { base, bytes, modified_ms: 0 };
        Source { entry, end: base + 10, head: Some(head) }
    }

    #[test]
    fn all_behind_the_last_clean_segment_is_dirty() {
        let repaired = Some(false);
        let all = [
            source(0, 100, Some(true)),
            source(10, 100, repaired),
            source(20, 100, Some(true)),
            source(30, 100, repaired),
            source(40, 100, None),
        ];
        assert_eq!(first_dirty(&all, 0), Some(3));
        assert_eq!(first_dirty(&all[..3], 0), None);
        assert_eq!(first_dirty(&all[3..], 100), Some(0));
        assert_eq!(first_dirty(&[], 0), None);
    }

    #[test]
    fn a_round_waits_until_enough_is_dirty() {
        let all = [source(0, 300, Some(true)), source(10, 100, None)];
        assert_eq!(first_dirty(&all, 25), Some(1));
        assert_eq!(first_dirty(&all, 26), None);
    }

    #[test]
    fn segments_are_merged_up_to_the_size_of_one_by_what_was_left_of_others() {
        let mut shrinks = Yield::default();
        assert!(shrinks.fits(600, &source(0, 400, None), 1_000));
        assert!(!shrinks.fits(601, &source(0, 400, None), 1_000));
        shrinks.note(1_000, 200);
        assert!(shrinks.fits(920, &source(0, 400, None), 1_000));
        assert!(!shrinks.fits(921, &source(0, 400, None), 1_000));
        assert!(!shrinks.fits(601, &source(0, 400, Some(true)), 1_000));
    }
}
