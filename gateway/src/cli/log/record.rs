//! A line of an export as a record of the log.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use headwater_shared::envelope::{Envelope, Gap, GapCause, GapUnit, Publish};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::config::Format;
use crate::stream::{MQTT_STREAM, Stream, Streams, is_topic};

/// A record as `log export` writes it. Without `raw` it is built from the rest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    offset: Option<u64>,
    stream: Option<String>,
    partition: Option<u16>,
    time: i64,
    key: String,
    topic: Option<String>,
    /// Which row of its record, in the files of a directory upstream.
    index: Option<u32>,
    /// The cause, where it says that something is missing.
    gap: Option<String>,
    /// The key is deleted; there is no value.
    #[serde(default)]
    deleted: bool,
    #[serde(default, deserialize_with = "present")]
    value: Option<Json>,
    raw: Option<String>,
}

/// JSON's null is a value too.
fn present<'de, D: serde::Deserializer<'de>>(json: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(json).map(Some)
}

/// The text of the value, digit for digit, in a line of a directory upstream: it comes last there,
/// and no text before it can hold quotes that are not escaped.
fn value_text<'a>(line: &'a str, value: &Json) -> Option<&'a str> {
    let (_, rest) = line.split_once(",\"value\":")?;
    let text = rest.trim_end().strip_suffix('}')?;
    serde_json::from_str::<Json>(text).is_ok_and(|found| found == *value).then_some(text)
}

/// A record that can be appended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Imported {
    /// Partition of the journal.
    pub(super) number: u16,
    /// Its offset where it came from.
    pub(super) offset: Option<u64>,
    pub(super) time_ms: i64,
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    /// A QoS 2 packet id was taken out.
    pub(super) cleared: bool,
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Record(Imported),
    /// A record of this stream, whose rows a query writes: they are numbered and would pass for
    /// its own. The query makes them again from what it reads.
    LeftOut(String),
}

/// Reads lines for one data directory.
pub(super) struct Importer<'a> {
    pub(super) streams: &'a Streams,
    /// Put all into this stream, by key.
    pub(super) into: Option<&'a str>,
    /// The clock, ms since 1970.
    pub(super) now_ms: i64,
}

impl Importer<'_> {
    /// Reads a line.
    ///
    /// # Errors
    /// A text that says what is wrong and what to do.
    pub(super) fn read(&self, text: &str) -> Result<Read, String> {
        let line: Line =
            serde_json::from_str(text).map_err(|problem| format!("not a record: {problem}"))?;
        let stream = self.stream(&line)?;
        if !takes_messages(stream) {
            return Ok(Read::LeftOut(stream.name.clone()));
        }
        let number = self.partition(&line, stream)?;
        let (value, cleared) = match &line.raw {
            Some(raw) => exact(raw)?,
            None if line.gap.is_some() => (missing(&line, "")?, false),
            None => (self.build(&line, None, stream)?, false),
        };
        let Line { offset, time: time_ms, key, .. } = line;
        Ok(Read::Record(Imported { number, offset, time_ms, key, value, cleared }))
    }

    /// Reads a line of a directory upstream's file, with its place among the others: its offset and
    /// its row. `from` names where it came from.
    ///
    /// # Errors
    /// As [`Importer::read`].
    pub(super) fn read_carried(
        &self,
        text: &str,
        from: &str,
    ) -> Result<((u64, u32), Imported), String> {
        let mut line: Line =
            serde_json::from_str(text).map_err(|problem| format!("not a record: {problem}"))?;
        let offset = line.offset.ok_or("it does not say its `offset`")?;
        let stream = self.stream(&line)?;
        let number = self.partition(&line, stream)?;
        // A query's rows came on no topic; what is looked for later is the stream.
        line.topic.get_or_insert_with(|| stream.name.clone());
        let value = match &line.gap {
            Some(_) => missing(&line, from)?,
            None => {
                let exact = line.value.as_ref().and_then(|value| value_text(text, value));
                self.build(&line, exact, stream)?
            }
        };
        let at = (offset, line.index.unwrap_or(0));
        let Line { time: time_ms, key, .. } = line;
        let offset = Some(offset);
        Ok((at, Imported { number, offset, time_ms, key, value, cleared: false }))
    }

    fn stream(&self, line: &Line) -> Result<&Stream, String> {
        let name = self.into.or(line.stream.as_deref()).ok_or(
            "it does not say which stream it is of: export without --plain, or give --into STREAM",
        )?;
        self.streams.get(name).ok_or_else(|| {
            format!("there is no stream {name:?} here: configure it and start the gateway once")
        })
    }

    fn partition(&self, line: &Line, stream: &Stream) -> Result<u16, String> {
        let Some(partition) = line.partition.filter(|_| self.into.is_none()) else {
            return Ok(stream.partition_of(&line.key));
        };
        let (name, count) = (&stream.name, stream.partitions.len());
        stream.partitions.get(usize::from(partition)).copied().ok_or_else(|| {
            format!(
                "stream {name:?} has {count} partitions here, and this is of partition \
                 {partition}: configure more, or give --into {name} to place records by key"
            )
        })
    }

    /// `exact` is the value's own text, where that is known.
    fn build(&self, line: &Line, exact: Option<&str>, stream: &Stream) -> Result<Vec<u8>, String> {
        let topic = line.topic.as_deref().filter(|topic| is_topic(topic));
        let topic = topic.ok_or("without `raw` it needs the `topic` that it was published to")?;
        let format = stream.config.as_ref().map(|config| config.format);
        let (rejected, payload) = match &line.value {
            _ if line.deleted => (None, Vec::new()),
            None => return Err("it has neither `raw` nor `value`".to_owned()),
            Some(value) => {
                let text = exact.map_or_else(|| value.to_string(), str::to_owned);
                message(value, &text, format, stream)?
            }
        };
        let rejected = rejected.as_deref();
        let envelope = Envelope::Publish(Publish {
            topic,
            client: "",
            arrival_ms: self.now_ms,
            qos: 1,
            retain: false,
            packet_id: None,
            properties: &[],
            rejected,
            payload: &payload,
        });
        Ok(encode(&envelope))
    }
}

/// Why a message was rejected, if it was, and its bytes.
fn message(
    value: &Json,
    text: &str,
    format: Option<Format>,
    stream: &Stream,
) -> Result<(Option<String>, Vec<u8>), String> {
    let is_bytes = value.get("base64").is_some_and(Json::is_string);
    match value {
        _ if matches!(format, Some(Format::Blocks | Format::SparkplugB)) && !is_bytes => {
            Err(format!(
                "stream {:?} takes the bytes as they came: export with `raw`, or let the route \
                 write format = \"original\"",
                stream.name
            ))
        }
        Json::Object(_) if format == Some(Format::Json) => Ok((None, text.into())),
        _ if format == Some(Format::Json) => {
            Err(format!("stream {:?} takes JSON objects only", stream.name))
        }
        Json::Object(object) if is_rejected(stream) && object.contains_key("rejected") => {
            let reason = object.get("rejected").and_then(Json::as_str);
            let reason = reason.ok_or("a rejected message says why in `rejected`")?;
            let bytes = object.get("payload").unwrap_or(&Json::Null);
            Ok((Some(reason.to_owned()), payload(bytes, &bytes.to_string())?))
        }
        other => Ok((None, payload(other, text)?)),
    }
}

/// The news that offsets are missing where the line came from.
fn missing(line: &Line, from: &str) -> Result<Vec<u8>, String> {
    #[derive(Deserialize)]
    struct News {
        gap: Missing,
    }
    #[derive(Deserialize)]
    struct Missing {
        cause: String,
        first: u64,
        last: u64,
        count: Option<u64>,
        source: Option<String>,
        unit: String,
    }
    let value = line.value.as_ref().ok_or("a gap says what is missing in `value`")?;
    let News { gap } =
        serde_json::from_value(value.clone()).map_err(|problem| format!("not a gap: {problem}"))?;
    let cause = match gap.cause.as_str() {
        "retention" => GapCause::Retention,
        "reset" => GapCause::Reset,
        "nodeoverflow" => GapCause::NodeOverflow,
        "damage" => GapCause::Damage,
        "overload" => GapCause::Overload,
        "expired" => GapCause::Expired,
        _ => GapCause::Transit,
    };
    let source = gap.source.filter(|source| !source.is_empty());
    Ok(encode(&Envelope::Gap(Gap {
        cause,
        source: source.as_deref().unwrap_or(from),
        unit: match gap.unit.as_str() {
            "sequences" => GapUnit::Sequences,
            "timesms" => GapUnit::TimesMs,
            _ => GapUnit::Offsets,
        },
        first: gap.first,
        last: gap.last.max(gap.first),
        count: gap.count,
        boot_epoch: 0,
    })))
}

/// Streams that messages come into; others are a query's, or no longer configured.
pub(super) fn takes_messages(stream: &Stream) -> bool {
    stream.config.is_some() || stream.name == MQTT_STREAM || is_rejected(stream)
}

fn is_rejected(stream: &Stream) -> bool {
    stream.config.is_none() && stream.name.ends_with(".rejected")
}

/// The stored bytes, and whether a packet id had to be taken out: it belongs to a handshake that
/// is long over, and a new message with the same id would be dropped for a second copy.
fn exact(raw: &str) -> Result<(Vec<u8>, bool), String> {
    let bytes = BASE64.decode(raw).map_err(|problem| format!("`raw` is not base64: {problem}"))?;
    let envelope = Envelope::decode(&bytes).map_err(|problem| format!("`raw`: {problem}"))?;
    match envelope {
        Envelope::Publish(publish) if publish.packet_id.is_some() => {
            Ok((encode(&Envelope::Publish(Publish { packet_id: None, ..publish })), true))
        }
        Envelope::Publish(_) | Envelope::Output(_) | Envelope::Gap(_) => Ok((bytes, false)),
        Envelope::Session(_) | Envelope::Tick(_) => {
            Err("it is a note of the gateway itself and means nothing in another log".to_owned())
        }
    }
}

fn encode(envelope: &Envelope<'_>) -> Vec<u8> {
    let mut buffer = vec![0; envelope.size_max()];
    let used = envelope.encode(&mut buffer).expect("size_max is an upper bound").len();
    buffer.truncate(used);
    buffer
}

/// The bytes that are shown as `value`: JSON as it is; other text, which is shown as a string, as
/// that text; and `{"base64":"..."}`.
fn payload(value: &Json, raw: &str) -> Result<Vec<u8>, String> {
    match value {
        Json::String(text) if serde_json::from_str::<Json>(text).is_err() => {
            Ok(text.clone().into_bytes())
        }
        Json::Object(object) if object.len() == 1 => match object.get("base64") {
            Some(Json::String(text)) => BASE64
                .decode(text)
                .map_err(|problem| format!("`value.base64` is not base64: {problem}")),
            _ => Ok(raw.as_bytes().to_vec()),
        },
        _ => Ok(raw.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_shared::envelope::{Output, Tick};
    use proptest::prelude::*;
    use serde_json::json;

    fn publish(packet_id: Option<u16>) -> Envelope<'static> {
        Envelope::Publish(Publish {
            topic: "notes/x",
            client: "c",
            arrival_ms: 7,
            qos: 2,
            retain: true,
            packet_id,
            properties: &[1, 2],
            rejected: None,
            payload: b"\xFF text",
        })
    }

    fn raw(envelope: &Envelope<'_>) -> String {
        BASE64.encode(encode(envelope))
    }

    #[test]
    fn raw_bytes_stay_as_they_are() {
        let gap = Envelope::Gap(Gap {
            cause: GapCause::Damage,
            source: "n",
            unit: GapUnit::Offsets,
            first: 1,
            last: 2,
            count: None,
            boot_epoch: 0,
        });
        let output =
            Envelope::Output(Output { query: "q", sequence: 1, input_offset: 2, payload: b"{}" });
        for envelope in [publish(None), gap, output] {
            assert_eq!(exact(&raw(&envelope)), Ok((encode(&envelope), false)));
        }
    }

    #[test]
    fn the_packet_id_of_a_handshake_that_is_over_is_taken_out() {
        assert_eq!(exact(&raw(&publish(Some(9)))), Ok((encode(&publish(None)), true)));
    }

    #[test]
    fn the_gateways_own_notes_are_refused() {
        let refused = exact(&raw(&Envelope::Tick(Tick { now_ms: 1 }))).expect_err("a tick");
        assert!(refused.contains("the gateway itself"), "{refused}");
    }

    #[test]
    fn a_value_becomes_the_payload_that_it_was_shown_for() {
        let payload = |value: &Json| payload(value, &value.to_string());
        assert_eq!(payload(&json!("plain text")), Ok(b"plain text".to_vec()));
        assert_eq!(payload(&json!("quoted")), Ok(b"quoted".to_vec()));
        assert_eq!(payload(&json!("12")), Ok(b"\"12\"".to_vec()), "text 12 is shown as a number");
        assert_eq!(payload(&json!(12)), Ok(b"12".to_vec()));
        assert_eq!(payload(&json!({ "base64": "/w==" })), Ok(vec![0xFF]));
        assert_eq!(payload(&json!({ "a": [1] })), Ok(b"{\"a\":[1]}".to_vec()));
        assert!(payload(&json!({ "base64": "%" })).is_err());
    }

    fn streams() -> Streams {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let catalog = crate::catalog::Catalog::open(&dir.path().join("catalog")).expect("new");
        let text = "[gateway]\nid = \"g\"\ndata_dir = \"d\"\n\
                    [[stream]]\nname = \"rows\"\ntopic = \"r/#\"\nformat = \"json\"\n\
                    [[stream]]\nname = \"nodes\"\ntopic = \"headwater/v1/{node}/blocks\"\n\
                    format = \"blocks\"\n";
        let config = crate::config::Config::parse("test", text).expect("a configuration");
        Streams::new(&config, &catalog).expect("partitions")
    }

    #[test]
    fn a_carried_line_becomes_what_it_was_shown_for() {
        let streams = streams();
        let read = |into: &str, line: &str| {
            let importer = Importer { streams: &streams, into: Some(into), now_ms: 9 };
            importer.read_carried(line, "far/s/0")
        };
        let payload = |into: &str, line: &str| {
            let (at, record) = read(into, line).expect(line);
            match Envelope::decode(&record.value).expect("an envelope") {
                Envelope::Publish(publish) => {
                    (at, publish.topic.to_owned(), publish.payload.to_vec())
                }
                other => panic!("{other:?}"),
            }
        };
        let head = r#"{"offset":3,"partition":0,"time":5,"key":"k""#;
        let row = format!(r#"{head},"topic":"r/x","index":2,"value":{{"b":1.50,  "a":1e3}}}}"#);
        let exact = br#"{"b":1.50,  "a":1e3}"#.to_vec();
        assert_eq!(payload("rows", &row), ((3, 2), "r/x".to_owned(), exact));
        let of_query = format!(r#"{head},"value":{{"n":1}}}}"#);
        assert_eq!(payload("rows", &of_query).1, "rows", "it came on no topic");
        let deleted = format!(r#"{head},"topic":"r/x","deleted":true,"value":null}}"#);
        assert_eq!(payload("rows", &deleted).2, b"");
        let block =
            format!(r#"{head},"topic":"headwater/v1/k/blocks","value":{{"base64":"/wA="}}}}"#);
        assert_eq!(payload("nodes", &block).2, [0xff, 0]);
        let problem = read("nodes", &row).expect_err("a row is no block");
        assert!(problem.contains("original"), "{problem}");
    }

    #[test]
    fn a_carried_gap_stays_one_and_says_where_it_was() {
        let streams = streams();
        let importer = Importer { streams: &streams, into: Some("rows"), now_ms: 9 };
        let line = r#"{"offset":3,"partition":0,"time":5,"key":"","gap":"retention","value":{"gap":{
            "cause":"retention","source":"","unit":"offsets","first":3,"last":9,"count":7,
            "boot_epoch":0}}}"#;
        let (at, record) = importer.read_carried(line, "far/s/0").expect("a gap");
        let Ok(Envelope::Gap(gap)) = Envelope::decode(&record.value) else { panic!("{record:?}") };
        assert_eq!((at, gap.cause, gap.source), ((3, 0), GapCause::Retention, "far/s/0"));
        assert_eq!((gap.unit, gap.first, gap.last, gap.count), (GapUnit::Offsets, 3, 9, Some(7)));
        let refused = line.replace("retention", "schema").replace("\"source\":\"\",", "");
        let (_, record) = importer.read_carried(&refused, "far/s/0").expect("a gap");
        let Ok(Envelope::Gap(gap)) = Envelope::decode(&record.value) else { panic!("{record:?}") };
        assert_eq!(gap.cause, GapCause::Transit, "what did not come through");
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(raw in prop::collection::vec(any::<u8>(), 0..64)) {
            let raw = BASE64.encode([&[1][..], &raw].concat());
            if let Ok((value, _)) = exact(&raw) {
                prop_assert!(Envelope::decode(&value).is_ok());
            }
        }
    }
}
