//! Compaction of a log on a thread of its own, slowly.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_shared::envelope::Envelope;
use log_lite::{CompactError, CompactOptions, CompactStats, CompactStep};
use tracing::{debug, info, warn};

use super::run::Shared;

/// How often it is looked whether there is something to do, where no segment was sealed meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After each step compaction rests four times as long as the step took, and no shorter than this.
const REST_MIN: Duration = Duration::from_millis(1);
/// And no longer.
const REST_MAX: Duration = Duration::from_millis(250);
/// Bytes of the map of keys: a million keys.
const MAP_BYTES: usize = 32 << 20;

/// Compacts until the placement ends.
pub(super) fn run(shared: &Arc<Shared>, grace: Duration) {
    let options = CompactOptions {
        tombstone_grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        memory_bytes: MAP_BYTES,
        is_tombstone,
        ..CompactOptions::default()
    };
    let mut seen = 0;
    while let Some(sealed) = shared.rest(LOOK_EVERY, seen) {
        seen = sealed;
        match round(shared, options) {
            Ok(Some((stats, compacted))) => {
                shared.compacted(&stats, compacted);
                let CompactStats { bytes_in, bytes_out, superseded, expired, .. } = stats;
                info!(log = shared.name(), bytes_in, bytes_out, superseded, expired, "compacted");
                for lost in &stats.lost {
                    warn!(log = shared.name(), %lost, "compaction met damage; it is kept aside");
                }
            }
            Ok(None) => {}
            Err(problem) => {
                warn!(log = shared.name(), %problem, "compaction stopped; the log is whole");
                shared.compaction_failed(&problem);
            }
        }
    }
}

/// What the round did, and the offset below which the log is compacted now. `None`: nothing was
/// to be done, or the gateway ends.
fn round(
    shared: &Shared,
    options: CompactOptions,
) -> Result<Option<(CompactStats, u64)>, CompactError> {
    let Some((mut compactor, segments)) = shared.with_log(|log| {
        let segments: Vec<_> = log.segments().collect();
        (log.compactor(options), segments)
    }) else {
        return Ok(None);
    };
    let newest = segments.last().map_or(0, |segment| segment.base);
    if !compactor.start(&segments, jiff::Timestamp::now().as_millisecond())? {
        return Ok(None);
    }
    loop {
        let began = Instant::now();
        match compactor.step()? {
            CompactStep::Working => {}
            CompactStep::Swap(compacted) => {
                match shared.with_log(|log| log.swap_compacted(&compacted)) {
                    None => return Ok(None),
                    Some(Ok(swapped)) => debug!(log = shared.name(), swapped, "segment replaced"),
                    Some(Err(problem)) => {
                        warn!(log = shared.name(), %problem, "a compacted segment was not taken");
                        return Ok(None);
                    }
                }
            }
            CompactStep::Done(stats) => return Ok(Some((stats, newest))),
        }
        let rest = (began.elapsed() * 4).clamp(REST_MIN, REST_MAX);
        if shared.rest(rest, u64::MAX).is_none() {
            return Ok(None);
        }
    }
}

/// An empty payload deletes its key.
fn is_tombstone(value: &[u8]) -> bool {
    matches!(Envelope::decode(value), Ok(Envelope::Publish(publish)) if publish.payload.is_empty())
}

#[cfg(test)]
mod tests {
    use headwater_shared::envelope::Publish;

    use super::*;

    #[test]
    fn an_empty_payload_deletes_its_key_and_nothing_else_does() {
        let is = |payload: &[u8]| {
            let publish = Publish {
                topic: "t",
                client: "c",
                arrival_ms: 0,
                qos: 1,
                retain: false,
                packet_id: None,
                properties: &[],
                rejected: None,
                payload,
            };
            let envelope = Envelope::Publish(publish);
            let mut bytes = vec![0; envelope.size_max()];
            is_tombstone(envelope.encode(&mut bytes).expect("room"))
        };
        assert!(is(b""));
        assert!(!is(b"0"));
        assert!(!is_tombstone(b""), "what is no envelope is kept");
    }
}
