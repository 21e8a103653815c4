//! How far a route is: an ordered set of ranges of offsets, nearly always the one `[0, n)`.
//!
//! At an upstream it stands as JSON, one object a route:
//!
//! ```text
//! {"v":1,"ranges":[[0,1234]],"boot":"6f0c...","time":1763700000000}
//! ```

use serde::{Deserialize, Serialize};

/// The version that [`Stored::encode`] writes.
const VERSION: u32 = 1;

/// Ranges in a stored position beyond this are refused: nothing of ours writes as many.
const RANGES_MAX: usize = 4096;

/// Offsets that an upstream has: half-open ranges, ascending, neither touching nor empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    ranges: Vec<(u64, u64)>,
}

impl Position {
    /// All offsets below `end`.
    pub fn up_to(end: u64) -> Self {
        let mut position = Self::default();
        position.insert(0, end);
        position
    }

    /// Adds `first..end`.
    pub fn insert(&mut self, first: u64, end: u64) {
        if first >= end {
            return;
        }
        let from = self.ranges.partition_point(|range| range.1 < first);
        let to = self.ranges.partition_point(|range| range.0 <= end);
        let (mut first, mut end) = (first, end);
        for range in &self.ranges[from..to] {
            first = first.min(range.0);
            end = end.max(range.1);
        }
        self.ranges.splice(from..to, [(first, end)]);
    }

    /// True if `offset` is in one of the ranges.
    pub fn contains(&self, offset: u64) -> bool {
        let index = self.ranges.partition_point(|range| range.1 <= offset);
        self.ranges.get(index).is_some_and(|range| range.0 <= offset)
    }

    /// The first offset that is missing.
    pub fn next(&self) -> u64 {
        match self.ranges.first() {
            Some(&(0, end)) => end,
            _ => 0,
        }
    }

    /// One above the highest offset, 0 if there is none.
    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |range| range.1)
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }
}

/// A position as it stands at an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What the upstream has.
    pub position: Position,
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
    /// Ranges that overlap, are empty or not in order.
    #[error("the ranges of the stored position are not in order")]
    Ranges,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    ranges: Vec<(u64, u64)>,
    boot: String,
    time: i64,
}

impl Stored {
    /// As JSON.
    pub fn encode(&self) -> String {
        let wire = Wire {
            v: VERSION,
            ranges: self.position.ranges.clone(),
            boot: self.boot.clone(),
            time: self.time_ms,
        };
        serde_json::to_string(&wire).expect("numbers and texts are always JSON")
    }

    /// Reads what [`Stored::encode`] wrote.
    ///
    /// # Errors
    /// [`PositionError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PositionError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let Version { v } = serde_json::from_slice(bytes)?;
        if v != VERSION {
            return Err(PositionError::Version(v));
        }
        let wire: Wire = serde_json::from_slice(bytes)?;
        let ascending = wire.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
        let full = wire.ranges.iter().all(|range| range.0 < range.1);
        if !ascending || !full || wire.ranges.len() > RANGES_MAX {
            return Err(PositionError::Ranges);
        }
        Ok(Self { position: Position { ranges: wire.ranges }, boot: wire.boot, time_ms: wire.time })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stored_position_keeps_its_bytes() {
        let stored = Stored {
            position: Position::up_to(1234),
            boot: "b".into(),
            time_ms: 1_763_700_000_000,
        };
        let text = r#"{"v":1,"ranges":[[0,1234]],"boot":"b","time":1763700000000}"#;
        assert_eq!(stored.encode(), text);
        assert_eq!(Stored::decode(text.as_bytes()).expect("version 1"), stored);
    }

    #[test]
    fn a_stored_position_that_is_wrong_is_refused() {
        for (text, why) in [
            (r#"{"v":2,"points":[]}"#, "newer"),
            (r#"{"v":1,"ranges":[[5,5]],"boot":"","time":0}"#, "in order"),
            (r#"{"v":1,"ranges":[[0,5],[5,6]],"boot":"","time":0}"#, "in order"),
            (r#"{"v":1,"ranges":[[7,9],[0,5]],"boot":"","time":0}"#, "in order"),
            (r#"{"v":1}"#, "readable"),
            ("1", "readable"),
        ] {
            let problem = Stored::decode(text.as_bytes()).expect_err(text).to_string();
            assert!(problem.contains(why), "{text}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn ranges_hold_what_a_set_of_offsets_holds(
            inserts in prop::collection::vec((0u64..60, 0u64..8), 0..24)
        ) {
            let mut position = Position::default();
            let mut model = BTreeSet::new();
            for (first, count) in inserts {
                position.insert(first, first + count);
                model.extend(first..first + count);
            }
            for offset in 0..80 {
                prop_assert_eq!(position.contains(offset), model.contains(&offset));
            }
            let next = (0..).find(|offset| !model.contains(offset)).expect("a gap");
            prop_assert_eq!(position.next(), next);
            prop_assert_eq!(position.end(), model.last().map_or(0, |last| last + 1));
            let stored = Stored { position, boot: String::new(), time_ms: 0 };
            prop_assert_eq!(Stored::decode(stored.encode().as_bytes()).expect("ours"), stored);
        }
    }
}
