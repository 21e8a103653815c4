use proptest::prelude::*;

use super::super::payload::Metric;
use super::super::table::VERSIONS_MAX;
use super::super::topic::{Parsed, parse};
use super::*;

/// Edge nodes and devices as messages change them.
#[derive(Default)]
struct Bench {
    state: State,
    offset: u64,
}

fn topic(text: &'static str) -> Topic<'static> {
    match parse(text) {
        Ok(Parsed::Message(topic)) => topic,
        other => panic!("{text}: {other:?}"),
    }
}

fn defined(metrics: &[(&str, u64)]) -> Vec<Metric> {
    metrics.iter().map(|(name, alias)| Metric::test(Some(name), Some(*alias))).collect()
}

fn aliases(aliases: &[u64]) -> Vec<Metric> {
    aliases.iter().map(|alias| Metric::test(None, Some(*alias))).collect()
}

fn payload(seq: Option<u8>, metrics: Vec<Metric>) -> Payload {
    Payload { time_ms: None, seq, metrics }
}

const NBIRTH: &str = "spBv1.0/g/NBIRTH/n";
const NDATA: &str = "spBv1.0/g/NDATA/n";
const NDEATH: &str = "spBv1.0/g/NDEATH/n";
const DBIRTH: &str = "spBv1.0/g/DBIRTH/n/d";
const DDATA: &str = "spBv1.0/g/DDATA/n/d";
const DDEATH: &str = "spBv1.0/g/DDEATH/n/d";

impl Bench {
    /// What the door says of the next message, which it appends.
    fn take(&mut self, text: &'static str, seq: Option<u8>, metrics: Vec<Metric>) -> Said {
        self.take_within(LIMITS, text, seq, metrics)
    }

    fn take_within(
        &mut self,
        limits: Limits,
        text: &'static str,
        seq: Option<u8>,
        metrics: Vec<Metric>,
    ) -> Said {
        let (topic, payload) = (topic(text), payload(seq, metrics));
        let Verdict { refused, missing, rebirth, is_full, change } =
            self.state.judge(&topic, Ok(&payload), limits);
        self.state.accept(&topic, change, self.offset);
        self.offset += 1;
        Said { refused: refused.unwrap_or_default(), missing, rebirth, is_full }
    }

    fn birth(&mut self, bd_seq: u64, metrics: &[(&str, u64)]) {
        let mut metrics = defined(metrics);
        metrics.push(Metric::bd_seq(bd_seq));
        let said = self.take(NBIRTH, Some(0), metrics);
        assert_eq!(said, Said::default());
    }

    /// The name that `alias` has in the record at `offset`.
    fn name(&self, text: &'static str, alias: u64, offset: u64) -> Option<String> {
        let table = self.state.table(&topic(text), offset)?;
        Some(table.find(&Metric::test(None, Some(alias)))?.name.to_string())
    }
}

#[derive(Debug, Default, PartialEq)]
struct Said {
    refused: String,
    missing: Option<(u8, u8)>,
    rebirth: bool,
    is_full: bool,
}

impl Said {
    fn is_good(&self) -> bool {
        *self == Self::default()
    }
}

#[test]
fn data_names_metrics_by_the_aliases_of_its_birth() {
    let mut bench = Bench::default();
    bench.birth(0, &[("t", 1), ("p", 2)]);
    assert!(bench.take(NDATA, Some(1), aliases(&[2, 1])).is_good());
    let said = bench.take(NDATA, Some(2), aliases(&[1, 3]));
    assert_eq!(said.refused, "the birth of g/n does not define alias 3");
    assert!(said.rebirth);
    assert!(bench.take(NDATA, Some(3), aliases(&[1])).is_good(), "what was refused counts too");
    let said = bench.take(NDATA, Some(4), vec![Metric::test(None, None)]);
    assert_eq!(
        (&said.refused[..], said.rebirth),
        ("a metric has neither a name nor an alias", false)
    );
}

#[test]
fn an_alias_that_stands_for_two_metrics_stands_for_none() {
    let mut bench = Bench::default();
    bench.birth(0, &[("t", 0), ("p", 0), ("v", 3)]);
    assert!(bench.take(NDATA, Some(1), aliases(&[3])).is_good());
    assert!(bench.take(NDATA, Some(2), aliases(&[0])).refused.contains("alias 0"));
}

#[test]
fn data_of_a_stranger_asks_for_a_birth_and_is_kept_where_it_has_names() {
    let mut bench = Bench::default();
    let said = bench.take(NDATA, Some(9), aliases(&[1]));
    assert_eq!(said.refused, "alias 1: g/n has no birth, or has died since");
    assert!(said.rebirth);
    let said = bench.take(DDATA, Some(10), defined(&[("t", 1)]));
    assert_eq!(said, Said { rebirth: true, ..Said::default() });
    assert_eq!(bench.state, State::default(), "a stranger takes no room");
    bench.birth(0, &[]);
    let said = bench.take(DDATA, Some(1), aliases(&[1]));
    assert!(said.rebirth && said.refused.contains("g/n/d has no birth"), "{said:?}");
}

#[test]
fn the_sequence_goes_round_and_its_holes_are_named() {
    let mut bench = Bench::default();
    bench.birth(0, &[("t", 1)]);
    for seq in (1..=255).chain(0..=3) {
        assert!(bench.take(NDATA, Some(seq), aliases(&[1])).is_good(), "{seq}");
    }
    let said = bench.take(NDATA, Some(7), aliases(&[1]));
    assert_eq!(said, Said { missing: Some((4, 6)), rebirth: true, ..Said::default() });
    assert!(bench.take(DBIRTH, Some(8), defined(&[("x", 9)])).is_good());
    assert!(bench.take(DDATA, Some(9), aliases(&[9])).is_good());
    let said = bench.take(DDEATH, Some(250), vec![]);
    assert_eq!(said.missing, Some((10, 249)));
    assert_eq!(bench.take(NDATA, Some(2), aliases(&[1])).missing, Some((251, 1)));
    assert!(bench.take(NDATA, None, aliases(&[1])).is_good(), "who does not count has no holes");
}

#[test]
fn only_the_death_of_the_present_session_ends_it() {
    let mut bench = Bench::default();
    bench.birth(3, &[("t", 1)]);
    bench.birth(4, &[("t", 1)]);
    assert!(bench.take(DBIRTH, Some(1), defined(&[("x", 9)])).is_good());
    assert!(bench.take(NDEATH, None, vec![Metric::bd_seq(3)]).is_good());
    assert!(bench.take(NDATA, Some(2), aliases(&[1])).is_good(), "that will was an older one's");
    assert!(bench.take(NDEATH, None, vec![Metric::bd_seq(4)]).is_good());
    assert_eq!(bench.state.counts(), (1, 0));
    for topic in [NDATA, DDATA] {
        let said = bench.take(topic, Some(3), aliases(&[1]));
        assert!(said.rebirth && said.refused.contains("has died since"), "{said:?}");
    }
    bench.birth(5, &[("t", 1)]);
    assert!(bench.take(NDATA, Some(1), aliases(&[1])).is_good());
    assert!(bench.take(DDATA, Some(2), aliases(&[9])).rebirth, "a device is born again as well");
}

#[test]
fn a_device_that_died_has_no_aliases_and_its_edge_node_has() {
    let mut bench = Bench::default();
    bench.birth(0, &[("t", 1)]);
    bench.take(DBIRTH, Some(1), defined(&[("x", 9)]));
    assert!(bench.take(DDEATH, Some(2), vec![]).is_good());
    assert!(bench.take(DDATA, Some(3), aliases(&[9])).rebirth);
    assert!(bench.take(NDATA, Some(4), aliases(&[1])).is_good());
}

#[test]
fn an_old_record_reads_by_the_birth_that_was_true_then() {
    let mut bench = Bench::default();
    bench.birth(0, &[("t", 1)]);
    bench.take(NDATA, Some(1), aliases(&[1]));
    bench.birth(1, &[("p", 1)]);
    bench.take(NDATA, Some(1), aliases(&[1]));
    bench.birth(1, &[("p", 1)]);
    let names: Vec<_> = (0..5).map(|offset| bench.name(NDATA, 1, offset)).collect();
    assert_eq!(names, ["t", "t", "p", "p", "p"].map(|name| Some(name.to_owned())));
    let restored = State::restore(&bench.state.snapshot()).expect("our own bytes");
    assert_eq!(restored, bench.state.saved());
    assert!(State::restore(&[9, 9]).is_err());
}

#[test]
fn data_does_not_change_what_is_saved() {
    let mut bench = Bench::default();
    bench.birth(0, &[("t", 1)]);
    let before = bench.state.snapshot();
    for seq in 1..10 {
        bench.take(NDATA, Some(seq), aliases(&[1]));
    }
    assert_eq!(bench.state.snapshot(), before);
    bench.state = State::restore(&before).expect("our own bytes");
    assert!(bench.take(NDATA, Some(200), aliases(&[1])).is_good(), "it begins anew");
    assert_eq!(bench.take(NDATA, Some(202), aliases(&[1])).missing, Some((201, 201)));
}

#[test]
fn a_birth_that_is_refused_takes_the_one_before_with_it() {
    let mut bench = Bench::default();
    bench.birth(0, &[("t", 1)]);
    let said = bench.take(NBIRTH, Some(0), aliases(&[1]));
    assert_eq!(said.refused, "metric 0 of a birth has no name");
    assert!(bench.take(NDATA, Some(1), aliases(&[1])).refused.contains("has died since"));
    bench.birth(1, &[("t", 1)]);
    let unreadable = "why".to_owned();
    let verdict = bench.state.judge(&topic(NBIRTH), Err(&unreadable), LIMITS);
    assert_eq!((verdict.refused, verdict.change), (Some(unreadable), Change::NodeDeath));
}

#[test]
fn what_is_remembered_is_bounded_and_who_has_no_room_is_not_asked() {
    let mut bench = Bench::default();
    let limits = Limits { nodes: 1, bytes: 1000 };
    assert!(bench.take_within(limits, NBIRTH, Some(0), defined(&[("t", 1)])).is_good());
    let said = bench.take_within(limits, "spBv1.0/g/NBIRTH/m", Some(0), vec![]);
    assert!(said.is_full && !said.refused.is_empty());
    let said = bench.take_within(limits, "spBv1.0/g/NDATA/m", Some(1), aliases(&[1]));
    assert!(!said.rebirth && !said.refused.is_empty());
    let long = "x".repeat(1000);
    let said = bench.take_within(limits, DBIRTH, Some(1), defined(&[(&long, 2)]));
    assert!(said.is_full);
    assert!(bench.take_within(limits, NDATA, Some(2), aliases(&[1])).is_good());
}

#[test]
fn of_many_births_the_newest_are_remembered() {
    let mut bench = Bench::default();
    for number in 0..3 * VERSIONS_MAX as u64 {
        bench.birth(number, &[(&format!("metric {number}"), 1)]);
    }
    let newest = bench.offset - 1;
    assert_eq!(bench.name(NDATA, 1, newest), Some(format!("metric {newest}")));
    let oldest = bench.offset - VERSIONS_MAX as u64;
    assert_eq!(bench.name(NDATA, 1, oldest), Some(format!("metric {oldest}")));
    assert_eq!(bench.name(NDATA, 1, oldest - 1), None);
    let one = SOURCE_BYTES + "g/n".len();
    assert!(bench.state.bytes < one + VERSIONS_MAX * 200, "{}", bench.state.bytes);
}

/// Counted anew.
fn bytes(state: &State) -> usize {
    let nodes = state.nodes.iter().map(|(name, node)| {
        let devices = node.devices.iter();
        let devices = devices.map(|(name, births)| SOURCE_BYTES + name.len() + births.bytes());
        SOURCE_BYTES + name.len() + node.own.bytes() + devices.sum::<usize>()
    });
    nodes.sum()
}

proptest! {
    #[test]
    fn any_run_of_messages_is_counted_and_replayed_the_same(
        run in prop::collection::vec((0..9_usize, 0..4_u8, 0..4_u64), 0..200),
    ) {
        const TOPICS: [&str; 9] = [
            NBIRTH, NDATA, NDEATH, DBIRTH, DDATA, DDEATH,
            "spBv1.0/g/NCMD/n", "spBv1.0/g/DBIRTH/n/e", "spBv1.0/g/NBIRTH/m",
        ];
        let limits = Limits { nodes: 2, bytes: 4000 };
        let play = || {
            let mut bench = Bench::default();
            for (which, seq, alias) in &run {
                let name = format!("m{alias}");
                let mut metrics = match which % 3 {
                    0 => defined(&[(&name, *alias), ("x", 2)]),
                    _ => aliases(&[*alias]),
                };
                if *which == 2 || *which == 0 {
                    metrics.push(Metric::bd_seq(alias / 2));
                }
                bench.take_within(limits, TOPICS[*which], Some(*seq), metrics);
            }
            bench.state
        };
        let state = play();
        prop_assert_eq!(&state, &play());
        prop_assert_eq!(state.bytes, bytes(&state));
        prop_assert!(state.bytes <= limits.bytes);
        prop_assert_eq!(State::restore(&state.snapshot()), Ok(state.saved()));
    }
}
