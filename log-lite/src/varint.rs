//! Variable-length integers: LEB128, seven bits a byte, lowest first, shortest form only.

/// Longest encoding of a `u64`.
pub(crate) const MAX_LEN: usize = 10;

/// Writes `value` at the start of `out` and returns the bytes used.
pub(crate) fn encode(mut value: u64, out: &mut [u8]) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        out[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = value as u8;
    at + 1
}

/// Bytes that [`encode`] takes for `value`.
#[cfg(feature = "std")]
pub(crate) fn len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Reads a value at `*at` and moves `*at` behind it. `None`: cut short, too long or not the
/// shortest form.
pub(crate) fn decode(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return if byte == 0 && shift > 0 { None } else { Some(value) };
        }
    }
    None
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
