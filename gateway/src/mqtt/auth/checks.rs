//! Password checks away from the threads of connections: one at a time, sources in turns, and none
//! for a source that has failed too often.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::attempts::Attempts;
use super::line::{Joined, Line};
use super::password::verify;
use super::source::Source;

/// Password checks at a time: each takes some 20 MB for a moment, and a core while it lasts.
const CHECKS_AT_A_TIME: usize = 1;

/// What came of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    Right,
    Wrong,
    /// Its source has failed too often; nothing was checked.
    Limited,
    /// Too many logins wait.
    Busy,
}

/// The checks of one front door.
pub(super) struct Checks {
    inner: Mutex<Inner>,
}

struct Inner {
    running: usize,
    /// Empty unless as many are running as may.
    line: Line<oneshot::Sender<Turn>>,
    attempts: Attempts,
}

/// The right to check a password; handed on when dropped.
struct Turn {
    /// None once somebody else has it.
    checks: Option<Arc<Checks>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(checks) = self.checks.take() {
            checks.hand_on();
        }
    }
}

impl Checks {
    pub(super) fn new() -> Self {
        let (line, attempts) = (Line::new(), Attempts::default());
        Self { inner: Mutex::new(Inner { running: 0, line, attempts }) }
    }

    /// Checks `password` against `hash`. If not `known`, it is wrong whatever the hash says, and
    /// takes as long.
    pub(super) async fn check(
        self: &Arc<Self>,
        source: Source,
        password: Vec<u8>,
        hash: Arc<str>,
        known: bool,
    ) -> Checked {
        if self.is_limited(source) {
            return Checked::Limited;
        }
        let Some(turn) = self.turn(source).await else { return Checked::Busy };
        // Those before it in the line may have failed.
        if self.is_limited(source) {
            return Checked::Limited;
        }
        let checks = Arc::clone(self);
        // The turn goes along: who stops waiting does not stop the check.
        let checked = tokio::task::spawn_blocking(move || {
            let right = verify(&password, &hash) && known;
            if !right {
                checks.failed(source);
            }
            drop(turn);
            right
        });
        if checked.await.unwrap_or(false) { Checked::Right } else { Checked::Wrong }
    }

    /// A login that needs no check to be wrong.
    pub(super) fn refuse(&self, source: Source) -> Checked {
        if self.is_limited(source) {
            return Checked::Limited;
        }
        self.failed(source);
        Checked::Wrong
    }

    fn is_limited(&self, source: Source) -> bool {
        self.lock().attempts.is_limited(source, Instant::now())
    }

    fn failed(&self, source: Source) {
        self.lock().attempts.failed(source, Instant::now());
    }

    /// `None` where too many wait.
    async fn turn(self: &Arc<Self>, source: Source) -> Option<Turn> {
        let waits = {
            let mut inner = self.lock();
            if inner.running < CHECKS_AT_A_TIME {
                inner.running += 1;
                return Some(Turn { checks: Some(Arc::clone(self)) });
            }
            if inner.line.is_full() {
                inner.line.retain(|waiter| !waiter.is_closed());
            }
            let (waiter, waits) = oneshot::channel();
            match inner.line.join(source, waiter) {
                Joined::Waits | Joined::Instead(_) => waits,
                Joined::Full(_) => return None,
            }
        };
        waits.await.ok()
    }

    fn hand_on(self: &Arc<Self>) {
        loop {
            let next = {
                let mut inner = self.lock();
                let next = inner.line.next();
                if next.is_none() {
                    inner.running -= 1;
                }
                next
            };
            let Some(waiter) = next else { return };
            match waiter.send(Turn { checks: Some(Arc::clone(self)) }) {
                Ok(()) => return,
                Err(mut refused) => refused.checks = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Source = Source::V4(1);

    #[tokio::test]
    async fn turns_are_handed_on_past_those_who_have_gone() {
        let checks = Arc::new(Checks::new());
        let first = checks.turn(HERE).await.expect("nobody is there");
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let checks = Arc::clone(&checks);
            waiting.push(Box::pin(async move { checks.turn(HERE).await }));
        }
        for turn in &mut waiting {
            let now = std::future::poll_fn(|cx| std::task::Poll::Ready(turn.as_mut().poll(cx)));
            assert!(now.await.is_pending());
        }
        let last = waiting.pop().expect("three");
        drop(waiting);
        drop(first);
        let last = last.await.expect("the others have gone");
        drop(last);
        assert_eq!(checks.lock().running, 0);
    }

    #[tokio::test]
    async fn a_turn_that_was_given_to_someone_who_leaves_is_not_lost() {
        let checks = Arc::new(Checks::new());
        let first = checks.turn(HERE).await.expect("nobody is there");
        let mut second = Box::pin(checks.turn(HERE));
        let now = std::future::poll_fn(|cx| std::task::Poll::Ready(second.as_mut().poll(cx)));
        assert!(now.await.is_pending());
        drop(first);
        assert_eq!(checks.lock().running, 1, "it is the second's");
        drop(second);
        assert_eq!(checks.lock().running, 0);
    }

    #[tokio::test]
    async fn a_source_that_only_fails_is_not_checked_for_long() {
        let checks = Arc::new(Checks::new());
        let outcomes: Vec<Checked> = (0..40).map(|_| checks.refuse(HERE)).collect();
        assert!(outcomes[..20].iter().all(|outcome| *outcome == Checked::Wrong));
        assert_eq!(outcomes[39], Checked::Limited);
        let hash: Arc<str> = "no hash at all".into();
        let checked = checks.check(HERE, b"x".to_vec(), Arc::clone(&hash), true).await;
        assert_eq!(checked, Checked::Limited);
        let checked = checks.check(Source::V4(2), b"x".to_vec(), hash, true).await;
        assert_eq!(checked, Checked::Wrong);
    }
}
