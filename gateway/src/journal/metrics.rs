//! The journal's counters for Prometheus, read when they are asked for.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Journal;

/// Names the journal's counters.
pub fn register(journal: &Journal, registry: &mut Registry) {
    registry.register_collector(Box::new(JournalCollector { journal: journal.clone() }));
}

struct JournalCollector {
    journal: Journal,
}

impl std::fmt::Debug for JournalCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JournalCollector")
    }
}

impl Collector for JournalCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = self.journal.stats();
        let counters = [
            ("journal_commits", "Group commits", stats.commits),
            ("journal_records", "Records made durable", stats.records),
            ("journal_writes", "Writes issued", stats.counters.writes),
            ("journal_syncs", "File syncs issued", stats.counters.syncs),
            ("journal_bytes_asked", "Bytes of keys and values", stats.counters.bytes_asked),
            ("journal_bytes_issued", "Bytes given to the disk", stats.counters.bytes_issued),
            (
                "journal_device_bytes",
                "Bytes of the 4 KiB blocks that the writes touched",
                stats.counters.device_bytes,
            ),
            ("journal_failed_commits", "Commits that failed", stats.counters.failed_commits),
            ("journal_blocks", "Times that publishers had to wait for a reader", stats.blocks),
            (
                "journal_dropped_unread",
                "Records deleted by retention before they were forwarded",
                stats.dropped_past_keep,
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let kind = counter.metric_type();
            counter.encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        let reads = self.journal.reads();
        let family = [("memory", reads.memory), ("disk", reads.disk)];
        let help = "Reads that gave records, by where they came from";
        let mut reads =
            encoder.encode_descriptor("journal_reads", help, None, MetricType::Counter)?;
        for (from, count) in family {
            ConstCounter::new(count).encode(reads.encode_family(&[("from", from)])?)?;
        }
        let blocked = u64::from(self.journal.is_blocked());
        let gauges = [
            ("journal_blocked", "1 while publishers wait for a reader", blocked),
            ("journal_start_offset", "The oldest offset", stats.start),
            ("journal_end_offset", "The offset after the newest", self.journal.durable().end),
            ("journal_size_bytes", "Bytes of all segments", stats.bytes),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let kind = gauge.metric_type();
            gauge.encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        Ok(())
    }
}
