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
        // A dead letter: a route moves on only once it is stored.
        Envelope::Publish(publish) => publish.client.is_empty() && publish.rejected.is_some(),
        Envelope::Session(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headwater_shared::envelope::{Session, Tick};
    use tokio::time::timeout;

    use super::*;
    use crate::journal::{AppendError, Journal, JournalOptions, NewRecord};
    use log_lite::WhenFull;

    async fn append(journal: &Journal, envelope: &Envelope<'_>) -> Result<(), AppendError> {
        journal.admit_own().await;
        let record = NewRecord { partition: 0, time_ms: 0, key: "", envelope };
        let ticket = journal.append(&record)?;
        journal.wait(ticket).await
    }

    #[tokio::test]
    async fn sessions_stop_at_the_brim_and_what_follows_from_records_does_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = JournalOptions {
            segment_size: 2 << 20,
            max_size: Some(4 << 20),
            when_full: WhenFull::Block,
            ..JournalOptions::default()
        };
        let (journal, _) = Journal::open(dir.path(), options).expect("a journal");
        journal.keep("forward/a/b->c", Some(0));
        let change = vec![7; 900 << 10];
        let session = Envelope::Session(Session { client: "c", change: &change });
        let mut stored = 0;
        let refused = loop {
            match append(&journal, &session).await {
                Ok(()) => stored += 1,
                Err(problem) => break problem,
            }
            assert!(stored < 80, "it is bounded");
        };
        assert_eq!(refused, AppendError::Full);
        assert!(stored >= 34, "{stored}: about 32 MiB beyond the size");
        let blocked = journal.blocked().borrow().clone().expect("it is full");
        assert_eq!((blocked.reader.as_str(), blocked.position), ("forward/a/b->c", 0));
        let admitted = timeout(Duration::from_millis(20), journal.admit()).await;
        assert!(admitted.is_err(), "publishers wait");
        append(&journal, &Envelope::Tick(Tick { now_ms: 1 })).await.expect("a tick is stored");

        journal.keep("forward/a/b->c", Some(journal.end()));
        timeout(Duration::from_secs(30), journal.admit()).await.expect("publishers go on");
        append(&journal, &session).await.expect("and so do sessions");
        assert!(!journal.is_blocked());
        tokio::task::spawn_blocking(move || journal.close()).await.expect("it closes");
    }
}
