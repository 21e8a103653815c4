//! Dead letters of a route: each refused record once in the local stream `<stream>.dead`.
//!
//! ```text
//! intent in the mark -> letter in the journal -> gap in the record's place upstream -> intent dropped
//! ```
//!
//! Each step is on disk before the next. After a crash an intent that is still there says where in
//! the journal its letter is, if it was written.

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
        let mut mark = self.mark.clone();
        mark.dead.push(dead.clone());
        local
            .save_marks(&[(&self.name, &mark)])
            .map_err(|problem| Fault::retry(format!("{problem}; is the disk full?")))?;
        self.mark.dead.push(dead.clone());
        self.saved = Some(mark);
        self.write(&dead, &record, local)?;
        Ok(true)
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
        for dead in &self.mark.dead {
            if !local.has_letter(partition, dead.from, &self.heading(dead.offset))?
                && let Some(record) = local.record_at(&self.numbers, dead.offset)?
            {
                self.write(dead, &record, local)?;
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

    fn write(
        &self,
        dead: &Dead,
        record: &Record,
        local: &impl Local<Source = S>,
    ) -> Result<(), Fault> {
        // A letter that is refused has no stream of its own; it stays where it is.
        let Some(partition) = self.dead else { return Ok(()) };
        let heading = self.heading(dead.offset);
        local.write_letter(partition, record, &format!("{heading}{}", dead.reason))
    }

    /// What the text of a letter begins with, and no other's.
    fn heading(&self, offset: u64) -> String {
        format!("{} refused offset {offset}: ", self.name)
    }
}
