use std::collections::BTreeMap;

use headwater_shared::decimal::Decimal;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::config::Config;
use crate::query::Plan;
use crate::stream::Value;

/// Windows of 10 s, lateness 2 s, idle 30 s.
const SIZE_MS: i64 = 10_000;
const LATENESS_MS: i64 = 2_000;
const IDLE_MS: i64 = 30_000;

fn plan(select: &str, filter: &str) -> Arc<Parts> {
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
        "CREATE STREAM q AS SELECT {select} FROM s {filter} \
         GROUP BY device, tumble(INTERVAL '10' SECOND)"
    );
    Plan::parse(&sql, &streams).expect("a plan").parts
}

fn engine(select: &str, filter: &str) -> Engine {
    Engine::new(plan(select, filter))
}

fn row(device: &str, time_ms: i64, value: Value) -> Row {
    let columns = [("device", Value::Text(device.to_owned())), ("v", value)];
    let columns = columns.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    Row { time_ms, key: device.to_owned(), index: 0, columns }
}

fn decimal(mantissa: i64, scale: u8) -> Value {
    Value::Decimal(Decimal { mantissa, scale })
}

/// The rows of closed windows, as texts.
fn texts(out: &[Emit]) -> Vec<String> {
    let windows = out.iter().filter_map(|emit| match emit {
        Emit::Window { payload, .. } => Some(String::from_utf8(payload.clone()).expect("JSON")),
        _ => None,
    });
    windows.collect()
}

/// Takes rows one a record and second of arrival.
fn feed(engine: &mut Engine, rows: &[Row]) -> Vec<Emit> {
    let mut out = Vec::new();
    for (row, offset) in rows.iter().zip(0..) {
        engine.row(offset, offset.cast_signed() * 1000, row, &mut out);
    }
    out
}

#[test]
fn a_window_closes_when_the_watermark_reaches_its_end_and_not_before() {
    let mut engine = engine("device, window_start, window_end, count(*) AS n", "");
    let out = feed(
        &mut engine,
        &[
            row("a", 9_999, Value::Null),
            row("a", 11_999, Value::Null),
            row("a", 1, Value::Null),
            row("a", 12_000, Value::Null),
            row("a", 9_999, Value::Null),
        ],
    );
    let window = r#"{"device":"a","window_start":0,"window_end":10000,"n":2}"#;
    assert_eq!(texts(&out), [window]);
    assert!(matches!(&out[1], Emit::Late { key, time_ms: 9_999, .. } if key == "a"), "{out:?}");
    assert_eq!((engine.open_windows(), engine.watermark_ms()), (1, Some(10_000)));
}

#[test]
fn aggregates_of_decimals_keep_their_digits() {
    let mut engine = engine(
        "count(*) AS n, count(v) AS m, sum(v) AS sum, avg(v) AS mean, min(v) AS low, \
         max(v) AS high, max(v) - min(v) AS span",
        "",
    );
    let out = feed(
        &mut engine,
        &[
            row("a", 0, decimal(2179, 2)),
            row("a", 1, decimal(218, 1)),
            row("a", 2, Value::Null),
            row("a", 3, Value::Integer(-5)),
            row("a", 4, Value::Text("warm".to_owned())),
            row("a", 99_000, Value::Null),
        ],
    );
    let window = "{\"n\":5,\"m\":4,\"sum\":38.59,\"mean\":12.863333333333333,\"low\":-5,\
                  \"high\":21.8,\"span\":26.8}";
    assert_eq!(texts(&out), [window]);
    assert_eq!(engine.counts.not_numbers, 4, "the text, in each aggregate of numbers");
}

#[test]
fn a_window_of_nulls_has_no_mean_and_nan_is_no_value() {
    let mut engine = engine("count(*) AS n, sum(v), avg(v), min(v)", "");
    let rows = [
        row("a", 0, Value::Null),
        row("a", 1, Value::Double(f64::NAN)),
        row("a", 60_000, Value::Null),
    ];
    let out = feed(&mut engine, &rows);
    assert_eq!(texts(&out), [r#"{"n":2,"sum":null,"avg":null,"min":null}"#]);
}

#[test]
fn times_before_1970_have_windows_and_times_beyond_the_clock_do_not() {
    let mut engine = engine("window_start, count(*) AS n", "");
    let rows = [
        row("a", i64::MIN, Value::Null),
        row("a", -10_001, Value::Null),
        row("a", -1, Value::Null),
        row("a", 60_000, Value::Null),
        row("a", i64::MAX, Value::Null),
    ];
    let out = feed(&mut engine, &rows);
    assert_eq!(
        texts(&out),
        [r#"{"window_start":-20000,"n":1}"#, r#"{"window_start":-10000,"n":1}"#]
    );
    assert_eq!(engine.counts.unusable, 2);
}

#[test]
fn a_row_that_the_filter_drops_moves_the_watermark_of_a_known_group_only() {
    let mut engine = engine("device, count(*) AS n", "WHERE v > 0");
    let rows = [
        row("a", 0, Value::Integer(1)),
        row("a", 1, Value::Integer(-1)),
        row("b", 0, Value::Integer(-1)),
        row("a", 60_000, Value::Integer(-1)),
    ];
    let out = feed(&mut engine, &rows);
    assert_eq!(texts(&out), [r#"{"device":"a","n":1}"#]);
    assert_eq!(engine.sources(), 1);
}

#[test]
fn a_silent_source_is_closed_by_the_tick_after_its_idle_time() {
    let mut engine = engine("device, window_start", "");
    let mut out = Vec::new();
    engine.row(0, 1_000_000, &row("a", 5_000, Value::Null), &mut out);
    engine.row(1, 1_010_000, &row("b", 5_000, Value::Null), &mut out);
    assert_eq!(engine.idle_at_ms(), Some(1_030_000));
    assert!(!engine.tick(1_029_999, &mut out) && out.is_empty());
    assert!(!engine.tick(1_030_000, &mut out));
    assert_eq!(texts(&out), [r#"{"device":"a","window_start":0}"#]);
    assert_eq!(engine.idle_at_ms(), Some(1_040_000));
    // After the outage the node sends what it kept: only the closed window is late.
    out.clear();
    engine.row(2, 1_050_000, &row("a", 9_000, Value::Null), &mut out);
    engine.row(3, 1_050_000, &row("a", 10_000, Value::Null), &mut out);
    assert!(matches!(out.as_slice(), [Emit::Late { .. }]), "{out:?}");
    assert_eq!(engine.open_windows(), 2);
}

#[test]
fn a_tick_over_many_sources_writes_a_part_at_a_time() {
    let mut engine = engine("device", "");
    let mut out = Vec::new();
    for device in 0..2_500 {
        engine.row(0, 0, &row(&format!("d{device:04}"), 0, Value::Null), &mut out);
    }
    let mut parts = Vec::new();
    while engine.tick(IDLE_MS, &mut out) {
        parts.push(out.len());
        out.clear();
    }
    parts.push(out.len());
    assert_eq!(parts, [1024, 1024, 452]);
    assert_eq!(engine.open_windows(), 0);
}

#[test]
fn too_many_windows_close_those_of_the_sources_that_were_quiet_for_longest() {
    let mut engine = engine("device", "");
    engine.limits = Limits { windows: 8, sources: 8 };
    let rows: Vec<Row> = (0..9).map(|at| row(&format!("d{at}"), 0, Value::Null)).collect();
    let out = feed(&mut engine, &rows);
    assert_eq!(texts(&out), [r#"{"device":"d0"}"#, r#"{"device":"d1"}"#]);
    assert_eq!(out[2], Emit::ClosedEarly { first_offset: 0, windows: 2 });
    assert_eq!((engine.open_windows(), engine.sources()), (7, 7));
    assert_eq!((engine.counts.closed_early, engine.counts.forgotten), (2, 2));
}

#[test]
fn one_source_with_too_many_windows_is_bounded_too() {
    let mut engine = engine("window_start", "");
    engine.limits = Limits { windows: 8, sources: 8 };
    let mut out = Vec::new();
    for at in (0..9).rev() {
        engine.row(0, 0, &row("a", at * SIZE_MS, Value::Null), &mut out);
    }
    assert_eq!(engine.open_windows(), 2, "what is older than the lateness is late");
    engine.limits.windows = 1;
    engine.row(1, 0, &row("a", 8 * SIZE_MS, Value::Null), &mut out);
    assert_eq!(engine.open_windows(), 0);
}

#[test]
fn keys_of_every_kind_make_groups_and_what_is_no_key_does_not() {
    let mut engine = engine("device AS d, count(*) AS n", "");
    let mut rows: Vec<Row> = [
        Value::Null,
        Value::Boolean(true),
        Value::Integer(7),
        decimal(70, 1),
        Value::Text("7".to_owned()),
        Value::Json(json!([7])),
        Value::Text("x".repeat(257)),
    ]
    .into_iter()
    .map(|key| {
        let mut row = row("", 0, Value::Null);
        row.columns.insert("device".to_owned(), key);
        row
    })
    .collect();
    let last: Vec<Row> = rows.iter().cloned().map(|row| Row { time_ms: 60_000, ..row }).collect();
    rows.extend(last);
    let mut out = texts(&feed(&mut engine, &rows));
    out.sort();
    let expected = [
        r#"{"d":"7","n":1}"#,
        r#"{"d":7,"n":1}"#,
        r#"{"d":7.0,"n":1}"#,
        r#"{"d":null,"n":1}"#,
        r#"{"d":true,"n":1}"#,
    ];
    assert_eq!(out, expected);
    assert_eq!(engine.counts.unusable, 4);
}

#[test]
fn a_state_of_another_query_is_refused() {
    let mut counts = engine("count(*)", "");
    feed(&mut counts, &[row("a", 0, Value::Null)]);
    let bytes = postcard::to_stdvec(counts.state()).expect("bytes");
    let state: State = postcard::from_bytes(&bytes).expect("a state");
    let problem = engine("sum(v)", "").restore(state).expect_err("other aggregates");
    assert!(problem.contains("other aggregates"));
}

/// An event of the property tests.
#[derive(Clone, Debug)]
enum Event {
    Row { device: u8, time_ms: i64, mantissa: i32 },
    Tick,
}

/// Times wander forward with jumps back and ahead; arrival is a second an event.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        20 => (0..3u8, -6_000..9_000i64, -999..999i32).prop_map(|(device, time_ms, mantissa)| {
            Event::Row { device, time_ms, mantissa }
        }),
        1 => Just(Event::Tick),
    ];
    prop::collection::vec(event, 0..120).prop_map(|mut events| {
        let mut base_ms = -20_000;
        for event in &mut events {
            if let Event::Row { time_ms, .. } = event {
                base_ms += 1_500;
                *time_ms += base_ms;
            }
        }
        events
    })
}

fn apply(engine: &mut Engine, at: usize, event: &Event, out: &mut Vec<Emit>) {
    let now_ms = at as i64 * 1_000;
    match event {
        Event::Row { device, time_ms, mantissa } => {
            let row = row(&format!("d{device}"), *time_ms, decimal((*mantissa).into(), 2));
            engine.row(at as u64, now_ms, &row, out);
        }
        Event::Tick => while engine.tick(now_ms, out) {},
    }
}

/// What SQL says of the rows that were in time, computed from all rows at once.
#[derive(Default)]
struct Model {
    watermarks: BTreeMap<u8, i64>,
    arrivals: BTreeMap<u8, i64>,
    windows: BTreeMap<(u8, i64), Vec<i64>>,
    late: Vec<(u8, i64)>,
}

impl Model {
    fn of(events: &[Event]) -> Self {
        let mut model = Self::default();
        for (event, at) in events.iter().zip(0i64..) {
            match event {
                Event::Row { device, time_ms, mantissa } => {
                    let watermark_ms = model.watermarks.entry(*device).or_insert(i64::MIN);
                    let start_ms = time_ms.div_euclid(SIZE_MS) * SIZE_MS;
                    if start_ms + SIZE_MS <= *watermark_ms {
                        model.late.push((*device, *time_ms));
                    } else {
                        let window = model.windows.entry((*device, start_ms)).or_default();
                        window.push((*mantissa).into());
                    }
                    *watermark_ms = (*watermark_ms).max(time_ms - LATENESS_MS);
                    model.arrivals.insert(*device, at * 1_000);
                }
                Event::Tick => {
                    for (device, watermark_ms) in &mut model.watermarks {
                        if at * 1_000 - model.arrivals[device] >= IDLE_MS {
                            let last = model.windows.keys().filter(|(d, _)| d == device).max();
                            let end_ms = last.map_or(i64::MIN, |(_, start_ms)| start_ms + SIZE_MS);
                            *watermark_ms = (*watermark_ms).max(end_ms);
                        }
                    }
                }
            }
        }
        model
    }

    /// The rows of closed windows, by device and window.
    fn rows(&self) -> Vec<Json> {
        let closed = self
            .windows
            .iter()
            .filter(|((device, start_ms), _)| start_ms + SIZE_MS <= self.watermarks[device]);
        let row = |((device, start_ms), values): (&(u8, i64), &Vec<i64>)| {
            let sum: i64 = values.iter().sum();
            let number = |mantissa: i64| mantissa as f64 / 100.0;
            json!({
                "device": format!("d{device}"),
                "window_start": start_ms,
                "window_end": start_ms + SIZE_MS,
                "n": values.len(),
                "sum": number(sum),
                "mean": sum as f64 / (100 * values.len()) as f64,
                "low": values.iter().min().map(|low| number(*low)),
                "high": values.iter().max().map(|high| number(*high)),
            })
        };
        closed.map(row).collect()
    }
}

/// Numbers as doubles: another crate of the workspace may turn on serde_json's
/// `arbitrary_precision`, and `0.0` and `0.00` are then two numbers.
fn doubles(rows: Vec<Json>) -> Vec<Vec<(String, String)>> {
    let cell = |(name, value): (&String, &Json)| {
        let text = value.as_f64().map_or_else(|| value.to_string(), |number| number.to_string());
        (name.clone(), text)
    };
    rows.iter()
        .map(|row| row.as_object().expect("rows are objects").iter().map(cell).collect())
        .collect()
}

const SELECT: &str = "device, window_start, window_end, count(*) AS n, sum(v) AS sum, \
                      avg(v) AS mean, min(v) AS low, max(v) AS high";

proptest! {
    #[test]
    fn the_engine_says_what_a_model_of_all_rows_says(events in events()) {
        let mut engine = engine(SELECT, "");
        let mut out = Vec::new();
        for (at, event) in events.iter().enumerate() {
            apply(&mut engine, at, event, &mut out);
        }
        let model = Model::of(&events);
        let mut rows: Vec<Json> =
            texts(&out).iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
        for device in 0..3 {
            let name = format!("d{device}");
            let ends = rows.iter().filter(|row| row["device"] == *name);
            let ends: Vec<i64> = ends.filter_map(|row| row["window_end"].as_i64()).collect();
            prop_assert!(ends.is_sorted_by(|a, b| a < b), "{:?}", ends);
        }
        rows.sort_by_key(|row| (row["device"].to_string(), row["window_end"].as_i64()));
        prop_assert_eq!(doubles(rows), doubles(model.rows()));
        let late: Vec<(u8, i64)> = out
            .iter()
            .filter_map(|emit| match emit {
                Emit::Late { key, time_ms, .. } => Some((key[1..].parse().ok()?, *time_ms)),
                _ => None,
            })
            .collect();
        prop_assert_eq!(late, model.late);
    }

    #[test]
    fn a_state_saved_and_restored_anywhere_changes_nothing(events in events(), cut in 0..120usize) {
        let mut whole = engine(SELECT, "");
        let (mut expected, mut out) = (Vec::new(), Vec::new());
        let mut parted = engine(SELECT, "");
        for (at, event) in events.iter().enumerate() {
            if at == cut {
                let bytes = postcard::to_stdvec(parted.state()).expect("bytes");
                parted = engine(SELECT, "");
                parted.restore(postcard::from_bytes(&bytes).expect("a state")).expect("it fits");
            }
            apply(&mut whole, at, event, &mut expected);
            apply(&mut parted, at, event, &mut out);
        }
        prop_assert_eq!(&out, &expected);
        prop_assert_eq!(parted.state(), whole.state());
        prop_assert_eq!(parted.open_windows(), whole.open_windows());
    }
}
