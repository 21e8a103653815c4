//! What a process used: CPU time and memory, the same way for ours and for Java's.

use std::fs;
use std::io;
use std::process::Child;
use std::time::{Duration, Instant};

/// Ticks a second of the times in /proc.
const TICKS: f64 = 100.0;

/// What a process used until its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// The most memory that it ever held.
    pub(crate) peak_mb: f64,
}

/// Watches a process until it ends; what it used in its last 10 ms is not seen.
pub(crate) fn watch(child: &mut Child) -> io::Result<Usage> {
    let began = Instant::now();
    let mut usage = Usage::default();
    loop {
        if let Some(now) = of(child.id()) {
            usage = now;
        }
        usage.seconds = began.elapsed().as_secs_f64();
        if let Some(status) = child.try_wait()? {
            return match status.success() {
                true => Ok(usage),
                false => Err(io::Error::other(format!("the process ended with {status}"))),
            };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a running process has used so far.
pub(crate) fn of(process: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum();
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak_kb: f64 = peak.split_whitespace().next()?.parse().ok()?;
    Some(Usage { seconds: 0.0, cpu_seconds: ticks / TICKS, peak_mb: peak_kb / 1024.0 })
}
