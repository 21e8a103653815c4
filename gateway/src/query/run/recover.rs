//! Back to the last checkpoint, at a start and after a failed commit.

use std::sync::Arc;

use headwater_shared::envelope::Envelope;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Following, QueryRunner, READ_BYTES, RETRY_AFTER};
use crate::catalog::CatalogError;
use crate::journal::{ReadError, Record};
use crate::query::follow::{Follow, Restored};
use crate::query::ledger::Lane;

impl QueryRunner {
    /// Back to the checkpoint, knowing what the journal holds behind it.
    pub(super) async fn resume(&mut self) -> Result<Following, CatalogError> {
        self.pending = None;
        self.land().await;
        let start = self.journal.start_of(&self.inputs);
        let end = self.journal.durable().end;
        let mut follow = Follow::new(Arc::clone(&self.plan));
        let (mut scan, mut from) = (start, start);
        let mut fresh = false;
        if let Some(checkpoint) = self.catalog.checkpoint(&self.keep_name())? {
            match follow.restore(&checkpoint.state) {
                Restored::Same => (scan, from) = (checkpoint.position, checkpoint.position),
                Restored::Changed => {
                    info!(query = self.plan.name, "the statement changed: it starts from now");
                    (scan, from, fresh) = (checkpoint.position, end, true);
                }
                Restored::Unreadable(problem) => {
                    self.fault("checkpoint not usable; the query starts from now", &problem);
                    (from, fresh) = (end, true);
                }
            }
        }
        self.journal.keep(&self.keep_name(), Some(scan));
        self.scan(scan, end, &mut follow).await;
        let mut following = Following {
            follow,
            reader: self.journal.reader_of(&self.inputs, from),
            writes: Vec::new(),
            started: Instant::now(),
            saved: Instant::now(),
            saved_position: scan,
            state_bytes: 0,
            ticked: Instant::now(),
            tick: None,
            idle_at_ms: None,
            shown: Instant::now(),
        };
        if fresh {
            following.follow.ledger.go_on_behind_found();
            self.save(&mut following).await;
        }
        self.show(&mut following);
        Ok(following)
    }

    /// Waits until all that was appended is on disk or lost: only then does reading show every
    /// output that was written before.
    async fn land(&self) {
        let mut watch = self.journal.watch();
        loop {
            let (end, generation) = (self.journal.end(), self.journal.durable().generation);
            let landed = watch
                .wait_for(|now| now.end >= end || now.generation != generation || now.closed)
                .await
                .map(|now| now.generation == generation || now.closed);
            if landed.unwrap_or(true) {
                return;
            }
        }
    }

    /// Finds the outputs of this query in `from..end`.
    async fn scan(&self, from: u64, end: u64, follow: &mut Follow) {
        let mut reader = self.journal.reader(from);
        while reader.position() < end {
            match reader.read(READ_BYTES) {
                Ok(records) if records.is_empty() => return,
                Ok(records) => records.iter().for_each(|record| self.find(record, follow)),
                Err(ReadError::Io(_)) => tokio::time::sleep(RETRY_AFTER).await,
                // Outputs that cannot be read are written again.
                Err(problem) => warn!(query = self.plan.name, %problem, "outputs not found"),
            }
            tokio::task::yield_now().await;
        }
    }

    fn find(&self, record: &Record, follow: &mut Follow) {
        let lane = match record.partition {
            partition if partition == self.windows => Lane::Windows,
            partition if partition == self.late => Lane::Late,
            _ => return,
        };
        match record.envelope() {
            Ok(Envelope::Output(output)) => {
                follow.ledger.found(lane, output.sequence, output.input_offset);
            }
            Ok(Envelope::Gap(gap)) => follow.ledger.found_gap(gap.last),
            _ => {}
        }
    }
}
