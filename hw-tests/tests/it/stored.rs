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
    /// A gap: these offsets of its partition are gone.
    Gap { first: u64, last: u64 },
    /// Sessions, ticks and other messages.
    Other,
}

/// A record, by its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) hash: u64,
    pub(crate) partition: u16,
    /// When it came, for a message.
    pub(crate) arrival_ms: Option<i64>,
    pub(crate) what: What,
}

impl Stored {
    fn new(record: &log_lite::Record<'_>) -> Self {
        let mut hasher = DefaultHasher::new();
        (record.partition, record.time_ms, record.key, record.value).hash(&mut hasher);
        let envelope = Envelope::decode(record.value).ok();
        let arrival_ms = match &envelope {
            Some(Envelope::Publish(publish)) => Some(publish.arrival_ms),
            _ => None,
        };
        let what = envelope.as_ref().map_or(What::Other, what);
        Self { hash: hasher.finish(), partition: record.partition, arrival_ms, what }
    }
}

/// All records of a log beside a journal, by offset, which rises. Nothing is damaged.
pub(crate) fn read_log(dir: &Path) -> Result<BTreeMap<u64, Stored>, String> {
    let mut reader = log_lite::Reader::open_dir(dir).map_err(|error| error.to_string())?;
    let mut all: BTreeMap<u64, Stored> = BTreeMap::new();
    while let Some(batch) = reader.next(u64::MAX).map_err(|error| error.to_string())? {
        for record in batch.records() {
            if let Some((last, _)) =
                all.last_key_value().filter(|(last, _)| **last >= record.offset)
            {
                return Err(format!("offset {} follows {last}", record.offset));
            }
            all.insert(record.offset, Stored::new(&record));
        }
    }
    Ok(all)
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
                let stored = Stored::new(&record);
                journal.place(&stored.what, record.offset);
                journal.records.push(stored);
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
            What::Gap { .. } | What::Other => return,
        };
        self.places.entry(name).or_default().entry(number).or_default().push(offset);
    }
}

fn what(envelope: &Envelope<'_>) -> What {
    match envelope {
        // What deletes a key has no payload; the publisher's topic ends with the number.
        Envelope::Publish(publish) if publish.payload.is_empty() => {
            let number = publish.topic.rsplit('/').next().and_then(|number| number.parse().ok());
            let from = publish.client.to_owned();
            number.map_or(What::Other, |number| What::Message { from, number })
        }
        Envelope::Publish(publish) => identity(publish.payload)
            .map_or(What::Other, |(from, number)| What::Message { from, number }),
        Envelope::Output(output) => {
            What::Output { query: output.query.to_owned(), sequence: output.sequence }
        }
        Envelope::Gap(gap) => What::Gap { first: gap.first, last: gap.last },
        _ => What::Other,
    }
}
