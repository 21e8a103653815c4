//! Records that the format of a route cannot say: found while a stage is filled, buried before
//! anything of it is sent.

use super::{Lane, Source};
use crate::forward::local::Local;
use crate::forward::policy::dead::{Cause, Dead};
use crate::forward::upstream::Fault;
use crate::journal::Record;

/// Of a transaction at most. Each is written to the catalog until its gap is confirmed.
const OF_A_TRANSACTION: usize = 256;
/// Bytes of records that wait for their letters at most; the last may go beyond.
const BYTES: usize = 256 << 10;
/// Of a reason; it may quote a value.
const REASON_CHARS: usize = 300;

/// What was found since the last commit.
#[derive(Default)]
pub(super) struct Misfits {
    /// With the intents of their letters, not saved yet.
    found: Vec<(Record, Dead)>,
    bytes: usize,
    in_transaction: usize,
}

impl Misfits {
    /// No more may be found before some are buried, or confirmed.
    pub(super) fn are_many(&self) -> bool {
        self.bytes >= BYTES || self.in_transaction >= OF_A_TRANSACTION
    }

    /// Adds `record`, and gives what the gap in its place says.
    pub(super) fn add(&mut self, record: &Record, why: String) -> &Dead {
        let reason = match why.char_indices().nth(REASON_CHARS) {
            Some((end, _)) => format!("{}...", &why[..end]),
            None => why,
        };
        let dead = Dead { offset: record.offset, from: 0, cause: Cause::Schema, reason };
        self.bytes += record.value.len();
        self.in_transaction += 1;
        self.found.push((record.clone(), dead));
        &self.found.last().expect("just added").1
    }

    /// The transaction is confirmed.
    pub(super) fn settled(&mut self) {
        self.in_transaction = 0;
    }
}

impl<S: Source> Lane<S> {
    /// Writes the letters of what was found while the stage was filled, after all their intents.
    /// Gives the intents.
    ///
    /// # Errors
    /// [`Fault`] where catalog or journal cannot be written.
    pub(in crate::forward) fn bury_misfits(
        &mut self,
        local: &impl Local<Source = S>,
    ) -> Result<Vec<Dead>, Fault> {
        let found = std::mem::take(&mut self.misfits.found);
        self.misfits.bytes = 0;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let from = local.end();
        let (records, mut intents): (Vec<Record>, Vec<Dead>) = found.into_iter().unzip();
        intents.iter_mut().for_each(|dead| dead.from = from);
        self.intend(&intents, local)?;
        let letters: Vec<(&Dead, &Record)> = intents.iter().zip(&records).collect();
        self.write(&letters, local)?;
        Ok(intents)
    }
}
