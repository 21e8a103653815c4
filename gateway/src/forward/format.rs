//! From a record of the journal to what travels.

use std::io::Write as _;

use headwater_shared::envelope::{Envelope, Gap, GapCause, GapUnit, Publish};

use super::batch::{Batch, Head, ValueKind};
use crate::config::{Format, RouteFormat};
use crate::journal::Record;
use crate::stream::{Row, Rows, Streams, Value, gap_json};

/// Writes the records of one route.
pub(super) struct Encoder {
    route: usize,
    rows: Rows,
    format: RouteFormat,
    /// How payloads of the stream read; `None` for what the gateway writes itself.
    stream_format: Option<Format>,
    /// The name under which a row shows the key.
    key_column: String,
}

impl Encoder {
    /// For the route number `route` of `stream`.
    pub(super) fn new(
        route: usize,
        stream: &str,
        format: RouteFormat,
        rows: Rows,
        streams: &Streams,
    ) -> Self {
        let config = streams.get(stream).and_then(|stream| stream.config.as_ref());
        let key_column = config.and_then(|config| config.key.clone());
        Self {
            route,
            rows,
            format,
            stream_format: streams.format(stream),
            key_column: key_column.unwrap_or_else(|| "key".to_owned()),
        }
    }

    /// Stages what `record`, of the stream's partition `partition`, is for the upstream.
    pub(super) fn encode(&self, record: &Record, partition: u16, batch: &mut Batch) {
        let (key, time_ms) = (record.key_str(), record.time_ms);
        match record.envelope() {
            Ok(Envelope::Publish(publish)) => self.publish(record, &publish, partition, batch),
            Ok(Envelope::Output(output)) => {
                let head = self.head(record, partition, ValueKind::Json);
                batch.entry(head, key, None).value(time_ms, output.payload);
            }
            Ok(Envelope::Gap(gap)) => {
                let head = self.head(record, partition, ValueKind::Json);
                let head = Head { gap: Some(cause(gap.cause)), ..head };
                let value = gap_json(&gap).to_string();
                batch.entry(head, key, None).value(time_ms, value.as_bytes());
            }
            Ok(Envelope::Session(_) | Envelope::Tick(_)) => {}
            Err(_) => self.unreadable(record, partition, batch),
        }
    }

    /// Stages the news that offsets `first..end` are not in the journal. Which of them were the
    /// route's nobody knows, so it goes to partition 0.
    pub(super) fn gap(&self, why: GapCause, (first, end): (u64, u64), now_ms: i64, to: &mut Batch) {
        self.missing(why, (first, end), ("", 0, now_ms), to);
    }

    fn head(&self, record: &Record, partition: u16, kind: ValueKind) -> Head {
        let (route, offset) = (self.route, record.offset);
        Head { route, offset, last: offset, partition, gap: None, kind }
    }

    fn publish(&self, record: &Record, publish: &Publish<'_>, partition: u16, batch: &mut Batch) {
        let (key, topic) = (record.key_str(), Some(publish.topic));
        let as_it_came = |kind, batch: &mut Batch| {
            let head = self.head(record, partition, kind);
            batch.entry(head, key, topic).value(record.time_ms, publish.payload);
        };
        match (self.format, self.stream_format) {
            (RouteFormat::Original, _) => as_it_came(ValueKind::Payload, batch),
            (RouteFormat::Blocks, _) => as_it_came(ValueKind::Binary, batch),
            (RouteFormat::Json, Some(Format::Json)) if publish.rejected.is_none() => {
                as_it_came(ValueKind::Json, batch);
            }
            (RouteFormat::Json, Some(Format::Blocks)) if publish.rejected.is_none() => {
                let Some(rows) = self.rows.of(record) else {
                    self.unreadable(record, partition, batch);
                    return;
                };
                let head = self.head(record, partition, ValueKind::Json);
                let mut entry = batch.entry(head, key, topic);
                for row in &rows {
                    entry.row(row.time_ms, row.index, |bytes| self.row(row, bytes));
                }
            }
            (RouteFormat::Json, _) => {
                let value = self.rows.record_json(record)["value"].to_string();
                let head = self.head(record, partition, ValueKind::Json);
                batch.entry(head, key, topic).value(record.time_ms, value.as_bytes());
            }
        }
    }

    /// What cannot be read travels as a gap; the record itself stays in the journal.
    fn unreadable(&self, record: &Record, partition: u16, batch: &mut Batch) {
        let place = (record.key_str(), partition, record.time_ms);
        self.missing(GapCause::Damage, (record.offset, record.offset + 1), place, batch);
    }

    fn missing(
        &self,
        why: GapCause,
        (first, end): (u64, u64),
        (key, partition, time_ms): (&str, u16, i64),
        batch: &mut Batch,
    ) {
        let last = end.saturating_sub(1).max(first);
        let gap = Gap {
            cause: why,
            source: "",
            unit: GapUnit::Offsets,
            first,
            last,
            count: Some(last - first + 1),
            boot_epoch: 0,
        };
        let (route, kind) = (self.route, ValueKind::Json);
        let head = Head { route, offset: first, last, partition, gap: Some(cause(why)), kind };
        batch.entry(head, key, None).value(time_ms, gap_json(&gap).to_string().as_bytes());
    }

    /// A row as a JSON object; decimals keep the digits that the sensor gave.
    fn row(&self, row: &Row, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut first = true;
        if !row.columns.contains_key("time") {
            member(out, &mut first, "time", &Value::Integer(row.time_ms));
        }
        if !row.columns.contains_key(&self.key_column) {
            member(out, &mut first, &self.key_column, &Value::Text(row.key.clone()));
        }
        for (name, value) in &row.columns {
            member(out, &mut first, name, value);
        }
        out.push(b'}');
    }
}

fn member(out: &mut Vec<u8>, first: &mut bool, name: &str, value: &Value) {
    const INFALLIBLE: &str = "texts and JSON values are written to memory";
    if !std::mem::take(first) {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, name).expect(INFALLIBLE);
    out.push(b':');
    match value {
        Value::Decimal(decimal) => write!(out, "{decimal}").expect(INFALLIBLE),
        Value::Text(text) => serde_json::to_writer(out, text).expect(INFALLIBLE),
        other => serde_json::to_writer(out, &other.to_json()).expect(INFALLIBLE),
    }
}

/// The header of a gap, and its cause in JSON.
fn cause(cause: GapCause) -> &'static str {
    match cause {
        GapCause::Retention => "retention",
        GapCause::Reset => "reset",
        GapCause::NodeOverflow => "nodeoverflow",
        GapCause::Damage => "damage",
        GapCause::Overload => "overload",
    }
}
