//! The series block: readings of one node, sampled together, in the fewest bytes.
//!
//! The bytes are the same on every medium, a flash record, an MQTT payload, a gateway's record:
//!
//! ```text
//! 0        4        5                                             n
//! +--------+--------+---------------------------------------------+---------------------+
//! | CRC-32C| form   | varints                                     | rows, a bit stream  |
//! +--------+--------+---------------------------------------------+---------------------+
//!   u32 LE   bits 0-2  version, 2     boot_epoch    u32 << 1 | regular   most significant
//!   of all   bit  3    clock is Unix  sequence      u32                  bit first, the last
//!   bytes    bit  4    all punctual   period        << 3 | in base, unit byte padded with zeros
//!   after    bits 5-7  channels - 1   base          ms or periods
//!   it                                a byte or more for each channel: codec << 4, scale
//!                                     count         u14
//!                                     first_sample  u32, unless regular
//!                                     punctual      u14, unless all are
//! ```
//!
//! A row is one time and one value for each channel, see [`Kind`]. Time is written as its distance
//! from the time before plus the nominal period, a number as its distance from a prediction; both by
//! an adaptive Rice code. The times of the first `punctual` rows, each exactly a period after the one
//! before, take no bits. Version 1, which had decimals alone, is read and not written. `WIRE.md` has
//! every bit and frozen examples.

mod bits;
mod decoder;
mod encoder;
mod error;
mod float;
mod grid;
mod header;
mod kind;
mod number;
mod predict;
mod rice;
mod text;
mod value;

pub use decoder::BlockDecoder;
pub use encoder::{BlockBuilder, BlockEncoder, Builder, ValueBuilder};
pub use error::BlockError;
pub use header::{BlockHeader, BlockSpec, CHANNELS_MAX, COUNT_MAX, Clock, HEADER_MAX};
pub use kind::{Kind, SCALE_MAX, Step, TEXT_MAX};
pub use value::Value;

use crc::{CRC_32_ISCSI, Crc, Table};

/// Tables of 1 KiB each; a microcontroller has no room for more than one.
const CRC_TABLES: usize = if usize::BITS < 64 { 1 } else { 16 };

static CRC: Crc<u32, Table<CRC_TABLES>> = Crc::<u32, Table<CRC_TABLES>>::new(&CRC_32_ISCSI);

/// Bytes of the CRC before the body.
const CRC_SIZE: usize = 4;
