//! What a journal counts.

/// What one commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// Records made durable.
    pub records: u64,
    /// Batches they are in.
    pub batches: u64,
    /// Bytes written, zero fill included.
    pub bytes: u64,
    /// Writes issued.
    pub writes: u64,
    /// File syncs issued.
    pub syncs: u64,
    /// The offset after the last durable record.
    pub end: u64,
}

/// What a journal did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Commits that succeeded.
    pub commits: u64,
    /// Records made durable.
    pub records: u64,
    /// Bytes of keys and values that callers asked to store.
    pub bytes_asked: u64,
    /// Bytes given to the disk, headers and zero fill included.
    pub bytes_issued: u64,
    /// The part of `bytes_issued` that is zero fill.
    pub zero_fill_bytes: u64,
    /// Bytes of the 4 KiB blocks that the writes touched: what a disk that writes whole blocks is
    /// given at least, without what the file system adds for itself.
    pub device_bytes: u64,
    /// Writes issued.
    pub writes: u64,
    /// File syncs issued.
    pub syncs: u64,
    /// Directory syncs issued.
    pub dir_syncs: u64,
    /// Commits that failed.
    pub failed_commits: u64,
    /// Segments created.
    pub segments_created: u64,
    /// Segments deleted by retention.
    pub segments_deleted: u64,
    /// Summaries written beside sealed segments.
    pub summaries: u64,
    /// Bytes of these summaries.
    pub summary_bytes: u64,
    /// Summaries that could not be written; readers walk those segments instead.
    pub failed_summaries: u64,
}
