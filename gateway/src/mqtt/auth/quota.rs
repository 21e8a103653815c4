//! How much a user may do, over all connections of that name.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::limits::Bucket;
use crate::config::LimitsConfig;

/// A bucket that connections share.
type Meter = Arc<Mutex<Bucket>>;

/// The limits of one user and how far they are used.
#[derive(Debug, Default)]
pub(super) struct Quota {
    limits: LimitsConfig,
    seats: Arc<AtomicU32>,
    rate: Option<Meter>,
    bytes: Option<Meter>,
}

impl Quota {
    pub(super) fn new(limits: LimitsConfig) -> Self {
        Self::default().renewed(limits)
    }

    /// The same user under new limits: who is connected stays counted.
    pub(super) fn renewed(&self, limits: LimitsConfig) -> Self {
        let meter = |old: Option<u64>, new: Option<u64>, known: &Option<Meter>| match known {
            Some(known) if old == new => Some(Arc::clone(known)),
            _ => {
                new.map(|amount| Arc::new(Mutex::new(Bucket::new(amount, Duration::from_secs(1)))))
            }
        };
        let (old_rate, new_rate) = (self.limits.max_rate, limits.max_rate);
        Self {
            limits,
            seats: Arc::clone(&self.seats),
            rate: meter(old_rate.map(u64::from), new_rate.map(u64::from), &self.rate),
            bytes: meter(self.limits.max_bytes, limits.max_bytes, &self.bytes),
        }
    }

    /// A place for one more connection.
    ///
    /// # Errors
    /// The limit, where it is reached.
    pub(super) fn seat(&self) -> Result<Seat, u32> {
        let max = self.limits.max_connections.unwrap_or(u32::MAX);
        let one_more = |seats| (seats < max).then(|| seats + 1);
        match self.seats.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
            Ok(_) => Ok(Seat { seats: Arc::clone(&self.seats) }),
            Err(_) => Err(max),
        }
    }

    /// A place for a connection that is there already.
    pub(super) fn keep_seat(&self) -> Seat {
        self.seats.fetch_add(1, Ordering::AcqRel);
        Seat { seats: Arc::clone(&self.seats) }
    }

    /// What a connection pays for its packets.
    pub(super) fn toll(&self) -> Toll {
        Toll { rate: self.rate.clone(), bytes: self.bytes.clone(), ..Toll::default() }
    }
}

/// A connection's place among those of its user; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<AtomicU32>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Lets a connection's packets through as fast as its user may send.
#[derive(Debug, Default)]
pub(crate) struct Toll {
    rate: Option<Meter>,
    bytes: Option<Meter>,
    /// The packet at the front has been counted and comes through from then on.
    turn: Option<Instant>,
    /// It may come through, but something else holds it.
    kept: bool,
}

impl Toll {
    /// True if the packet at the front of what was read may come through now; otherwise it waits
    /// until [`Toll::turn`]. Ask again for the same packet then.
    pub(crate) fn admits(&mut self, is_message: bool, bytes: usize) -> bool {
        if self.rate.is_none() && self.bytes.is_none() {
            return true;
        }
        self.admits_at(Instant::now(), is_message, bytes as u64)
    }

    /// The packet that was admitted stays where it is, and is admitted again for nothing.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }

    /// When the packet at the front comes through; none where it waits for nothing of ours.
    pub(crate) fn turn(&self) -> Option<Instant> {
        self.turn
    }

    fn admits_at(&mut self, now: Instant, is_message: bool, bytes: u64) -> bool {
        if std::mem::take(&mut self.kept) {
            return true;
        }
        if let Some(turn) = self.turn {
            if now >= turn {
                self.turn = None;
            }
            return now >= turn;
        }
        let pay = |meter: &Option<Meter>, n: u64| match meter {
            Some(meter) => meter.lock().unwrap_or_else(PoisonError::into_inner).event(now, n),
            None => Duration::ZERO,
        };
        let messages = if is_message { pay(&self.rate, 1) } else { Duration::ZERO };
        let wait = messages.max(pay(&self.bytes, bytes));
        if wait > Duration::ZERO {
            self.turn = now.checked_add(wait);
        }
        self.turn.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: u32, rate: u32, bytes: u64) -> LimitsConfig {
        LimitsConfig {
            max_connections: Some(connections),
            max_rate: Some(rate),
            max_bytes: Some(bytes),
        }
    }

    /// Packets that come through in a simulated time, of connections that ask when it is their turn.
    fn through(tolls: &mut [Toll], time: Duration, bytes: u64) -> Vec<u64> {
        let start = Instant::now();
        let mut counts = vec![0; tolls.len()];
        let mut now = start;
        while now < start + time {
            for (toll, count) in tolls.iter_mut().zip(&mut counts) {
                while toll.admits_at(now, true, bytes) {
                    *count += 1;
                }
            }
            now += Duration::from_millis(1);
        }
        counts
    }

    #[test]
    fn seats_are_counted_across_a_reload() {
        let quota = Quota::new(limits(2, 1, 1024));
        let (first, _second) = (quota.seat().expect("one"), quota.seat().expect("two"));
        assert_eq!(quota.seat().expect_err("full"), 2);
        drop(first);
        let renewed = quota.renewed(limits(1, 1, 1024));
        assert_eq!(renewed.seat().expect_err("nobody is dropped, nobody comes"), 1);
        let more = quota.renewed(LimitsConfig::default());
        drop((more.seat(), more.keep_seat()));
        assert_eq!(more.seats.load(Ordering::Acquire), 1);
    }

    #[test]
    fn the_connections_of_a_user_share_the_rate_in_turns() {
        let quota = Quota::new(limits(9, 100, 1 << 20));
        let mut tolls = [quota.toll(), quota.toll(), quota.toll(), quota.toll()];
        let counts = through(&mut tolls, Duration::from_secs(10), 10);
        let all: u64 = counts.iter().sum();
        assert!((1095..=1105).contains(&all), "{counts:?}");
        assert!(counts.iter().all(|count| (245..=355).contains(count)), "{counts:?}");
    }

    #[test]
    fn bytes_hold_back_what_messages_would_not() {
        let quota = Quota::new(limits(9, 1_000_000, 10_000));
        let counts = through(&mut [quota.toll()], Duration::from_secs(10), 1000);
        assert!((109..=112).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn other_packets_cost_bytes_and_no_messages() {
        let quota = Quota::new(limits(9, 1, 1 << 30));
        let (mut toll, now) = (quota.toll(), Instant::now());
        assert!((0..100).all(|_| toll.admits_at(now, false, 2)));
        assert!(toll.admits_at(now, true, 2) && toll.admits_at(now, true, 2));
        toll.keep();
        assert!(toll.admits_at(now, true, 2), "it has paid");
        assert!(!toll.admits_at(now, true, 2) && toll.turn().is_some());
        assert!(Toll::default().admits(true, usize::MAX), "no limit, no clock");
    }
}
