//! Percentiles.

use std::time::Duration;

/// Latency is counted in buckets that grow by a sixteenth, from 1 us.
const BUCKETS: usize = 400;
const GROWTH: f64 = 17.0 / 16.0;

/// Messages and their latency, for rates at which samples would cost too much.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) messages: u64,
    latency: Vec<u64>,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self { messages: 0, latency: vec![0; BUCKETS] }
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        self.messages += 1;
        let us = latency.as_secs_f64() * 1e6;
        let bucket = if us <= 1.0 { 0.0 } else { us.ln() / GROWTH.ln() };
        self.latency[(bucket as usize).min(BUCKETS - 1)] += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.messages += other.messages;
        for (ours, theirs) in self.latency.iter_mut().zip(&other.latency) {
            *ours += theirs;
        }
    }

    pub(crate) fn percentile_ms(&self, percent: u64) -> f64 {
        let total: u64 = self.latency.iter().sum();
        let mut left = total * percent / 100;
        for (bucket, count) in self.latency.iter().enumerate() {
            if left < *count {
                return GROWTH.powf(bucket as f64 + 0.5) / 1000.0;
            }
            left -= count;
        }
        0.0
    }
}

/// The sample below which so many percent are; 0 of none.
pub(crate) fn percentile(samples: &mut [f64], percent: usize) -> f64 {
    samples.sort_by(f64::total_cmp);
    let index = (samples.len() * percent / 100).min(samples.len().saturating_sub(1));
    samples.get(index).copied().unwrap_or(0.0)
}

/// In milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
