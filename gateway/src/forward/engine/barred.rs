//! Routes that the upstream does not take now, while it takes others: left out, and asked about again.

use super::Engine;
use crate::forward::local::Local;
use crate::forward::policy::core::Outcome;
use crate::forward::upstream::{Fault, FaultKind, Opening, Upstream};

impl<U: Upstream, L: Local> Engine<U, L> {
    /// Starts the routes that the upstream takes, bars the others; true if there are none of these.
    pub(super) fn start(&mut self, starts: Vec<Opening>) -> Result<bool, Fault> {
        let mut is_whole = true;
        for (route, start) in starts.into_iter().enumerate() {
            let lane = &mut self.lanes[route];
            match start {
                Ok(start) => lane.start(&start, &self.local)?,
                Err(fault) => {
                    lane.bar(fault.message);
                    self.probe.forget(route);
                    is_whole = false;
                }
            }
        }
        Ok(is_whole)
    }

    /// Asks about those that are barred. One that may go is started by opening the upstream anew,
    /// which reads all positions.
    pub(super) fn look(&mut self) -> Outcome {
        let lanes = self.lanes.iter().enumerate();
        let barred: Vec<usize> =
            lanes.filter(|(_, lane)| lane.barred.is_some()).map(|(route, _)| route).collect();
        let answers = self.upstream.look(&barred);
        let is_cured = answers.iter().any(Result::is_ok);
        for (route, answer) in barred.into_iter().zip(answers) {
            // What hides the answer says nothing about the topic.
            if let Err(Fault { kind: FaultKind::Refused, message }) = answer {
                self.lanes[route].bar(message);
            }
        }
        self.show(None);
        Outcome::Looked { is_cured }
    }
}
