//! Starting: the boot epoch, and what keeps a node from starting.

use crate::{
    nor::{Nor, PAGE},
    sim::{Sim, config},
};
use node_core::{BootError, ChannelConfig, EPOCH_PAGES, Node, NodeConfig};

fn boot(flash: &Nor) -> u32 {
    match Node::boot(flash.clone(), 0..flash.size(), &config(), 1) {
        Ok(node) => node.boot_epoch(),
        Err(error) => panic!("does not start: {error:?}"),
    }
}

#[test]
fn the_epoch_counts_up_over_page_after_page() {
    let flash = Nor::new(4);
    for start in 1..=(3 * PAGE / 8) as u32 {
        assert_eq!(boot(&flash), start);
    }
}

#[test]
fn a_power_cut_at_any_point_of_a_start_never_gives_an_epoch_twice() {
    let flash = Nor::new(4);
    let mut last = 0;
    // Two operations are the most that a start takes: an erase and a write of two words.
    for start in 0..3 * PAGE / 8 {
        flash.cut_after((start % 4) as u64);
        let cut = Node::boot(flash.clone(), 0..flash.size(), &config(), 1);
        if let Ok(node) = cut {
            assert!(node.boot_epoch() > last);
            last = node.boot_epoch();
        }
        flash.power_up();
        let epoch = boot(&flash);
        assert!(epoch > last, "{epoch} after {last}");
        last = epoch;
    }
}

#[test]
fn a_damaged_count_starts_above_the_blocks_that_wait() {
    let mut sim = Sim::new();
    for _ in 0..4 {
        sim.reset();
    }
    sim.link_works = false;
    sim.run_ms(5_000);
    let epochs_at = sim.flash.size() as usize - EPOCH_PAGES as usize * PAGE;
    for at in epochs_at..epochs_at + 2 * PAGE {
        sim.flash.damage(at);
    }
    sim.reset();
    sim.run_ms(2_000);
    sim.drain();
    assert_eq!(sim.boots.last().map(|boot| boot.epoch), Some(6));
    sim.check_all_delivered(0);
}

#[test]
fn a_configuration_that_breaks_the_wire_is_refused_at_boot() {
    let eleven = [ChannelConfig { name: "t", unit: "", scale: 2 }; 11];
    let scale = [ChannelConfig { name: "t", unit: "", scale: 10 }];
    let refused = [
        NodeConfig { id: "a/b", ..config() },
        NodeConfig { id: "", ..config() },
        NodeConfig { channels: &[], ..config() },
        NodeConfig { channels: &eleven, ..config() },
        NodeConfig { channels: &scale, ..config() },
        NodeConfig { firmware: "longer than the thirty-two bytes there are", ..config() },
    ];
    for config in refused {
        let flash = Nor::new(4);
        let size = flash.size();
        let error = Node::boot(flash, 0..size, &config, 1).err();
        assert!(matches!(error, Some(BootError::Config(_))), "{config:?}: {error:?}");
    }
}
