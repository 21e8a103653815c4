//! What is local to a forwarder: the journal that it reads and the catalog that keeps its marks.

use std::sync::Arc;

use headwater_shared::envelope::{Envelope, Publish};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::policy::allowance::Spent;
use super::policy::dead::Dead;
use super::policy::position::Position;
use super::policy::resume::Mark;
use super::upstream::Fault;
use crate::catalog::{Catalog, CatalogError, Checkpoint};
use crate::config::RouteFrom;
use crate::journal::{AppendError, Journal, NewRecord, ReadError, Reader, Record, Ticket};

/// Reads the journal from a position on.
pub(super) trait Source: Send {
    /// The next records, about `bytes_max`; none when caught up.
    fn read(&mut self, bytes_max: usize) -> Result<Vec<Record>, ReadError>;
    /// All below has been read or is not the stream's.
    fn position(&self) -> u64;
}

/// Journal and catalog, as the engine needs them.
pub(super) trait Local: Send {
    type Source: Source;
    /// The offset after the last that is durable.
    fn end(&self) -> u64;
    /// Its end when it was opened, before anything was added.
    fn opened(&self) -> u64;
    /// Reads a stream with these partitions from `from` on.
    fn source(&self, partitions: &[u16], from: u64) -> Self::Source;
    /// Where a route begins that has sent nothing yet.
    fn begin(&self, partitions: &[u16], from: RouteFrom) -> Result<u64, ReadError>;
    /// The record at `offset`, if the journal, or the log of these partitions, has it.
    fn record_at(&self, partitions: &[u16], offset: u64) -> Result<Option<Record>, Fault>;
    /// Writes dead letters, records with texts, to the partition; on disk when this returns.
    fn write_letters(&self, partition: u16, letters: &[(&Record, String)]) -> Result<(), Fault>;
    /// Gives `each` the texts of the partition's letters at or above `from`.
    fn letters(&self, partition: u16, from: u64, each: &mut dyn FnMut(&str)) -> Result<(), Fault>;
    /// `route` needs what is at or above `position` in these partitions.
    fn keep(&self, route: &str, partitions: &[u16], position: u64);
    /// Publishers wait for a reader to move on.
    fn is_blocked(&self) -> bool;
    /// What was saved for `route`.
    fn mark(&self, route: &str) -> Result<Option<Mark>, CatalogError>;
    /// What went to the upstream, as it was saved last.
    fn spent(&self) -> Result<Spent, CatalogError>;
    /// Saves what went to the upstream today.
    fn save_spent(&self, spent: Spent) -> Result<(), CatalogError>;
    /// Saves marks; a mark that is lost costs work, no data.
    fn save_marks(&self, marks: &[(&str, &Mark)]) -> Result<(), CatalogError>;
}

impl Source for Reader {
    fn read(&mut self, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        Reader::read(self, bytes_max)
    }

    fn position(&self) -> u64 {
        Reader::position(self)
    }
}

/// The gateway's own.
pub(super) struct Gateway {
    pub(super) journal: Journal,
    pub(super) catalog: Arc<Catalog>,
    /// See [`Local::opened`].
    pub(super) opened: u64,
    /// The upstream's name.
    pub(super) upstream: String,
}

impl Gateway {
    fn store_letters(
        &self,
        partition: u16,
        letters: &[(&Record, String)],
    ) -> Result<(), AppendError> {
        let mut tickets = Vec::with_capacity(letters.len());
        for (record, text) in letters {
            tickets.push(match self.append(partition, record, text, true) {
                // With its text it is longer than a record can be: what it was stays where it was.
                Err(AppendError::TooLarge(_)) => self.append(partition, record, text, false)?,
                appended => appended?,
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|_| AppendError::Closed("no runtime to wait with"))?;
        tickets.into_iter().try_for_each(|ticket| runtime.block_on(self.journal.wait(ticket)))
    }

    fn append(
        &self,
        partition: u16,
        record: &Record,
        text: &str,
        is_whole: bool,
    ) -> Result<Ticket, AppendError> {
        let envelope = record.envelope().ok();
        let (topic, payload) = match &envelope {
            Some(Envelope::Publish(publish)) => (publish.topic, publish.payload),
            Some(Envelope::Output(output)) => (output.query, output.payload),
            _ => ("", &record.value[..]),
        };
        // No subscription to what the device published takes it for another message of it.
        let topic = format!("{LETTER_TOPIC}{topic}");
        let letter = Envelope::Publish(Publish {
            topic: &topic,
            client: "",
            arrival_ms: record.time_ms,
            qos: 0,
            retain: false,
            packet_id: None,
            // With the gateway as their sender they would speak for it: sources have positions there.
            properties: &[],
            rejected: Some(text),
            payload: if is_whole { payload } else { &[] },
        });
        let (time_ms, key) = (record.time_ms, record.key_str());
        let new = NewRecord { partition, time_ms, key, envelope: &letter };
        self.journal.append(&new)
    }

    fn account(&self) -> String {
        format!("spent/{}", self.upstream)
    }
}

/// A mark in the catalog, beside one above the highest offset that it knows of.
#[derive(Serialize, Deserialize)]
struct State {
    committed: Position,
    scanned: Position,
    lost: Option<u64>,
    bound: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dead: Vec<Dead>,
}

/// As version 1 wrote it, beside the offset below which all was looked at.
#[derive(Deserialize)]
struct StateV1 {
    committed: u64,
    lost: Option<u64>,
}

fn decode(checkpoint: &Checkpoint) -> Result<Mark, serde_json::Error> {
    if let Ok(StateV1 { committed, lost }) = serde_json::from_slice(&checkpoint.state) {
        let committed = Position::up_to(committed);
        let scanned = Position::up_to(checkpoint.position);
        return Ok(Mark { committed, scanned, lost, ..Mark::new(0) });
    }
    let State { committed, scanned, lost, bound, dead } =
        serde_json::from_slice(&checkpoint.state)?;
    Ok(Mark { committed, scanned, lost, bound, dead })
}

fn encode(mark: &Mark) -> Checkpoint {
    let Mark { committed, scanned, lost, bound, dead } = mark.clone();
    let position = scanned.end();
    let state = State { committed, scanned, lost, bound, dead };
    let state = serde_json::to_vec(&state).expect("numbers are always JSON");
    Checkpoint { position, state }
}

/// What the topic of a dead letter begins with.
const LETTER_TOPIC: &str = "$headwater/dead/";
/// Bytes that are read at a time in search of one.
const LETTER_READ_BYTES: usize = 64 << 10;

/// The text of `record` if it is a dead letter in that partition.
pub(super) fn letter(record: &Record, partition: u16) -> Option<&str> {
    match record.envelope() {
        Ok(Envelope::Publish(publish)) if record.partition == partition => publish.rejected,
        _ => None,
    }
}

impl Local for Gateway {
    type Source = Reader;

    fn end(&self) -> u64 {
        self.journal.durable().end
    }

    fn opened(&self) -> u64 {
        self.opened
    }

    fn source(&self, partitions: &[u16], from: u64) -> Reader {
        self.journal.reader_of(partitions, from).only(partitions)
    }

    fn begin(&self, partitions: &[u16], from: RouteFrom) -> Result<u64, ReadError> {
        let (start, end) = (self.journal.start_of(partitions), self.opened);
        let from = match from {
            RouteFrom::Earliest => start,
            RouteFrom::Latest => end,
            RouteFrom::Time(time_ms) => self.journal.offset_at(partitions, time_ms)?,
            RouteFrom::Offset(offset) => offset,
        };
        Ok(from.max(start).min(end))
    }

    fn record_at(&self, partitions: &[u16], offset: u64) -> Result<Option<Record>, Fault> {
        match self.journal.reader_of(partitions, offset).read_to(offset + 1, 1) {
            Ok(records) => Ok(records.into_iter().next().filter(|found| found.offset == offset)),
            Err(ReadError::Trimmed { .. } | ReadError::Damaged { .. }) => Ok(None),
            Err(problem @ ReadError::Io(_)) => Err(Fault::retry(problem.to_string())),
        }
    }

    fn write_letters(&self, partition: u16, letters: &[(&Record, String)]) -> Result<(), Fault> {
        self.store_letters(partition, letters)
            .map_err(|problem| Fault::retry(format!("a dead letter cannot be stored: {problem}")))
    }

    fn letters(&self, partition: u16, from: u64, each: &mut dyn FnMut(&str)) -> Result<(), Fault> {
        let mut reader = self.journal.reader(from).only(&[partition]);
        loop {
            match reader.read(LETTER_READ_BYTES) {
                Ok(records) if records.is_empty() => return Ok(()),
                Ok(records) => {
                    records.iter().filter_map(|r| letter(r, partition)).for_each(&mut *each);
                }
                Err(problem @ ReadError::Io(_)) => return Err(Fault::retry(problem.to_string())),
                Err(_) => {}
            }
        }
    }

    fn keep(&self, route: &str, partitions: &[u16], position: u64) {
        self.journal.keep_of(route, partitions, Some(position));
    }

    fn is_blocked(&self) -> bool {
        self.journal.is_blocked()
    }

    fn mark(&self, route: &str) -> Result<Option<Mark>, CatalogError> {
        let Some(checkpoint) = self.catalog.checkpoint(route)? else { return Ok(None) };
        match decode(&checkpoint) {
            Ok(mark) => Ok(Some(mark)),
            Err(problem) => {
                warn!(route, %problem, "the route's mark is not readable; going on without it");
                Ok(None)
            }
        }
    }

    fn spent(&self) -> Result<Spent, CatalogError> {
        let saved = self.catalog.checkpoint(&self.account())?;
        Ok(saved.and_then(|saved| serde_json::from_slice(&saved.state).ok()).unwrap_or_default())
    }

    fn save_spent(&self, spent: Spent) -> Result<(), CatalogError> {
        let state = serde_json::to_vec(&spent).expect("numbers are always JSON");
        let checkpoint = Checkpoint { position: 0, state };
        self.catalog.save_checkpoints(&[(&self.account(), &checkpoint)])
    }

    fn save_marks(&self, marks: &[(&str, &Mark)]) -> Result<(), CatalogError> {
        let checkpoints: Vec<(&str, Checkpoint)> =
            marks.iter().map(|(route, mark)| (*route, encode(mark))).collect();
        let entries: Vec<_> = checkpoints.iter().map(|(route, state)| (*route, state)).collect();
        self.catalog.save_checkpoints(&entries)
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::dead::Cause;
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_saved_and_one_of_an_earlier_version_too() {
        let mut committed = Position::up_to(5);
        committed.insert(8, 9);
        let reason = "why".to_owned();
        let dead = vec![Dead { offset: 6, from: 7, cause: Cause::TooLarge, reason }];
        let scanned = Position::up_to(9);
        let mark = Mark { scanned, committed, lost: Some(2), bound: Some(3), dead };
        let saved = encode(&mark);
        let text = concat!(
            r#"{"committed":[[0,5],[8,9]],"scanned":[[0,9]],"lost":2,"bound":3,"#,
            r#""dead":[{"offset":6,"from":7,"cause":"too-large","reason":"why"}]}"#
        );
        assert_eq!((saved.position, &saved.state[..]), (9, text.as_bytes()));
        assert_eq!(decode(&saved).expect("ours"), mark);
        let earlier = Checkpoint { position: 7, state: br#"{"committed":5,"lost":null}"#.to_vec() };
        let (committed, scanned) = (Position::up_to(5), Position::up_to(7));
        let mark = Mark { committed, scanned, ..Mark::new(0) };
        assert_eq!(decode(&earlier).expect("version 1"), mark);
        let empty = Checkpoint { position: 7, state: br#"{"committed":0,"lost":null}"#.to_vec() };
        assert!(decode(&empty).expect("version 1").committed.is_empty());
    }
}
