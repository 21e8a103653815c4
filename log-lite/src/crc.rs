//! The two checksums of the format. With `std` they come from crates that use the processor's own
//! instructions and tables; without, from loops that take the least code: see docs/decisions/0011.

/// CRC-16/IBM-3740 of the chunk's epoch, the header's bytes and the body's checksum, in that order.
pub(crate) fn header_crc(epoch: u32, header: &[u8], body_crc: u32) -> u16 {
    engine::header_crc(epoch, header, body_crc)
}

/// CRC-32C (iSCSI) of `bytes`: the checksum of bodies, of chunk headers and of a node's blocks.
pub fn crc32c(bytes: &[u8]) -> u32 {
    engine::crc32c(bytes)
}

/// CRC-32C of bytes that come one at a time.
pub(crate) struct Crc32c(u32);

impl Crc32c {
    pub(crate) fn new() -> Self {
        Self(!0)
    }

    pub(crate) fn add(&mut self, byte: u8) {
        self.0 = crc32c_add(self.0, byte);
    }

    pub(crate) fn finish(self) -> u32 {
        !self.0
    }
}

#[cfg(not(feature = "std"))]
use small as engine;

#[cfg(feature = "std")]
mod engine {
    use crc::{CRC_16_IBM_3740, Crc};

    static HEADER: Crc<u16> = Crc::<u16>::new(&CRC_16_IBM_3740);

    pub(super) fn header_crc(epoch: u32, header: &[u8], body_crc: u32) -> u16 {
        let mut digest = HEADER.digest();
        digest.update(&epoch.to_le_bytes());
        digest.update(header);
        digest.update(&body_crc.to_le_bytes());
        digest.finalize()
    }

    pub(super) fn crc32c(bytes: &[u8]) -> u32 {
        crc_fast::crc32_iscsi(bytes)
    }
}

#[cfg(any(test, not(feature = "std")))]
mod small {
    /// x^16 + x^12 + x^5 + 1, highest bit first.
    const POLY: u32 = 0x1021;

    /// Shifts the lowest `bits` of `data` through the checksum in the low half of `state`, highest
    /// bit first.
    #[inline(never)]
    fn crc16(state: u32, data: u32, bits: u32) -> u32 {
        (0..bits).rev().fold(state, |state, bit| {
            let is_odd = (state >> 15 ^ data >> bit) & 1 == 1;
            (state << 1) ^ if is_odd { POLY } else { 0 }
        })
    }

    pub(super) fn header_crc(epoch: u32, header: &[u8], body_crc: u32) -> u16 {
        let state = crc16(0xFFFF, epoch.swap_bytes(), 32);
        let state = header.iter().fold(state, |state, byte| crc16(state, u32::from(*byte), 8));
        crc16(state, body_crc.swap_bytes(), 32) as u16
    }

    pub(super) fn crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |state, byte| super::crc32c_add(state, *byte))
    }
}

/// Castagnoli's polynomial, lowest bit first.
const POLY_32C: u32 = 0x82F6_3B78;

#[inline(never)]
fn crc32c_add(state: u32, byte: u8) -> u32 {
    (0..8).fold(state ^ u32::from(byte), |state, _| {
        (state >> 1) ^ if state & 1 == 0 { 0 } else { POLY_32C }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_engines_give_the_published_check_values() {
        let digits = b"123456789";
        assert_eq!(crc32c(digits), 0xE306_9283);
        assert_eq!(small::crc32c(digits), 0xE306_9283);
        // Its check value, once the two fields around the header are given their bytes.
        let [epoch, body_crc] = [*b"1234", *b"6789"].map(u32::from_le_bytes);
        assert_eq!(header_crc(epoch, b"5", body_crc), 0x29B1);
        assert_eq!(small::header_crc(epoch, b"5", body_crc), 0x29B1);
        let mut one_at_a_time = Crc32c::new();
        digits.iter().for_each(|byte| one_at_a_time.add(*byte));
        assert_eq!(one_at_a_time.finish(), 0xE306_9283);
    }
}
