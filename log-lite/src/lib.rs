#![doc = include_str!("../README.md")]
#![cfg_attr(not(any(feature = "std", test)), no_std)]

mod chunk;
mod crc;
mod ring;
mod varint;

#[cfg(feature = "std")]
mod batch;
#[cfg(feature = "std")]
mod commit;
#[cfg(feature = "std")]
mod compact;
#[cfg(feature = "std")]
mod error;
#[cfg(feature = "std")]
mod file;
#[cfg(feature = "std")]
mod journal;
#[cfg(feature = "std")]
mod reader;
#[cfg(feature = "std")]
mod record;
#[cfg(feature = "std")]
mod recover;
#[cfg(feature = "std")]
mod repair;
#[cfg(feature = "std")]
mod retention;
#[cfg(feature = "std")]
mod rewrite;
#[cfg(feature = "std")]
mod segment;
#[cfg(feature = "std")]
mod spread;
#[cfg(feature = "std")]
mod stats;
#[cfg(feature = "std")]
mod storage;
#[cfg(feature = "std")]
mod summary;
#[cfg(feature = "std")]
mod verify;
#[cfg(feature = "std")]
mod walk;

pub use chunk::{ChunkError, ChunkHeader, ChunkKind, FORMAT_VERSION, MAX_BODY};
pub use crc::crc32c;
pub use ring::{
    AsyncRing, AsyncRingSlot, MAX_WRITE_SIZE, Ring, RingError, RingRecord, RingSlot,
    TRIM_MARK_EVERY,
};

#[cfg(feature = "std")]
pub use batch::{BatchHeader, BatchKind, MAX_BATCH_HEADER};
#[cfg(feature = "std")]
pub use compact::{CompactError, CompactOptions, CompactStats, CompactStep, Compacted, Compactor};
#[cfg(feature = "std")]
pub use error::{AppendError, Damage, JournalError, Lost, ReadError, Why};
#[cfg(feature = "std")]
pub use file::DirFile;
#[cfg(feature = "std")]
pub use journal::{Journal, JournalOptions, MAX_PENDING};
#[cfg(feature = "std")]
pub use reader::{BatchView, Reader};
#[cfg(feature = "std")]
pub use record::{Record, Records};
#[cfg(feature = "std")]
pub use recover::{Recovery, SetAside, TornTail};
#[cfg(feature = "std")]
pub use repair::{RepairReport, Repaired, repair, repair_storage};
#[cfg(feature = "std")]
pub use retention::{DropCause, Dropped, WhenFull};
#[cfg(feature = "std")]
pub use stats::{CommitStats, Counters};
#[cfg(feature = "std")]
pub use storage::{DirStorage, SegmentEntry, SegmentFile, Storage};
#[cfg(feature = "std")]
pub use verify::{Report, SegmentInfo, survey, survey_storage, verify, verify_storage};
