//! The core of a source: which of its records are on their way to the disk, and when they are there.
//! Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::journal::{Durable, Ticket};

/// Records that may be on their way to the disk at a time.
const WINDOW: usize = 4_096;

/// What became of records on their way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// These sources are on disk below these positions.
    Settled(Vec<(Arc<str>, u64)>),
    /// A commit failed: what was on its way may be gone. The journal says what is there.
    Lost,
}

/// Records on their way, oldest first.
#[derive(Debug, Default)]
pub(super) struct Flow {
    sent: VecDeque<Sent>,
}

#[derive(Debug)]
struct Sent {
    source: Arc<str>,
    position: u64,
    ticket: Ticket,
}

impl Flow {
    /// A record was appended.
    pub(super) fn sent(&mut self, source: Arc<str>, position: u64, ticket: Ticket) {
        self.sent.push_back(Sent { source, position, ticket });
    }

    /// No more may be sent for now.
    pub(super) fn is_full(&self) -> bool {
        self.sent.len() >= WINDOW
    }

    /// Nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// What `durable` says about the records on their way.
    pub(super) fn on(&mut self, durable: Durable) -> News {
        let mut settled: Vec<(Arc<str>, u64)> = Vec::new();
        while let Some(first) = self.sent.front() {
            if durable.lost(first.ticket) {
                self.sent.clear();
                return News::Lost;
            }
            if !durable.covers(first.ticket) {
                break;
            }
            let next = first.position.saturating_add(1);
            match settled.iter_mut().find(|(source, _)| *source == first.source) {
                Some((_, known)) => *known = next,
                None => settled.push((Arc::clone(&first.source), next)),
            }
            self.sent.pop_front();
        }
        News::Settled(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durable(end: u64, generation: u64) -> Durable {
        Durable { end, generation, closed: false }
    }

    #[test]
    fn a_source_is_settled_as_far_as_the_disk_is() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut flow = Flow::default();
        for (source, position, offset) in [(&a, 7, 100), (&b, 1, 101), (&a, 9, 102)] {
            flow.sent(Arc::clone(source), position, Ticket { offset, generation: 0 });
        }
        assert_eq!(flow.on(durable(100, 0)), News::Settled(vec![]));
        assert_eq!(flow.on(durable(102, 0)), News::Settled(vec![(a.clone(), 8), (b, 2)]));
        assert_eq!(flow.on(durable(103, 0)), News::Settled(vec![(a, 10)]));
        assert!(flow.is_empty());
    }

    #[test]
    fn a_failed_commit_loses_all_that_was_on_its_way() {
        let mut flow = Flow::default();
        flow.sent("a".into(), 7, Ticket { offset: 100, generation: 0 });
        flow.sent("a".into(), 8, Ticket { offset: 101, generation: 0 });
        assert_eq!(flow.on(durable(101, 1)), News::Lost);
        assert!(flow.is_empty());
    }

    #[test]
    fn no_more_is_sent_than_may_be_on_its_way() {
        let mut flow = Flow::default();
        for position in 0..WINDOW as u64 {
            assert!(!flow.is_full());
            flow.sent("a".into(), position, Ticket { offset: position, generation: 0 });
        }
        assert!(flow.is_full());
    }
}
