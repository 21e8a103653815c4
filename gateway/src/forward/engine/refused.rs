//! What an upstream refuses for good: a gap in its place, and a dead letter.

use super::{Engine, size_of};
use crate::forward::engine::batch::{OutRecord, ValueKind};
use crate::forward::local::Local;
use crate::forward::policy::core::Outcome;
use crate::forward::policy::dead::{Cause, Refusal};
use crate::forward::upstream::{Fault, SendError, Upstream};

impl<U: Upstream, L: Local> Engine<U, L> {
    /// What a fault is for the policy: the end of a try, or a step of the search for the record that
    /// is refused.
    pub(super) fn outcome_of(&mut self, fault: &Fault) -> Outcome {
        let refused = self.upstream.refusals();
        if refused.is_empty() {
            return Outcome::Failed(fault.clone());
        }
        match self.probe.refused(refused) {
            // Not even its gap is taken: that is for a human.
            Some(one) if self.lanes[one.route].is_condemned(one.offset) => {
                Outcome::Failed(fault.clone())
            }
            Some(one) => {
                self.condemned.push(one);
                Outcome::Refused
            }
            None => Outcome::Refused,
        }
    }

    /// Writes the letters that are due; before anything is read, so that gaps are staged for them.
    pub(super) fn bury_condemned(&mut self) -> Result<(), Fault> {
        for lane in &self.lanes {
            lane.finish_letters(&self.local)?;
        }
        while let Some(one) = self.condemned.last() {
            let (route, offset, reason) = (one.route, one.offset, one.reason.clone());
            if self.lanes[route].bury(one.clone(), &self.local)? {
                self.scores.refused(route, offset, &reason);
            }
            self.condemned.pop();
        }
        Ok(())
    }

    /// Sends the gap in the place of a record that is too large for the client already; the
    /// transaction goes on.
    pub(super) fn send_gap(&mut self, route: usize, record: &OutRecord<'_>) -> Result<u64, Fault> {
        if record.gap.is_none() {
            let reason = "larger than message.max.bytes in the upstream's properties".to_owned();
            let (offset, cause) = (record.offset, Cause::TooLarge);
            let refusal = Refusal { route, offset, cause, reason: reason.clone() };
            if self.lanes[route].bury(refusal, &self.local)? {
                self.scores.refused(route, offset, &reason);
            }
        }
        let cause = Cause::TooLarge.name();
        let news = serde_json::json!({ "gap": {
            "cause": cause,
            "unit": "offsets",
            "first": record.offset,
            "last": record.last,
            "bytes": record.value.len(),
        }});
        let value = news.to_string();
        let (gap, kind) = (Some(cause), ValueKind::Json);
        let news = OutRecord { gap, kind, value: value.as_bytes(), ..*record };
        match self.upstream.send(route, &news) {
            Ok(()) => Ok(size_of(&news)),
            Err(SendError::Fault(fault)) => Err(fault),
            Err(SendError::TooLarge) => Err(Fault::refused(
                "the upstream takes not even a record that says that one was too large: raise its \
                 limit (message.max.bytes), or send shorter keys",
            )),
        }
    }
}
