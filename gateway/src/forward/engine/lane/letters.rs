//! Dead letters of a route: each refused record once in the local stream `<stream>.dead`.
//!
//! ```text
//! intent in the mark -> letter in the journal -> gap in the record's place upstream -> intent dropped
//! ```
//!
//! Each step is on disk before the next. After a crash an intent that is still there says where in
//! the journal its letter is, if it was written.

use std::collections::BTreeMap;

use super::{Lane, Source};
use crate::forward::local::Local;
use crate::forward::policy::dead::{Dead, Refusal};
use crate::forward::upstream::Fault;
use crate::journal::Record;

impl<S: Source> Lane<S> {
    /// Condemns a record; false if it was already, or is not there any more.
    ///
    /// # Errors
    /// [`Fault`] where catalog or journal cannot be written.
    pub(in crate::forward) fn bury(
        &mut self,
        refusal: Refusal,
        local: &impl Local<Source = S>,
    ) -> Result<bool, Fault> {
        let Refusal { route: _, offset, cause, reason } = refusal;
        if self.is_condemned(offset) {
            return Ok(false);
        }
        let Some(record) = local.record_at(&self.numbers, offset)? else { return Ok(false) };
        let dead = Dead { offset, from: local.end(), cause, reason };
        self.intend(std::slice::from_ref(&dead), local)?;
        self.write(&[(&dead, &record)], local)?;
        Ok(true)
    }

    /// Saves that these letters will be written.
    pub(super) fn intend(
        &mut self,
        intents: &[Dead],
        local: &impl Local<Source = S>,
    ) -> Result<(), Fault> {
        let mut mark = self.mark.clone();
        mark.dead.extend_from_slice(intents);
        local
            .save_marks(&[(&self.name, &mark)])
            .map_err(|problem| Fault::retry(format!("{problem}; is the disk full?")))?;
        self.mark.dead.extend_from_slice(intents);
        self.saved = Some(mark);
        Ok(())
    }

    /// Writes letters whose intent a crash or a fault has left.
    ///
    /// # Errors
    /// [`Fault`] where the journal cannot be read or written.
    pub(in crate::forward) fn finish_letters(
        &self,
        local: &impl Local<Source = S>,
    ) -> Result<(), Fault> {
        let Some(partition) = self.dead else { return Ok(()) };
        let Some(from) = self.mark.dead.iter().map(|dead| dead.from).min() else { return Ok(()) };
        let mut missing: BTreeMap<String, &Dead> =
            self.mark.dead.iter().map(|dead| (self.heading(dead.offset), dead)).collect();
        local.letters(partition, from, &mut |text| {
            // The heading ends with the first colon behind the name.
            let number = text.strip_prefix(&self.name).and_then(|rest| rest.find(": "));
            if let Some(end) = number {
                missing.remove(&text[..self.name.len() + end + 2]);
            }
        })?;
        for dead in missing.into_values() {
            if let Some(record) = local.record_at(&self.numbers, dead.offset)? {
                self.write(&[(dead, &record)], local)?;
            }
        }
        Ok(())
    }

    /// True for a record whose place a gap takes.
    pub(in crate::forward) fn is_condemned(&self, offset: u64) -> bool {
        self.mark.dead.iter().any(|dead| dead.offset == offset)
    }

    /// True if the upstream has what is at `offset`.
    pub(in crate::forward) fn has(&self, offset: u64) -> bool {
        self.confirmed.contains(offset)
    }

    pub(super) fn write(
        &self,
        letters: &[(&Dead, &Record)],
        local: &impl Local<Source = S>,
    ) -> Result<(), Fault> {
        // A letter that is refused has no stream of its own; it stays where it is.
        let Some(partition) = self.dead else { return Ok(()) };
        let text = |dead: &Dead| format!("{}{}", self.heading(dead.offset), dead.reason);
        let letters: Vec<(&Record, String)> =
            letters.iter().map(|(dead, record)| (*record, text(dead))).collect();
        local.write_letters(partition, &letters)
    }

    /// What the text of a letter begins with, and no other's.
    fn heading(&self, offset: u64) -> String {
        format!("{} refused offset {offset}: ", self.name)
    }
}
