//! Reading series blocks into rows.

use headwater_shared::block::{self, BlockDecoder, BlockError, CHANNELS_MAX, Clock, Kind};
use headwater_shared::decimal::Decimal;
use serde_json::{Map, Value as Json, json};

use crate::stream::Value;

/// One row of a block.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Event time, ms since 1970.
    pub time_ms: i64,
    /// Which start of the node.
    pub boot_epoch: u32,
    /// Number of the row in its boot epoch.
    pub sample: u32,
    /// The channels, by name.
    pub values: Vec<(String, Value)>,
}

/// Calls `on_row` with the block's own time and the values of each row.
///
/// # Errors
/// [`BlockError`] at the first row that cannot be read.
pub(super) fn each_row<'b>(
    decoder: &mut BlockDecoder<'b>,
    mut on_row: impl FnMut(u64, &[block::Value<'b>]),
) -> Result<(), BlockError> {
    let mut values = [block::Value::Boolean(false); CHANNELS_MAX];
    let values = &mut values[..decoder.header().channels()];
    while let Some(time_ms) = decoder.next_values(values) {
        on_row(time_ms?, values);
    }
    Ok(())
}

/// Whether a payload is a block of at least one row that can be read to its end.
///
/// # Errors
/// Why it is not.
pub fn check(payload: &[u8]) -> Result<(), String> {
    let mut decoder = BlockDecoder::new(payload).map_err(|problem| problem.to_string())?;
    let mut rows = 0;
    each_row(&mut decoder, |_, _| rows += 1).map_err(|problem| problem.to_string())?;
    if rows == 0 { Err("the block has no rows".to_owned()) } else { Ok(()) }
}

/// The rows of a block whose first row is at `time_ms`; `names` gives the names of the channels of
/// a boot epoch.
pub(super) fn samples(
    payload: &[u8],
    time_ms: i64,
    names: impl FnOnce(u32, usize) -> Vec<String>,
) -> Option<Vec<Sample>> {
    let mut decoder = BlockDecoder::new(payload).ok()?;
    let header = *decoder.header();
    let names = names(header.boot_epoch, header.channels());
    let mut first_ms = None;
    let mut samples = Vec::with_capacity(usize::from(header.count));
    let mut number = header.first_sample;
    let read = each_row(&mut decoder, |row_ms, values| {
        let first_ms = *first_ms.get_or_insert(row_ms);
        let values = names.iter().zip(values).zip(header.kinds());
        samples.push(Sample {
            time_ms: time_ms.saturating_add(row_ms.wrapping_sub(first_ms).cast_signed()),
            boot_epoch: header.boot_epoch,
            sample: number,
            values: values
                .map(|((name, value), kind)| (name.clone(), column(*value, *kind)))
                .collect(),
        });
        number = number.wrapping_add(1);
    });
    read.ok().map(|()| samples)
}

/// A value as a column. A float that is not finite is none: JSON cannot say it, and one would spoil
/// every mean that it enters; the block keeps its bits.
fn column(value: block::Value<'_>, kind: Kind) -> Value {
    match value {
        block::Value::Decimal(mantissa) => {
            Value::Decimal(Decimal { mantissa, scale: kind.scale() })
        }
        // An integer beyond i64 keeps its digits rather than be rounded to a double.
        block::Value::Unsigned(value) => {
            i64::try_from(value).map_or_else(|_| Value::Json(json!(value)), Value::Integer)
        }
        block::Value::Float32(value) => float(value.into()),
        block::Value::Float64(value) => float(value),
        block::Value::Boolean(value) => Value::Boolean(value),
        block::Value::Text(text) => Value::Text(text.to_owned()),
    }
}

fn float(value: f64) -> Value {
    if value.is_finite() { Value::Double(value) } else { Value::Null }
}

/// A block as JSON: its header and its readings.
pub(super) fn json(payload: &[u8], samples: Vec<Sample>) -> Option<Json> {
    let decoder = BlockDecoder::new(payload).ok()?;
    let header = decoder.header();
    let readings: Vec<Json> = samples
        .into_iter()
        .map(|sample| {
            let mut reading = Map::new();
            reading.insert("time".into(), json!(sample.time_ms));
            for (name, value) in sample.values {
                reading.insert(name, value.to_json());
            }
            Json::Object(reading)
        })
        .collect();
    Some(json!({
        "boot_epoch": header.boot_epoch,
        "sequence": header.sequence,
        "first_sample": header.first_sample,
        "synchronised": header.clock == Clock::Unix,
        "period_ms": header.period_ms,
        "readings": readings,
    }))
}

#[cfg(test)]
mod tests {
    use headwater_shared::block::{BlockEncoder, BlockSpec};

    use super::*;

    fn block_of(kinds: &[Kind], rows: &[&[block::Value<'_>]]) -> Vec<u8> {
        let spec = BlockSpec {
            boot_epoch: 3,
            sequence: 1,
            first_sample: 40,
            clock: Clock::Unix,
            period_ms: 1000,
            kinds,
        };
        let mut buffer = [0; 512];
        let mut encoder = BlockEncoder::new(&mut buffer, &spec, 5000).expect("a spec");
        for (time_ms, row) in (5000..).step_by(1000).zip(rows) {
            encoder.push_values(time_ms, row).expect("fits");
        }
        encoder.finish().to_vec()
    }

    fn readings(payload: &[u8]) -> Json {
        let names = |_, channels| (0..channels).map(|index| format!("c{index}")).collect();
        let samples = samples(payload, 5000, names).expect("a block");
        json(payload, samples).expect("a block")["readings"].take()
    }

    #[test]
    fn values_of_every_kind_are_what_json_calls_them() {
        let kinds = [
            Kind::Decimal { scale: 2 },
            Kind::Unsigned,
            Kind::Float32,
            Kind::Float64,
            Kind::Boolean,
            Kind::Text,
        ];
        let row = |decimal, unsigned, float, is, text| {
            [
                block::Value::Decimal(decimal),
                block::Value::Unsigned(unsigned),
                block::Value::Float32(float),
                block::Value::Float64(f64::from(float) + 0.1),
                block::Value::Boolean(is),
                block::Value::Text(text),
            ]
        };
        let rows = [row(-5, 7, 21.5, true, "on"), row(2150, u64::MAX, -0.5, false, "a \"b\"")];
        let payload = block_of(&kinds, &[&rows[0], &rows[1]]);
        let expected = json!([
            {"time": 5000, "c0": -0.05, "c1": 7, "c2": 21.5, "c3": 21.6, "c4": true, "c5": "on"},
            {"time": 6000, "c0": 21.5, "c1": u64::MAX, "c2": -0.5, "c3": -0.4, "c4": false,
             "c5": "a \"b\""},
        ]);
        assert_eq!(readings(&payload), expected);
    }

    #[test]
    fn a_float_that_is_not_finite_is_no_value() {
        let rows = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.5];
        let rows = rows.map(|value| [block::Value::Float64(value)]);
        let rows = rows.each_ref().map(|row| &row[..]);
        let payload = block_of(&[Kind::Float64], &rows);
        let values: Vec<Json> = readings(&payload)
            .as_array()
            .expect("a list")
            .iter()
            .map(|reading| reading["c0"].clone())
            .collect();
        assert_eq!(values, [Json::Null, Json::Null, Json::Null, json!(1.5)]);
    }
}
