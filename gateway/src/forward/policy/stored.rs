//! A position as it stands at an upstream: JSON, one object a route.
//!
//! ```text
//! {"v":2,"ranges":[[0,1234]],"witness":[1233,"9f86d081884c7d65"],"boot":"6f0c...","time":1763700000000}
//! ```
//!
//! Version 1 had no witness.

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::position::Position;
use crate::journal::Record;

/// The version that [`Stored::encode`] writes.
const VERSION: u32 = 2;
/// Versions from this on are read.
const VERSION_MIN: u32 = 1;

/// The record that was sent last, so that a journal can be told from another one that has grown to
/// the same offsets. On the wire `[offset, digest]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u64, String)", from = "(u64, String)")]
pub struct Witness {
    /// Its offset.
    pub offset: u64,
    /// The first 64 bits of the SHA-256 over its time, the length of its key, its key and its
    /// value, in hex.
    pub digest: String,
}

impl Witness {
    /// Of a record of the journal.
    pub fn of(record: &Record) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(&record.time_ms.to_le_bytes());
        hash.update(&(record.key.len() as u64).to_le_bytes());
        hash.update(&record.key);
        hash.update(&record.value);
        let digest = hash.finish();
        let digest = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { offset: record.offset, digest }
    }
}

impl From<(u64, String)> for Witness {
    fn from((offset, digest): (u64, String)) -> Self {
        Self { offset, digest }
    }
}

impl From<Witness> for (u64, String) {
    fn from(Witness { offset, digest }: Witness) -> Self {
        (offset, digest)
    }
}

/// A position at an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What the upstream has.
    pub position: Position,
    /// The highest record among it; `None` if that was a gap, or an earlier version wrote.
    pub witness: Option<Witness>,
    /// The start of the gateway that wrote it: another one's shows a rival of the same name.
    pub boot: String,
    /// When it was written, ms since 1970.
    pub time_ms: i64,
}

/// A stored position that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PositionError {
    /// Not the JSON that it has to be.
    #[error("the stored position is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a newer gateway.
    #[error("the stored position has version {0}: run the headwater that wrote it, or a newer one")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    ranges: Position,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    witness: Option<Witness>,
    boot: String,
    time: i64,
}

impl Stored {
    /// As JSON.
    pub fn encode(&self) -> String {
        let wire = Wire {
            v: VERSION,
            ranges: self.position.clone(),
            witness: self.witness.clone(),
            boot: self.boot.clone(),
            time: self.time_ms,
        };
        serde_json::to_string(&wire).expect("numbers and texts are always JSON")
    }

    /// Reads what [`Stored::encode`] wrote, or an earlier version.
    ///
    /// # Errors
    /// [`PositionError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PositionError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let Version { v } = serde_json::from_slice(bytes)?;
        if !(VERSION_MIN..=VERSION).contains(&v) {
            return Err(PositionError::Version(v));
        }
        let Wire { ranges: position, witness, boot, time: time_ms, .. } =
            serde_json::from_slice(bytes)?;
        Ok(Self { position, witness, boot, time_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(witness: Option<Witness>) -> Stored {
        let position = Position::up_to(1234);
        Stored { position, witness, boot: "b".into(), time_ms: 1_763_700_000_000 }
    }

    #[test]
    fn a_stored_position_keeps_its_bytes_and_an_earlier_version_is_read() {
        let record = Record {
            offset: 1233,
            partition: 4,
            time_ms: 5,
            key: "pump".into(),
            value: vec![1, 2, 3].into(),
        };
        let text = concat!(
            r#"{"v":2,"ranges":[[0,1234]],"witness":[1233,"e774d7b4c95483ea"],"#,
            r#""boot":"b","time":1763700000000}"#
        );
        let newest = stored(Some(Witness::of(&record)));
        assert_eq!(newest.encode(), text);
        assert_eq!(Stored::decode(text.as_bytes()).expect("version 2"), newest);
        let text = r#"{"v":1,"ranges":[[0,1234]],"boot":"b","time":1763700000000}"#;
        assert_eq!(Stored::decode(text.as_bytes()).expect("version 1"), stored(None));
        let gap = stored(None);
        assert_eq!(Stored::decode(gap.encode().as_bytes()).expect("no witness"), gap);
    }

    #[test]
    fn a_stored_position_that_is_wrong_is_refused() {
        for (text, why) in [
            (r#"{"v":3,"points":[]}"#, "newer"),
            (r#"{"v":1,"ranges":[[5,5]],"boot":"","time":0}"#, "in order"),
            (r#"{"v":1,"ranges":[[0,5],[5,6]],"boot":"","time":0}"#, "in order"),
            (r#"{"v":1,"ranges":[[7,9],[0,5]],"boot":"","time":0}"#, "in order"),
            (r#"{"v":2,"ranges":[[0,5]],"witness":[4],"boot":"","time":0}"#, "readable"),
            (r#"{"v":1}"#, "readable"),
            ("1", "readable"),
        ] {
            let problem = Stored::decode(text.as_bytes()).expect_err(text).to_string();
            assert!(problem.contains(why), "{text}: {problem}");
        }
    }
}
