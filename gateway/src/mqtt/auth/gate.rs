//! The gate: asks whoever connects who it is, and again after a reload.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;

use super::book::Book;
use super::checks::{Checked, Checks};
use super::pass::{Pass, Proof, Shown};
use super::rules::Access;
use super::source::Source;
use crate::config::{AnonymousConfig, UserConfig};
use crate::mqtt::packet::{Fault, Login, reason};
use crate::mqtt::peer::Peer;

/// A login that is refused unheard waits so long for its answer, and its next try for it.
const LIMITED_DELAY: Duration = Duration::from_secs(1);

/// So many wait for it at a time; each has a connection's place meanwhile.
const LIMITED_AT_A_TIME: usize = 64;

/// The users and what is open to others.
pub(crate) struct Gate {
    book: RwLock<Arc<Book>>,
    /// Of the book, to be looked at without its lock.
    generation: AtomicU64,
    checks: Arc<Checks>,
    delays: Semaphore,
    limited: Counter,
}

impl Gate {
    /// `limited` counts logins that are refused unheard.
    pub(crate) fn new(
        users: &[UserConfig],
        anonymous: Option<&AnonymousConfig>,
        limited: Counter,
    ) -> Self {
        let book = Book::new(users, anonymous, None);
        Self {
            generation: AtomicU64::new(book.generation),
            book: RwLock::new(Arc::new(book)),
            checks: Arc::new(Checks::new()),
            delays: Semaphore::new(LIMITED_AT_A_TIME),
            limited,
        }
    }

    /// Who may connect from now on. Connections find out by [`Gate::generation`].
    pub(crate) fn reload(&self, users: &[UserConfig], anonymous: Option<&AnonymousConfig>) {
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        *book = Arc::new(Book::new(users, anonymous, Some(&book)));
        self.generation.store(book.generation, Ordering::Release);
    }

    /// Which reading of the configuration holds.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Lets a client in, or says why not. Passwords are checked on a thread for blocking work.
    pub(crate) async fn enter(
        &self,
        login: Option<Login>,
        client: &Arc<str>,
        peer: &Peer,
    ) -> Result<Pass, Fault> {
        let book = self.book();
        let proof = match (&peer.certificate, login) {
            (Some(name), login) => certified(name, login.as_ref())?,
            (None, Some(login)) if !book.is_open() => self.check(&book, login, peer).await?,
            (None, _) => Proof::Nothing,
        };
        let shown = Arc::new(Shown { local: peer.is_local(), proof });
        let role = book.judge(&shown)?;
        Ok(Pass::new(shown, Arc::clone(client), role, book.generation))
    }

    /// True if who has shown this may stay.
    pub(crate) fn keeps(&self, shown: &Shown) -> bool {
        self.book().judge(shown).is_ok()
    }

    /// Brings a pass up to date; what its client may do now.
    ///
    /// # Errors
    /// [`Fault`] for whom there is no place any more.
    pub(crate) fn renew(&self, pass: &mut Pass) -> Result<Arc<Access>, Fault> {
        let book = self.book();
        let role = book.judge(pass.shown())?;
        pass.renew(role, book.generation);
        Ok(Arc::clone(pass.access()))
    }

    async fn check(&self, book: &Book, login: Login, peer: &Peer) -> Result<Proof, Fault> {
        let source = Source::from(peer);
        let Login { user, password } = login;
        let (checked, hash) = match book.hash(&user) {
            Some((hash, known)) => {
                let checked = self.checks.check(source, password, Arc::clone(hash), known).await;
                (checked, Arc::clone(hash))
            }
            None => (self.checks.refuse(source), "".into()),
        };
        match checked {
            Checked::Right => Ok(Proof::Password { user: user.into(), hash }),
            Checked::Wrong => {
                Err(Fault::new(reason::BAD_CREDENTIALS, "a wrong user name or password"))
            }
            Checked::Busy => Err(Fault::new(reason::SERVER_BUSY, "too many logins wait")),
            Checked::Limited => {
                self.limited.inc();
                if let Ok(_place) = self.delays.try_acquire() {
                    tokio::time::sleep(LIMITED_DELAY).await;
                }
                let why = "too many wrong logins from this address; it is heard again in a while";
                Err(Fault::new(reason::CONNECTION_RATE, why))
            }
        }
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The name in a certificate needs no password, but it is the only one.
fn certified(name: &Arc<str>, login: Option<&Login>) -> Result<Proof, Fault> {
    match login {
        Some(login) if !login.user.is_empty() && login.user != **name => {
            let why = format!("the user {:?} with a certificate of {name:?}", login.user);
            Err(Fault::new(reason::BAD_CREDENTIALS, why))
        }
        _ => Ok(Proof::Certificate(Arc::clone(name))),
    }
}

#[cfg(test)]
mod tests;
