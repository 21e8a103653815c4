//! Which client ids are connected: one connection each, the newer takes over. A client id is free
//! again only when all that its connection recorded is in the projected state, so whoever takes it
//! finds the session as it was left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

use super::auth::Shown;
use super::packet::reason;

/// Connected clients and wills that wait.
#[derive(Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    slots: HashMap<Arc<str>, Slot>,
    wills: HashMap<Arc<str>, (u64, oneshot::Sender<()>)>,
    last_will: u64,
    /// The reason code with which every connection ends from now on.
    closing: Option<u8>,
}

struct Slot {
    kick: Option<oneshot::Sender<u8>>,
    /// Who has it, once that is known.
    shown: Option<Arc<Shown>>,
    /// Closes when the slot is free.
    gone: watch::Receiver<()>,
}

/// A client id, taken. It is free again when this is dropped.
pub(crate) struct Claim {
    registry: Arc<Registry>,
    client: Arc<str>,
    /// Says the reason code with which this connection has to end.
    pub(crate) kick: oneshot::Receiver<u8>,
    _gone: watch::Sender<()>,
}

impl Claim {
    /// The client id.
    pub(crate) fn client(&self) -> &Arc<str> {
        &self.client
    }

    /// Notes who has it, for [`Registry::end_where`].
    pub(crate) fn belongs_to(&self, shown: &Arc<Shown>) {
        if let Some(slot) = self.registry.lock().slots.get_mut(&self.client) {
            slot.shown = Some(Arc::clone(shown));
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.registry.lock().slots.remove(&self.client);
    }
}

impl Registry {
    /// Takes a client id; a connection that has it is told to end first.
    pub(crate) async fn claim(self: &Arc<Self>, client: &Arc<str>) -> Claim {
        loop {
            let mut gone = match self.try_claim(client, true) {
                Ok(claim) => return claim,
                Err(gone) => gone,
            };
            // An error means that the sender is gone, which is what is waited for.
            while gone.changed().await.is_ok() {}
        }
    }

    /// Takes a client id if nobody has it.
    pub(crate) fn claim_free(self: &Arc<Self>, client: &Arc<str>) -> Option<Claim> {
        self.try_claim(client, false).ok()
    }

    fn try_claim(
        self: &Arc<Self>,
        client: &Arc<str>,
        take_over: bool,
    ) -> Result<Claim, watch::Receiver<()>> {
        let mut inner = self.lock();
        if let Some(slot) = inner.slots.get_mut(client) {
            if let Some(kick) = slot.kick.take_if(|_| take_over) {
                // A connection that is ending on its own takes no notice.
                let _ = kick.send(reason::TAKEN_OVER);
            }
            return Err(slot.gone.clone());
        }
        let (kick, kicked) = oneshot::channel();
        let (gone_tx, gone) = watch::channel(());
        let kick = match inner.closing {
            None => Some(kick),
            Some(code) => {
                let _ = kick.send(code);
                None
            }
        };
        inner.slots.insert(Arc::clone(client), Slot { kick, shown: None, gone });
        let (registry, client) = (Arc::clone(self), Arc::clone(client));
        Ok(Claim { registry, client, kick: kicked, _gone: gone_tx })
    }

    /// Tells every connection to end, and every one that comes later.
    pub(crate) fn end_all(&self, code: u8) {
        let mut inner = self.lock();
        inner.closing = Some(code);
        for slot in inner.slots.values_mut() {
            if let Some(kick) = slot.kick.take() {
                let _ = kick.send(code);
            }
        }
    }

    /// Tells connections of certain clients to end; how many.
    pub(crate) fn end_where(&self, code: u8, ends: impl Fn(&Shown) -> bool) -> usize {
        let mut ended = 0;
        for slot in self.lock().slots.values_mut() {
            let theirs = slot.shown.as_ref().is_some_and(|shown| ends(shown));
            if let Some(kick) = slot.kick.take_if(|_| theirs) {
                let _ = kick.send(code);
                ended += 1;
            }
        }
        ended
    }

    /// Notes that a will of `client` waits; the wait is over when the receiver closes. `None` when
    /// `max` are waiting already.
    pub(crate) fn will_waits(
        &self,
        client: &Arc<str>,
        max: usize,
    ) -> Option<(u64, oneshot::Receiver<()>)> {
        let mut inner = self.lock();
        if inner.wills.len() >= max {
            return None;
        }
        let (settle, settled) = oneshot::channel();
        inner.last_will += 1;
        let number = inner.last_will;
        inner.wills.insert(Arc::clone(client), (number, settle));
        Some((number, settled))
    }

    /// A connection of `client` sees to its will: the wait is over.
    pub(crate) fn will_settled(&self, client: &str) {
        self.lock().wills.remove(client);
    }

    /// The delay of will `number` has passed; true if it was still waiting.
    pub(crate) fn will_done(&self, client: &str, number: u64) -> bool {
        let mut inner = self.lock();
        let waited = inner.wills.get(client).is_some_and(|(waiting, _)| *waiting == number);
        if waited {
            inner.wills.remove(client);
        }
        waited
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_connection_takes_over_when_the_first_has_gone() {
        let registry = Arc::new(Registry::default());
        let client: Arc<str> = "c".into();
        let mut first = registry.claim(&client).await;
        assert!(registry.claim_free(&client).is_none());
        let second = tokio::spawn({
            let (registry, client) = (Arc::clone(&registry), Arc::clone(&client));
            async move { registry.claim(&client).await }
        });
        assert_eq!((&mut first.kick).await, Ok(reason::TAKEN_OVER));
        assert!(!second.is_finished());
        drop(first);
        let second = second.await.expect("claimed");
        drop(second);
        assert!(registry.claim_free(&client).is_some());
    }

    #[tokio::test]
    async fn who_comes_after_the_end_of_all_is_ended_too() {
        let registry = Arc::new(Registry::default());
        let mut before = registry.claim(&"before".into()).await;
        registry.end_all(reason::SHUTTING_DOWN);
        let mut after = registry.claim(&"after".into()).await;
        assert_eq!((&mut before.kick).await, Ok(reason::SHUTTING_DOWN));
        assert_eq!((&mut after.kick).await, Ok(reason::SHUTTING_DOWN));
    }

    #[tokio::test]
    async fn a_waiting_will_is_settled_once() {
        let registry = Registry::default();
        let client: Arc<str> = "c".into();
        let (number, settled) = registry.will_waits(&client, 1).expect("room");
        assert!(registry.will_waits(&client, 1).is_none(), "the limit");
        registry.will_settled("c");
        assert!(settled.await.is_err(), "the wait is over");
        assert!(!registry.will_done("c", number), "too late");
        let (number, _settled) = registry.will_waits(&client, 1).expect("room");
        assert!(registry.will_done("c", number));
    }
}
