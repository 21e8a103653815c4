//! Temporary in-memory stand-in until the log lands.
#![allow(missing_docs, clippy::all)]
use std::path::Path;
pub const RECORD_BYTES_MAX: usize = 1 << 20;
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub segments_created: u64,
    pub writes: u64,
    pub syncs: u64,
    pub bytes_written: u64,
}
#[derive(Clone, Debug)]
pub struct JournalOptions {
    pub segment_size: u32,
    pub max_size: Option<u64>,
    pub zero_fill_step: u32,
}
impl Default for JournalOptions {
    fn default() -> Self {
        Self { segment_size: 16 << 20, max_size: None, zero_fill_step: 1 << 20 }
    }
}
#[derive(Debug, Default)]
pub struct Recovery;
#[derive(Debug, thiserror::Error)]
#[error("stand-in")]
pub struct JournalError;
impl JournalError {
    pub fn is_poison(&self) -> bool {
        false
    }
}
#[derive(Debug)]
pub struct Dropped {
    pub first: u64,
    pub end: u64,
    pub past_keep: bool,
}
pub struct Journal {
    end: u64,
    pending: u64,
    c: Counters,
}
impl Journal {
    pub fn open_dir(_: &Path, _: JournalOptions) -> Result<(Self, Recovery), JournalError> {
        Ok((Self { end: 0, pending: 0, c: Counters::default() }, Recovery))
    }
    pub fn append(&mut self, _: u16, _: i64, _: &[u8], _: &[u8]) -> Result<u64, JournalError> {
        self.pending += 1;
        Ok(self.end + self.pending - 1)
    }
    pub fn commit(&mut self) -> Result<(), JournalError> {
        self.end += self.pending;
        self.pending = 0;
        Ok(())
    }
    pub fn set_keep(&mut self, _: u64) {}
    pub fn enforce_retention(&mut self) -> Result<Vec<Dropped>, JournalError> {
        Ok(vec![])
    }
    pub fn start(&self) -> u64 {
        0
    }
    pub fn end(&self) -> u64 {
        self.end
    }
    pub fn bytes(&self) -> u64 {
        0
    }
    pub fn stats(&self) -> &Counters {
        &self.c
    }
}
pub struct Rec<'a> {
    pub offset: u64,
    pub partition: u16,
    pub time_ms: i64,
    pub key: &'a [u8],
    pub value: &'a [u8],
}
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("trimmed")]
    Trimmed { start: u64 },
    #[error("damaged")]
    Damaged { first: u64, end: u64, why: String },
}
pub struct Reader;
impl Reader {
    pub fn open_dir(_: &Path) -> Result<Self, ReadError> {
        Ok(Self)
    }
    pub fn seek(&mut self, _: u64) -> Result<(), ReadError> {
        Ok(())
    }
    pub fn next(&mut self, _: u64) -> Result<Option<Vec<Rec<'_>>>, ReadError> {
        Ok(None)
    }
}
