//! The gateway's side of nodes (stand-in until the wire lands).
use crate::journal::Durable;
use crate::stream::Incoming;
use headwater_shared::decimal::Decimal;
use headwater_shared::envelope::{Gap, GapCause, GapUnit};
/// x
pub struct Sample {
    /** t */
    pub time_ms: i64,
    /** v */
    pub values: Vec<(String, Decimal)>,
}
/// x
pub struct OwnedGap {
    /** s */
    pub source: String,
}
impl OwnedGap {
    /** g */
    pub fn as_gap(&self) -> Gap<'_> {
        Gap {
            cause: GapCause::Reset,
            source: &self.source,
            unit: GapUnit::TimesMs,
            first: 0,
            last: 0,
            count: None,
            boot_epoch: 0,
        }
    }
}
/// x
pub enum Admission {
    /** f */
    Fresh {
        /** t */
        time_ms: i64,
        /** g */
        gaps: Vec<OwnedGap>,
    },
    /** d */
    Duplicate,
    /** r */
    Rejected(String),
}
/// x
#[derive(Default)]
pub struct Nodes;
/// x
pub struct Live;
impl Live {
    /** a */
    pub fn admit(&mut self, _: &Incoming<'_>) -> Admission {
        Admission::Fresh { time_ms: 0, gaps: vec![] }
    }
    /** a */
    pub fn accept(&mut self, _: &Incoming<'_>, _: i64) {}
}
impl Nodes {
    /** l */
    pub fn live(&self, _: Durable) -> Option<Live> {
        Some(Live)
    }
    /** o */
    pub fn observe(&self, _: &Incoming<'_>) {}
    /** s */
    pub fn samples(&self, _: &str, _: i64, _: &[u8]) -> Option<Vec<Sample>> {
        None
    }
    /** b */
    pub fn block_json(&self, _: &str, _: i64, _: &[u8]) -> Option<serde_json::Value> {
        None
    }
}
