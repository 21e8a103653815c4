//! From a record of the journal to what travels.
//!
//! | | `json` | `original` | `blocks` | `avro` |
//! |---|---|---|---|---|
//! | a stream `json` | the payload | the payload | refused | a row |
//! | `blocks` | a row a reading | the block | the block | a row a reading |
//! | `sparkplug-b` | a row a metric | the payload | refused | a row a metric |
//! | `bytes`, `mqtt`, `.rejected` | as the API shows it | the payload | refused | topic and payload |
//! | a query's | its row | its row | refused | its row |
//!
//! In all of them the delete of a key of a state stream has no value at all, which is what makes a
//! compacted topic forget the key, and a gap is JSON under the header `hw.gap`.

mod avro;
mod registry;
#[cfg(test)]
pub(in crate::forward) mod tests;

use std::io::Write as _;

use headwater_shared::envelope::{Envelope, Gap, GapCause, GapUnit, Publish};

use crate::config::{Format, RouteFormat};
use crate::forward::engine::batch::{Batch, Head, ValueKind};
use crate::forward::policy::dead::Dead;
use crate::journal::Record;
use crate::stream::{Row, Rows, Streams, Value, gap_json};

use self::avro::{Input, Writer};
use self::registry::Slot;

pub(crate) use self::avro::{Shape, can_read};
pub(in crate::forward) use self::registry::Registry;
pub(crate) use self::registry::{check_url, subject_of};

/// Writes the records of one route.
pub(in crate::forward) struct Encoder {
    route: usize,
    rows: Rows,
    format: RouteFormat,
    /// How payloads of the stream read; `None` for what the gateway writes itself.
    stream_format: Option<Format>,
    /// The name under which a row shows the key.
    key_column: String,
    /// An empty payload deletes its key.
    is_state: bool,
    avro: Option<(Writer, Slot)>,
}

impl Encoder {
    /// For the route number `route` of `stream`.
    pub(in crate::forward) fn new(
        route: usize,
        stream: &str,
        format: RouteFormat,
        rows: Rows,
        streams: &Streams,
    ) -> Self {
        let config = streams.get(stream).and_then(|stream| stream.config.as_ref());
        let key_column = config.and_then(|config| config.key.clone());
        Self {
            is_state: config.is_some_and(|config| config.is_state),
            avro: None,
            route,
            rows,
            format,
            stream_format: streams.format(stream),
            key_column: key_column.unwrap_or_else(|| "key".to_owned()),
        }
    }

    /// Writes Avro, under the id that `slot` gets from a registry.
    pub(in crate::forward) fn with_avro(self, writer: Writer, slot: Slot) -> Self {
        Self { avro: Some((writer, slot)), ..self }
    }

    /// What has to happen before it can encode; `None` once it can.
    pub(in crate::forward) fn waits(&self) -> Option<String> {
        self.avro.as_ref().and_then(|(_, slot)| slot.waits())
    }

    /// Stages what `record`, of the stream's partition `partition`, is for the upstream.
    ///
    /// # Errors
    /// Why it does not fit the route's schema; then nothing is staged.
    pub(in crate::forward) fn encode(
        &self,
        record: &Record,
        partition: u16,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let (key, time_ms) = (record.key_str(), record.time_ms);
        batch.set_origin(record.origin());
        match record.envelope() {
            Ok(Envelope::Publish(publish)) => {
                return self.publish(record, &publish, partition, batch);
            }
            Ok(Envelope::Output(_)) if self.format == RouteFormat::Avro => {
                return self.avro(record, None, partition, batch);
            }
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
        Ok(())
    }

    /// Stages the news that offsets `first..end` are not in the journal. Which of them were the
    /// route's nobody knows, so it goes to partition 0.
    pub(in crate::forward) fn gap(
        &self,
        why: GapCause,
        (first, end): (u64, u64),
        now_ms: i64,
        to: &mut Batch,
    ) {
        to.set_origin(None);
        self.missing(why, (first, end), ("", 0, now_ms), to);
    }

    /// Stages the news that the upstream does not take `record`. Its own time may be why.
    pub(in crate::forward) fn dead(
        &self,
        record: &Record,
        partition: u16,
        dead: &Dead,
        now_ms: i64,
        batch: &mut Batch,
    ) {
        let head = self.head(record, partition, ValueKind::Json);
        let head = Head { gap: Some(dead.cause.name()), ..head };
        let value = serde_json::json!({ "gap": {
            "cause": dead.cause.name(),
            "unit": "offsets",
            "first": record.offset,
            "last": record.offset,
            "bytes": record.value.len(),
            "why": dead.reason,
        }});
        batch.set_origin(record.origin());
        batch.entry(head, record.key_str(), None).value(now_ms, value.to_string().as_bytes());
    }

    fn head(&self, record: &Record, partition: u16, kind: ValueKind) -> Head {
        let (route, offset) = (self.route, record.offset);
        Head { route, offset, last: offset, partition, gap: None, kind }
    }

    fn publish(
        &self,
        record: &Record,
        publish: &Publish<'_>,
        partition: u16,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let (key, topic) = (record.key_str(), Some(publish.topic));
        let as_it_came = |kind, batch: &mut Batch| {
            let head = self.head(record, partition, kind);
            batch.entry(head, key, topic).value(record.time_ms, publish.payload);
        };
        let is_rejected = publish.rejected.is_some();
        if self.is_state && publish.payload.is_empty() && !is_rejected {
            as_it_came(ValueKind::Delete, batch);
            return Ok(());
        }
        match (self.format, self.stream_format) {
            (RouteFormat::Original, _) => as_it_came(ValueKind::Payload, batch),
            (RouteFormat::Blocks, _) => as_it_came(ValueKind::Binary, batch),
            (RouteFormat::Avro, _) => return self.avro(record, Some(publish), partition, batch),
            (RouteFormat::Json, Some(Format::Json)) if !is_rejected => {
                as_it_came(ValueKind::Json, batch);
            }
            (RouteFormat::Json, Some(Format::Blocks | Format::SparkplugB)) if !is_rejected => {
                let Some(rows) = self.rows.of(record) else {
                    self.unreadable(record, partition, batch);
                    return Ok(());
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
        Ok(())
    }

    /// A message as it is, or each of its rows, in Avro: all of them or, where one does not fit the
    /// schema, none.
    fn avro(
        &self,
        record: &Record,
        publish: Option<&Publish<'_>>,
        partition: u16,
        batch: &mut Batch,
    ) -> Result<(), String> {
        let (writer, slot) = self.avro.as_ref().expect("a route of this format has a writer");
        let id = slot.id().expect("nothing is encoded while it waits for its schema's id");
        let (key, topic) = (record.key_str(), publish.map(|publish| publish.topic));
        let has_rows =
            publish.is_none() || !matches!(self.stream_format, None | Some(Format::Bytes));
        let rows = if has_rows { self.rows.of(record) } else { Some(vec![self.message(record)]) };
        let Some(rows) = rows else {
            self.unreadable(record, partition, batch);
            return Ok(());
        };
        let mut written = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut bytes = Vec::new();
            let Row { time_ms, columns, .. } = row;
            let input = Input { time_ms: *time_ms, key, columns, publish };
            writer.write(id, &input, &mut bytes)?;
            written.push((row, bytes));
        }
        let head = self.head(record, partition, ValueKind::Binary);
        let mut entry = batch.entry(head, key, topic);
        let is_many = matches!(self.stream_format, Some(Format::Blocks | Format::SparkplugB));
        match &written[..] {
            [(row, bytes)] if !is_many => entry.value(row.time_ms, bytes),
            all => all.iter().for_each(|(row, bytes)| {
                entry.row(row.time_ms, row.index, |out| out.extend_from_slice(bytes));
            }),
        }
        Ok(())
    }

    /// A message whose payload is its value: a row of the levels of its topic.
    fn message(&self, record: &Record) -> Row {
        let key = record.key_str().to_owned();
        let columns = self.rows.levels(record).unwrap_or_default();
        Row { time_ms: record.time_ms, key, index: 0, columns }
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
        GapCause::Expired => "expired",
        GapCause::Transit => "transit",
    }
}
