//! What reaches the gateway, whatever dies on the way.

use crate::{gateway::UNIX_START_MS, sim::Sim};
use headwater_shared::{
    block::{BlockDecoder, Clock},
    node::Status,
};
use proptest::prelude::*;

#[test]
fn every_sealed_reading_arrives_once_over_a_good_link() {
    let mut sim = Sim::new();
    sim.run_ms(60_000);
    sim.drain();
    sim.check_all_delivered(0);
    assert_eq!(sim.gateway.duplicates, 0);
    assert!(sim.gateway.blocks.len() >= 59);
    let announced = sim.gateway.announced.as_ref().expect("announced");
    assert_eq!((announced.node.as_str(), announced.boot_epoch), ("pump-7", 1));
    assert_eq!(announced.channels[1].unit, "%RH");
}

#[test]
fn blocks_before_the_first_time_answer_count_from_boot_and_those_after_from_1970() {
    let mut sim = Sim::new();
    sim.gateway.answers_time = false;
    sim.run_ms(10_000);
    sim.gateway.answers_time = true;
    sim.run_ms(20_000);
    sim.drain();
    sim.check_all_delivered(0);
    let clocks: Vec<_> = (sim.gateway.blocks.values())
        .map(|block| BlockDecoder::new(block).expect("checked").header().clock)
        .collect();
    let first_unix = clocks.iter().position(|clock| *clock == Clock::Unix).expect("synchronised");
    assert!(first_unix >= 9 && clocks[first_unix..].iter().all(|clock| *clock == Clock::Unix));
    let rows = sim.gateway.rows(1);
    let boundary = rows.values().position(|(time_ms, _)| *time_ms > UNIX_START_MS).expect("unix");
    for (sample, (time_ms, _)) in rows {
        let uptime_ms = u64::from(sample) * 25;
        let is_unix = sample as usize >= boundary;
        let expected_ms = if is_unix { UNIX_START_MS + uptime_ms } else { uptime_ms };
        assert!(time_ms.abs_diff(expected_ms) <= 7, "sample {sample}: {time_ms} {expected_ms}");
    }
}

#[test]
fn an_outage_delays_and_loses_nothing() {
    let mut sim = Sim::new();
    sim.run_ms(5_000);
    sim.link_works = false;
    sim.cut_connection();
    sim.run_ms(60_000);
    assert!(sim.node.as_ref().expect("runs").blocks_waiting() >= 59);
    sim.drain();
    sim.check_all_delivered(0);
}

#[test]
fn lost_acknowledgements_cost_duplicates_and_nothing_else() {
    let mut sim = Sim::new();
    sim.run_ms(5_000);
    sim.loses_answers = true;
    sim.run_ms(12_000);
    sim.drain();
    sim.check_all_delivered(0);
    assert!(sim.gateway.duplicates > 0, "what was in doubt came again");
}

#[test]
fn a_reset_takes_what_was_not_sealed_and_no_more() {
    let mut sim = Sim::new();
    for _ in 0..5 {
        sim.run_ms(3_700);
        sim.reset();
    }
    sim.run_ms(3_000);
    sim.drain();
    sim.check_all_delivered(0);
    assert_eq!(sim.boots.iter().map(|boot| boot.epoch).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(sim.boots[..5].iter().all(|boot| boot.unsealed > 0));
}

#[test]
fn blocks_of_earlier_boots_come_first_and_unchanged() {
    let mut sim = Sim::new();
    sim.link_works = false;
    sim.run_ms(10_000);
    sim.reset();
    sim.run_ms(10_000);
    sim.drain();
    sim.check_all_delivered(0);
    let mut sorted = sim.gateway.order.clone();
    sorted.sort_unstable();
    assert_eq!(sim.gateway.order, sorted);
    assert_eq!(sim.gateway.order.iter().filter(|(epoch, _)| *epoch == 1).count(), 10);
}

#[test]
fn presence_says_how_much_waits() {
    let mut sim = Sim::new();
    sim.link_works = false;
    sim.run_ms(20_500);
    sim.drain();
    let waiting = match sim.gateway.presence {
        Some(Status::Online { boot_epoch: 1, blocks_waiting, blocks_dropped: 0, gap: None }) => {
            blocks_waiting
        }
        other => panic!("{other:?}"),
    };
    assert!(waiting >= 20, "{waiting}");
}

#[test]
fn a_power_cut_at_any_flash_operation_loses_at_most_the_block_in_ram() {
    let operations = {
        let mut sim = Sim::new();
        let before = sim.flash.operations();
        sim.run_ms(20_000);
        sim.flash.operations() - before
    };
    assert!(operations > 200, "{operations}");
    for cut in 0..operations {
        let mut sim = Sim::new();
        sim.flash.cut_after(cut);
        sim.run_ms(20_000);
        sim.drain();
        assert_eq!(sim.boots.len(), 2, "cut {cut}");
        sim.check_all_delivered(40);
    }
}

#[test]
fn a_second_power_cut_while_starting_is_no_worse() {
    for cut in 0..40 {
        let mut sim = Sim::new();
        sim.link_works = false;
        sim.run_ms(9_000);
        sim.reset_twice(cut);
        sim.run_ms(2_000);
        sim.drain();
        sim.check_all_delivered(40);
    }
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut,
    Outage(u64),
    LostAnswers(u64),
    Reset,
    PowerCut(u64),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Cut),
        (100..8_000_u64).prop_map(Fault::Outage),
        (100..8_000_u64).prop_map(Fault::LostAnswers),
        Just(Fault::Reset),
        (0..300_u64).prop_map(Fault::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_sequence_of_faults_ends_with_all_that_was_sealed(
        faults in prop::collection::vec((0..4_000_u64, fault()), 1..12)
    ) {
        let mut sim = Sim::new();
        for (pause_ms, fault) in faults {
            sim.run_ms(pause_ms);
            match fault {
                Fault::Cut => sim.cut_connection(),
                Fault::Outage(ms) => {
                    sim.link_works = false;
                    sim.cut_connection();
                    sim.run_ms(ms);
                    sim.link_works = true;
                }
                Fault::LostAnswers(ms) => {
                    sim.loses_answers = true;
                    sim.run_ms(ms);
                    sim.loses_answers = false;
                }
                Fault::Reset => sim.reset(),
                Fault::PowerCut(operations) => sim.flash.cut_after(operations),
            }
        }
        sim.run_ms(2_000);
        sim.drain();
        sim.check_all_delivered(40);
    }
}
