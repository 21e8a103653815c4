//! Bounds of the whole front door, which a reload may move.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::MqttConfig;

/// What a client has sent takes no room of all strangers up to so many bytes: most say CONNECT in
/// a tenth of it.
const STRANGER_BYTES: usize = 2 << 10;

/// What all clients together may have sent beyond that before they are let in.
const STRANGERS_BYTES_MAX: usize = 4 << 20;

/// How many connections there may be, and how large their packets.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// A permit a connection.
    places: Arc<Semaphore>,
    connections: AtomicUsize,
    packet_bytes: AtomicUsize,
    /// A permit a byte.
    strangers: Arc<Semaphore>,
}

/// The room that a client takes that is not let in yet.
#[derive(Debug)]
pub(crate) struct Stranger {
    room: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Stranger {
    /// It has sent so many bytes by now; false where there is no room for them.
    pub(crate) fn has_sent(&mut self, bytes: usize) -> bool {
        let taken = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.saturating_sub(STRANGER_BYTES + taken);
        if more == 0 {
            return true;
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&self.room).try_acquire_many_owned(more) else { return false };
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        true
    }
}

impl Bounds {
    pub(crate) fn new(config: &MqttConfig) -> Self {
        let connections = size(config.max_connections);
        Self {
            places: Arc::new(Semaphore::new(connections)),
            connections: AtomicUsize::new(connections),
            packet_bytes: AtomicUsize::new(size(config.max_packet_bytes)),
            strangers: Arc::new(Semaphore::new(STRANGERS_BYTES_MAX)),
        }
    }

    /// Connections at a time.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// The largest packet that a new connection may send, in bytes.
    pub(crate) fn packet_bytes(&self) -> usize {
        self.packet_bytes.load(Ordering::Acquire)
    }

    /// The room of one that is not let in yet; given back when it is dropped.
    pub(crate) fn stranger(&self) -> Stranger {
        Stranger { room: Arc::clone(&self.strangers), taken: None }
    }

    /// Each connection holds a permit of these.
    pub(crate) fn places(&self) -> &Arc<Semaphore> {
        &self.places
    }

    /// New bounds. With fewer connections than there are nobody is dropped: the places go as they
    /// become free. Called in a runtime, by one at a time.
    pub(crate) fn reload(&self, config: &MqttConfig) {
        self.packet_bytes.store(size(config.max_packet_bytes), Ordering::Release);
        let new = size(config.max_connections);
        let old = self.connections.swap(new, Ordering::AcqRel);
        if new >= old {
            self.places.add_permits(new - old);
            return;
        }
        let gone = u32::try_from(old - new).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.places);
        tokio::spawn(async move {
            // The semaphore is never closed; who waits here is before those who only try.
            if let Ok(permits) = places.acquire_many(gone).await {
                permits.forget();
            }
        });
    }
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(connections: u32) -> MqttConfig {
        let text = format!(
            "[gateway]\nid = \"g\"\ndata_dir = \"d\"\n[mqtt]\nmax_connections = {connections}\n"
        );
        crate::config::Config::parse("c", &text).expect("a configuration").mqtt
    }

    #[test]
    fn strangers_share_what_they_send_beyond_a_little_and_give_it_back() {
        let bounds = Bounds::new(&config(3));
        let (mut large, mut other) = (bounds.stranger(), bounds.stranger());
        assert!(large.has_sent(STRANGER_BYTES + STRANGERS_BYTES_MAX - 100));
        assert!(large.has_sent(STRANGER_BYTES + STRANGERS_BYTES_MAX - 50), "50 more");
        assert!(other.has_sent(STRANGER_BYTES + 50) && !other.has_sent(STRANGER_BYTES + 51));
        assert!(bounds.stranger().has_sent(STRANGER_BYTES), "that much each has");
        drop(large);
        assert!(other.has_sent(STRANGERS_BYTES_MAX));
        drop(other);
        assert_eq!(bounds.strangers.available_permits(), STRANGERS_BYTES_MAX);
    }

    #[tokio::test]
    async fn fewer_places_are_there_once_connections_have_ended_and_more_at_once() {
        let bounds = Bounds::new(&config(3));
        let take = || Arc::clone(bounds.places()).try_acquire_owned();
        let (first, second, third) = (take().expect("1"), take().expect("2"), take().expect("3"));
        bounds.reload(&config(1));
        tokio::task::yield_now().await;
        assert!(take().is_err());
        drop((first, second));
        tokio::task::yield_now().await;
        assert!(take().is_err(), "the third has the one place");
        drop(third);
        let _only = take().expect("one");
        assert!(take().is_err());
        bounds.reload(&config(2));
        assert!(take().is_ok());
        assert_eq!(bounds.connections(), 2);
    }
}
