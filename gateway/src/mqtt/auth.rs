//! Who may connect, and who may publish and subscribe to what.

use std::collections::BTreeMap;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2};
use tokio::sync::Semaphore;

use super::packet::{Fault, Login, reason};
use super::peer::Peer;
use crate::config::{MqttConfig, RulesConfig};
use crate::stream::filter_matches;

/// Password checks at a time: each takes some 20 MB for a moment.
const CHECKS_AT_A_TIME: usize = 1;

/// Topic rules of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everything.
    All,
    /// What the rules allow.
    Rules(RulesConfig),
}

impl Access {
    /// May publish to `topic`.
    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Rules(rules) => any(&rules.publish, topic) && !any(&rules.deny, topic),
        }
    }

    /// May subscribe to `filter`: all of it is allowed, and not all of it is denied.
    pub(crate) fn may_subscribe(&self, filter: &str) -> bool {
        match self {
            Self::All => true,
            Self::Rules(rules) => {
                rules.subscribe.iter().any(|allowed| covers(allowed, filter))
                    && !rules.deny.iter().any(|denied| covers(denied, filter))
            }
        }
    }

    /// May receive a message on `topic`: a wide subscription does not reach what is denied.
    pub(crate) fn may_receive(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Rules(rules) => !any(&rules.deny, topic),
        }
    }
}

fn any(filters: &[String], topic: &str) -> bool {
    filters.iter().any(|filter| filter_matches(filter, topic))
}

/// True if every topic that `filter` matches is matched by `allowed`.
fn covers(allowed: &str, filter: &str) -> bool {
    if filter.starts_with('$') && allowed.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = filter.split('/');
    for level in allowed.split('/') {
        match (level, levels.next()) {
            ("#", _) => return true,
            ("+", Some(level)) if level != "#" => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// The users and what is open to others.
pub(crate) struct Gate {
    users: BTreeMap<String, (String, Arc<Access>)>,
    anonymous: Option<Arc<Access>>,
    checks: Semaphore,
}

impl Gate {
    pub(crate) fn new(config: &MqttConfig) -> Self {
        let users = config.users.iter().map(|user| {
            let access = Arc::new(Access::Rules(user.rules.clone()));
            (user.name.clone(), (user.password_hash.clone(), access))
        });
        let anonymous = config.anonymous.clone().map(|rules| Arc::new(Access::Rules(rules)));
        Self { users: users.collect(), anonymous, checks: Semaphore::new(CHECKS_AT_A_TIME) }
    }

    /// Lets a client in, or says why not. Passwords are checked on a thread for blocking work.
    pub(crate) async fn enter(
        &self,
        login: Option<Login>,
        peer: &Peer,
    ) -> Result<Arc<Access>, Fault> {
        if self.users.is_empty() && self.anonymous.is_none() {
            if peer.is_local() {
                return Ok(Arc::new(Access::All));
            }
            let why = "only loopback may connect while the configuration has neither [[user]] \
                       nor [anonymous]";
            return Err(Fault::new(reason::NOT_AUTHORIZED, why));
        }
        let Some(login) = login else {
            let why = "a client without a name, and the configuration has no [anonymous]";
            return self.anonymous.clone().ok_or_else(|| Fault::new(reason::NOT_AUTHORIZED, why));
        };
        self.check(login).await
    }

    async fn check(&self, login: Login) -> Result<Arc<Access>, Fault> {
        let refused = || Fault::new(reason::BAD_CREDENTIALS, "a wrong user name or password");
        let user = self.users.get(&login.user);
        // For an unknown name the work is done all the same, so that time does not tell names.
        let Some((hash, _)) = user.or_else(|| self.users.values().next()) else {
            return Err(refused());
        };
        let hash = hash.clone();
        let _permit = self.checks.acquire().await.map_err(|_| refused())?;
        let verified = tokio::task::spawn_blocking(move || verify(&login.password, &hash)).await;
        match (verified, user) {
            (Ok(true), Some((_, access))) => Ok(Arc::clone(access)),
            _ => Err(refused()),
        }
    }
}

fn verify(password: &[u8], hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

/// Checks that `hash` is an argon2id hash in PHC form.
///
/// # Errors
/// A text that says how to make one.
pub fn check_password_hash(hash: &str) -> Result<(), String> {
    let remedy = "print one with `headwater passwd`";
    match PasswordHash::new(hash) {
        Err(problem) => Err(format!("not a password hash ({problem}): {remedy}")),
        Ok(parsed) if parsed.algorithm.as_str() != Algorithm::Argon2id.ident().as_str() => {
            Err(format!("a hash by {}, argon2id is needed: {remedy}", parsed.algorithm))
        }
        Ok(parsed) if parsed.hash.is_none() || parsed.salt.is_none() => {
            Err(format!("a hash without its salt or its end: {remedy}"))
        }
        Ok(_) => Ok(()),
    }
}

/// The argon2id hash of a password in PHC form, with a salt of its own.
///
/// # Errors
/// A text, where the machine gives no random numbers or the password is longer than 4 GiB.
pub fn hash_password(password: &str) -> Result<String, String> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|problem| format!("no hash could be made: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UserConfig;

    fn rules(publish: &[&str], subscribe: &[&str], deny: &[&str]) -> RulesConfig {
        let own = |filters: &[&str]| filters.iter().map(|f| (*f).to_owned()).collect();
        RulesConfig { publish: own(publish), subscribe: own(subscribe), deny: own(deny) }
    }

    fn gate(users: Vec<UserConfig>, anonymous: Option<RulesConfig>) -> Gate {
        Gate::new(&MqttConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            unix: None,
            tls: None,
            websocket: None,
            max_connections: 1,
            max_packet_bytes: 1 << 16,
            users,
            anonymous,
        })
    }

    fn login(user: &str, password: &str) -> Option<Login> {
        Some(Login { user: user.to_owned(), password: password.into() })
    }

    fn peer(address: [u8; 4]) -> Peer {
        Peer::from(std::net::SocketAddr::from((address, 1)))
    }

    #[test]
    fn a_subscription_is_allowed_only_as_a_whole() {
        for (allowed, filter, expected) in [
            ("plant/#", "plant/7/+", true),
            ("plant/#", "plant", true),
            ("plant/#", "#", false),
            ("plant/+", "plant/#", false),
            ("plant/+", "plant/+", true),
            ("+/a", "x/a", true),
            ("#", "$SYS/#", false),
            ("a", "a/b", false),
        ] {
            assert_eq!(covers(allowed, filter), expected, "{allowed} {filter}");
        }
    }

    #[test]
    fn deny_wins_over_publish_and_subscribe() {
        let access = Access::Rules(rules(&["plant/#"], &["plant/#"], &["plant/secret/#"]));
        assert!(access.may_publish("plant/7") && !access.may_publish("plant/secret/x"));
        assert!(access.may_subscribe("plant/#") && !access.may_subscribe("plant/secret/x"));
        assert!(access.may_receive("plant/7") && !access.may_receive("plant/secret/x"));
    }

    #[tokio::test]
    async fn a_user_enters_with_the_right_password_only() {
        let hash = hash_password("geheim").expect("a hash");
        assert_eq!(check_password_hash(&hash), Ok(()));
        let user = UserConfig {
            name: "pump-7".to_owned(),
            password_hash: hash,
            rules: rules(&["a"], &[], &[]),
        };
        let gate = gate(vec![user], None);
        let peer = peer([10, 0, 0, 1]);
        let access = gate.enter(login("pump-7", "geheim"), &peer).await.expect("let in");
        assert!(access.may_publish("a") && !access.may_publish("b"));
        for (login, expected) in [
            (login("pump-7", "falsch"), reason::BAD_CREDENTIALS),
            (login("pump-8", "geheim"), reason::BAD_CREDENTIALS),
            (None, reason::NOT_AUTHORIZED),
        ] {
            let fault = gate.enter(login, &peer).await.expect_err("refused");
            assert_eq!(fault.reason, expected);
        }
    }

    #[tokio::test]
    async fn without_users_only_loopback_enters_unless_anonymous_is_configured() {
        let closed = gate(vec![], None);
        assert!(closed.enter(None, &peer([127, 0, 0, 1])).await.is_ok());
        assert!(closed.enter(None, &peer([10, 0, 0, 1])).await.is_err());
        let open = gate(vec![], Some(rules(&["#"], &[], &[])));
        assert!(open.enter(None, &peer([10, 0, 0, 1])).await.is_ok());
        assert!(open.enter(login("x", "y"), &peer([10, 0, 0, 1])).await.is_err());
    }

    #[test]
    fn what_is_no_argon2id_hash_says_how_to_make_one() {
        for hash in ["geheim", "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g", "$argon2id$"] {
            let problem = check_password_hash(hash).expect_err(hash);
            assert!(problem.contains("headwater passwd"), "{problem}");
        }
    }
}
