//! What can be wrong with a block.

/// Why a block cannot be made, extended or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// The row does not fit; the block is as it was. Finish it and start the next.
    Full,
    /// The buffer cannot hold even the header of the block; [`super::HEADER_MAX`] bytes always do.
    BufferTooSmall,
    /// A block has 1 to [`super::CHANNELS_MAX`] channels; this many were asked for.
    Channels(usize),
    /// A scale is 0 to [`super::SCALE_MAX`] decimal places; this one was asked for or read.
    Scale(u8),
    /// A grid's step is a fraction of two numbers from 1 to 2^31 - 1; this one was asked for or read.
    Step {
        /// Above the line.
        up: u32,
        /// Below it.
        parts: u32,
    },
    /// A text has at most [`super::TEXT_MAX`] bytes; this one has so many.
    TextLength(usize),
    /// The value is not of the channel's kind; the row is not taken. Rows of `i64` are for blocks
    /// whose channels are all decimal or grid.
    Kind {
        /// The channel, from 0.
        channel: usize,
    },
    /// A value lies off its channel's grid: read the rows as values.
    OffGrid,
    /// A row has one value for each channel.
    RowWidth {
        /// Channels of the block.
        channels: usize,
        /// Values in the row.
        values: usize,
    },
    /// No block was started.
    NotStarted,
    /// The bytes end before the header or the rows do.
    Truncated,
    /// The CRC does not match: the bytes are not what the node wrote.
    Crc {
        /// The CRC that the block carries.
        stored: u32,
        /// The CRC of the bytes.
        computed: u32,
    },
    /// A version that this build does not know.
    Version(u8),
    /// A channel's codec that this build does not know.
    Codec(u8),
    /// The CRC is right and the bytes make no sense: whoever wrote them broke the format.
    Malformed,
}

impl core::fmt::Display for BlockError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full => f.write_str("the row does not fit this block: finish it, start the next"),
            Self::BufferTooSmall => {
                write!(f, "the buffer is too small for a block: give {} B", super::HEADER_MAX)
            }
            Self::Channels(n) => {
                write!(f, "{n} channels: a block has 1 to {}", super::CHANNELS_MAX)
            }
            Self::Scale(scale) => {
                write!(f, "{scale} decimal places: a channel has 0 to {}", super::SCALE_MAX)
            }
            Self::Step { up, parts } => {
                write!(f, "a grid's step of {up}/{parts}: both are 1 to 2147483647")
            }
            Self::TextLength(length) => {
                write!(f, "a text of {length} B: a block takes {} at most", super::TEXT_MAX)
            }
            Self::Kind { channel } => {
                write!(f, "the value of channel {channel} is not of the kind that its channel has")
            }
            Self::OffGrid => f.write_str("a value lies off its grid: read the rows as values"),
            Self::RowWidth { channels, values } => {
                write!(f, "a row of {values} values for a block of {channels} channels")
            }
            Self::NotStarted => f.write_str("no block was started"),
            Self::Truncated => f.write_str("the block ends too early"),
            Self::Crc { stored, computed } => {
                write!(f, "the block is damaged: CRC {stored:08x} stored, {computed:08x} computed")
            }
            Self::Version(v) => {
                write!(f, "block version {v} is not known: read it with a newer headwater")
            }
            Self::Codec(c) => {
                write!(f, "block codec {c} is not known: read it with a newer headwater")
            }
            Self::Malformed => f.write_str("the block's CRC is right and its content is not"),
        }
    }
}

impl core::error::Error for BlockError {}
