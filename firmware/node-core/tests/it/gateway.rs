//! What a gateway does with a node's messages, and what must hold for them.

use headwater_shared::{
    block::BlockDecoder,
    node::{Announce, NodeGap, Status, TimeRequest, TimeResponse, decode, encode},
    topic::Subject,
};
use std::collections::BTreeMap;

/// One reading, as a test knows it.
pub type Row = (u64, Vec<i64>);

/// A gateway that keeps all it gets, once.
#[derive(Default)]
pub struct Gateway {
    pub blocks: BTreeMap<(u32, u32), Vec<u8>>,
    /// Identities in the order in which they came first.
    pub order: Vec<(u32, u32)>,
    pub duplicates: usize,
    pub gaps: Vec<NodeGap>,
    pub announced: Option<Announce>,
    pub presence: Option<Status>,
    pub answers_time: bool,
    announced_on_this_connection: bool,
}

/// The gateway's clock when the simulation starts.
pub const UNIX_START_MS: u64 = 1_763_700_000_000;

impl Gateway {
    pub fn new() -> Self {
        Self { answers_time: true, ..Self::default() }
    }

    pub fn connected(&mut self) {
        self.announced_on_this_connection = false;
    }

    /// Takes a message in; returns what it answers.
    pub fn take(&mut self, now_ms: u64, subject: Subject, payload: &[u8]) -> Option<Vec<u8>> {
        match subject {
            Subject::Announce => {
                self.announced = Some(decode(payload).expect("an announcement"));
                self.announced_on_this_connection = true;
            }
            Subject::Status => self.status(decode(payload).expect("a presence")),
            Subject::Time if self.answers_time => return Some(time_reply(now_ms, payload)),
            Subject::Time => {}
            Subject::Blocks => self.block(payload),
            other => panic!("a node does not publish {other:?}"),
        }
        None
    }

    fn status(&mut self, status: Status) {
        if let Status::Online { gap: Some(gap), .. } = status
            && !self.gaps.contains(&gap)
        {
            self.gaps.push(gap);
        }
        self.presence = Some(status);
    }

    fn block(&mut self, payload: &[u8]) {
        assert!(self.announced_on_this_connection, "no block before the announcement");
        let decoder = BlockDecoder::new(payload).expect("a whole block");
        let identity = (decoder.header().boot_epoch, decoder.header().sequence);
        if let Some(known) = self.blocks.get(&identity) {
            assert_eq!(known, payload, "a second copy of {identity:?} differs");
            self.duplicates += 1;
            return;
        }
        assert!(self.order.last() < Some(&identity), "{identity:?} came out of order");
        self.order.push(identity);
        self.blocks.insert(identity, payload.to_vec());
    }

    /// The readings of one boot epoch by their number, from all its blocks.
    pub fn rows(&self, epoch: u32) -> BTreeMap<u32, Row> {
        let mut rows = BTreeMap::new();
        for (_, block) in self.blocks.range((epoch, 0)..=(epoch, u32::MAX)) {
            let mut decoder = BlockDecoder::new(block).expect("checked when it came");
            let mut values = [0; 2];
            let mut sample = decoder.header().first_sample;
            while let Some(time_ms) = decoder.next_row(&mut values) {
                let row = (time_ms.expect("a whole row"), values.to_vec());
                assert_eq!(rows.insert(sample, row), None, "sample {sample} is in two blocks");
                sample += 1;
            }
        }
        rows
    }
}

fn time_reply(now_ms: u64, payload: &[u8]) -> Vec<u8> {
    let TimeRequest { uptime_ms, nonce, .. } = decode(payload).expect("a time request");
    let response = TimeResponse { nonce, uptime_ms, unix_ms: UNIX_START_MS + now_ms };
    encode(&response, &mut [0; 64]).expect("64 bytes are enough").to_vec()
}
