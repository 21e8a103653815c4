//! How often transactions begin, and how large they get. Pure.
//!
//! Each transaction writes a marker to each partition that it touched, and the cluster has many
//! gateways. So there is one a period in the long run, and [`BURST`] of them may come at once after
//! as many quiet periods. The period is half the policy's while transactions carry a record each,
//! all of it once they carry two, and up to twice that where the cluster or the link is slow to
//! confirm: a record a second goes without waiting, more of them share transactions.

use crate::forward::policy::core::Policy;

/// Transactions that may begin at once after a silence.
pub(in crate::forward) const BURST: u64 = 10;
/// Periods are this many times what a transaction takes...
const PERIOD_SHARE: u64 = 10;
/// ...up to this many times the policy's.
const PERIOD_GROWTH: u64 = 2;
/// A transaction that takes longer than this to confirm is too large for its link.
const CONFIRM_MS: u64 = 1_000;
/// No link is so slow that less is worth a transaction.
const BYTES_MIN: u64 = 32 << 10;

/// Intervals and sizes.
#[derive(Debug)]
pub(in crate::forward) struct Pace {
    gather_ms: u64,
    /// What transactions took of late.
    took_ms: u64,
    /// Records that they carried, in thousandths.
    carried: u64,
    /// Periods are paid for up to here.
    paid_ms: u64,
    /// Bytes of a transaction at most.
    bytes_max: u64,
    bytes_cap: u64,
}

impl Pace {
    pub(in crate::forward) fn new(policy: &Policy) -> Self {
        let bytes_cap = policy.catch_up_bytes_max;
        Self {
            gather_ms: policy.gather_ms,
            took_ms: 0,
            carried: 1_000,
            paid_ms: 0,
            // Nothing is known of the link yet.
            bytes_max: bytes_cap / 4,
            bytes_cap,
        }
    }

    fn period_ms(&self) -> u64 {
        let longest = self.gather_ms.saturating_mul(PERIOD_GROWTH);
        let busy = self.gather_ms / 2 * self.carried.clamp(1_000, 2_000) / 1_000;
        self.took_ms.saturating_mul(PERIOD_SHARE).clamp(busy, longest)
    }

    /// When the next transaction may begin.
    pub(in crate::forward) fn due_ms(&self) -> u64 {
        self.paid_ms.saturating_sub(self.period_ms() * (BURST - 1))
    }

    /// Bytes of a transaction at most.
    pub(in crate::forward) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// A transaction has begun, due or not.
    pub(in crate::forward) fn begun(&mut self, now_ms: u64) {
        let period_ms = self.period_ms();
        let most_ms = now_ms.saturating_add(period_ms * BURST);
        self.paid_ms = self.paid_ms.max(now_ms).saturating_add(period_ms).min(most_ms);
    }

    /// One of `records` and `bytes` was confirmed, `took_ms` after its begin.
    pub(in crate::forward) fn committed(&mut self, took_ms: u64, records: u32, bytes: u64) {
        self.carried = (7 * self.carried + u64::from(records.min(100)) * 1_000) / 8;
        self.took_ms = (3 * self.took_ms.min(CONFIRM_MS) + took_ms.min(CONFIRM_MS)) / 4;
        if took_ms > CONFIRM_MS {
            self.at_most(bytes.saturating_mul(CONFIRM_MS) / took_ms);
        } else if took_ms < CONFIRM_MS / 2 {
            self.bytes_max = self.bytes_max.saturating_mul(2).min(self.bytes_cap);
        }
    }

    /// One of `bytes` was not.
    pub(in crate::forward) fn failed(&mut self, bytes: u64) {
        self.at_most(bytes / 2);
    }

    fn at_most(&mut self, bytes: u64) {
        self.bytes_max = self.bytes_max.min(bytes.max(BYTES_MIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long each of `count` records, `every_ms` apart, waits for its transaction; they take
    /// `took_ms`. Gives the waits and the number of transactions.
    fn waits(count: u64, every_ms: u64, took_ms: u64) -> (Vec<u64>, u64) {
        waits_with(&Policy::KAFKA, count, every_ms, took_ms)
    }

    fn waits_with(policy: &Policy, count: u64, every_ms: u64, took_ms: u64) -> (Vec<u64>, u64) {
        let mut pace = Pace::new(policy);
        let (mut waits, mut transactions, mut free_ms) = (Vec::new(), 0, 0);
        let mut came: std::collections::VecDeque<u64> = (1..=count).map(|n| n * every_ms).collect();
        while let Some(first) = came.front() {
            let begin_ms = pace.due_ms().max(free_ms).max(*first);
            pace.begun(begin_ms);
            let mut records = 0;
            while came.front().is_some_and(|at| *at <= begin_ms) {
                records += 1;
                waits.push(begin_ms - came.pop_front().expect("just seen"));
            }
            free_ms = begin_ms + took_ms;
            pace.committed(took_ms, records, 100);
            transactions += 1;
        }
        waits.sort_unstable();
        (waits, transactions)
    }

    #[test]
    fn a_record_a_second_never_waits_and_many_share_one_transaction_a_second() {
        for every_ms in [600, 950, 1_000, 1_050, 5_000] {
            let (waits, _) = waits(600, every_ms, 10);
            assert!(waits[300] <= 40, "{every_ms}: {}", waits[300]);
        }
        let (lone, transactions) = waits(60, 20_000, 10);
        assert_eq!((lone[59], transactions), (0, 60));
        for every_ms in [1, 10, 100] {
            let (waits, transactions) = waits(60_000 / every_ms, every_ms, 10);
            assert!(transactions <= 60 + 2 * BURST, "{every_ms}: {transactions}");
            assert!(waits[waits.len() / 2] <= 1_000);
        }
    }

    #[test]
    fn a_longer_interval_makes_fewer_transactions_and_the_longest_wait_is_twice_it() {
        let policy = Policy::kafka(std::time::Duration::from_secs(10));
        let (waits, transactions) = waits_with(&policy, 3_600, 1_000, 10);
        assert!(transactions <= 360 + 2 * BURST, "{transactions}");
        assert!(waits[waits.len() - 1] <= 20_000, "{waits:?}");
    }

    #[test]
    fn a_cluster_that_is_slow_to_confirm_gets_fewer_transactions() {
        let (_, quick) = waits(6_000, 10, 20);
        let (_, slow) = waits(6_000, 10, 400);
        assert!(slow <= quick / 2 + 2 * BURST, "{slow} of {quick}");
    }

    #[test]
    fn a_slow_link_gets_smaller_transactions_and_a_quick_one_larger_ones_again() {
        let mut pace = Pace::new(&Policy::KAFKA);
        pace.committed(20_000, 5_000, 2 << 20);
        assert_eq!(pace.bytes_max(), (2 << 20) / 20);
        pace.failed(pace.bytes_max());
        pace.failed(0);
        assert_eq!(pace.bytes_max(), BYTES_MIN);
        (0..10).for_each(|_| pace.committed(30, 100, BYTES_MIN));
        assert_eq!(pace.bytes_max(), Policy::KAFKA.catch_up_bytes_max);
    }
}
