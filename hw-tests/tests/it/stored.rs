//! What stands in a gateway's journal, read offline.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use headwater_shared::envelope::Envelope;

use crate::publisher::identity;

/// What a record is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// A publisher's message, by its number.
    Message { from: String, number: usize },
    /// A query's row, by its number.
    Output { query: String, sequence: u64 },
    /// Sessions, ticks, gaps and other messages.
    Other,
}

/// A record, by its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) hash: u64,
    pub(crate) what: What,
}

/// All records of a journal, by offset. Offsets are dense, nothing is damaged, no identity is there
/// twice except where the second copy of a QoS 1 message was sent: those are in `copies`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    pub(crate) start: u64,
    pub(crate) records: Vec<Stored>,
    /// Offsets of each publisher's messages and each query's rows.
    pub(crate) places: BTreeMap<String, BTreeMap<u64, Vec<u64>>>,
}

impl Journal {
    pub(crate) fn read(dir: &Path) -> Result<Self, String> {
        let mut reader = log_lite::Reader::open_dir(dir).map_err(|error| error.to_string())?;
        let mut journal = Self { start: reader.position(), ..Self::default() };
        while let Some(batch) = reader.next(u64::MAX).map_err(|error| error.to_string())? {
            for record in batch.records() {
                let expected = journal.end();
                if record.offset != expected {
                    return Err(format!("offset {} where {expected} belongs", record.offset));
                }
                let mut hasher = DefaultHasher::new();
                (record.partition, record.time_ms, record.key, record.value).hash(&mut hasher);
                let what = what(record.value);
                journal.place(&what, record.offset);
                journal.records.push(Stored { hash: hasher.finish(), what });
            }
        }
        Ok(journal)
    }

    /// The offset behind the last.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }

    pub(crate) fn get(&self, offset: u64) -> Option<&Stored> {
        let at = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.records.get(at)
    }

    /// Where the message `number` of `from` stands.
    pub(crate) fn offsets(&self, from: &str, number: usize) -> &[u64] {
        let of = self.places.get(from).and_then(|all| all.get(&(number as u64)));
        of.map_or(&[], Vec::as_slice)
    }

    fn place(&mut self, what: &What, offset: u64) {
        let (name, number) = match what {
            What::Message { from, number } => (from.clone(), *number as u64),
            What::Output { query, sequence } => (query.clone(), *sequence),
            What::Other => return,
        };
        self.places.entry(name).or_default().entry(number).or_default().push(offset);
    }
}

fn what(value: &[u8]) -> What {
    match Envelope::decode(value) {
        Ok(Envelope::Publish(publish)) => identity(publish.payload)
            .map_or(What::Other, |(from, number)| What::Message { from, number }),
        Ok(Envelope::Output(output)) => {
            What::Output { query: output.query.to_owned(), sequence: output.sequence }
        }
        _ => What::Other,
    }
}
