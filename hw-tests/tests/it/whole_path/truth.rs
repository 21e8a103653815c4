//! What was delivered, held against what there was to measure.

use std::collections::{BTreeMap, BTreeSet};

use headwater_shared::decimal::Decimal;
use hw_tests::kafka::Consumed;
use hw_tests::qemu::Boot;
use serde_json::Value as Json;

/// A reading as the topic has it.
#[derive(Clone, Debug)]
struct Row {
    epoch: u32,
    sample: u32,
    time_ms: i64,
    temperature: Decimal,
    humidity: Decimal,
}

/// A gap record.
#[derive(Clone, Debug)]
struct Gap {
    cause: String,
    source: String,
    epoch: u32,
    first: i64,
    last: i64,
    count: u64,
}

/// Rows of each device in the order of the topic, and the gaps.
pub(super) struct Delivered {
    rows: BTreeMap<String, Vec<Row>>,
    gaps: Vec<Gap>,
}

fn json(record: &Consumed) -> Json {
    serde_json::from_slice(&record.value).expect("values are JSON")
}

fn integer(json: &Json, name: &str) -> i64 {
    json[name].as_i64().unwrap_or_else(|| panic!("{name} is a number in {json}"))
}

fn small(json: &Json, name: &str) -> u32 {
    u32::try_from(integer(json, name)).expect("it fits")
}

/// A number digit by digit, without trailing zeros.
fn decimal(json: &Json, name: &str) -> Decimal {
    let text = json[name].to_string();
    let decimal: Decimal = text.parse().unwrap_or_else(|_| panic!("{name} is a decimal in {json}"));
    decimal.normalized()
}

/// As the series has it: hundredths.
fn hundredths(mantissa: i64) -> Decimal {
    Decimal { mantissa, scale: 2 }.normalized()
}

impl Delivered {
    pub(super) fn read(records: &[Consumed]) -> Self {
        let mut delivered = Self { rows: BTreeMap::new(), gaps: Vec::new() };
        let mut seen = BTreeSet::new();
        for record in records {
            let identity = (record.header("hw.offset"), record.header("hw.index"));
            assert!(identity.0.is_some(), "every record names its offset: {record:?}");
            assert!(seen.insert(identity), "{identity:?} is there twice");
            let value = json(record);
            if record.header("hw.gap").is_some() {
                let gap = &value["gap"];
                delivered.gaps.push(Gap {
                    cause: gap["cause"].as_str().unwrap_or_default().to_owned(),
                    source: gap["source"].as_str().unwrap_or_default().to_owned(),
                    epoch: small(gap, "boot_epoch"),
                    first: integer(gap, "first"),
                    last: integer(gap, "last"),
                    count: gap["count"].as_u64().unwrap_or(0),
                });
                continue;
            }
            let device = value["device"].as_str().expect("a device").to_owned();
            assert_eq!(record.key.as_deref(), Some(device.as_str()), "the key is the device");
            delivered.rows.entry(device).or_default().push(Row {
                epoch: small(&value, "boot_epoch"),
                sample: small(&value, "sample"),
                time_ms: integer(&value, "time"),
                temperature: decimal(&value, "temperature"),
                humidity: decimal(&value, "humidity"),
            });
        }
        delivered
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.values().map(Vec::len).sum()
    }

    pub(super) fn gaps(&self) -> usize {
        self.gaps.len()
    }

    /// The windows of the topic are those that follow from the rows, each once.
    pub(super) fn hold_windows(&self, records: &[Consumed], window_ms: i64) {
        let mut expected: BTreeMap<(String, i64), Vec<&Row>> = BTreeMap::new();
        for (device, rows) in &self.rows {
            for row in rows {
                let start = row.time_ms.div_euclid(window_ms) * window_ms;
                expected.entry((device.clone(), start)).or_default().push(row);
            }
        }
        for record in records {
            let value = json(record);
            let device = value["device"].as_str().expect("a device").to_owned();
            let start = integer(&value, "window_start");
            let rows = expected
                .remove(&(device, start))
                .unwrap_or_else(|| panic!("a window twice, or of nothing: {value}"));
            let temperatures: Vec<f64> = rows.iter().map(|row| row.temperature.to_f64()).collect();
            let humidities: Vec<f64> = rows.iter().map(|row| row.humidity.to_f64()).collect();
            assert_eq!(integer(&value, "window_end"), start + window_ms);
            assert_eq!(value["n"].as_u64(), Some(rows.len() as u64), "{value}");
            let mean = temperatures.iter().sum::<f64>() / rows.len() as f64;
            let near = |name: &str, wanted: f64| {
                let given = value[name].as_f64().expect("a number");
                assert!((given - wanted).abs() < 1e-9, "{name} is not {wanted} in {value}");
            };
            near("mean", mean);
            near("low", temperatures.iter().copied().fold(f64::INFINITY, f64::min));
            near("high", humidities.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
        let left: Vec<_> = expected.keys().collect();
        assert!(left.is_empty(), "windows that were never written: {left:?}");
    }
}

/// What a node had to measure, and when it started.
pub(super) struct Truth<'a> {
    pub(super) id: &'a str,
    pub(super) world: &'a [[i64; 2]],
    pub(super) boots: &'a [Boot],
}

impl Truth<'_> {
    /// Every row is there once, in order, decimal for decimal; what is missing at a reset is named
    /// by a gap record and no more than `missing_max` samples. Returns how many are missing.
    pub(super) fn hold(&self, delivered: &Delivered, missing_max: usize) -> usize {
        let rows = delivered.rows.get(self.id).expect("the node delivered something");
        let mut missing_in_all = 0;
        let mut rows = rows.iter().peekable();
        for (number, boot) in self.boots.iter().enumerate() {
            let mut position = boot.world_position as usize;
            let (mut next, mut last_ms) = (0, i64::MIN);
            while let Some(row) = rows.next_if(|row| row.epoch == boot.epoch) {
                let place = format!("{} epoch {} sample {}", self.id, row.epoch, row.sample);
                assert_eq!(row.sample, next, "{place}: not the next");
                assert!(row.time_ms > last_ms, "{place}: time goes backwards");
                let [temperature, humidity] = self.world[position];
                assert_eq!(row.temperature, hundredths(temperature), "{place}");
                assert_eq!(row.humidity, hundredths(humidity), "{place}");
                (next, last_ms, position) = (next + 1, row.time_ms, position + 1);
            }
            let end = match self.boots.get(number + 1) {
                Some(next) => next.world_position as usize,
                None => self.world.len(),
            };
            let missing = end - position;
            assert!(missing <= missing_max, "{}: {missing} samples are missing", self.id);
            if let Some(after) = rows.peek() {
                self.hold_gap(delivered, boot, last_ms, after.time_ms, missing);
            } else {
                assert_eq!(missing, 0, "{}: nothing may be missing at the end", self.id);
            }
            missing_in_all += missing;
        }
        assert!(
            rows.next().is_none(),
            "{}: rows of a start that never was, or out of order",
            self.id
        );
        missing_in_all
    }

    fn hold_gap(
        &self,
        delivered: &Delivered,
        boot: &Boot,
        last_ms: i64,
        next_ms: i64,
        missing: usize,
    ) {
        let named = delivered.gaps.iter().any(|gap| {
            gap.cause == "reset"
                && gap.source == self.id
                && gap.epoch == boot.epoch
                && gap.first == last_ms
                && gap.last == next_ms
                && gap.count >= missing as u64
        });
        assert!(
            named,
            "{}: no gap record for the reset after epoch {}, {last_ms}..{next_ms}, {missing} \
             missing; there are {:?}",
            self.id, boot.epoch, delivered.gaps
        );
    }
}
