//! What placements count.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use std::sync::Arc;

use super::Placement;
use super::run::Shared;

/// A log beside the journal, as API and page show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlacementStatus {
    /// Its name.
    pub log: String,
    /// The first offset that is there.
    pub start: u64,
    /// All records below that belong there are on its disk.
    pub position: u64,
    /// Offsets of the journal that were not looked at yet.
    pub lag: u64,
    /// Records placed since the start.
    pub records: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Bytes of keys and values that were to be stored.
    pub bytes_asked: u64,
    /// Bytes that its device was given for them.
    pub device_bytes: u64,
    /// Whether only the last record of each key is kept.
    pub compact: bool,
    /// Rounds of compaction since the start.
    pub compactions: u64,
    /// Bytes of the segments that they replaced.
    pub compaction_bytes_in: u64,
    /// Bytes of the segments that took their place.
    pub compaction_bytes_out: u64,
    /// Records that retention deleted before a route had them.
    pub dropped_past_keep: u64,
    /// What failed last and what to do about it.
    pub last_error: Option<String>,
}

/// All placements of a gateway.
#[derive(Clone, Default)]
pub struct PlacementMetrics {
    placements: Arc<[Arc<Shared>]>,
}

impl PlacementMetrics {
    /// Of these.
    pub fn new<'a>(placements: impl Iterator<Item = &'a Placement>) -> Self {
        Self { placements: placements.map(Placement::shared).collect() }
    }

    /// One a log.
    pub fn statuses(&self) -> Vec<PlacementStatus> {
        self.placements.iter().map(|shared| shared.status()).collect()
    }

    /// Names the counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }
}

impl std::fmt::Debug for PlacementMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlacementMetrics")
    }
}

type Take = fn(&PlacementStatus) -> u64;

const COUNTERS: [(&str, &str, Take); 6] = [
    ("log_records", "Records placed in a log", |log| log.records),
    ("log_device_bytes", "Bytes given to the device of a log", |log| log.device_bytes),
    ("log_compactions", "Rounds of compaction", |log| log.compactions),
    ("log_compaction_in_bytes", "Bytes that compaction replaced", |log| log.compaction_bytes_in),
    ("log_compaction_out_bytes", "Bytes that took their place", |log| log.compaction_bytes_out),
    ("log_dropped_unread", "Records deleted by retention before a route had them", |log| {
        log.dropped_past_keep
    }),
];

const GAUGES: [(&str, &str, Take); 4] = [
    ("log_start_offset", "The oldest offset of a log", |log| log.start),
    ("log_position", "Offset of the journal up to which a log has all", |log| log.position),
    ("log_lag", "Offsets of the journal that a log has not looked at", |log| log.lag),
    ("log_size_bytes", "Bytes of all segments of a log", |log| log.bytes),
];

impl Collector for PlacementMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let statuses = self.statuses();
        for (name, help, take) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for status in &statuses {
                let labels = [("log", status.log.as_str())];
                ConstCounter::new(take(status)).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, take) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for status in &statuses {
                let labels = [("log", status.log.as_str())];
                let value = i64::try_from(take(status)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
