//! The logs beside the journal after a power cut: the same records under the same offsets, and of a
//! state stream the last value of each key.

use std::collections::BTreeMap;
use std::path::Path;

use hw_tests::gateway::GatewayProcess;

use crate::publisher::{deletes, key_of};
use crate::stored::{Journal, Stored, What, read_log};

/// Who publishes what is kept longer, and who publishes keys.
pub(super) const KEPT: &str = "once-b";
pub(super) const STATE: &str = "state-e";

/// Lines of one answer of the API.
const PAGE: usize = 10_000;

/// What the logs were asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Records of the kept log, and last values of keys, that the journal no longer has.
    pub(super) kept: usize,
    pub(super) keys: usize,
    /// Records of both that retention had deleted before they were placed.
    pub(super) overtaken: usize,
}

/// All that was ever stored, as far as it is known, and what is left.
pub(super) struct Past<'a> {
    /// What the journal was before the cut, from its first record on.
    pub(super) before: &'a Journal,
    /// How much of it was there when the power came back.
    pub(super) end: u64,
    pub(super) journal: &'a Journal,
    /// Offsets that retention deleted, some of them before they were placed.
    pub(super) overtaken: &'a [(u64, u64)],
}

/// The gaps in a journal that took records before the log kept had them; `dir`: of the logs, at the
/// end. A gap record alone does not say so: it names what any reader had not read.
pub(super) fn overtaken(dir: &Path, journal: &Journal) -> Result<Vec<(u64, u64)>, String> {
    let log = read_log(&dir.join("kept"))?;
    let past = Past { before: journal, end: journal.end(), journal, overtaken: &[] };
    let last = log.last_key_value().map(|(last, _)| *last);
    let lacks = |offset: u64| Some(offset) <= last && !log.contains_key(&offset);
    let mut missing = past.of(KEPT).filter(|(offset, ..)| lacks(*offset)).peekable();
    let mut all = Vec::new();
    while let Some((offset, _, stored)) = missing.next() {
        let gap = journal.records.iter().find_map(|other| match other.what {
            What::Gap { first, last } if other.partition == stored.partition => {
                (first..=last).contains(&offset).then_some((first, last))
            }
            _ => None,
        });
        let (first, last) = gap.ok_or_else(|| format!("offset {offset} is lost without a gap"))?;
        all.push((first, last));
        while missing.next_if(|(offset, ..)| *offset <= last).is_some() {}
    }
    Ok(all)
}

impl Past<'_> {
    /// The messages of a publisher with their offsets.
    fn of<'s>(&'s self, from: &'s str) -> impl Iterator<Item = (u64, usize, &'s Stored)> {
        let before = (0..self.end).filter_map(|offset| Some((offset, self.before.get(offset)?)));
        let since = (self.end..self.journal.end())
            .filter_map(|offset| Some((offset, self.journal.get(offset)?)));
        before.chain(since).filter_map(move |(offset, stored)| match &stored.what {
            What::Message { from: by, number } if by == from => Some((offset, *number, stored)),
            _ => None,
        })
    }

    fn get(&self, offset: u64) -> Option<&Stored> {
        if offset < self.end { self.before.get(offset) } else { self.journal.get(offset) }
    }

    /// The newest message of each key.
    fn newest(&self) -> BTreeMap<u32, (u64, usize)> {
        self.of(STATE).map(|(offset, number, _)| (key_of(number), (offset, number))).collect()
    }

    fn is_overtaken(&self, offset: u64) -> bool {
        self.overtaken.iter().any(|(first, last)| (*first..=*last).contains(&offset))
    }
}

/// Each placed record is the journal's, what is kept longer is all there, and each key has its last
/// value. `dir`: of the logs.
pub(super) fn check(dir: &Path, past: &Past<'_>) -> Result<Found, String> {
    let read = |name: &str| {
        let log = read_log(&dir.join(name)).map_err(|problem| format!("log {name}: {problem}"))?;
        check_same(&log, past).map_err(|problem| format!("log {name}: {problem}"))?;
        Ok::<_, String>(log)
    };
    let (kept, records) = check_kept(&read("kept")?, past)?;
    let (keys, values) = check_state(&read("state")?, past)?;
    Ok(Found { kept, keys, overtaken: records + values })
}

fn check_same(log: &BTreeMap<u64, Stored>, past: &Past<'_>) -> Result<(), String> {
    for (offset, stored) in log {
        if past.get(*offset) != Some(stored) {
            let was = past.get(*offset);
            return Err(format!("offset {offset} is {stored:?} and in the journal {was:?}"));
        }
    }
    Ok(())
}

/// What the journal has deleted is there, and nothing below the end is missing. How much that is,
/// and how much was overtaken.
fn check_kept(log: &BTreeMap<u64, Stored>, past: &Past<'_>) -> Result<(usize, usize), String> {
    let (mut kept, mut overtaken) = (0, 0);
    let last = log.last_key_value().map(|(last, _)| *last);
    for (offset, number, _) in past.of(KEPT) {
        if offset >= past.journal.start && Some(offset) > last {
            continue;
        }
        if log.contains_key(&offset) {
            kept += usize::from(offset < past.journal.start);
        } else if past.is_overtaken(offset) {
            overtaken += 1;
        } else {
            return Err(format!(
                "{KEPT} {number} at offset {offset} is neither in the log kept, which ends with \
                 {last:?}, nor in the journal, which begins at {}",
                past.journal.start
            ));
        }
    }
    Ok((kept, overtaken))
}

/// How many keys have their last value in the log alone, and how many had it overtaken.
fn check_state(log: &BTreeMap<u64, Stored>, past: &Past<'_>) -> Result<(usize, usize), String> {
    let journal = (past.journal.start..).zip(&past.journal.records);
    let all = log.iter().map(|(offset, stored)| (*offset, stored)).chain(journal);
    let mut found: BTreeMap<u32, u64> = BTreeMap::new();
    for (offset, stored) in all {
        if let What::Message { from, number } = &stored.what
            && from == STATE
        {
            let newest = found.entry(key_of(*number)).or_default();
            *newest = offset.max(*newest);
        }
    }
    let overtaken = check_newest(&found, past)?;
    Ok((found.values().filter(|offset| **offset < past.journal.start).count(), overtaken))
}

/// `found`: the offset of the last record of each key. A key that was deleted may have none. How
/// many were overtaken.
fn check_newest(found: &BTreeMap<u32, u64>, past: &Past<'_>) -> Result<usize, String> {
    let mut overtaken = 0;
    for (key, (offset, number)) in past.newest() {
        let is = found.get(&key).copied();
        let well = is == Some(offset) || (is.is_none() && deletes(number));
        if !well && past.is_overtaken(offset) {
            overtaken += 1;
        } else if !well {
            return Err(format!(
                "key {key}: the last is {number} at offset {offset}, deleted: {}, but there is \
                 {is:?}",
                deletes(number)
            ));
        }
    }
    Ok(overtaken)
}

/// What the API of a running gateway says of the state stream: its newest record of each key.
pub(super) fn served(gateway: &GatewayProcess) -> Result<BTreeMap<u32, u64>, String> {
    let (mut newest, mut from) = (BTreeMap::new(), 0);
    loop {
        let path = format!("/api/v1/streams/state/records?from={from}&limit={PAGE}");
        let (status, body) = gateway.request(&path).map_err(|error| error.to_string())?;
        if status != 200 {
            return Err(format!("GET {path} answers {status} {body}"));
        }
        let mut count = 0;
        for line in body.lines() {
            let record: serde_json::Value =
                serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
            let offset = record["offset"].as_u64().ok_or("a record without an offset")?;
            if offset < from {
                return Err(format!("offset {offset} where {from} or more belongs"));
            }
            from = offset + 1;
            count += 1;
            if let Some(key) = record["key"].as_str().and_then(|key| key.parse().ok()) {
                newest.insert(key, offset);
            }
        }
        if count < PAGE {
            return Ok(newest);
        }
    }
}

/// As [`check`] of what the API said.
pub(super) fn check_served(served: &BTreeMap<u32, u64>, past: &Past<'_>) -> Result<(), String> {
    check_newest(served, past).map(drop).map_err(|problem| format!("the API: {problem}"))
}
