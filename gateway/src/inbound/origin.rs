//! What the shell needs of the place where records come from. All calls block; they run on the
//! source's own thread.

use std::sync::Arc;
use std::time::Duration;

/// What only a human can change is looked at this often.
const PATIENCE: Duration = Duration::from_secs(30);

/// A record on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Which of the origin's sources, as [`super::identity`] names it.
    pub(super) source: Arc<str>,
    /// Its position there; rises from record to record.
    pub(super) position: u64,
    /// The topic under which it is stored.
    pub(super) topic: String,
    /// The payload.
    pub(super) payload: Vec<u8>,
    /// Properties of MQTT 5 beside the identity, encoded.
    pub(super) properties: Vec<u8>,
    /// The retain flag.
    pub(super) retain: bool,
    /// Why the payload is not whole; it is then stored as rejected.
    pub(super) rejected: Option<String>,
}

/// Why nothing could be read; the message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Fault {
    /// Only a human can cure it; it is looked at again at leisure.
    pub(super) is_final: bool,
    /// What happened and what to do.
    pub(super) message: String,
}

impl Fault {
    /// A fault that goes away by itself.
    pub(super) fn retry(message: impl Into<String>) -> Self {
        Self { is_final: false, message: message.into() }
    }

    /// A fault that a human has to cure.
    pub(super) fn stopped(message: impl Into<String>) -> Self {
        Self { is_final: true, message: message.into() }
    }
}

/// Records that an origin has passed over, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Their time to live was over.
    pub(super) expired: u64,
    /// They were deleted there before they were read.
    pub(super) missed: u64,
}

/// A place where records come from.
pub(super) trait Origin: Send {
    /// Opens it and goes to where `next` says: the first position of a source that the journal does
    /// not have, `None` if it has nothing of it. What an earlier open left is dropped.
    ///
    /// # Errors
    /// [`Fault`].
    fn open(&mut self, next: &dyn Fn(&str) -> Option<u64>) -> Result<(), Fault>;

    /// The next records, in the order of their positions, about `bytes_max`; none if there are none
    /// for now.
    ///
    /// # Errors
    /// [`Fault`]; it has to be opened again.
    fn read(&mut self, bytes_max: usize) -> Result<Vec<Item>, Fault>;

    /// What `source` has below `next` is on disk.
    ///
    /// # Errors
    /// [`Fault`]; it has to be opened again.
    fn settled(&mut self, source: &str, next: u64) -> Result<(), Fault>;

    /// True where all that there is was read, and is known to be stored: a fault of before is over.
    fn is_current(&self) -> bool {
        false
    }

    /// How often it is looked whether somebody has cured what only a human can cure.
    fn patience(&self) -> Duration {
        PATIENCE
    }

    /// What was passed over since the last call.
    fn skipped(&mut self) -> Skipped {
        Skipped::default()
    }
}
