//! Bounds of the whole front door, which a reload may move.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use crate::config::MqttConfig;

/// How many connections there may be, and how large their packets.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// A permit a connection.
    places: Arc<Semaphore>,
    connections: AtomicUsize,
    packet_bytes: AtomicUsize,
}

impl Bounds {
    pub(crate) fn new(config: &MqttConfig) -> Self {
        let connections = size(config.max_connections);
        Self {
            places: Arc::new(Semaphore::new(connections)),
            connections: AtomicUsize::new(connections),
            packet_bytes: AtomicUsize::new(size(config.max_packet_bytes)),
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
