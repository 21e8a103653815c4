//! A flash that is full: the oldest goes, and the gateway hears which.

use crate::sim::Sim;
use std::collections::BTreeSet;

/// Six pages: four for the outbox.
const PAGES: usize = 6;

fn run_without_link(sim: &mut Sim, ms: u64) {
    sim.link_works = false;
    sim.cut_connection();
    sim.run_ms(ms);
}

/// Each block of each boot is either at the gateway or in a gap that it was told of.
fn check_blocks_or_gaps(sim: &Sim) {
    let mut named = BTreeSet::new();
    for gap in &sim.gateway.gaps {
        for sequence in gap.first_sequence..=gap.last_sequence {
            assert!(named.insert((gap.boot_epoch, sequence)), "{gap:?} names a block again");
        }
    }
    let came: BTreeSet<_> = sim.gateway.blocks.keys().copied().collect();
    assert_eq!(named.intersection(&came).next(), None, "a block came that was said to be lost");
    let mut next = (0, 0);
    for (epoch, sequence) in named.union(&came).copied() {
        if epoch != next.0 {
            next = (epoch, 0);
        }
        assert_eq!((epoch, sequence), next, "neither came nor was named");
        next.1 += 1;
    }
    for boot in &sim.boots {
        let rows = sim.gateway.rows(boot.epoch);
        let gaps = sim.gateway.gaps.iter().filter(|gap| gap.boot_epoch == boot.epoch);
        let lost: usize = gaps.map(|gap| gap.rows as usize).sum();
        let node = sim.node.as_ref().filter(|node| node.boot_epoch() == boot.epoch);
        let unsealed = usize::from(node.map_or(boot.unsealed, |node| node.unsealed()));
        assert_eq!(rows.len() + lost, boot.values.len() - unsealed, "boot {}", boot.epoch);
        for (sample, (_, values)) in rows {
            assert_eq!(values[..], boot.values[sample as usize]);
        }
    }
}

#[test]
fn a_long_outage_drops_the_oldest_and_names_it() {
    let mut sim = Sim::with_flash(PAGES);
    sim.run_ms(3_000);
    run_without_link(&mut sim, 400_000);
    let dropped = sim.node.as_ref().expect("runs").blocks_dropped();
    assert!(dropped > 100, "{dropped}");
    sim.drain();
    check_blocks_or_gaps(&sim);
    assert_eq!(sim.gateway.gaps.len(), 1, "one outage, one gap");
}

#[test]
fn a_gap_that_grows_while_it_is_reported_is_reported_whole() {
    let mut sim = Sim::with_flash(PAGES);
    sim.run_ms(3_000);
    for _ in 0..3 {
        run_without_link(&mut sim, 250_000);
        sim.link_works = true;
        sim.loses_answers = true;
        sim.run_ms(60_000);
    }
    sim.drain();
    // The same blocks may be named twice where the first report was in doubt, so only what the
    // gateway holds of it counts: the union.
    let came: BTreeSet<_> = sim.gateway.blocks.keys().copied().collect();
    let mut known = came.clone();
    for gap in &sim.gateway.gaps {
        known.extend((gap.first_sequence..=gap.last_sequence).map(|s| (gap.boot_epoch, s)));
    }
    let last = came.last().expect("blocks came").1;
    assert_eq!(known.len() as u32, last + 1, "each block came or was named");
}

#[test]
fn a_gap_over_a_reset_names_both_boots() {
    let mut sim = Sim::with_flash(PAGES);
    run_without_link(&mut sim, 100_000);
    sim.reset();
    run_without_link(&mut sim, 400_000);
    sim.drain();
    check_blocks_or_gaps(&sim);
    let epochs: BTreeSet<_> = sim.gateway.gaps.iter().map(|gap| gap.boot_epoch).collect();
    assert_eq!(epochs, [1, 2].into());
}
