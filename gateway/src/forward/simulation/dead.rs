//! Records that the cluster refuses for good: a gap in their place, one dead letter each, and all
//! others exactly once, whatever fails.

use std::collections::BTreeMap;

use super::super::policy::core::Policy;
use super::cluster::{Cluster, Failure};
use super::{Clock, Envelope, World};

const POLICY: Policy = Policy { stage_records: 8, records_max: 16, ..Policy::KAFKA };

/// What is bad, by route and offset, beside the world and the cluster that have it.
type Case = (World, Cluster, Vec<(usize, u64)>);

/// 24 records; three of `data` are bad, two of them neighbours, and one of `other`.
fn bad_world() -> Case {
    let (world, cluster) = (World::new(), Cluster::default());
    for number in 0..24 {
        world.append(if number % 5 == 3 { "other" } else { "data" }, number);
    }
    let bad = vec![(0, 6), (0, 7), (0, 20), (1, 13)];
    cluster.state().bad = bad.iter().copied().collect();
    (world, cluster, bad)
}

/// The dead letters of each route: how many for which text.
fn letters(world: &World) -> BTreeMap<(usize, String), u32> {
    let mut letters = BTreeMap::new();
    for (route, stream) in ["data", "other"].into_iter().enumerate() {
        let partition = world.streams.dead(stream).expect("it is routed").partitions[0];
        let log = world.log();
        for record in log.records.iter().filter(|record| record.partition == partition) {
            let Ok(Envelope::Publish(letter)) = record.envelope() else { panic!("a letter") };
            let text = letter.rejected.expect("a cause").to_owned();
            *letters.entry((route, text)).or_default() += 1;
        }
    }
    letters
}

/// The same of records that do not fit the schema of their routes.
fn misfit_world() -> Case {
    let (world, cluster) = (World { is_avro: true, ..World::new() }, Cluster::default());
    let bad = vec![(0, 0), (0, 6), (0, 7), (0, 20), (1, 13)];
    for number in 0..24 {
        let payload = match bad.iter().any(|(_, offset)| *offset == number) {
            true => "{\"n\":\"bad\"}".to_owned(),
            false => format!("{{\"n\":{number}}}"),
        };
        world.append_payload(if number % 5 == 3 { "other" } else { "data" }, number, &payload);
    }
    (world, cluster, bad)
}

fn check(world: &World, cluster: &Cluster, bad: &[(usize, u64)], case: &str) {
    let state = cluster.state();
    for (route, stream) in ["data", "other"].into_iter().enumerate() {
        let mut seen: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        for record in state.visible.iter().filter(|seen| seen.route == route) {
            let is_bad = bad.contains(&(route, record.offset));
            assert_eq!(record.gap.is_some(), is_bad, "{case}: {record:?}");
            seen.entry(record.partition).or_default().push(record.offset);
        }
        assert_eq!(seen, world.expected(stream, 0), "{case}, {stream}");
    }
    let letters = letters(world);
    assert!(letters.values().all(|count| *count == 1), "{case}: {letters:?}");
    let expected: Vec<(usize, String)> = bad
        .iter()
        .map(|(route, offset)| {
            let topic = ["t.data", "t.other"][*route];
            let reason = if world.is_avro { "column n: \"bad\" is no Long" } else { "bad" };
            (*route, format!("{topic} refused offset {offset}: {reason}"))
        })
        .collect();
    for letter in &expected {
        assert!(letters.contains_key(letter), "{case}: {letter:?} is missing in {letters:?}");
    }
    assert_eq!(letters.len(), expected.len(), "{case}: {letters:?}");
}

#[test]
fn what_a_cluster_refuses_goes_to_dead_letters_and_the_rest_goes_on() {
    let (world, cluster, bad) = bad_world();
    let clock = Clock::default();
    let (mut engine, scores) = world.engine(POLICY, cluster.client());
    assert!(clock.run(&mut engine, 3_000));
    check(&world, &cluster, &bad, "no faults");
    let statuses = scores.statuses(0);
    assert_eq!((statuses[0].refused, statuses[1].refused), (3, 1));
    assert_eq!(statuses[0].last_error, None);
    assert!(clock.ms.get() < 10_000, "{} ms", clock.ms.get());
    // Once all is confirmed, nothing is left to remember.
    engine.drain(super::Now { ms: clock.ms.get(), unix_ms: 0 });
    assert!(clock.run(&mut engine, 100));
    assert!(world.log().marks.values().all(|mark| mark.dead.is_empty()));
}

#[test]
fn what_does_not_fit_its_schema_goes_to_dead_letters_and_the_rest_goes_on() {
    let (world, cluster, bad) = misfit_world();
    let clock = Clock::default();
    let (mut engine, scores) = world.engine(POLICY, cluster.client());
    assert!(clock.run(&mut engine, 3_000));
    check(&world, &cluster, &bad, "no faults");
    let statuses = scores.statuses(0);
    assert_eq!((statuses[0].refused, statuses[1].refused), (4, 1));
    assert_eq!((statuses[0].retries, &statuses[0].last_error), (0, &None));
    let gaps = cluster.state().visible.iter().filter_map(|seen| seen.gap).collect::<Vec<_>>();
    assert!(gaps.iter().all(|gap| *gap == "schema"), "{gaps:?}");
}

#[test]
fn a_stream_of_which_nothing_fits_is_buried_in_bounded_steps() {
    const COUNT: u64 = 2_000;
    let (world, cluster) = (World { is_avro: true, ..World::new() }, Cluster::default());
    for number in 0..COUNT {
        world.append_payload("data", number, "{\"n\":\"bad\"}");
    }
    let clock = Clock::default();
    let (mut engine, scores) = world.engine(Policy::KAFKA, cluster.client());
    assert!(clock.run(&mut engine, 3_000));
    let state = cluster.state();
    assert_eq!(state.visible.len() as u64, COUNT);
    assert!(state.transactions.iter().all(|records| *records <= 256), "{:?}", state.transactions);
    assert_eq!(scores.statuses(0)[0].refused, COUNT);
    assert_eq!(letters(&world).len() as u64, COUNT);
}

#[test]
fn a_dead_letter_is_written_once_whichever_request_or_write_fails() {
    each_failure(bad_world);
}

#[test]
fn a_misfit_is_buried_once_whichever_request_or_write_fails() {
    each_failure(misfit_world);
}

fn each_failure(make: fn() -> Case) {
    for failure in [Failure::Before, Failure::After] {
        for (is_local, dies) in [(false, false), (false, true), (true, false), (true, true)] {
            for at in 1.. {
                let (world, cluster, bad) = make();
                let clock = Clock::default();
                let plan = move |number| (number == at || (dies && number > at)).then_some(failure);
                if is_local {
                    world.local_plan.lock().expect("unused").1 = Some(Box::new(plan));
                } else {
                    cluster.plan(plan);
                }
                let (mut engine, _) = world.engine(POLICY, cluster.client());
                clock.run(&mut engine, 400);
                let reached = if is_local {
                    world.local_plan.lock().expect("unused").0
                } else {
                    cluster.state().requests
                };
                cluster.state().plan = None;
                world.local_plan.lock().expect("unused").1 = None;
                if dies {
                    drop(engine);
                    engine = world.engine(POLICY, cluster.client()).0;
                }
                assert!(clock.run(&mut engine, 3_000));
                let case = format!("{failure:?} at {at}, local: {is_local}, dies: {dies}");
                check(&world, &cluster, &bad, &case);
                if reached < at {
                    break;
                }
            }
        }
    }
}
