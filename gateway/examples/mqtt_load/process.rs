//! Memory of another process, as Linux counts it.

use std::io;

/// A process that is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pid: u32,
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// MB (of 1,000,000 bytes) in memory now.
    pub(crate) fn rss_mb(self) -> io::Result<f64> {
        self.status("VmRSS:")
    }

    /// The most since [`Self::forget_peak`], or since its start.
    pub(crate) fn peak_mb(self) -> io::Result<f64> {
        self.status("VmHWM:")
    }

    pub(crate) fn forget_peak(self) -> io::Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5")
    }

    fn status(self, field: &str) -> io::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = value.and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok());
        kib.map(|kib| kib * 1024.0 / 1e6).ok_or_else(|| io::Error::other("no such field"))
    }
}
