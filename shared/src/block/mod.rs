//! The series block: readings of one node, sampled together, in the fewest bytes.
//!
//! The bytes are the same on every medium, a flash record, an MQTT payload, a gateway's record:
//!
//! ```text
//! 0        4        5                                             n
//! +--------+--------+---------------------------------------------+---------------------+
//! | CRC-32C| form   | varints                                     | rows, a bit stream  |
//! +--------+--------+---------------------------------------------+---------------------+
//!   u32 LE   bits 0-2  version, 1     boot_epoch    u32             most significant bit
//!   of all   bit  3    clock is Unix  sequence      u32             first, the last byte
//!   bytes    bit  4    all punctual   first_sample  u32             padded with zeros
//!   after    bits 5-7  channels - 1   base_ms       u64
//!   it                                period        u32 << 1 | is in s
//!                                     a byte for each channel: scale, codec << 4
//!                                     count         u14
//!                                     punctual      u14, unless all are
//! ```
//!
//! A row is one time and one value for each channel. Time is written as its distance from the time
//! before plus the nominal period, a value as its distance from the value before; both by an
//! adaptive Rice code. The times of the first `punctual` rows, each exactly a period after the one
//! before, take no bits. `WIRE.md` has every bit and frozen examples.

mod bits;
mod decoder;
mod encoder;
mod error;
mod header;
mod series;

pub use decoder::BlockDecoder;
pub use encoder::{BlockBuilder, BlockEncoder};
pub use error::BlockError;
pub use header::{BlockHeader, BlockSpec, CHANNELS_MAX, COUNT_MAX, Clock, HEADER_MAX, SCALE_MAX};

use crc::{CRC_32_ISCSI, Crc};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Bytes of the CRC before the body.
const CRC_SIZE: usize = 4;
