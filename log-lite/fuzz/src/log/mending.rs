//! Damage to a log of keys, and its repair.

use std::ops::Range;

use log_lite::{Reader, repair_storage, verify_storage};

use super::input::Input;
use super::keyed::{Life, is_named};
use crate::sim::Survives;

/// The longest head of a segment.
const HEAD: u64 = 96;
/// Two flips that are nearer than this could make up for each other in a checksum of 16 bits.
const APART: u64 = 64;

/// Where a batch is.
struct Place {
    segment: u64,
    bytes: Range<u64>,
    offsets: Range<u64>,
    starts_commit: bool,
}

/// Bytes that were changed.
#[derive(Default)]
struct Flips {
    places: Vec<(u64, u64)>,
    /// Segments of which both copies of the header are gone.
    beheaded: Vec<u64>,
}

impl Flips {
    fn hit(&self, place: &Place) -> bool {
        let hit =
            |(segment, at): &(u64, u64)| *segment == place.segment && place.bytes.contains(at);
        self.beheaded.contains(&place.segment) || self.places.iter().any(hit)
    }

    fn are_in(&self, segment: u64) -> bool {
        self.beheaded.contains(&segment) || self.places.iter().any(|(base, _)| *base == segment)
    }
}

impl Life {
    /// Some bytes of a log that rests change; then it is repaired, or, where only sealed segments
    /// are damaged, perhaps goes on as it is.
    pub(super) fn damage(&mut self, input: &mut Input) {
        self.restart(Survives::Everything);
        self.open_again(input);
        let Some(newest) = self.journal.segments().last().map(|segment| segment.base) else {
            return;
        };
        let places = self.places();
        let flips = self.flip(input);
        let goes_on = input.byte() & 1 == 0 && !flips.are_in(newest);
        if !goes_on {
            self.repair(input);
            self.hurt.clear();
        }
        let journal = self.open().expect("the power is on");
        // Damage to the last commit cannot be told from one that was torn.
        let last = places.iter().rfind(|place| place.starts_commit && place.segment == newest);
        let spared = last.map_or(self.journal.end(), |place| place.offsets.start);
        assert!((spared..=self.journal.end()).contains(&journal.end()), "{}", journal.end());
        self.go_on_with(journal, 0);
        self.take_losses(places.iter().filter(|place| !flips.hit(place)), spared);
        self.check();
    }

    /// All batches that are there.
    fn places(&self) -> Vec<Place> {
        let mut reader = Reader::open(self.storage.clone()).expect("the power is on");
        reader.seek(self.journal.start());
        let mut places = Vec::new();
        loop {
            match reader.next(self.journal.end()) {
                Ok(Some(batch)) => places.push(Place {
                    segment: batch.segment(),
                    bytes: batch.bytes(),
                    offsets: batch.first()..batch.end(),
                    starts_commit: batch.starts_commit(),
                }),
                Ok(None) => return places,
                // What is lost is passed over.
                Err(_) => {}
            }
        }
    }

    fn flip(&mut self, input: &mut Input) -> Flips {
        let mut flips = Flips::default();
        let segments: Vec<_> = self.journal.segments().collect();
        let newest = segments.last().map(|last| last.base);
        for _ in 0..1 + input.below(3) {
            let segment = segments[input.below(segments.len() as u64) as usize];
            let (at, mask) = (input.number() % (segment.bytes + HEAD), input.byte() | 1);
            let beheads = at >= segment.bytes;
            let at = if beheads { 8 } else { at };
            // A second fault in the newest can hit what shows that the first is one.
            let is_newest = newest == Some(segment.base) && flips.are_in(segment.base);
            if segment.bytes < HEAD || is_newest || self.is_hurt_near(segment.base, at) {
                continue;
            }
            self.hurt.push((segment.base, at));
            self.storage.flip(segment.base, at as usize, mask);
            if beheads {
                self.storage.flip(segment.base, 41, mask);
                flips.beheaded.push(segment.base);
            } else {
                flips.places.push((segment.base, at));
            }
        }
        flips
    }

    fn is_hurt_near(&self, segment: u64, at: u64) -> bool {
        self.hurt.iter().any(|(base, other)| {
            let both_in_head = at.max(*other) < HEAD;
            *base == segment && (both_in_head || other.abs_diff(at) < APART)
        })
    }

    /// Repairs, through whatever fault the input wants.
    fn repair(&mut self, input: &mut Input) {
        let kind = input.byte();
        if kind & 4 == 0 {
            self.set_fault(kind, 40, input);
        }
        // The power may go at its last write, a summary, whose failure it is not told of.
        while repair_storage(&self.storage, &mut |_, _| {}).is_err() || self.is_off() {
            self.restart_if_off(input);
        }
        self.storage.with(|disk| disk.fault = None);
        let report = verify_storage(&self.storage, &mut |_, _| {}).expect("this version");
        assert_eq!((report.damage, report.torn_tail), (vec![], None));
        let again = repair_storage(&self.storage, &mut |_, _| {}).expect("no fault");
        assert_eq!((again.repaired, again.recovery.damage), (vec![], vec![]));
    }

    /// What was not hit is there, and what is not there was named.
    fn take_losses<'a>(&mut self, whole: impl Iterator<Item = &'a Place>, spared: u64) {
        let reading = self.read_all();
        for place in whole.filter(|place| place.offsets.end <= spared) {
            for offset in self.there.range(place.offsets.clone()) {
                assert!(reading.rows.contains_key(offset), "{offset} was not hit and is gone");
            }
        }
        let (start, end) = (self.journal.start(), self.journal.end());
        let all: Vec<u64> = self.there.range(start..end).copied().collect();
        for offset in all.into_iter().filter(|offset| !reading.rows.contains_key(offset)) {
            assert!(is_named(&reading, offset), "{offset} is lost and not named: {reading:?}");
            self.there.remove(&offset);
            self.lost.insert(offset);
        }
    }
}
