//! UF2, the file that a microcontroller's USB boot loader takes
//! (<https://github.com/microsoft/uf2>).
//!
//! ```text
//! 512 bytes a block, u32 LE:
//! 0 "UF2\n"  4 0x9E5D5157  8 flags  12 address  16 size (256)  20 number  24 of  28 family
//! 32 payload, to 476 bytes  508 0x0AB16F30
//! ```

use crate::image::Segment;
use std::collections::BTreeMap;

const BLOCK: usize = 512;
const PAGE: u32 = 256;
const MAGIC_START: [u32; 2] = [0x0A32_4655, 0x9E5D_5157];
const MAGIC_END: u32 = 0x0AB1_6F30;
const FLAG_FAMILY: u32 = 0x2000;

/// The blocks of an image, by address. A boot loader programs whole pages, so what lies between two
/// segments of one page is filled with zeros.
pub(crate) fn blocks(segments: &[Segment], family: u32) -> Vec<[u8; BLOCK]> {
    let mut pages: BTreeMap<u32, [u8; PAGE as usize]> = BTreeMap::new();
    for segment in segments {
        for (address, byte) in (segment.address..).zip(&segment.bytes) {
            let page = pages.entry(address - address % PAGE).or_insert([0; PAGE as usize]);
            page[(address % PAGE) as usize] = *byte;
        }
    }
    let total = pages.len() as u32;
    (0..).zip(&pages).map(|(number, page)| block(page, number, total, family)).collect()
}

fn block(page: (&u32, &[u8; PAGE as usize]), number: u32, total: u32, family: u32) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let [start, second] = MAGIC_START;
    let words = [start, second, FLAG_FAMILY, *page.0, PAGE, number, total, family];
    for (place, word) in block.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    block[32..32 + PAGE as usize].copy_from_slice(page.1);
    block[BLOCK - 4..].copy_from_slice(&MAGIC_END.to_le_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(block: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(block[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn every_byte_is_in_the_block_of_its_page() {
        let segments = [
            Segment { address: 0x1000_0000, bytes: (0..=255).chain(0..10).collect() },
            Segment { address: 0x1000_0180, bytes: vec![7; 3] },
            Segment { address: 0x1000_1000, bytes: vec![9] },
        ];
        let blocks = blocks(&segments, 0xE48B_FF59);
        let heads: Vec<_> =
            blocks.iter().map(|b| [word(b, 12), word(b, 20), word(b, 24)]).collect();
        assert_eq!(heads, [[0x1000_0000, 0, 3], [0x1000_0100, 1, 3], [0x1000_1000, 2, 3]]);
        assert_eq!(blocks[1][32..48], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0]);
        assert_eq!(blocks[1][32 + 0x80..32 + 0x84], [7, 7, 7, 0]);
        assert_eq!(blocks[2][32], 9);
    }

    #[test]
    fn a_block_has_the_magic_numbers_flags_and_family() {
        let one = [Segment { address: 0x1000_0000, bytes: vec![1] }];
        let blocks = blocks(&one, 0xE48B_FF59);
        assert_eq!(&blocks[0][..8], b"UF2\n\x57\x51\x5D\x9E");
        assert_eq!([word(&blocks[0], 8), word(&blocks[0], 16)], [0x2000, 256]);
        assert_eq!(word(&blocks[0], 28), 0xE48B_FF59);
        assert_eq!(word(&blocks[0], 508), 0x0AB1_6F30);
    }
}
