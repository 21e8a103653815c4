//! The log on NOR flash.

use log_lite::{Ring, RingError, RingRecord, RingSlot, TRIM_MARK_EVERY, crc32c};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::Rng;
use crate::nor::{Nor, PAGE};

pub(crate) fn mount<const W: usize>(flash: Nor<W>) -> Ring<Nor<W>> {
    let end = flash.bytes.len() as u32;
    Ring::mount(flash, 0..end).unwrap()
}

pub(crate) fn body(n: u64, rng: &mut Rng) -> Vec<u8> {
    let len = rng.below(60) as usize;
    let mut body = n.to_le_bytes().to_vec();
    body.extend((0..len).map(|_| rng.next() as u8));
    body
}

pub(crate) fn block(body: &[u8]) -> Vec<u8> {
    [&crc32c(body).to_le_bytes()[..], body].concat()
}

pub(crate) fn read_all<const W: usize>(ring: &mut Ring<Nor<W>>) -> Vec<(RingRecord, Vec<u8>)> {
    let (mut from, mut found) = (ring.start(), Vec::new());
    let mut buf = [0; PAGE];
    while let Some(record) = ring.read(from, &mut buf).unwrap() {
        found.push((record, buf[..record.len].to_vec()));
        from = record.offset + 1;
    }
    found
}

#[test]
fn a_batch_takes_at_most_two_writes() {
    let mut ring = mount(Nor::<4>::new(4));
    ring.append(0, 0, b"opens the first page").unwrap();
    for n in 0..12 {
        let before = ring.flash().writes;
        ring.append(0, n, &[7; 20][..n as usize + 1]).unwrap();
        assert!(ring.flash().writes - before <= 2);
    }
}

#[test]
fn a_full_ring_overwrites_the_oldest_and_counts_what_was_not_acknowledged() {
    let mut ring = mount(Nor::<4>::new(4));
    for n in 0..200u64 {
        ring.append(0, 0, &[n as u8; 30]).unwrap();
    }
    assert!(ring.start() > 0);
    assert_eq!(ring.dropped(), ring.start());
    let (start, dropped) = (ring.start(), ring.dropped());
    let mut ring = mount(ring.release());
    assert_eq!((ring.start(), ring.dropped()), (start, dropped));
    // Acknowledged as a gap, it is not told again after the next reset.
    ring.trim(start + TRIM_MARK_EVERY).unwrap();
    let ring = mount(ring.release());
    assert_eq!((ring.start(), ring.dropped()), (start + TRIM_MARK_EVERY, 0));
}

#[test]
fn nothing_is_dropped_while_what_is_overwritten_was_acknowledged() {
    let mut ring = mount(Nor::<4>::new(4));
    for n in 0..500u64 {
        ring.append(0, 0, &[n as u8; 30]).unwrap();
        ring.trim(n + 1).unwrap();
        if n % 50 == 0 {
            ring = mount(ring.release());
        }
        assert_eq!(ring.dropped(), 0, "after record {n}");
        assert!(ring.start() + TRIM_MARK_EVERY > n);
    }
}

#[test]
fn the_pages_wear_alike() {
    let mut ring = mount(Nor::<4>::new(8));
    for n in 0..2_000u64 {
        ring.append(0, 0, &[n as u8; 30]).unwrap();
        if n % 97 == 0 {
            ring = mount(ring.release());
        }
    }
    let flash = ring.release();
    let (least, most) = (flash.erases.iter().min().unwrap(), flash.erases.iter().max().unwrap());
    assert!(*least > 10 && most - least <= 1, "{:?}", flash.erases);
}

#[test]
fn any_flipped_bit_costs_at_most_its_batch_or_with_the_header_its_page() {
    let mut ring = mount(Nor::<4>::new(4));
    let mut rng = Rng::new(5);
    let bodies: Vec<_> = (0..30).map(|n| body(n, &mut rng)).collect();
    for body in &bodies {
        ring.append(1, 5, body).unwrap();
    }
    let flash = ring.release();
    for bit in 0..flash.bytes.len() * 8 {
        let mut bad = flash.clone();
        bad.bytes[bit / 8] ^= 1 << (bit % 8);
        let mut ring = mount(bad);
        let found = read_all(&mut ring);
        // A gap shows in the offsets, and takes no endless search.
        assert!(found.is_sorted_by(|(a, _), (b, _)| a.offset < b.offset), "bit {bit}");
        assert!(ring.flash().reads < 2_500, "bit {bit}: {} reads", ring.flash().reads);
        for (record, bytes) in &found {
            assert_eq!(*bytes, block(&bodies[record.offset as usize]), "bit {bit}");
        }
        let in_header = bit / 8 % PAGE < 32;
        assert!(in_header || found.len() >= bodies.len() - 1, "bit {bit}: {}", found.len());
        assert!(found.len() >= bodies.len() / 2, "bit {bit}: {}", found.len());
    }
}

#[test]
fn a_block_whose_checksum_is_wrong_is_not_stored() {
    let mut ring = mount(Nor::<4>::new(4));
    let mut bytes = block(b"reading");
    bytes[6] ^= 1;
    assert!(matches!(ring.append_block(0, 0, &bytes), Err(RingError::Checksum)));
    assert!(matches!(ring.append_block(0, 0, &bytes[..3]), Err(RingError::Checksum)));
    assert_eq!(ring.end(), 0);
}

#[test]
fn the_largest_body_fits_and_one_byte_more_does_not() {
    let mut ring = mount(Nor::<8>::new(2));
    let max = Ring::<Nor<8>>::max_body();
    assert!(matches!(
        ring.append(0, 0, &vec![1; max + 1]),
        Err(RingError::TooLarge { max: m }) if m == max
    ));
    for n in 0..5 {
        assert_eq!(ring.append(u16::MAX, i64::MIN + n, &vec![1; max]).unwrap(), n as u64);
    }
    assert_eq!(read_all(&mut ring).len(), 2);
    let refused = ring.read(4, &mut [0; 10]);
    assert!(matches!(refused, Err(RingError::Buffer { needed }) if needed == max + 4));
}

#[test]
fn a_range_that_is_no_ring_is_refused() {
    let backwards = std::ops::Range { start: 1024, end: 0 };
    for range in [0..PAGE as u32, 8..2 * PAGE as u32, 0..9 * PAGE as u32, backwards] {
        let refused = Ring::mount(Nor::<4>::new(4), range.clone());
        assert!(matches!(refused, Err(RingError::Geometry)), "{range:?}");
    }
}

#[test]
fn a_ring_with_the_least_window_does_what_one_with_the_largest_does() {
    let range = 0..4 * PAGE as u32;
    let mut slot = RingSlot::<_, 32>::with_window(Nor::<4>::new(4), range.clone());
    let least = slot.mount().unwrap();
    let mut most = mount(Nor::<4>::new(4));
    for n in 0..300u64 {
        let body = vec![n as u8; n as usize % 70];
        for time_ms in [n as i64, i64::MIN] {
            let offset = most.append(n as u16, time_ms, &body).unwrap();
            assert_eq!(least.append(n as u16, time_ms, &body).unwrap(), offset);
        }
        most.trim(n).unwrap();
        least.trim(n).unwrap();
        let (mut a, mut b) = ([0; PAGE], [0; PAGE]);
        let from = most.end() - 1 - n % 20;
        assert_eq!(least.read(from, &mut a).unwrap(), most.read(from, &mut b).unwrap());
        assert_eq!(a, b);
    }
    assert_eq!(least.flash().bytes, most.flash().bytes);
    // A header may begin in the last byte of a word.
    let mut slot = RingSlot::<_, 32>::with_window(Nor::<8>::new(4), range);
    assert!(matches!(slot.mount(), Err(RingError::Geometry)));
}

#[test]
fn a_write_that_fails_though_it_stored_does_not_give_its_offset_away_twice() {
    for lies_in in 1..40 {
        let mut flash = Nor::<4>::new(4);
        flash.lies_in = Some(lies_in);
        let mut ring = mount(flash);
        let mut stored = Vec::new();
        for n in 0..20u8 {
            if let Ok(offset) = ring.append(0, 0, &[n; 20]) {
                assert_eq!(offset, stored.len() as u64);
                stored.push([n; 20]);
            }
        }
        let found = read_all(&mut ring);
        assert_eq!(found.len(), stored.len());
        for (record, bytes) in found {
            assert_eq!(bytes[4..], stored[record.offset as usize]);
        }
    }
}

#[test]
fn a_trim_whose_write_fails_though_it_stored_costs_no_record() {
    let mut failed = 0;
    for lies_in in 1..100 {
        let mut flash = Nor::<4>::new(4);
        flash.lies_in = Some(lies_in);
        let mut ring = mount(flash);
        let mut stored = 0;
        for n in 0..80u8 {
            if let Ok(offset) = ring.append(0, 0, &[n; 4]) {
                assert_eq!(offset, stored);
                stored += 1;
            }
            // What was not remembered is with the next.
            failed += u32::from(ring.trim(stored.saturating_sub(10)).is_err());
        }
        let found: Vec<u64> = read_all(&mut ring).iter().map(|(record, _)| record.offset).collect();
        assert_eq!((found, ring.dropped()), ((stored - 10..stored).collect(), 0));
        let ring = mount(ring.release());
        assert!(ring.end() == stored && ring.start() + TRIM_MARK_EVERY > stored - 10);
    }
    assert!(failed > 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn no_damage_makes_a_ring_give_a_wrong_record_or_stop_working(
        places in vec((0..4 * PAGE, vec(any::<u8>(), 1..80)), 1..8),
    ) {
        let mut ring = mount(Nor::<4>::new(4));
        let mut rng = Rng::new(9);
        let bodies: Vec<_> = (0..40).map(|n| body(n, &mut rng)).collect();
        for body in &bodies {
            ring.append(1, 5, body).unwrap();
        }
        ring.trim(20).unwrap();
        let mut flash = ring.release();
        for (at, bytes) in places {
            let end = (at + bytes.len()).min(flash.bytes.len());
            flash.bytes[at..end].copy_from_slice(&bytes[..end - at]);
        }
        flash.forget_wear();
        let mut ring = mount(flash);
        for (record, bytes) in read_all(&mut ring) {
            prop_assert_eq!(bytes, block(&bodies[record.offset as usize]));
        }
        let end = ring.end();
        for n in 0..40 {
            prop_assert_eq!(ring.append(2, 5, &[n; 40]).unwrap(), end + u64::from(n));
        }
        let found = read_all(&mut ring);
        prop_assert_eq!(found.last().map(|(record, _)| record.offset), Some(end + 39));
    }
}
