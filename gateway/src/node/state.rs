//! What is known of each node: pure, in the order of the journal.

use std::collections::BTreeMap;

use headwater_shared::block::{BlockDecoder, BlockHeader, Clock};
use headwater_shared::envelope::{GapCause, GapUnit};
use headwater_shared::node::{Announce, TimeRequest, decode};
use headwater_shared::topic::Subject;
use serde::{Deserialize, Serialize};

use super::{NodeStatus, OwnedGap, block};

/// Nodes that a gateway knows at most; the blocks of one more are rejected.
const NODES_MAX: usize = 10_000;

/// Announced sets of channels that are kept of a node; older ones are forgotten, and blocks of
/// that age show their channels as `c0`, `c1`.
const SCHEMAS_MAX: usize = 8;

/// The format of [`State::snapshot`].
const SNAPSHOT_VERSION: u8 = 1;

/// The last ms of the year 9999: what RFC 3339 can write.
const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// All nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    nodes: BTreeMap<String, Node>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Node {
    firmware: String,
    boot_epoch: u32,
    schemas: Vec<Schema>,
    last: Option<Mark>,
    /// It announced an earlier epoch than its blocks had: its flash was erased. What comes next is
    /// new whatever its number.
    reborn: bool,
    /// Unix ms at the start of a boot epoch.
    clock: Option<(u32, i64)>,
    seen_ms: i64,
    readings: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Schema {
    from_epoch: u32,
    names: Vec<String>,
}

/// The newest block of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    boot_epoch: u32,
    sequence: u32,
    /// The number that the next row has.
    next_sample: u32,
    /// Event time of its last row.
    time_ms: i64,
    period_ms: u32,
    readings: u32,
}

/// What a block is.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Fresh { time_ms: i64, gaps: Vec<OwnedGap>, mark: Mark },
    Duplicate,
    Rejected(String),
}

impl State {
    pub(super) fn restore(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&SNAPSHOT_VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|problem| problem.to_string())
            }
            _ => Err("the state of nodes has another version".to_owned()),
        }
    }

    pub(super) fn snapshot(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![SNAPSHOT_VERSION]).expect("a Vec takes any length")
    }

    /// Takes note of what a node says beside its blocks.
    pub(super) fn observe(&mut self, id: &str, subject: Subject, payload: &[u8], now_ms: i64) {
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(id) {
            return;
        }
        match subject {
            Subject::Announce => {
                if let Ok(announce) = decode::<Announce>(payload) {
                    self.node(id, now_ms).announce(&announce);
                }
            }
            Subject::Time => {
                if let Ok(request) = decode::<TimeRequest>(payload) {
                    let uptime_ms = i64::try_from(request.uptime_ms).unwrap_or(now_ms);
                    self.node(id, now_ms).clock =
                        Some((request.boot_epoch, now_ms.saturating_sub(uptime_ms)));
                }
            }
            _ => {}
        }
    }

    fn node(&mut self, id: &str, now_ms: i64) -> &mut Node {
        let node = self.nodes.entry(id.to_owned()).or_default();
        node.seen_ms = node.seen_ms.max(now_ms);
        node
    }

    /// Judges a block of `id` that arrives at `now_ms`.
    pub(super) fn judge(&self, id: &str, payload: &[u8], now_ms: i64) -> Verdict {
        let unknown = Node::default();
        let node = match self.nodes.get(id) {
            Some(node) => node,
            None if self.nodes.len() >= NODES_MAX => {
                return Verdict::Rejected(format!("the gateway knows {NODES_MAX} nodes already"));
            }
            None => &unknown,
        };
        let mut decoder = match BlockDecoder::new(payload) {
            Ok(decoder) => decoder,
            Err(problem) => return Verdict::Rejected(problem.to_string()),
        };
        let header = *decoder.header();
        let (mut first_ms, mut last_ms) = (None, 0);
        let rows = block::each_row(&mut decoder, |time_ms, _| {
            first_ms.get_or_insert(time_ms);
            last_ms = time_ms;
        });
        if let Err(problem) = rows {
            return Verdict::Rejected(problem.to_string());
        }
        let Some(first_ms) = first_ms else {
            return Verdict::Rejected("the block has no rows".to_owned());
        };
        let span_ms = last_ms.wrapping_sub(first_ms).cast_signed();
        let Some(time_ms) = node.place(&header, first_ms, span_ms, now_ms) else {
            return Verdict::Rejected(format!("its time {first_ms} is beyond the year 9999"));
        };
        if node.has(&header) {
            return Verdict::Duplicate;
        }
        let channels = u32::try_from(header.channels()).expect("a block has at most 8 channels");
        let mark = Mark {
            boot_epoch: header.boot_epoch,
            sequence: header.sequence,
            next_sample: header.first_sample.wrapping_add(u32::from(header.count)),
            time_ms: time_ms.saturating_add(span_ms),
            period_ms: header.period_ms,
            readings: u32::from(header.count) * channels,
        };
        Verdict::Fresh { time_ms, gaps: node.gaps(id, &header, time_ms), mark }
    }

    pub(super) fn accept(&mut self, id: &str, mark: Mark, now_ms: i64) {
        let node = self.node(id, now_ms);
        node.readings += u64::from(mark.readings);
        node.boot_epoch = node.boot_epoch.max(mark.boot_epoch);
        node.reborn = false;
        node.last = Some(mark);
    }

    /// The names of the channels of a boot epoch: as announced, else `c0`, `c1`, ...
    pub(super) fn names(&self, id: &str, boot_epoch: u32, channels: usize) -> Vec<String> {
        let schemas = self.nodes.get(id).map_or(&[][..], |node| &node.schemas);
        let newest = schemas.iter().rev().find(|schema| schema.from_epoch <= boot_epoch);
        match newest.or(schemas.first()) {
            Some(schema) if schema.names.len() == channels => schema.names.clone(),
            _ => (0..channels).map(|index| format!("c{index}")).collect(),
        }
    }

    pub(super) fn status(&self) -> Vec<NodeStatus> {
        let nodes = self.nodes.iter().map(|(id, node)| NodeStatus {
            id: id.clone(),
            firmware: node.firmware.clone(),
            boot_epoch: node.boot_epoch,
            sequence: node.last.map_or(0, |last| last.sequence),
            readings: node.readings,
            last_seen_ms: node.seen_ms,
            channels: node.schemas.last().map_or_else(Vec::new, |schema| schema.names.clone()),
        });
        nodes.collect()
    }
}

impl Node {
    fn announce(&mut self, announce: &Announce) {
        self.firmware = announce.firmware.to_string();
        self.reborn |= self.last.is_some_and(|last| announce.boot_epoch < last.boot_epoch);
        if self.reborn {
            self.schemas.clear();
        }
        self.boot_epoch = announce.boot_epoch;
        let names: Vec<String> =
            announce.channels.iter().map(|channel| channel.name.to_string()).collect();
        if self.schemas.last().is_none_or(|schema| schema.names != names) {
            self.schemas.push(Schema { from_epoch: announce.boot_epoch, names });
            if self.schemas.len() > SCHEMAS_MAX {
                self.schemas.remove(0);
            }
        }
    }

    /// Event time of the first row. A block of a clock that was not synchronised is placed by the
    /// time exchange of its boot epoch; without one its last row is taken to be from now.
    fn place(&self, header: &BlockHeader, first_ms: u64, span_ms: i64, now_ms: i64) -> Option<i64> {
        if first_ms > TIME_MS_MAX {
            return None;
        }
        let first_ms = i64::try_from(first_ms).ok()?;
        match (header.clock, self.clock) {
            (Clock::Unix, _) => Some(first_ms),
            (Clock::SinceBoot, Some((epoch, start_ms))) if epoch == header.boot_epoch => {
                start_ms.checked_add(first_ms)
            }
            (Clock::SinceBoot, _) => now_ms.checked_sub(span_ms),
        }
    }

    /// The block is here already. A node sends in order, so all up to its newest is.
    fn has(&self, header: &BlockHeader) -> bool {
        !self.reborn
            && self.last.is_some_and(|last| {
                (header.boot_epoch, header.sequence) <= (last.boot_epoch, last.sequence)
            })
    }

    /// What is missing before the block.
    fn gaps(&self, id: &str, header: &BlockHeader, time_ms: i64) -> Vec<OwnedGap> {
        let mut gaps = Vec::new();
        let (mut sequence, mut sample) = (0, 0);
        match self.last {
            Some(last) if last.boot_epoch == header.boot_epoch && !self.reborn => {
                (sequence, sample) = (last.sequence.wrapping_add(1), last.next_sample);
            }
            Some(last) => gaps.push(reset_gap(id, &last, time_ms)),
            None => {}
        }
        if header.sequence > sequence {
            gaps.push(OwnedGap {
                cause: GapCause::NodeOverflow,
                source: id.to_owned(),
                unit: GapUnit::Sequences,
                first: u64::from(sequence),
                last: u64::from(header.sequence - 1),
                count: Some(u64::from(header.first_sample.wrapping_sub(sample))),
                boot_epoch: header.boot_epoch,
            });
        }
        gaps
    }
}

/// What a reset took from RAM lies after the last row that was sealed and before the first of the
/// new start.
fn reset_gap(id: &str, last: &Mark, time_ms: i64) -> OwnedGap {
    let unix = |time_ms: i64| u64::try_from(time_ms).unwrap_or(0);
    let between_ms = unix(time_ms.saturating_sub(last.time_ms));
    let count = between_ms.checked_div(u64::from(last.period_ms)).map(|n| n.saturating_sub(1));
    OwnedGap {
        cause: GapCause::Reset,
        source: id.to_owned(),
        unit: GapUnit::TimesMs,
        first: unix(last.time_ms),
        last: unix(time_ms),
        count,
        boot_epoch: last.boot_epoch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_shared::block::{BlockEncoder, BlockSpec, Kind};
    use headwater_shared::node::{Channel, encode};

    const NOW_MS: i64 = 1_763_700_000_000;

    fn block(boot_epoch: u32, sequence: u32, clock: Clock, base_ms: u64) -> Vec<u8> {
        let spec = BlockSpec {
            boot_epoch,
            sequence,
            first_sample: sequence * 2,
            clock,
            period_ms: 10,
            kinds: &[Kind::Decimal { scale: 2 }],
        };
        let mut buffer = [0; 128];
        let mut encoder = BlockEncoder::new(&mut buffer, &spec, base_ms).expect("a block");
        encoder.push(base_ms, &[2179]).expect("fits");
        encoder.push(base_ms + 10, &[2180]).expect("fits");
        encoder.finish().to_vec()
    }

    fn unix(boot_epoch: u32, sequence: u32, base_ms: u64) -> Vec<u8> {
        block(boot_epoch, sequence, Clock::Unix, base_ms)
    }

    fn take(state: &mut State, payload: &[u8]) -> (i64, Vec<OwnedGap>) {
        match state.judge("n", payload, NOW_MS) {
            Verdict::Fresh { time_ms, gaps, mark } => {
                state.accept("n", mark, NOW_MS);
                (time_ms, gaps)
            }
            other => panic!("{other:?}"),
        }
    }

    fn announce(state: &mut State, boot_epoch: u32, name: &str) {
        let text = |text: &str| text.try_into().expect("short");
        let channel = Channel { name: text(name), unit: text("°C"), scale: 2, period_ms: 10 };
        let announce = Announce {
            node: text("n"),
            boot_epoch,
            firmware: text("test"),
            channels: [channel].into_iter().collect(),
        };
        let mut buffer = [0; 256];
        let payload = encode(&announce, &mut buffer).expect("fits");
        state.observe("n", Subject::Announce, payload, NOW_MS);
    }

    #[test]
    fn a_second_copy_is_a_duplicate_and_the_next_block_is_not() {
        let mut state = State::default();
        assert_eq!(take(&mut state, &unix(1, 0, 1000)), (1000, vec![]));
        assert_eq!(state.judge("n", &unix(1, 0, 1000), NOW_MS), Verdict::Duplicate);
        assert_eq!(take(&mut state, &unix(1, 1, 1020)).1, vec![]);
        assert_eq!(state.judge("n", &unix(1, 0, 1000), NOW_MS), Verdict::Duplicate);
    }

    #[test]
    fn what_is_missing_within_an_epoch_is_named_by_sequence_and_counted() {
        let mut state = State::default();
        take(&mut state, &unix(1, 0, 1000));
        let (_, gaps) = take(&mut state, &unix(1, 4, 2000));
        assert_eq!(gaps.len(), 1);
        assert_eq!((gaps[0].first, gaps[0].last, gaps[0].count), (1, 3, Some(6)));
        assert_eq!((gaps[0].cause, gaps[0].unit), (GapCause::NodeOverflow, GapUnit::Sequences));
    }

    #[test]
    fn a_reset_is_named_by_the_times_around_it() {
        let mut state = State::default();
        take(&mut state, &unix(1, 0, 1000));
        let (_, gaps) = take(&mut state, &unix(2, 0, 1100));
        assert_eq!(gaps.len(), 1);
        assert_eq!((gaps[0].first, gaps[0].last, gaps[0].count), (1010, 1100, Some(8)));
        assert_eq!((gaps[0].cause, gaps[0].boot_epoch), (GapCause::Reset, 1));
    }

    #[test]
    fn an_erased_node_starts_anew_and_its_blocks_are_not_taken_for_copies() {
        let mut state = State::default();
        take(&mut state, &unix(7, 3, 1000));
        assert_eq!(state.judge("n", &unix(1, 0, 5000), NOW_MS), Verdict::Duplicate);
        announce(&mut state, 1, "temperature");
        let (_, gaps) = take(&mut state, &unix(1, 0, 5000));
        assert_eq!(gaps[0].cause, GapCause::Reset);
        assert_eq!(state.judge("n", &unix(1, 0, 5000), NOW_MS), Verdict::Duplicate);
    }

    #[test]
    fn a_block_before_synchronisation_is_placed_by_the_time_exchange_of_its_epoch() {
        let mut state = State::default();
        let request = TimeRequest { boot_epoch: 3, uptime_ms: 500, nonce: 1 };
        let mut buffer = [0; 64];
        let payload = encode(&request, &mut buffer).expect("fits");
        state.observe("n", Subject::Time, payload, NOW_MS);
        let (time_ms, _) = take(&mut state, &block(3, 0, Clock::SinceBoot, 100));
        assert_eq!(time_ms, NOW_MS - 400);
        let (time_ms, _) = take(&mut state, &block(4, 0, Clock::SinceBoot, 100));
        assert_eq!(time_ms, NOW_MS - 10, "no exchange: its last row is from now");
    }

    #[test]
    fn channels_have_the_names_of_their_epoch() {
        let mut state = State::default();
        assert_eq!(state.names("n", 1, 1), ["c0"]);
        announce(&mut state, 2, "temperature");
        announce(&mut state, 5, "humidity");
        assert_eq!(state.names("n", 4, 1), ["temperature"]);
        assert_eq!(state.names("n", 5, 1), ["humidity"]);
        assert_eq!(state.names("n", 5, 2), ["c0", "c1"], "the announce does not fit the block");
    }

    #[test]
    fn a_snapshot_restores_the_same_state() {
        let mut state = State::default();
        announce(&mut state, 2, "temperature");
        take(&mut state, &unix(2, 0, 1000));
        assert_eq!(State::restore(&state.snapshot()), Ok(state));
        assert!(State::restore(&[9, 9]).is_err());
    }

    #[test]
    fn bytes_that_are_no_block_say_why() {
        let state = State::default();
        for payload in [&b""[..], b"hello world", &[0; 64]] {
            assert!(matches!(state.judge("n", payload, NOW_MS), Verdict::Rejected(_)));
        }
    }
}
