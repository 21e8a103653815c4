//! When to take a reading: slot `n` is due at `start + n * period`, so no delay adds up.

use core::num::NonZeroU32;

/// A reading this much after its slot, or less, carries the slot's own time: that is the scheduler's
/// jitter, not the sensor's. A later one carries the time it was taken.
pub const JITTER_MS: u64 = 2;

/// A schedule of slots by the clock since boot.
#[derive(Clone, Debug)]
pub struct Sampler {
    start_ms: u64,
    period_ms: NonZeroU32,
    next_slot: u64,
    missed: u64,
}

impl Sampler {
    /// The first slot is due at `start_ms`.
    pub const fn new(start_ms: u64, period_ms: NonZeroU32) -> Self {
        Self { start_ms, period_ms, next_slot: 0, missed: 0 }
    }

    /// When the next reading is due, in ms since boot.
    pub fn due_ms(&self) -> u64 {
        self.slot_ms(self.next_slot)
    }

    /// The time to stamp a reading with that is taken now; `None` if none is due. Slots that went by
    /// without a reading count as missed.
    pub fn take(&mut self, now_ms: u64) -> Option<u64> {
        let since_due_ms = now_ms.checked_sub(self.due_ms())?;
        let skipped = since_due_ms / u64::from(self.period_ms.get());
        let slot = self.next_slot + skipped;
        self.missed += skipped;
        self.next_slot = slot + 1;
        let slot_ms = self.slot_ms(slot);
        Some(if now_ms - slot_ms <= JITTER_MS { slot_ms } else { now_ms })
    }

    /// Slots without a reading since the start.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    fn slot_ms(&self, slot: u64) -> u64 {
        self.start_ms + slot * u64::from(self.period_ms.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_25_ms() -> Sampler {
        Sampler::new(1000, NonZeroU32::new(25).unwrap())
    }

    #[test]
    fn lateness_does_not_add_up() {
        let mut sampler = every_25_ms();
        for slot in 0..10_000 {
            let due_ms = sampler.due_ms();
            assert_eq!(due_ms, 1000 + slot * 25);
            assert_eq!(sampler.take(due_ms + slot % 25).map(|t| t >= due_ms), Some(true));
        }
        assert_eq!(sampler.missed(), 0);
    }

    #[test]
    fn nothing_is_taken_before_it_is_due_nor_twice() {
        let mut sampler = every_25_ms();
        assert_eq!(sampler.take(999), None);
        assert_eq!(sampler.take(1000), Some(1000));
        assert_eq!(sampler.take(1000), None);
        assert_eq!(sampler.take(1024), None);
    }

    #[test]
    fn jitter_is_hidden_and_real_lateness_is_not() {
        let mut sampler = every_25_ms();
        assert_eq!(sampler.take(1000 + JITTER_MS), Some(1000));
        assert_eq!(sampler.take(1025 + JITTER_MS + 1), Some(1025 + JITTER_MS + 1));
    }

    #[test]
    fn a_stall_counts_what_it_cost_and_the_grid_stays() {
        let mut sampler = every_25_ms();
        assert_eq!(sampler.take(1000), Some(1000));
        assert_eq!(sampler.take(1110), Some(1110));
        assert_eq!(sampler.missed(), 3);
        assert_eq!(sampler.due_ms(), 1125);
    }
}
