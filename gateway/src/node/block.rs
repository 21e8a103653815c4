//! Reading series blocks into rows.

use headwater_shared::block::{BlockDecoder, BlockError, CHANNELS_MAX, Clock};
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
    pub values: Vec<(String, Decimal)>,
}

/// Calls `on_row` with the block's own time and the values of each row.
///
/// # Errors
/// [`BlockError`] at the first row that cannot be read.
pub(super) fn each_row(
    decoder: &mut BlockDecoder<'_>,
    mut on_row: impl FnMut(u64, &[i64]),
) -> Result<(), BlockError> {
    let mut values = [0; CHANNELS_MAX];
    let values = &mut values[..decoder.header().channels()];
    while let Some(time_ms) = decoder.next_row(values) {
        on_row(time_ms?, values);
    }
    Ok(())
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
        let values = names.iter().zip(values).zip(header.scales());
        samples.push(Sample {
            time_ms: time_ms.saturating_add(row_ms.wrapping_sub(first_ms).cast_signed()),
            boot_epoch: header.boot_epoch,
            sample: number,
            values: values
                .map(|((name, mantissa), scale)| {
                    (name.clone(), Decimal { mantissa: *mantissa, scale: *scale })
                })
                .collect(),
        });
        number = number.wrapping_add(1);
    });
    read.ok().map(|()| samples)
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
                reading.insert(name, Value::Decimal(value).to_json());
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
