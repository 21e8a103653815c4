//! Answers in order of receipt, each held back until the record that it promises is durable.

use std::collections::VecDeque;

use crate::journal::{Durable, Ticket};
use crate::mqtt::frame::{PUBREC, PUBREL, put_ack};
use crate::mqtt::packet::{Version, reason};

/// The commit of a record that a client waits for has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// What [`Replies::settle`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Answers that were written.
    pub(crate) written: u64,
    /// Of these, the ones that end a message's exchange.
    pub(crate) finished: usize,
}

#[derive(Debug)]
struct Reply {
    /// `None`: nothing has to be on disk for it.
    ticket: Option<Ticket>,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Ack { kind: u8, id: u16, code: u8 },
    Bytes(Box<[u8]>),
}

#[derive(Debug)]
pub(crate) struct Replies {
    version: Version,
    queue: VecDeque<Reply>,
}

impl Replies {
    pub(crate) fn new(version: Version) -> Self {
        Self { version, queue: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn ack(&mut self, ticket: Option<Ticket>, kind: u8, id: u16, code: u8) {
        self.queue.push_back(Reply { ticket, answer: Answer::Ack { kind, id, code } });
    }

    pub(crate) fn bytes(&mut self, ticket: Ticket, bytes: Vec<u8>) {
        let answer = Answer::Bytes(bytes.into());
        self.queue.push_back(Reply { ticket: Some(ticket), answer });
    }

    pub(crate) fn settle(&mut self, durable: &Durable, out: &mut Vec<u8>) -> Result<Settled, Lost> {
        let mut settled = Settled::default();
        while let Some(reply) = self.queue.front() {
            if let Some(ticket) = reply.ticket {
                if durable.lost(ticket) {
                    return Err(Lost);
                }
                if !durable.covers(ticket) {
                    break;
                }
            }
            match &reply.answer {
                Answer::Ack { kind, id, code } => {
                    put_ack(out, self.version, *kind, *id, *code);
                    // PUBREL belongs to a message of ours.
                    let goes_on = *kind == PUBREL || *kind == PUBREC && *code < reason::UNSPECIFIED;
                    settled.finished += usize::from(!goes_on);
                }
                Answer::Bytes(bytes) => out.extend_from_slice(bytes),
            }
            settled.written += 1;
            self.queue.pop_front();
        }
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        Ok(settled)
    }
}
