//! What each stream holds, counted from the journal, and the gaps that are in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_shared::envelope::Envelope;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::projection::{Entry, Projection};
use crate::stream::rows::gap_json;

/// Gaps that are kept for the page; all of them are in their streams.
const GAPS_MAX: usize = 200;

/// The format of the snapshot.
const SNAPSHOT_VERSION: u8 = 1;

/// Counts of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStats {
    /// Records that entered.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// The newest event time, ms since 1970.
    pub newest_ms: i64,
}

#[derive(Default, Serialize, Deserialize)]
struct Counts {
    partitions: BTreeMap<u16, PartitionStats>,
    gaps_total: u64,
    /// (offset, partition, gap as JSON text), oldest first.
    gaps: VecDeque<(u64, u16, String)>,
}

/// Counts of all partitions.
#[derive(Clone, Default)]
pub struct StreamStats {
    counts: Arc<Mutex<Counts>>,
}

impl StreamStats {
    /// The projection that keeps them.
    pub fn projection(&self) -> Box<dyn Projection> {
        Box::new(self.clone())
    }

    /// The counts of partitions, summed.
    pub fn of(&self, partitions: &[u16]) -> PartitionStats {
        let counts = self.lock();
        let mut sum = PartitionStats::default();
        for stats in partitions.iter().filter_map(|number| counts.partitions.get(number)) {
            sum.records += stats.records;
            sum.bytes += stats.bytes;
            sum.newest_ms = sum.newest_ms.max(stats.newest_ms);
        }
        sum
    }

    /// How many gap records were written, and the newest of them: offset, partition, gap.
    pub fn gaps(&self) -> (u64, Vec<(u64, u16, Json)>) {
        let counts = self.lock();
        let newest = counts.gaps.iter().map(|(offset, partition, text)| {
            (*offset, *partition, serde_json::from_str(text).unwrap_or(Json::Null))
        });
        (counts.gaps_total, newest.collect())
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Projection for StreamStats {
    fn name(&self) -> &'static str {
        "stream-stats"
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let counts = match state.split_first() {
            Some((&SNAPSHOT_VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|problem| problem.to_string())?
            }
            _ => return Err("the counts have another version".to_owned()),
        };
        *self.lock() = counts;
        Ok(())
    }

    fn apply(&mut self, entries: &[Entry<'_>]) {
        let mut counts = self.lock();
        for Entry { record, envelope } in entries {
            let stats = counts.partitions.entry(record.partition).or_default();
            stats.records += 1;
            stats.bytes += (record.key.len() + record.value.len()) as u64;
            stats.newest_ms = stats.newest_ms.max(record.time_ms);
            if let Some(Envelope::Gap(gap)) = envelope {
                counts.gaps_total += 1;
                let gap = (record.offset, record.partition, gap_json(gap).to_string());
                counts.gaps.push_back(gap);
                if counts.gaps.len() > GAPS_MAX {
                    counts.gaps.pop_front();
                }
            }
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        postcard::to_extend(&*self.lock(), vec![SNAPSHOT_VERSION]).expect("a Vec takes any length")
    }
}
