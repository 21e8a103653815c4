//! Reads a fuzzer's input from front to back, so that a change of one byte changes one decision.

/// What is left of the input. Behind its end there are zeros.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// The next bytes, fewer at the end.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Below 248 the byte itself, else as many bytes as it says: small numbers are short, and each
    /// is one mutation away from any size.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..248 => u64::from(small),
            long => {
                let mut bytes = [0; 8];
                let taken = self.take(usize::from(long - 247));
                bytes[..taken.len()].copy_from_slice(taken);
                u64::from_le_bytes(bytes)
            }
        }
    }

    /// The same of either sign: 0, -1, 1, -2 for 0, 1, 2, 3.
    pub(crate) fn signed(&mut self) -> i64 {
        let number = self.number();
        (number >> 1) as i64 ^ -((number & 1) as i64)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }
}
