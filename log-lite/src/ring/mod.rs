//! The log on NOR flash: a ring of pages, oldest overwritten first.
//!
//! Every page is a chunk. The newest has the highest epoch; appending goes on behind its last
//! byte that is not erased. Nothing is programmed twice between erases, a page is only erased to
//! be programmed next, and the ring wears all pages alike. What is acknowledged is remembered by
//! trim marks among the batches; one is written at the latest when a page is full. FORMAT.md has the
//! bytes, and what is made of those that a power cut has left.
//!
//! The ring is written once, as async code. `blocking` is the same with every `async` and `await`
//! taken out, so neither pays for the other: see docs/decisions/0011.

mod batch;
mod error;

pub use asynchronous::{log::Ring as AsyncRing, mount::RingSlot as AsyncRingSlot};
pub use blocking::{log::Ring, mount::RingSlot};
pub use error::RingError;

/// The largest write size of flash that a ring works on.
pub const MAX_WRITE_SIZE: usize = 32;
/// Records that may be acknowledged before the next trim mark, and so come again after a reset.
pub const TRIM_MARK_EVERY: u64 = 16;

/// A record as [`Ring::read`] found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingRecord {
    /// Its place in the log.
    pub offset: u64,
    /// Its partition.
    pub partition: u16,
    /// Its time in ms.
    pub time_ms: i64,
    /// Bytes of the block in the buffer: checksum and body.
    pub len: usize,
}

#[path = "."]
mod blocking {
    use embedded_storage::nor_flash::NorFlash;
    use maybe_async::must_be_sync as flavour;

    pub(super) mod log;
    pub(super) mod mount;
    mod pages;
}

#[path = "."]
mod asynchronous {
    use embedded_storage_async::nor_flash::NorFlash;
    use maybe_async::must_be_async as flavour;

    #[expect(clippy::duplicate_mod, reason = "one source, see the top")]
    pub(super) mod log;
    #[expect(clippy::duplicate_mod, reason = "one source, see the top")]
    pub(super) mod mount;
    #[expect(clippy::duplicate_mod, reason = "one source, see the top")]
    mod pages;
}
