//! From what the query says to records of the journal.

use headwater_shared::envelope::{Envelope, Gap, GapUnit, Output};

use super::{End, QueryRunner};
use crate::journal::{AppendError, NewRecord, Ticket};
use crate::query::follow::Write;
use crate::query::ledger::Lane;

impl QueryRunner {
    /// Appends a write.
    ///
    /// # Errors
    /// Why following ends.
    pub(super) fn write(&mut self, write: &Write) -> Result<(), End> {
        match write {
            Write::Output { lane, key, time_ms, sequence, input_offset, payload } => {
                let (partition, query) = match lane {
                    Lane::Windows => (self.windows, &self.plan.name),
                    Lane::Late => (self.late, &self.late_name),
                };
                let envelope = Envelope::Output(Output {
                    query,
                    sequence: *sequence,
                    input_offset: *input_offset,
                    payload,
                });
                let record = NewRecord { partition, time_ms: *time_ms, key, envelope: &envelope };
                let appended = self.journal.append(&record);
                self.appended(appended)?;
                let counter = match lane {
                    Lane::Windows => &self.metrics.emitted,
                    Lane::Late => &self.metrics.late,
                };
                counter.get_or_create(&self.label).inc();
            }
            Write::Gap { time_ms, cause, first, last, count } => {
                let envelope = Envelope::Gap(Gap {
                    cause: *cause,
                    source: "",
                    unit: GapUnit::Offsets,
                    first: *first,
                    last: *last,
                    count: *count,
                    boot_epoch: 0,
                });
                let record = NewRecord {
                    partition: self.windows,
                    time_ms: *time_ms,
                    key: "",
                    envelope: &envelope,
                };
                let appended = self.journal.append(&record);
                self.appended(appended)?;
            }
        }
        Ok(())
    }

    fn appended(&mut self, appended: Result<Ticket, AppendError>) -> Result<(), End> {
        match appended {
            Ok(ticket) => {
                let before = self.pending.replace(ticket);
                match before {
                    // What was appended before a commit failed is gone, or nobody knows.
                    Some(before) if before.generation != ticket.generation => Err(End::Again),
                    _ => Ok(()),
                }
            }
            Err(AppendError::TooLarge(bytes)) => {
                self.fault("a row is too large for the journal and was left out", &bytes);
                self.metrics.too_large.get_or_create(&self.label).inc();
                Ok(())
            }
            // The rows are made again from the checkpoint.
            Err(AppendError::Overload(_) | AppendError::Full | AppendError::Lost) => {
                Err(End::Again)
            }
            Err(AppendError::Closed(_)) => Err(End::Done),
        }
    }
}
