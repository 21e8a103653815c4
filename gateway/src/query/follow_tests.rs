use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::query::Plan;
use crate::stream::Value;

fn plan(select: &str) -> Arc<Parts> {
    let text = r#"
        [gateway]
        id = "g"
        data_dir = "d"
        [[stream]]
        name = "s"
        topic = "s/{device}"
        format = "json"
        lateness = "2s"
        idle = "30s"
    "#;
    let streams = Config::parse("test", text).expect("a configuration").streams;
    let sql = format!(
        "CREATE STREAM q AS SELECT {select} FROM s GROUP BY device, tumble(INTERVAL '10' SECOND)"
    );
    Plan::parse(&sql, &streams).expect("a plan").parts
}

fn row(device: u8, time_ms: i64) -> Row {
    let device = format!("d{device}");
    let columns = [("device".to_owned(), Value::Text(device.clone()))].into_iter().collect();
    Row { time_ms, key: device, index: 0, columns }
}

/// A record of the model journal.
#[derive(Clone, Debug, PartialEq)]
enum Record {
    Rows { arrival_ms: i64, rows: Vec<Row> },
    Tick { now_ms: i64 },
    Written(Write),
}

/// Where the gateway dies.
#[derive(Clone, Copy, Debug)]
enum Crash {
    /// Behind this input, with this many of the outputs on their way on disk.
    At { input: usize, durable: usize },
}

/// A gateway whose journal gets an input a step: disk and memory apart.
struct Gateway {
    /// On disk, in order; what is beyond `durable` dies with the gateway.
    journal: Vec<Record>,
    durable: usize,
    checkpoint: Option<(usize, Vec<u8>)>,
    follow: Follow,
    position: usize,
    plan: Arc<Parts>,
}

impl Gateway {
    fn new(plan: Arc<Parts>) -> Self {
        let follow = Follow::new(Arc::clone(&plan));
        Self { journal: Vec::new(), durable: 0, checkpoint: None, follow, position: 0, plan }
    }

    /// Readers see durable records only: the input is synced, then read.
    fn input(&mut self, record: Record) {
        self.journal.push(record);
        self.durable = self.journal.len();
        self.read();
    }

    fn read(&mut self) {
        let mut out = Vec::new();
        while self.position < self.durable {
            let offset = self.position as u64;
            let input = match &self.journal[self.position] {
                Record::Rows { arrival_ms, rows } => {
                    Input::Rows { offset, arrival_ms: *arrival_ms, rows }
                }
                Record::Tick { now_ms } => Input::Tick { offset, now_ms: *now_ms },
                Record::Written(_) => {
                    self.position += 1;
                    continue;
                }
            };
            while self.follow.apply(input, &mut out) {}
            self.journal.extend(out.drain(..).map(Record::Written));
            self.position += 1;
        }
    }

    fn save(&mut self) {
        self.durable = self.journal.len();
        self.checkpoint = Some((self.position, self.follow.snapshot()));
    }

    /// Dies with `more` of the outputs on their way on disk, and starts again.
    fn crash(&mut self, more: usize) {
        self.durable = (self.durable + more).min(self.journal.len());
        self.journal.truncate(self.durable);
        self.follow = Follow::new(Arc::clone(&self.plan));
        self.position = 0;
        if let Some((position, state)) = &self.checkpoint {
            assert_eq!(self.follow.restore(state), Restored::Same);
            self.position = *position;
        }
        for record in &self.journal[self.position..] {
            match record {
                Record::Written(Write::Output { lane, sequence, input_offset, .. }) => {
                    self.follow.ledger.found(*lane, *sequence, *input_offset);
                }
                Record::Written(Write::Gap { last, .. }) => self.follow.ledger.found_gap(*last),
                _ => {}
            }
        }
        self.read();
    }

    /// What was written, apart from where in the journal its input lay.
    fn written(&self, lane: Lane) -> Vec<(u64, String, i64, Vec<u8>)> {
        let written = self.journal.iter().filter_map(|record| match record {
            Record::Written(Write::Output {
                lane: of, sequence, key, time_ms, payload, ..
            }) if *of == lane => Some((*sequence, key.clone(), *time_ms, payload.clone())),
            _ => None,
        });
        written.collect()
    }
}

fn inputs() -> impl Strategy<Value = Vec<Record>> {
    let rows = prop::collection::vec((0..3u8, -15_000..15_000i64), 1..5);
    let input = prop_oneof![12 => rows.prop_map(Some), 1 => Just(None)];
    prop::collection::vec(input, 1..50).prop_map(|inputs| {
        let inputs = inputs.into_iter().zip(0i64..).map(|(input, at)| match input {
            Some(rows) => Record::Rows {
                arrival_ms: at * 1_000,
                rows: rows.into_iter().map(|(device, ms)| row(device, ms + at * 4_000)).collect(),
            },
            None => Record::Tick { now_ms: (at + 40) * 1_000 },
        });
        inputs.collect()
    })
}

fn undisturbed(inputs: &[Record]) -> Gateway {
    let mut gateway = Gateway::new(plan("device, window_start, count(*) AS n"));
    inputs.iter().for_each(|input| gateway.input(input.clone()));
    gateway
}

proptest! {
    #[test]
    fn whatever_crashes_come_the_outputs_are_those_of_an_undisturbed_run(
        inputs in inputs(),
        crashes in prop::collection::vec((0..50usize, 0..6usize), 0..6),
        saves in prop::collection::vec(0..50usize, 0..6),
    ) {
        let crashes: Vec<Crash> =
            crashes.into_iter().map(|(input, durable)| Crash::At { input, durable }).collect();
        let expected = undisturbed(&inputs);
        let mut gateway = Gateway::new(plan("device, window_start, count(*) AS n"));
        for (at, input) in inputs.iter().enumerate() {
            gateway.input(input.clone());
            if saves.contains(&at) {
                gateway.save();
            }
            for Crash::At { input, durable } in &crashes {
                if *input == at {
                    gateway.crash(*durable);
                }
            }
        }
        prop_assert_eq!(gateway.written(Lane::Windows), expected.written(Lane::Windows));
        prop_assert_eq!(gateway.written(Lane::Late), expected.written(Lane::Late));
    }
}

#[test]
fn a_crash_at_every_step_writes_every_output_once() {
    let inputs: Vec<Record> = (0..40)
        .map(|at| match at % 13 {
            12 => Record::Tick { now_ms: (at + 40) * 1_000 },
            turn => Record::Rows {
                arrival_ms: at * 1_000,
                rows: vec![row(0, at * 3_000), row(1, at * 5_000 - turn * 2_000)],
            },
        })
        .collect();
    let expected = undisturbed(&inputs);
    assert!(expected.written(Lane::Windows).len() > 20 && expected.written(Lane::Late).len() > 2);
    for save_at in 0..inputs.len() {
        for crash_at in save_at..inputs.len() {
            for durable in 0..3 {
                let mut gateway = Gateway::new(plan("device, window_start, count(*) AS n"));
                for (at, input) in inputs.iter().enumerate() {
                    gateway.input(input.clone());
                    if at == save_at {
                        gateway.save();
                    }
                    if at == crash_at {
                        gateway.crash(durable);
                    }
                }
                for lane in [Lane::Windows, Lane::Late] {
                    let same = gateway.written(lane) == expected.written(lane);
                    assert!(same, "{lane:?}: saved at {save_at}, crash at {crash_at}, {durable}");
                }
            }
        }
    }
}

#[test]
fn lost_input_leaves_one_gap_record_whatever_is_replayed() {
    let mut follow = Follow::new(plan("count(*)"));
    let lost = Input::Lost { first: 5, end: 9, cause: GapCause::Damage };
    let mut out = Vec::new();
    follow.apply(lost, &mut out);
    assert!(matches!(
        out.as_slice(),
        [Write::Gap { first: 5, last: 8, cause: GapCause::Damage, .. }]
    ));
    let mut replay = Follow::new(plan("count(*)"));
    replay.ledger.found_gap(8);
    out.clear();
    replay.apply(lost, &mut out);
    assert_eq!(out, []);
}

#[test]
fn another_statement_of_the_same_name_goes_on_with_the_numbers() {
    let mut first = Follow::new(plan("count(*) AS n"));
    let mut out = Vec::new();
    for (at, time_ms) in [(0, 0), (1, 20_000), (2, 40_000)] {
        let rows = [row(0, time_ms)];
        first.apply(Input::Rows { offset: at, arrival_ms: 0, rows: &rows }, &mut out);
    }
    assert_eq!(out.len(), 2);
    let mut changed = Follow::new(plan("sum(v) AS n"));
    assert_eq!(changed.restore(&first.snapshot()), Restored::Changed);
    assert_eq!(changed.ledger.numbers(), Numbers { windows: 2, late: 0 });
    assert_eq!(changed.engine().open_windows(), 0);
}

/// A checkpoint outlives the build that wrote it: version 1, one window of one source.
#[test]
fn the_bytes_of_a_checkpoint_stay_the_same() {
    let mut follow = Follow::new(plan("count(*) AS n, avg(time) AS t"));
    let rows = [row(7, 12_345)];
    let mut out = Vec::new();
    follow.apply(Input::Rows { offset: 300, arrival_ms: 99, rows: &rows }, &mut out);
    let bytes = follow.snapshot();
    let statement = &follow.plan.canonical;
    let tail = &bytes[2 + statement.len()..];
    assert_eq!(bytes[0], VERSION);
    assert_eq!(tail, FROZEN, "{tail:?}");
    let mut restored = Follow::new(plan("count(*) AS n, avg(time) AS t"));
    assert_eq!(restored.restore(&bytes), Restored::Same);
    assert_eq!(restored.snapshot(), bytes);
}

const FROZEN: &[u8] = &[
    0, 0, // the next numbers
    1, 3, 116, 100, 55, // one source: its key
    210, 161, 1, 198, 1, 172, 2, // watermark, last arrival, last offset
    1, 160, 156, 1, 2, // one window: its start, two cells
    0, 1, // a count
    2, 1, 242, 192, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // a mean
];

proptest! {
    #[test]
    fn foreign_bytes_are_refused_or_read_but_never_break_anything(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        prefix: bool,
    ) {
        let plan = plan("count(*) AS n");
        if prefix {
            let whole = Follow::new(Arc::clone(&plan)).snapshot();
            bytes.splice(0..0, whole[..whole.len() - 1].iter().copied());
        }
        let mut follow = Follow::new(plan);
        if follow.restore(&bytes) == Restored::Same {
            let rows = [row(0, 1), row(0, 90_000)];
            follow.apply(Input::Rows { offset: 1, arrival_ms: 1, rows: &rows }, &mut Vec::new());
            follow.apply(Input::Tick { offset: 2, now_ms: 1 << 50 }, &mut Vec::new());
        }
    }
}
