//! What the disk has to take: bytes that were to be stored, bytes that its device was given for
//! them, and what all of the process wrote, catalog and upstream directories included.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::Sources;

const DAY_S: f64 = 24.0 * 60.0 * 60.0;
/// Before this a rate a day is a guess.
const UPTIME_S_MIN: f64 = 60.0;

/// What the kernel counted of this process (`write_bytes` in proc_pid_io(5)): bytes that it sent
/// to storage, in pages. `None` where the kernel does not say.
fn process_write_bytes() -> Option<u64> {
    write_bytes(&std::fs::read_to_string("/proc/self/io").ok()?)
}

fn write_bytes(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.trim().parse().ok())
}

/// Bytes since the start, and in a day at this rate.
pub(super) fn wear(sources: &Sources) -> Value {
    let journal = sources.journal.stats().counters;
    let logs = sources.logs.statuses();
    let asked = journal.bytes_asked + logs.iter().map(|log| log.bytes_asked).sum::<u64>();
    let device = journal.device_bytes + logs.iter().map(|log| log.device_bytes).sum::<u64>();
    let process = process_write_bytes();
    let uptime_s = sources.started.elapsed().as_secs_f64();
    json!({
        "bytes_asked": asked,
        "device_bytes": device,
        "process_write_bytes": process,
        "bytes_asked_per_day": per_day(asked, uptime_s),
        "device_bytes_per_day": per_day(device, uptime_s),
        "process_write_bytes_per_day": process.and_then(|bytes| per_day(bytes, uptime_s)),
    })
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate, of bytes that are never negative"
)]
fn per_day(bytes: u64, uptime_s: f64) -> Option<u64> {
    (uptime_s >= UPTIME_S_MIN).then(|| (bytes as f64 / uptime_s * DAY_S).round() as u64)
}

/// Names the process' counter.
pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(ProcessCollector));
}

#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(bytes) = process_write_bytes() else { return Ok(()) };
        let counter = ConstCounter::new(bytes);
        let help = "Bytes that the process sent to storage, as the kernel counts them";
        let kind = counter.metric_type();
        counter.encode(encoder.encode_descriptor("process_write_bytes", help, None, kind)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_is_read_by_its_name() {
        let io = "rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 4096\ncancelled_write_bytes: 5\n";
        assert_eq!(write_bytes(io), Some(4096));
        assert_eq!(write_bytes("rchar: 1\n"), None);
    }

    #[test]
    fn a_rate_a_day_waits_for_a_minute() {
        assert_eq!(per_day(1_000, 59.0), None);
        assert_eq!(per_day(1_000, 86.4), Some(1_000_000));
    }
}
