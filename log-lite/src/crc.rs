//! The two checksums of the format. Their engines stay in this file.

use crc::{CRC_16_IBM_3740, CRC_32_ISCSI, Crc, Digest, Table};

#[cfg(feature = "std")]
type HeaderTable = Table<1>;
#[cfg(not(feature = "std"))]
type HeaderTable = Table<0>;

static HEADER: Crc<u16, HeaderTable> = Crc::<u16, HeaderTable>::new(&CRC_16_IBM_3740);
static BODY: Crc<u32, Table<0>> = Crc::<u32, Table<0>>::new(&CRC_32_ISCSI);

/// CRC-16/IBM-3740 of the chunk's epoch, the header's bytes and the body's checksum, in that order.
pub(crate) fn header_crc(epoch: u32, header: &[u8], body_crc: u32) -> u16 {
    let mut digest = HEADER.digest();
    digest.update(&epoch.to_le_bytes());
    digest.update(header);
    digest.update(&body_crc.to_le_bytes());
    digest.finalize()
}

/// CRC-32C (iSCSI) of `bytes`: the checksum of bodies, of chunk headers and of a node's blocks.
pub fn crc32c(bytes: &[u8]) -> u32 {
    #[cfg(feature = "std")]
    return crc_fast::crc32_iscsi(bytes);
    #[cfg(not(feature = "std"))]
    return BODY.checksum(bytes);
}

/// CRC-32C of bytes that come in pieces, without a table.
pub(crate) struct Crc32c(Digest<'static, u32, Table<0>>);

impl Crc32c {
    pub(crate) fn new() -> Self {
        Self(BODY.digest())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> u32 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_give_the_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        let mut pieces = Crc32c::new();
        pieces.update(b"1234");
        pieces.update(b"56789");
        assert_eq!(pieces.finish(), 0xE306_9283);
    }
}
