//! Variable-length integers: LEB128, seven bits a byte, lowest first, shortest form only.

use core::slice::IterMut;

/// Longest encoding of a `u64`.
pub(crate) const MAX_LEN: usize = 10;

/// Writes `value` at the start of `out` and returns the bytes used.
pub(crate) fn encode(value: u64, out: &mut [u8]) -> usize {
    let len = out.len();
    let mut out = out.iter_mut();
    put(value, &mut out);
    len - out.len()
}

/// Writes `value` into the next bytes of `out`, or what of it there is room for.
pub(crate) fn put(mut value: u64, out: &mut IterMut<'_, u8>) {
    for byte in out {
        *byte = value as u8 | 0x80;
        value >>= 7;
        if value == 0 {
            *byte &= 0x7F;
            break;
        }
    }
}

/// Bytes that [`encode`] takes for `value`.
#[cfg(feature = "std")]
pub(crate) fn len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Reads a value at `*at` and moves `*at` behind it. `None`: cut short, too long or not the
/// shortest form.
#[cfg(feature = "std")]
pub(crate) fn decode(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let (encoded, _) = split(bytes.get(*at..)?)?;
    *at += encoded.len();
    Some(value(encoded))
}

/// Takes a value from the start of `rest`. Where there is none, nothing is left of `rest`: so what
/// is taken next fails too, and only the last needs to be looked at.
#[inline(never)]
pub(crate) fn take(rest: &mut &[u8]) -> u64 {
    let (encoded, behind) = split(rest).unwrap_or_default();
    *rest = behind;
    value(encoded)
}

/// A value's bytes, and what is behind them.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let last = bytes.iter().take(MAX_LEN).position(|byte| *byte < 0x80)?;
    let (encoded, behind) = bytes.split_at_checked(last + 1)?;
    match encoded {
        [_, .., 0] | [_, _, _, _, _, _, _, _, _, 2..=0xFF] => None,
        _ => Some((encoded, behind)),
    }
}

fn value(encoded: &[u8]) -> u64 {
    encoded.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7F))
}

/// Maps small magnitudes of either sign to small numbers: 0, -1, 1, -2, ... to 0, 1, 2, 3, ...
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The reverse of [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back_and_is_as_long_as_foretold() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = [0; MAX_LEN];
                let n = encode(value, &mut out);
                assert_eq!(n, len(value));
                let mut at = 0;
                assert_eq!(decode(&out[..n], &mut at), Some(value));
                assert_eq!(at, n);
                assert_eq!(unzigzag(zigzag(value as i64)), value as i64);
            }
        }
    }

    #[test]
    fn a_longer_form_than_needed_or_a_cut_one_is_refused() {
        assert_eq!(decode(&[0x80, 0x00], &mut 0), None);
        assert_eq!(decode(&[0x80], &mut 0), None);
        assert_eq!(decode(&[0xFF; 11], &mut 0), None);
        assert_eq!(
            decode(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2], &mut 0),
            None
        );
    }
}
