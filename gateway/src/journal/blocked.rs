//! `when_full = "block"`: what holds the journal, and what may still be written.
//!
//! Publishers wait while the log is full and a reader still needs its oldest segment. What the
//! gateway writes itself does not wait, or the wait would never end: a query moves its position on
//! only once its outputs are stored, and a session that ends has to be noted. Rows, ticks and gaps
//! follow from records that are there, so no more of them come than publishers sent; changes of
//! sessions and wills come as clients please, and stop at [`BRIM_BYTES`] beyond the log's size.

use std::fmt;

use headwater_shared::envelope::Envelope;

/// A full log grows this far beyond its size by what clients cause without publishing; and by what
/// publishers had sent before it was full, which is less.
pub(super) const BRIM_BYTES: u64 = 32 << 20;

/// Why publishers wait although the disk works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The reader that is furthest behind, under the name by which it keeps.
    pub reader: String,
    /// What it still needs begins here.
    pub position: u64,
}

impl Blocked {
    fn remedy(&self) -> &'static str {
        if self.reader.starts_with("forward/") {
            "bring its upstream back, remove the route, or raise [log] max_size"
        } else if self.reader.starts_with("log:") {
            "look at the disk of that log, or raise [log] max_size"
        } else {
            "it goes on by itself once its state is saved; if it does not, look at last_error and \
             at the disk"
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reader, position } = self;
        let remedy = self.remedy();
        write!(
            f,
            "the log is full, and {reader} still needs what begins at offset {position}; \
             publishers wait: {remedy}"
        )
    }
}

/// Whether a record follows from others that are stored already.
pub(super) fn is_derived(envelope: &Envelope<'_>) -> bool {
    match envelope {
        Envelope::Output(_) | Envelope::Tick(_) | Envelope::Gap(_) => true,
        Envelope::Publish(_) | Envelope::Session(_) => false,
    }
}
