//! Compaction: of each key of each partition the newest record stays, and what it supersedes goes.
//!
//! A round looks at sealed segments only, oldest first, in three steps:
//!
//! 1. *Map.* It reads what no round has read before and notes the newest offset of each key.
//! 2. *Write.* It reads from the oldest segment on and writes what is not superseded into new
//!    segments beside the log, small ones merged.
//! 3. *Swap.* A new segment that is written and synced takes the place of the first of those that
//!    it was made from, in one rename. Then the others are removed.
//!
//! A new segment says which offsets it covers, so others inside that range are leftovers of a swap
//! that was cut, and opening removes them. Deletes go later than what they delete: swaps are made
//! durable oldest first, so no older record of a key comes back.
//!
//! All but the rename and a look at the list of segments runs beside the writer, on a thread of its
//! own and in small steps, so that the owner decides how much of the disk compaction gets.

mod keys;
mod plan;
mod round;
mod settle;
mod swap;

use std::io;

use crate::error::{Lost, segment_name};
use crate::recover::SetAside;
use crate::storage::{DirStorage, SegmentEntry, Storage};
use round::Round;

pub(crate) use settle::settle;
pub use swap::Compacted;

/// How a log is compacted.
#[derive(Clone, Copy, Debug)]
pub struct CompactOptions {
    /// How long a delete stays after it was written, in ms, so that readers see it.
    pub tombstone_grace_ms: u64,
    /// Bytes of the map of keys. 24 bytes a key, a third more for speed; where they do not fit a
    /// round ends early, and the next goes on. All keys of one segment have to fit.
    pub memory_bytes: usize,
    /// A round is made once this part of the sealed segments' bytes has not been through one.
    pub min_dirty_percent: u8,
    /// Whether a value says that its key is deleted.
    pub is_tombstone: fn(&[u8]) -> bool,
}

impl Default for CompactOptions {
    /// A day for deletes, which are empty values; 32 MiB, which is a million keys; half.
    fn default() -> Self {
        Self {
            tombstone_grace_ms: 24 * 60 * 60 * 1000,
            memory_bytes: 32 << 20,
            min_dirty_percent: 50,
            is_tombstone: <[u8]>::is_empty,
        }
    }
}

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactStats {
    /// Segments that were replaced or merged away.
    pub segments_in: u64,
    /// Segments that took their place.
    pub segments_out: u64,
    /// Bytes of the former, zero fill included.
    pub bytes_in: u64,
    /// Bytes of the latter.
    pub bytes_out: u64,
    /// Records that were superseded by a later one of their key.
    pub superseded: u64,
    /// Deletes that outlived their grace.
    pub expired: u64,
    /// Ranges that could not be read and are now recorded as lost.
    pub lost: Vec<Lost>,
    /// Damaged segments, kept under another name.
    pub set_aside: Vec<SetAside>,
    /// Whether the round ended early since its segments were deleted meanwhile.
    pub abandoned: bool,
}

/// What a step of compaction came to.
#[derive(Debug)]
pub enum CompactStep {
    /// There is more to do.
    Working,
    /// A new segment is ready: give it to [`crate::Journal::swap_compacted`], then go on.
    Swap(Compacted),
    /// The round is over.
    Done(CompactStats),
}

/// Why a round of compaction stopped. The log is whole, and the next round begins anew.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The keys of one segment do not fit into the memory that compaction may take.
    #[error(
        "the keys of segment {segment:020}.log do not fit into {memory_bytes} bytes; \
         raise memory_bytes or use smaller segments"
    )]
    Memory {
        /// Base offset of the segment.
        segment: u64,
        /// What was allowed.
        memory_bytes: usize,
    },
    /// The log was written by a later release.
    #[error("segment {segment:020}.log has format version {found}; this release reads 1 and 2")]
    Version {
        /// Base offset of the segment.
        segment: u64,
        /// Its version.
        found: u8,
    },
    /// There is no room for the new segment.
    #[error("the disk is full; compaction needs room for one more segment")]
    DiskFull {
        /// What the system says.
        source: io::Error,
    },
    /// The disk failed otherwise.
    #[error("compaction cannot {action} {}", segment_name(*segment))]
    Io {
        /// What was tried.
        action: &'static str,
        /// Base offset of the segment.
        segment: Option<u64>,
        /// What the system says.
        source: io::Error,
    },
}

impl CompactError {
    fn io(action: &'static str, segment: Option<u64>) -> impl Fn(io::Error) -> Self {
        move |source| {
            if source.kind() == io::ErrorKind::StorageFull {
                Self::DiskFull { source }
            } else {
                Self::Io { action, segment, source }
            }
        }
    }
}

/// Compacts a log beside its writer.
///
/// Records without a key are no state, and stay. The newest segment is left alone, whether it is
/// being written to or not, and so the newest record of the log always stays. A new segment is
/// about as large as the journal's are, and at most about twice as large.
///
/// ```
/// use log_lite::{CompactOptions, CompactStep, Journal, JournalOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let now_ms = 1_763_700_000_000;
/// let options = JournalOptions { segment_size: 4096, ..JournalOptions::default() };
/// let mut journal = Journal::open_dir(dir.path(), options)?.0;
/// for n in 0..2_000u32 {
///     journal.append(0, now_ms, b"pump-7", &n.to_le_bytes())?;
///     journal.commit()?;
/// }
/// let before = journal.size();
/// let mut compactor = journal.compactor(CompactOptions::default());
/// // On a thread of its own the compactor takes the journal's lock for two lines only: for the
/// // list of segments, and for the swap.
/// let segments: Vec<_> = journal.segments().collect();
/// if compactor.start(&segments, now_ms)? {
///     loop {
///         match compactor.step()? {
///             CompactStep::Working => {}
///             CompactStep::Swap(compacted) => {
///                 journal.swap_compacted(&compacted)?;
///             }
///             CompactStep::Done(_) => break,
///         }
///     }
/// }
/// assert!(journal.size() * 5 < before);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Compactor<S: Storage = DirStorage> {
    storage: S,
    options: CompactOptions,
    segment_size: u32,
    round: Option<Round<S::File>>,
}

impl<S: Storage> Compactor<S> {
    pub(crate) fn new(storage: S, options: CompactOptions, segment_size: u32) -> Self {
        Self { storage, options, segment_size, round: None }
    }

    /// Begins a round over the segments that the journal has now ([`crate::Journal::segments`]).
    /// `false`: there is too little to do. `now_ms`: ms since 1970.
    ///
    /// # Errors
    /// [`CompactError`].
    pub fn start(&mut self, segments: &[SegmentEntry], now_ms: i64) -> Result<bool, CompactError> {
        self.round = None;
        settle(&self.storage).map_err(CompactError::io("clear up", None))?;
        self.round = Round::plan(&self.storage, &self.options, segments, now_ms)?;
        Ok(self.round.is_some())
    }

    /// Does a bounded piece of work: reads and writes some 256 KiB. What was given out to be
    /// swapped has been swapped, or refused, before this is called.
    ///
    /// # Errors
    /// [`CompactError`]; the round is then over.
    pub fn step(&mut self) -> Result<CompactStep, CompactError> {
        let Some(round) = &mut self.round else {
            return Ok(CompactStep::Done(CompactStats::default()));
        };
        let step = round.step(&self.storage, &self.options, self.segment_size);
        if !matches!(step, Ok(CompactStep::Working | CompactStep::Swap(_))) {
            self.round = None;
        }
        step
    }
}
