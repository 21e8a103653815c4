//! What can go wrong, where, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why bytes of a segment cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A batch's header fails its checksum, so its length is not known.
    Header,
    /// A batch's body fails its checksum, or is not what its header says.
    Body,
    /// Nothing is there, though later records are.
    Missing,
    /// Neither copy of the segment's header can be read; where no offset is lost, one of them.
    SegmentHeader,
    /// A compacted segment ends before its end mark.
    EndMark,
}

impl Why {
    /// How a lost range says why it was lost.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Body => 2,
            Self::Missing => 3,
            Self::SegmentHeader => 4,
            Self::EndMark => 5,
        }
    }

    /// The reverse of [`Why::code`].
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        let all = [Self::Header, Self::Body, Self::Missing, Self::SegmentHeader, Self::EndMark];
        all.into_iter().find(|why| why.code() == code)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "a batch header fails its checksum",
            Self::Body => "a batch body fails its checksum",
            Self::Missing => "nothing is stored there",
            Self::SegmentHeader => "the segment header fails its checksum",
            Self::EndMark => "the segment ends too early",
        })
    }
}

/// A range of offsets that was stored and cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Base offset, and so the name, of the segment.
    pub segment: u64,
    /// Where in the segment the unreadable bytes begin.
    pub byte: u64,
    /// First offset that is lost.
    pub first: u64,
    /// The offset after the last that is lost.
    pub end: u64,
    /// What is wrong.
    pub why: Why,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, byte, first, end, why } = self;
        if first == end {
            return write!(f, "no record of segment {segment:020}.log, byte {byte}: {why}");
        }
        write!(
            f,
            "offsets {first} to {} of segment {segment:020}.log, byte {byte}: {why}",
            end.saturating_sub(1)
        )
    }
}

/// A range of offsets that was damaged once, and is now recorded as lost: a repair or a compaction
/// has written its segment anew, and kept the damaged one aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Base offset, and so the name, of the segment that records it.
    pub segment: u64,
    /// First offset that is lost.
    pub first: u64,
    /// The offset after the last that is lost.
    pub end: u64,
    /// What was wrong.
    pub why: Why,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, first, end, why } = self;
        let last = end.saturating_sub(1);
        write!(f, "offsets {first} to {last} of segment {segment:020}.log: {why}")
    }
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Key and value do not fit into one batch.
    #[error("a record of {bytes} bytes is larger than {max}; send less or use larger segments")]
    TooLarge {
        /// Bytes that the record takes.
        bytes: usize,
        /// Bytes that it may take.
        max: usize,
    },
    /// As much waits for the next commit as may.
    #[error("{bytes} bytes wait for the next commit; commit first")]
    Full {
        /// Bytes that wait.
        bytes: usize,
    },
    /// The offset that was asked for belongs to another record already.
    #[error("offset {given} is taken; the next record gets {next} or a later one")]
    Taken {
        /// What was asked for.
        given: u64,
        /// The least that is free.
        next: u64,
    },
    /// More offsets would be left out than one call may.
    #[error("offset {given} is more than {max} beyond {next}; begin another log")]
    Far {
        /// What was asked for.
        given: u64,
        /// The next that is free.
        next: u64,
        /// How many may be left out.
        max: u64,
    },
    /// An earlier sync failed.
    #[error("the journal stopped after a failed sync; open it again")]
    Poisoned,
    /// The last offset there is has been used.
    #[error("every offset is used; start a new log")]
    Exhausted,
}

/// Why a journal could not be opened, or did not commit.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process writes there.
    #[error("{} is in use by another process; stop it or choose another directory", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The options make no journal.
    #[error("segment_size is {given} bytes; write at least {min} and at most {max}")]
    SegmentSize {
        /// What was asked.
        given: u32,
        /// The least that works.
        min: u32,
        /// The most that works.
        max: u32,
    },
    /// The log was written by a later release.
    #[error(
        "segment {segment:020}.log has format version {found}; this release reads versions 1 and 2"
    )]
    Version {
        /// Base offset of the segment.
        segment: u64,
        /// Its version.
        found: u8,
    },
    /// There is no room. What was appended since the last commit was dropped, the log is as it
    /// was, and a commit works again once there is room.
    #[error("the disk is full, at {}; free some space or lower the log's max_size", segment_name(*segment))]
    DiskFull {
        /// Base offset of the segment that was written to.
        segment: Option<u64>,
        /// What the system says.
        source: io::Error,
    },
    /// A sync failed, now or earlier: what the disk holds of the last commit is not known.
    #[error(
        "the journal stopped at offset {end}: what {} holds behind it is not known; check the disk, then open the journal again",
        segment_name(*segment)
    )]
    Poisoned {
        /// Base offset of the segment.
        segment: Option<u64>,
        /// All below this offset is durable.
        end: u64,
        /// What the system says, where this call met it.
        source: Option<io::Error>,
    },
    /// The disk failed otherwise. A commit that returns this dropped what was appended.
    #[error("cannot {action} {}{}; check the disk", segment_name(*segment), at_byte(*byte))]
    Io {
        /// What was tried.
        action: &'static str,
        /// Base offset of the segment.
        segment: Option<u64>,
        /// Where in the segment, where that is known.
        byte: Option<u64>,
        /// What the system says.
        source: io::Error,
    },
}

impl JournalError {
    pub(crate) fn io(action: &'static str, segment: Option<u64>, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull {
            Self::DiskFull { segment, source }
        } else {
            Self::Io { action, segment, byte: None, source }
        }
    }

    /// As [`JournalError::io`], for a place in a segment.
    pub(crate) fn io_at(action: &'static str, segment: u64, at: u64, source: io::Error) -> Self {
        match Self::io(action, Some(segment), source) {
            Self::Io { action, segment, source, .. } => {
                Self::Io { action, segment, byte: Some(at), source }
            }
            other => other,
        }
    }
}

/// Why a reader has no batch to give.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A range cannot be read. The next call goes on behind it.
    #[error("offsets {first} to {} are damaged: segment {segment:020}.log, byte {byte}: {why}", end.saturating_sub(1))]
    Damaged {
        /// First offset that is lost.
        first: u64,
        /// The offset after the last that is lost.
        end: u64,
        /// Base offset of the segment.
        segment: u64,
        /// Where in the segment the unreadable bytes begin.
        byte: u64,
        /// What is wrong.
        why: Why,
    },
    /// A range was damaged once, and is recorded as lost. The next call goes on behind it.
    #[error("offsets {first} to {} were lost: {why}", end.saturating_sub(1))]
    Lost {
        /// First offset that is lost.
        first: u64,
        /// The offset after the last that is lost.
        end: u64,
        /// Base offset of the segment that says so.
        segment: u64,
        /// What was wrong.
        why: Why,
    },
    /// The position lies before the log's start: retention deleted it. The next call goes on at
    /// the start.
    #[error("the log starts at offset {start}; what was before has been deleted")]
    Trimmed {
        /// First offset of the log.
        start: u64,
    },
    /// The log was written by a later release.
    #[error(
        "segment {segment:020}.log has format version {found}; this release reads versions 1 and 2"
    )]
    Version {
        /// Base offset of the segment.
        segment: u64,
        /// Its version.
        found: u8,
    },
    /// The disk failed.
    #[error("cannot {action} {}{}; check the disk", segment_name(*segment), at_byte(*byte))]
    Io {
        /// What was tried.
        action: &'static str,
        /// Base offset of the segment.
        segment: Option<u64>,
        /// The place in the segment from which on it was tried, where that is known.
        byte: Option<u64>,
        /// What the system says.
        source: io::Error,
    },
}

impl From<Damage> for ReadError {
    fn from(damage: Damage) -> Self {
        let Damage { segment, byte, first, end, why } = damage;
        Self::Damaged { first, end, segment, byte, why }
    }
}

fn at_byte(byte: Option<u64>) -> String {
    byte.map_or_else(String::new, |byte| format!(" at byte {byte}"))
}

impl From<ReadError> for JournalError {
    /// Of what reads a whole log: damage is in its report.
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { action, segment: Some(base), byte: Some(byte), source } => {
                Self::io_at(action, base, byte, source)
            }
            ReadError::Io { action, segment, source, .. } => Self::io(action, segment, source),
            ReadError::Version { segment, found } => Self::Version { segment, found },
            other => Self::io("read", None, io::Error::other(other)),
        }
    }
}

impl From<Lost> for ReadError {
    fn from(lost: Lost) -> Self {
        let Lost { segment, first, end, why } = lost;
        Self::Lost { first, end, segment, why }
    }
}

pub(crate) fn segment_name(segment: Option<u64>) -> String {
    segment.map_or_else(|| "the log's directory".to_owned(), |base| format!("{base:020}.log"))
}
