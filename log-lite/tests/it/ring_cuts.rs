//! The ring and power cuts: at every word and erase of a run, with what the cut leaves wavering.

use std::collections::VecDeque;

use log_lite::{Ring, RingError, TRIM_MARK_EVERY};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::Rng;
use crate::nor::{Nor, PAGE, Step};
use crate::ring::{block, body, mount, read_all};

const PAGES: usize = 3;

/// What had been acknowledged to whom when something was asked of the ring.
#[derive(Clone, Debug)]
struct Asked {
    /// Steps of the flash so far.
    steps: usize,
    appended: u64,
    /// It was an append.
    appends: bool,
    start: u64,
    trimmed: u64,
    dropped: u64,
}

/// A run of appends and trims without a cut, and what flash did in it.
struct Run<const W: usize> {
    bodies: Vec<Vec<u8>>,
    asked: Vec<Asked>,
    history: Vec<(Nor<W>, Step)>,
}

/// Appends or trims, as `rng` says. `None`: the power went.
fn ask<const W: usize>(
    ring: &mut Ring<Nor<W>>,
    bodies: &mut Vec<Vec<u8>>,
    trimmed: &mut u64,
    rng: &mut Rng,
) -> Option<()> {
    if rng.below(4) == 0 {
        let before = ring.start() + rng.below(6);
        *trimmed = (*trimmed).max(before.min(ring.end()));
        return ring.trim(before).ok();
    }
    let n = ring.end();
    bodies.truncate(n as usize);
    bodies.push(body(n, rng));
    match ring.append_block((n % 5) as u16, n as i64 * 100, &block(&bodies[n as usize])) {
        Ok(offset) => assert_eq!(offset, n),
        Err(RingError::Flash(_)) => return None,
        Err(error) => panic!("{error}"),
    }
    Some(())
}

fn run<const W: usize>(seed: u64, count: usize) -> Run<W> {
    let mut flash = Nor::<W>::new(PAGES);
    flash.history = Some(Vec::new());
    let mut ring = mount(flash);
    let (mut bodies, mut asked, mut trimmed) = (Vec::new(), Vec::new(), 0);
    let mut rng = Rng::new(seed);
    for _ in 0..count {
        let steps = ring.flash().history.as_ref().unwrap().len();
        let (appended, start, dropped) = (ring.end(), ring.start(), ring.dropped());
        ask(&mut ring, &mut bodies, &mut trimmed, &mut rng).unwrap();
        let appends = ring.end() > appended;
        asked.push(Asked { steps, appended, appends, start, trimmed, dropped });
    }
    let flash = ring.release();
    assert!(flash.erases.iter().all(|erases| *erases >= 2), "not twice round the ring");
    Run { bodies, asked, history: flash.history.unwrap() }
}

/// Everything in the ring is what was stored; it has no gap but, maybe, `unsure`, and at its start
/// the `given_up` records of a page that was being erased.
fn check<const W: usize>(
    ring: &mut Ring<Nor<W>>,
    bodies: &[Vec<u8>],
    unsure: Option<u64>,
    given_up: u64,
) {
    let (start, end) = (ring.start(), ring.end());
    let found = read_all(ring);
    let offsets: Vec<_> = found.iter().map(|(record, _)| record.offset).collect();
    let first = offsets.first().copied().unwrap_or(end).min(start + given_up);
    let all = (first..end).filter(|n| offsets.contains(n) || Some(*n) != unsure);
    assert_eq!(offsets, all.collect::<Vec<_>>(), "of {start}..{end}");
    for (record, bytes) in found {
        let n = record.offset;
        assert_eq!(bytes, block(&bodies[n as usize]), "record {n} of {start}..{end}");
        assert_eq!((u64::from(record.partition), record.time_ms), (n % 5, n as i64 * 100));
    }
}

/// What a mount after a cut has to find.
fn check_mounted<const W: usize>(
    ring: &mut Ring<Nor<W>>,
    asked: &Asked,
    bodies: &[Vec<u8>],
    step: &Step,
) {
    let most = asked.appended + u64::from(asked.appends);
    assert!((asked.appended..=most).contains(&ring.end()), "end {} of {asked:?}", ring.end());
    let known = asked.start.min(asked.trimmed);
    assert!(ring.start() + TRIM_MARK_EVERY > known, "start {} of {asked:?}", ring.start());
    // At most one page was given up in the interrupted step.
    assert!(ring.start() <= asked.start.max(asked.trimmed) + PAGE as u64 / 14, "{asked:?}");
    // What was acknowledged is not called dropped.
    let lost = ring.start().saturating_sub(asked.start);
    assert!(ring.dropped() <= asked.dropped + lost, "{} dropped, {asked:?}", ring.dropped());
    let unsure = asked.appends.then_some(asked.appended);
    let given_up = if let Step::Erase { .. } = step { PAGE as u64 / 14 } else { 0 };
    for _ in 0..2 {
        check(ring, bodies, unsure, given_up);
    }
}

/// Cuts the power in every step of a run, and again soon after.
fn cut_everywhere<const W: usize>(seed: u64, count: usize) {
    let Run { bodies: first, asked, history } = run::<W>(seed, count);
    for (cut, (flash, step)) in history.iter().enumerate() {
        let mut flash = flash.clone();
        (flash.rng, flash.is_strict) = (Rng::new(seed ^ cut as u64), true);
        flash.cut(step);
        let at = asked.partition_point(|asked| asked.steps <= cut) - 1;
        let mut bodies = first.clone();
        let mut ring = mount(flash);
        check_mounted(&mut ring, &asked[at], &bodies, step);
        // It goes on, and the power goes once more.
        let unsure = asked[at].appends.then_some(asked[at].appended);
        let mut flash = ring.release();
        (flash.left, flash.is_strict) = (Some(1 + cut as u64 % 61), false);
        let mut ring = mount(flash);
        let mut rng = Rng::new(cut as u64);
        let mut trimmed = ring.start();
        let mut then = loop {
            let (appended, start, dropped) = (ring.end(), ring.start(), ring.dropped());
            let goes_on = ask(&mut ring, &mut bodies, &mut trimmed, &mut rng).is_some();
            if !goes_on {
                let appends = bodies.len() as u64 > appended;
                break Asked { steps: 0, appended, appends, start, trimmed, dropped };
            }
        };
        let mut flash = ring.release();
        flash.left = None;
        let mut ring = mount(flash);
        // What wavers may have been there for a while.
        let least = then.appended.min(unsure.unwrap_or(u64::MAX));
        assert!((least..=bodies.len() as u64).contains(&ring.end()), "cut {cut}: {then:?}");
        for _ in 0..6 {
            ask(&mut ring, &mut bodies, &mut then.trimmed, &mut rng).unwrap();
        }
        let found = read_all(&mut ring);
        let is_unsure = |n: u64| Some(n) == unsure || (then.appends && n == then.appended);
        // The second cut may have hit an erase.
        let oldest = found.first().map_or(ring.end(), |(record, _)| record.offset);
        let oldest = oldest.min(ring.start() + PAGE as u64 / 14);
        let gaps =
            (oldest..ring.end()).filter(|n| !found.iter().any(|(record, _)| record.offset == *n));
        assert!(gaps.clone().all(is_unsure), "cut {cut}: {:?}, {then:?}", gaps.collect::<Vec<_>>(),);
        for (record, bytes) in found {
            let n = record.offset as usize;
            // Of two that were given up, either.
            let is_first = Some(record.offset) == unsure
                && then.appended <= record.offset
                && bytes == block(&first[n]);
            assert!(is_first || bytes == block(&bodies[n]), "cut {cut}: record {n}");
        }
    }
}

#[test]
fn a_power_cut_at_any_word_loses_nothing_that_was_appended() {
    cut_everywhere::<1>(1, 110);
    cut_everywhere::<4>(1, 110);
    cut_everywhere::<4>(2, 110);
    cut_everywhere::<8>(2, 110);
    cut_everywhere::<32>(1, 90);
}

#[test]
fn a_cut_that_damages_the_word_before_costs_at_most_two_records() {
    let Run { bodies, asked, history } = run::<4>(7, 110);
    for (cut, (flash, step)) in history.iter().enumerate() {
        let mut flash = flash.clone();
        (flash.rng, flash.disturbs) = (Rng::new(cut as u64), true);
        flash.cut(step);
        let asked = &asked[asked.partition_point(|asked| asked.steps <= cut) - 1];
        let mut ring = mount(flash);
        let found = read_all(&mut ring);
        for (record, bytes) in &found {
            assert_eq!(*bytes, block(&bodies[record.offset as usize]), "cut {cut}");
        }
        let is_header = matches!(step, Step::Program { at, .. } if at % PAGE <= 32);
        let kept = found.iter().filter(|(record, _)| record.offset < asked.appended).count() as u64;
        let page = PAGE as u64 / 14;
        let lost = asked.appended.saturating_sub(ring.start().max(asked.start) + kept);
        assert!(lost <= if is_header { page } else { 2 }, "cut {cut}: {lost} of {asked:?}");
        ring.append(0, 0, b"and goes on").unwrap();
    }
}

/// What is done to a ring in a random run.
#[derive(Clone, Debug)]
enum Ask {
    Append(usize),
    Trim(u64),
    Read(u64),
    Mount,
    Cut(u64),
}

fn asks() -> impl Strategy<Value = Ask> {
    prop_oneof![
        8 => (0..100usize).prop_map(Ask::Append),
        3 => (0..12u64).prop_map(Ask::Trim),
        3 => (0..40u64).prop_map(Ask::Read),
        1 => Just(Ask::Mount),
        2 => (1..40u64).prop_map(Ask::Cut),
    ]
}

/// A ring and what it has to hold.
struct Model<const W: usize> {
    ring: Option<Ring<Nor<W>>>,
    /// Records from `ring.start()` on, at least.
    records: VecDeque<(u64, Vec<u8>)>,
    next: u8,
    was_cut: bool,
}

impl<const W: usize> Model<W> {
    fn ring(&mut self) -> &mut Ring<Nor<W>> {
        self.ring.as_mut().unwrap()
    }

    fn append(&mut self, len: usize) {
        self.next = self.next.wrapping_add(1);
        let body = vec![self.next; len];
        let (offset, ring) = (self.ring().end(), self.ring());
        let stored = ring.append(0, 0, &body);
        if let Ok(stored) = &stored {
            assert_eq!(*stored, offset);
        }
        self.records.retain(|(at, _)| *at < offset);
        self.records.push_back((offset, body));
        if stored.is_err() {
            self.mount();
            // Stored in full or not at all.
            if self.ring().end() == offset {
                self.records.pop_back();
            }
        }
    }

    fn mount(&mut self) {
        let mut flash = self.ring.take().unwrap().release();
        flash.left = None;
        self.ring = Some(mount(flash));
    }

    fn check(&mut self, from: u64, unsure: &[u64]) {
        let start = self.ring().start();
        let from = start + from;
        let mut buf = [0; 200];
        let found = self.ring().read(from, &mut buf).unwrap();
        let is_there = |(at, _): &&(u64, Vec<u8>)| *at >= from;
        let mut wanted = self.records.iter().filter(is_there);
        // The oldest page may have been in the midst of its erase.
        let oldest = if self.was_cut { start + PAGE as u64 / 14 } else { 0 };
        let may_be_gone = |at: &u64| unsure.contains(at) || *at < oldest;
        match found {
            Some(record) => {
                let (at, body) = wanted
                    .find(|(at, _)| *at == record.offset || !may_be_gone(at))
                    .expect("what is read was stored");
                assert_eq!((*at, &buf[4..record.len]), (record.offset, &body[..]));
            }
            None => assert!(wanted.all(|(at, _)| may_be_gone(at))),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]
    #[test]
    fn whatever_is_asked_the_ring_holds_what_a_queue_would(
        asks in vec(asks(), 1..120), seed in any::<u64>(),
    ) {
        let mut flash = Nor::<4>::new(PAGES);
        flash.rng = Rng::new(seed);
        let mut model =
            Model { ring: Some(mount(flash)), records: VecDeque::new(), next: 0, was_cut: false };
        // What a cut left in doubt may be read or not, now and later.
        let mut unsure = Vec::new();
        for ask in asks {
            match ask {
                Ask::Append(len) => {
                    if model.ring().flash().left.is_some() {
                        unsure.push(model.ring().end());
                    }
                    model.append(len);
                }
                Ask::Trim(count) => {
                    let before = model.ring().start() + count;
                    if model.ring().trim(before).is_err() {
                        model.mount();
                    }
                }
                Ask::Read(from) => model.check(from, &unsure),
                Ask::Mount => model.mount(),
                Ask::Cut(left) => {
                    model.mount();
                    model.was_cut = true;
                    let mut flash = model.ring.take().unwrap().release();
                    flash.left = Some(left);
                    model.ring = Some(mount(flash));
                }
            }
            let ring = model.ring();
            prop_assert!(ring.start() <= ring.end());
        }
        model.check(0, &unsure);
    }
}
