//! Which records are for which subscriber. Each record is compared once with the filters of all,
//! so that a subscriber is woken only for what may be for it, and passes the rest by.
//!
//! The lookout says where to look, no more: a subscriber still reads the log from its own position
//! and compares with its own filters. It may be told of a record that is not for it, but it is told
//! of each that is, from the offset on at which its filter was entered; of what is before, that it
//! has to look at all.

mod places;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::deliver::{message_of, read};
use super::trie::TopicTrie;
use crate::journal::{Journal, ReadError, Reader, Record};
use places::Places;

/// Bytes of records that are read at a time.
const READ_BYTES: usize = 64 << 10;

/// Reads before others get their turn: as many as a commit has under a flood, so that it is not
/// left behind what is in memory.
const READS_A_TURN: usize = 16;

/// All subscribers are woken after so many records, however rare what is for them: so they record
/// now and then how far they are.
pub(crate) const STRIDE: u64 = 100_000;

/// The filters of all subscribers that read the log for themselves.
pub(crate) struct Lookout {
    inner: Mutex<Inner>,
    /// Records below this were compared, and who they may be for has been told.
    seen: AtomicU64,
}

#[derive(Default)]
struct Inner {
    filters: TopicTrie,
    /// By the number that the filters have.
    posts: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Posts that the records at hand are for.
    touched: Vec<u32>,
}

struct Slot {
    post: Arc<Post>,
    /// Of the records at hand.
    fresh: Places,
}

/// Where a subscriber is told.
struct Post {
    places: Mutex<Places>,
    wake: Arc<Notify>,
}

impl Post {
    fn tell(&self, fresh: &mut Places) {
        lock(&self.places).append(fresh);
        self.wake.notify_one();
    }
}

/// Where a subscriber has to look next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// These records may be for it.
    At(Range<u64>),
    /// None before this offset is; of what is behind it the subscriber will be told.
    NothingBefore(u64),
}

/// A subscriber's part. It has to be given up by [`Watch::leave`].
pub(crate) struct Watch {
    number: u32,
    post: Arc<Post>,
}

impl Lookout {
    /// Looks at the records from `end` on, which is the end of the journal now.
    pub(crate) fn new(end: u64) -> Self {
        Self { inner: Mutex::default(), seen: AtomicU64::new(end) }
    }

    /// A subscriber that is woken by `wake`; it has no filters yet.
    pub(crate) fn join(&self, wake: &Arc<Notify>) -> Watch {
        let places = Mutex::default();
        let post = Arc::new(Post { places, wake: Arc::clone(wake) });
        let mut inner = lock(&self.inner);
        let slot = Slot { post: Arc::clone(&post), fresh: Places::default() };
        let number = match inner.free.pop() {
            Some(number) => {
                inner.posts[number as usize] = Some(slot);
                number
            }
            None => {
                inner.posts.push(Some(slot));
                u32::try_from(inner.posts.len() - 1).expect("far fewer connections than that")
            }
        };
        Watch { number, post }
    }

    /// Compares with the filters what is durable, until the journal is shut.
    pub(crate) async fn run(&self, journal: &Journal) {
        let mut reader = journal.reader(self.seen.load(Ordering::Acquire));
        while reader.wait().await {
            while (0..READS_A_TURN).all(|_| self.look(&mut reader, journal)) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Compares some records; false when there are no more.
    fn look(&self, reader: &mut Reader, journal: &Journal) -> bool {
        if self.is_idle(reader, journal.durable().end) {
            return false;
        }
        let first = reader.position();
        match read(reader, journal, u64::MAX, READ_BYTES) {
            Ok(records) if records.is_empty() => false,
            Ok(records) => {
                self.compare(&records, reader.position());
                true
            }
            // Each subscriber finds out for itself what it can still have.
            Err(problem) => {
                if matches!(problem, ReadError::Io(_)) {
                    reader.seek(journal.durable().end);
                }
                let end = reader.position();
                self.tell_all(first..end);
                end > first
            }
        }
    }

    /// Without subscribers there is nothing to compare: the reader goes to the `end`.
    fn is_idle(&self, reader: &mut Reader, end: u64) -> bool {
        let inner = lock(&self.inner);
        let idle = inner.posts.len() == inner.free.len();
        if idle {
            reader.seek(end);
            self.seen.fetch_max(end, Ordering::Release);
        }
        idle
    }

    fn compare(&self, records: &[Record], end: u64) {
        let mut inner = lock(&self.inner);
        let Inner { filters, posts, touched, .. } = &mut *inner;
        for record in records {
            let Some(message) = message_of(record) else { continue };
            filters.matches(message.topic, |number| {
                let Some(slot) = &mut posts[number as usize] else { return };
                if slot.fresh.is_empty() {
                    touched.push(number);
                }
                slot.fresh.add(record.offset..record.offset + 1);
            });
        }
        for number in touched.drain(..) {
            if let Some(slot) = &mut posts[number as usize] {
                slot.post.tell(&mut slot.fresh);
            }
        }
        let before = self.seen.swap(end, Ordering::Release);
        if before / STRIDE != end / STRIDE {
            posts.iter().flatten().for_each(|slot| slot.post.wake.notify_one());
        }
    }

    /// Whether something of `range` is for a subscriber is not known.
    fn tell_all(&self, range: Range<u64>) {
        let inner = lock(&self.inner);
        for slot in inner.posts.iter().flatten() {
            lock(&slot.post.places).add(range.clone());
        }
        self.seen.store(range.end, Ordering::Release);
        inner.posts.iter().flatten().for_each(|slot| slot.post.wake.notify_one());
    }
}

impl Watch {
    /// The filter holds for records from `since` on; `durable_end` is the end of the journal that
    /// readers see.
    pub(crate) fn add(&self, lookout: &Lookout, filter: &str, since: u64, durable_end: u64) {
        let mut inner = lock(&lookout.inner);
        inner.filters.insert(filter, self.number);
        let known_from = lookout.seen.load(Ordering::Acquire).max(durable_end);
        lock(&self.post.places).add(since..known_from);
    }

    /// The filter holds no more.
    pub(crate) fn remove(&self, lookout: &Lookout, filter: &str) {
        lock(&lookout.inner).filters.remove(filter, self.number);
    }

    /// Where a subscriber that is at `position` has to look next.
    pub(crate) fn next(&self, lookout: &Lookout, position: u64) -> Look {
        // First how far all is told, then what was told.
        let seen = lookout.seen.load(Ordering::Acquire);
        match lock(&self.post.places).first_from(position) {
            Some(range) => Look::At(range),
            None => Look::NothingBefore(seen),
        }
    }

    /// Gives the part up, with the filters that it has.
    pub(crate) fn leave<'a>(self, lookout: &Lookout, filters: impl Iterator<Item = &'a str>) {
        let mut inner = lock(&lookout.inner);
        for filter in filters {
            inner.filters.remove(filter, self.number);
        }
        inner.posts[self.number as usize] = None;
        inner.free.push(self.number);
    }
}

/// Nothing is left half changed under these locks, so a poisoned one is still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
