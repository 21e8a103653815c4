//! What dies when: random, but the same for a seed.

use std::time::Duration;

use hw_tests::random::Random;

/// What happens to the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    KillGateway,
    KillBroker,
    ResetNode,
    CutLink,
    MendLink,
}

/// The link is out for this long.
const CUT: Duration = Duration::from_secs(5);
/// Faults fall into this time after the nodes have booted.
const FROM_MS: u64 = 8_000;
const TO_MS: u64 = 70_000;
/// Two faults of the same kind keep this distance, so that each meets a part that works again.
const APART_MS: u64 = 12_000;
/// A broker that was killed opens its port again only after some thirteen seconds.
const BROKER_APART_MS: u64 = 25_000;

/// Three SIGKILLs of the gateway, two of the broker, two resets of a node, one cut link.
pub(super) fn schedule(seed: u64) -> Vec<(Duration, Fault)> {
    let mut random = Random::new(seed);
    let mut all = Vec::new();
    for (fault, count, apart_ms) in [
        (Fault::KillGateway, 3, APART_MS),
        (Fault::KillBroker, 2, BROKER_APART_MS),
        (Fault::ResetNode, 2, APART_MS),
        (Fault::CutLink, 1, APART_MS),
    ] {
        // Random gaps of the right sum, so that any seed gives times that are far enough apart.
        let slack = TO_MS - FROM_MS - apart_ms * (count - 1);
        let mut offsets: Vec<u64> = (0..count).map(|_| random.below(slack)).collect();
        offsets.sort_unstable();
        for (index, offset) in (0..).zip(offsets) {
            all.push((Duration::from_millis(FROM_MS + offset + index * apart_ms), fault));
        }
    }
    let cut = all.iter().find(|(_, fault)| *fault == Fault::CutLink).map(|(at, _)| *at);
    all.push((cut.expect("one was planned") + CUT, Fault::MendLink));
    all.sort_by_key(|(at, _)| *at);
    all
}

#[test]
fn every_seed_plans_all_faults_and_keeps_those_of_a_kind_apart() {
    for seed in 0..200 {
        let plan = schedule(seed);
        let times = |wanted: Fault| -> Vec<Duration> {
            plan.iter().filter(|(_, fault)| *fault == wanted).map(|(at, _)| *at).collect()
        };
        assert_eq!(times(Fault::KillGateway).len(), 3);
        assert_eq!(times(Fault::KillBroker).len(), 2);
        assert_eq!(times(Fault::ResetNode).len(), 2);
        assert_eq!(times(Fault::MendLink)[0] - times(Fault::CutLink)[0], CUT);
        let broker = times(Fault::KillBroker);
        assert!(broker[1] - broker[0] >= Duration::from_millis(BROKER_APART_MS));
    }
}
