//! Windowed queries over streams.
use crate::config::StreamConfig;
/// A parsed and checked statement.
#[derive(Clone, Debug)]
pub struct Plan {
    name: String,
}
impl Plan {
    /// Parses `CREATE STREAM name AS SELECT ...`.
    /// # Errors
    /// A text with what is wrong and what to write.
    pub fn parse(_sql: &str, _streams: &[StreamConfig]) -> Result<Self, String> {
        Ok(Self { name: "q".into() })
    }
    /// The query, which is also the name of its stream.
    pub fn name(&self) -> &str {
        &self.name
    }
}
