//! The node between its two loops.

use core::cell::RefCell;
use embassy_sync::{
    blocking_mutex::{Mutex, raw::NoopRawMutex},
    signal::Signal,
};
use embassy_time::Instant;
use embedded_storage::nor_flash::NorFlash;
use node_core::Node;

/// A node that the loops of one executor share. It is never borrowed across an await.
pub struct SharedNode<F: NorFlash> {
    node: Mutex<NoopRawMutex, RefCell<Node<F>>>,
    sealed: Signal<NoopRawMutex, ()>,
}

impl<F: NorFlash> SharedNode<F> {
    /// Takes the node that has booted.
    pub fn new(node: Node<F>) -> Self {
        Self { node: Mutex::new(RefCell::new(node)), sealed: Signal::new() }
    }

    /// Lends the node, with the time since boot in ms.
    pub fn with<R>(&self, f: impl FnOnce(&mut Node<F>, u64) -> R) -> R {
        self.node.lock(|node| f(&mut node.borrow_mut(), Instant::now().as_millis()))
    }

    /// A block was sealed: there is something to send.
    pub(crate) fn announce_sealed(&self) {
        self.sealed.signal(());
    }

    pub(crate) async fn wait_sealed(&self) {
        self.sealed.wait().await;
    }
}
