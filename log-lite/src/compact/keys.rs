//! The newest offset of each key, in a fixed amount of memory.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Words of a slot: two of the key's hash, and its offset plus one; 0 is an empty slot.
const WORDS: usize = 3;
const SLOT_BYTES: usize = WORDS * size_of::<u64>();

/// A table of hashes of keys. The hash has 128 bits and a secret that is drawn for each map, so
/// that nobody can choose keys that are taken for one another.
#[derive(Debug)]
pub(super) struct KeyMap {
    slots: Vec<u64>,
    used: usize,
    secrets: [RandomState; 2],
}

impl KeyMap {
    /// A map that takes at most `bytes` and at least a few keys, and no more than `keys` need.
    pub(super) fn new(bytes: usize, keys: u64) -> Self {
        let wanted = usize::try_from(keys.saturating_mul(4) / 3).unwrap_or(usize::MAX);
        let slots = (bytes / SLOT_BYTES).min(wanted).max(16);
        // Pages of zeros cost no memory before they are written.
        let slots = vec![0; slots * WORDS];
        Self { slots, used: 0, secrets: [RandomState::new(), RandomState::new()] }
    }

    /// How many keys fit into so many bytes.
    #[cfg(test)]
    fn capacity(bytes: usize) -> usize {
        bytes / SLOT_BYTES * 3 / 4
    }

    fn hash(&self, partition: u16, key: &[u8]) -> [u64; 2] {
        [0, 1].map(|half: usize| {
            let mut hasher = self.secrets[half].build_hasher();
            hasher.write_u16(partition);
            hasher.write(key);
            hasher.finish()
        })
    }

    /// The slot of a hash: where it is, or where it would go.
    fn find(&self, hash: [u64; 2]) -> usize {
        let slots = self.slots.len() / WORDS;
        // The high half of the product spreads the hash over any number of slots.
        let mut slot = ((u128::from(hash[0]) * slots as u128) >> 64) as usize;
        loop {
            let words = &self.slots[slot * WORDS..][..WORDS];
            if words[2] == 0 || words[..2] == hash {
                return slot;
            }
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
    }

    /// Notes that a key has a record at `offset`, later than those noted before. `false`: there is
    /// no room.
    pub(super) fn note(&mut self, partition: u16, key: &[u8], offset: u64) -> bool {
        let hash = self.hash(partition, key);
        let slot = self.find(hash);
        let fresh = self.slots[slot * WORDS + 2] == 0;
        if fresh && (self.used + 1) * 4 > self.slots.len() / WORDS * 3 {
            return false;
        }
        self.used += usize::from(fresh);
        self.slots[slot * WORDS..][..WORDS].copy_from_slice(&[hash[0], hash[1], offset + 1]);
        true
    }

    /// The newest offset of a key, if it was noted.
    pub(super) fn newest(&self, partition: u16, key: &[u8]) -> Option<u64> {
        let slot = self.find(self.hash(partition, key));
        self.slots[slot * WORDS + 2].checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_map_gives_the_newest_offset_of_each_key_of_each_partition() {
        let mut map = KeyMap::new(1 << 20, 10_000);
        let mut model = HashMap::new();
        for offset in 0..20_000u64 {
            let (partition, key) = ((offset % 3) as u16, (offset * offset % 1_009).to_le_bytes());
            assert!(map.note(partition, &key, offset));
            model.insert((partition, key), offset);
        }
        for ((partition, key), offset) in &model {
            assert_eq!(map.newest(*partition, key), Some(*offset));
        }
        assert_eq!(map.newest(9, b"never"), None);
    }

    #[test]
    fn a_full_map_takes_no_new_key_and_still_knows_and_moves_those_it_has() {
        let mut map = KeyMap::new(24 * 64, u64::MAX);
        let room = KeyMap::capacity(24 * 64) as u64;
        for offset in 0..room {
            assert!(map.note(0, &offset.to_le_bytes(), offset));
        }
        assert!(!map.note(0, b"one more", room));
        assert!(map.note(0, &0u64.to_le_bytes(), room));
        assert_eq!(map.newest(0, &0u64.to_le_bytes()), Some(room));
        assert_eq!(map.newest(0, b"one more"), None);
    }

    #[test]
    fn a_million_keys_fit_into_32_mib() {
        assert!(KeyMap::capacity(32 << 20) >= 1_000_000);
    }
}
