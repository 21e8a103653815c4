//! `headwater log verify --deep`: decodes each record as its stream says. What every checksum calls
//! whole can still be no record of its stream, where a program wrote it wrong.

use headwater_shared::envelope::{Envelope, Publish};
use headwater_shared::topic::{self, Subject};
use log_lite::{ReadError, Reader};
use serde_json::{Map, Value as Json};

use super::human;
use super::place::Log;
use super::progress::Bar;
use super::walk::{Sizes, disk};
use crate::cli::print_line;
use crate::config::Format;
use crate::exit::Failure;
use crate::node::check_block;
use crate::sparkplug;

/// Decodes every record that can be read, says which do not decode, a line each, and returns how
/// many those are. Ranges that cannot be read are not said: checksums have told of them.
pub(super) fn decode_all(log: &Log) -> Result<u64, Failure> {
    let mut bar = Bar::new();
    let sizes = Sizes::of(&log.journal)?;
    let mut reader = Reader::open_dir(&log.journal).map_err(disk)?;
    let (mut decoded, mut bad) = (0, 0);
    loop {
        let batch = match reader.next(u64::MAX) {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(ReadError::Damaged { .. } | ReadError::Lost { .. } | ReadError::Trimmed { .. }) => {
                continue;
            }
            Err(problem) => return Err(disk(problem)),
        };
        for record in batch.records() {
            match check(log, &record) {
                Ok(()) => decoded += 1,
                Err(reason) => {
                    bad += 1;
                    bar.clear();
                    let (label, offset) = (log.label(record.partition), record.offset);
                    print_line(&format!("does not decode: {label} offset {offset}: {reason}"));
                }
            }
        }
        bar.set(sizes.before(batch.segment()) + batch.bytes().end, sizes.total());
    }
    drop(bar);
    print_line(&format!("{} decoded, {bad} not", human::count(decoded, "record")));
    Ok(bad)
}

/// Whether a record is what its stream holds; if not, why.
fn check(log: &Log, record: &log_lite::Record<'_>) -> Result<(), String> {
    let key = std::str::from_utf8(record.key).map_err(|_| "its key is not UTF-8".to_owned())?;
    let envelope = Envelope::decode(record.value).map_err(|problem| problem.to_string())?;
    let publish = match envelope {
        Envelope::Publish(publish) => publish,
        Envelope::Output(output) => return check_object(output.payload),
        Envelope::Session(_) | Envelope::Tick(_) | Envelope::Gap(_) => return Ok(()),
    };
    let Some(place) = log.streams.partition(record.partition) else {
        return Err(format!("partition {} of the log is of no stream", record.partition));
    };
    match log.streams.format(&place.stream) {
        // What its stream could not take is kept as it came.
        _ if publish.rejected.is_some() => Ok(()),
        // An empty payload deletes its key; any other stream would have rejected it.
        Some(Format::Json) if publish.payload.is_empty() => Ok(()),
        Some(Format::Json) => check_object(publish.payload),
        Some(Format::Blocks) => check_node_block(&publish, key),
        Some(Format::SparkplugB) => sparkplug::check_message(publish.topic, publish.payload),
        Some(Format::Bytes) | None => Ok(()),
    }
}

fn check_object(payload: &[u8]) -> Result<(), String> {
    let object: Result<Map<String, Json>, _> = serde_json::from_slice(payload);
    object.map(|_| ()).map_err(|problem| format!("not a JSON object: {problem}"))
}

fn check_node_block(publish: &Publish<'_>, key: &str) -> Result<(), String> {
    let topic = publish.topic;
    let Some((_, Subject::Blocks)) = topic::parse(topic) else {
        return Err(format!("a block on {topic}, which is no node's topic for blocks"));
    };
    // The key is the topic or, where the stream names one, a level of it.
    if key != topic && !topic.split('/').any(|level| level == key) {
        return Err(format!("its key {key:?} is no level of its topic {topic}"));
    }
    check_block(publish.payload)
}
