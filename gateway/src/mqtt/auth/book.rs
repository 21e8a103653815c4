//! The users of one reading of the configuration, and who of them somebody is. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pass::{Proof, Shown};
use super::quota::Quota;
use super::rules::Rules;
use crate::config::{AnonymousConfig, UserConfig};
use crate::mqtt::packet::{Fault, reason};

/// What a name stands for.
#[derive(Debug)]
pub(super) struct Role {
    /// For the log.
    pub(super) name: Arc<str>,
    pub(super) rules: Rules,
    pub(super) quota: Quota,
}

#[derive(Debug)]
struct User {
    password_hash: Arc<str>,
    role: Arc<Role>,
}

/// Who may connect.
#[derive(Debug)]
pub(super) struct Book {
    /// Counts the readings.
    pub(super) generation: u64,
    users: BTreeMap<String, User>,
    anonymous: Option<Arc<Role>>,
    /// For programs of this machine, while nobody is named.
    open: Arc<Role>,
}

impl Book {
    /// `before` is what was read last: its users keep what is counted of them.
    pub(super) fn new(
        users: &[UserConfig],
        anonymous: Option<&AnonymousConfig>,
        before: Option<&Self>,
    ) -> Self {
        let role = |name: &str, rules, limits, old: Option<&Arc<Role>>| {
            let quota = old.map_or_else(|| Quota::new(limits), |old| old.quota.renewed(limits));
            Arc::new(Role { name: name.into(), rules: Rules::new(rules), quota })
        };
        let users = users.iter().map(|user| {
            let old = before.and_then(|book| Some(&book.users.get(&user.name)?.role));
            let role = role(&user.name, &user.rules, user.limits, old);
            let password_hash = user.password_hash.as_str().into();
            (user.name.clone(), User { password_hash, role })
        });
        let users = users.collect();
        let old = before.and_then(|book| book.anonymous.as_ref());
        let anonymous = anonymous.map(|a| role("[anonymous]", &a.rules, a.limits, old));
        let open = before.map_or_else(
            || {
                Arc::new(Role {
                    name: "loopback".into(),
                    rules: Rules::everything(),
                    quota: Quota::default(),
                })
            },
            |book| Arc::clone(&book.open),
        );
        Self { generation: before.map_or(1, |book| book.generation + 1), users, anonymous, open }
    }

    /// True while nobody is named: everything is open to this machine, nothing to others.
    pub(super) fn is_open(&self) -> bool {
        self.users.is_empty() && self.anonymous.is_none()
    }

    /// The hash that a login of `user` is checked against, and whether there is such a user. For an
    /// unknown name the work is done all the same, so that time does not tell names.
    pub(super) fn hash(&self, user: &str) -> Option<(&Arc<str>, bool)> {
        match self.users.get(user) {
            Some(user) => Some((&user.password_hash, true)),
            None => self.users.values().next().map(|other| (&other.password_hash, false)),
        }
    }

    /// Who somebody is by what was shown.
    ///
    /// # Errors
    /// [`Fault`] for whom there is no place.
    pub(super) fn judge(&self, shown: &Shown) -> Result<&Arc<Role>, Fault> {
        // Whose user is gone has to come again, though the door may be open to it now.
        if self.is_open() && !matches!(shown.proof, Proof::Password { .. }) {
            return if shown.local { Ok(&self.open) } else { Err(not_open(shown)) };
        }
        let nobody = self.anonymous.as_ref();
        match &shown.proof {
            Proof::Nothing => nobody.ok_or_else(|| {
                refused("a client without a name, and the configuration has no [anonymous]")
            }),
            Proof::Password { user, hash } => match self.users.get(&**user) {
                Some(known) if known.password_hash == *hash => Ok(&known.role),
                _ => Err(refused(format!("the user {user:?} is gone or has another password"))),
            },
            Proof::Certificate(name) => {
                let known = self.users.get(&**name).map(|user| &user.role);
                known.or(nobody).ok_or_else(|| {
                    refused(format!(
                        "the certificate names {name:?}, which is no [[user]], and the \
                         configuration has no [anonymous]"
                    ))
                })
            }
        }
    }
}

fn not_open(shown: &Shown) -> Fault {
    let name = match &shown.proof {
        Proof::Certificate(name) => format!(", such as {name:?} of the certificate"),
        _ => String::new(),
    };
    refused(format!(
        "only loopback may connect while the configuration has neither [[user]]{name} nor \
         [anonymous]"
    ))
}

fn refused(why: impl Into<String>) -> Fault {
    Fault::new(reason::NOT_AUTHORIZED, why)
}
