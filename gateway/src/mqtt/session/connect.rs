//! CONNECT: what is refused, and what becomes of the session that an earlier connection left.

use super::change::Change;
use super::stored::Stored;
use crate::mqtt::packet::{Connect, Fault, Version, reason};
use crate::mqtt::share;
use crate::stream::is_topic;

/// The longest client id, in bytes; the specification asks for 23.
const CLIENT_BYTES_MAX: usize = 512;

/// Sessions that outlive their connections. Each costs its subscriptions and its position.
const SESSIONS_MAX: usize = 10_000;

/// The longest keep-alive, in seconds: a device without power is noticed after 1.5 times this.
/// MQTT 5 clients are told; 3.1.1 has no way to, so there the client's own value holds.
pub(crate) const KEEP_ALIVE_S_MAX: u16 = 60;

/// Refuses what no session can be made of.
pub(crate) fn examine(connect: &Connect) -> Result<(), Fault> {
    if connect.auth_method {
        let why = "enhanced authentication is not spoken here";
        return Err(Fault::new(reason::BAD_AUTH_METHOD, why));
    }
    if connect.client.is_empty() && connect.version == Version::V4 && !connect.clean {
        let why = "an empty client id cannot have a session that lasts";
        return Err(Fault::new(reason::CLIENT_ID_INVALID, why));
    }
    if share::is_shared(&connect.client) {
        let why = "a client id that looks like a shared subscription";
        return Err(Fault::new(reason::CLIENT_ID_INVALID, why));
    }
    if connect.client.len() > CLIENT_BYTES_MAX {
        let why = format!("a client id of more than {CLIENT_BYTES_MAX} bytes");
        return Err(Fault::new(reason::CLIENT_ID_INVALID, why));
    }
    if connect.will.as_ref().is_some_and(|will| !is_topic(&will.topic)) {
        return Err(Fault::new(reason::TOPIC_INVALID, "a will topic that is no topic"));
    }
    Ok(())
}

/// How a connection enters its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What CONNACK says.
    pub(crate) session_present: bool,
    /// The session's changes are recorded.
    pub(crate) recorded: bool,
    /// What has to be recorded first.
    pub(crate) change: Option<Change>,
    /// What the session starts with.
    pub(crate) stored: Stored,
}

/// Decides on clean start, resumption and expiry. `sessions` are recorded at the moment.
pub(crate) fn admit(
    connect: &Connect,
    stored: Option<Stored>,
    sessions: usize,
    now_ms: i64,
) -> Result<Entry, Fault> {
    let expiry_s = connect.expiry_s;
    match stored {
        Some(stored) if !connect.clean && !stored.expired(now_ms) => Ok(Entry {
            session_present: true,
            recorded: true,
            change: Some(Change::Resume { expiry_s }),
            stored,
        }),
        other if expiry_s > 0 => {
            if other.is_none() && sessions >= SESSIONS_MAX {
                let why = format!("{SESSIONS_MAX} lasting sessions are there already");
                return Err(Fault::new(reason::QUOTA, why));
            }
            let change = Some(Change::Begin { expiry_s });
            Ok(Entry { session_present: false, recorded: true, change, stored: Stored::default() })
        }
        other => Ok(Entry {
            session_present: false,
            recorded: false,
            change: other.map(|_| Change::End),
            stored: Stored::default(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::session::position::Position;
    use crate::mqtt::session::stored::FOREVER_S;

    fn connect(clean: bool, expiry_s: u32) -> Connect {
        Connect {
            version: Version::V5,
            client: "c".to_owned(),
            clean,
            keep_alive_s: 0,
            login: None,
            will: None,
            expiry_s,
            receive_maximum: 10,
            packet_bytes_max: u32::MAX,
            alias_max: 0,
            auth_method: false,
            incarnation: None,
        }
    }

    #[test]
    fn a_session_is_present_only_if_it_lasts_and_is_asked_for() {
        let stored = Stored::begin(60, 3);
        let resumed = admit(&connect(false, 60), Some(stored.clone()), 1, 0).expect("resumed");
        assert!(resumed.session_present && resumed.stored == stored);
        let clean = admit(&connect(true, 60), Some(stored.clone()), 1, 0).expect("clean");
        assert!(!clean.session_present && clean.stored == Stored::default());
        assert_eq!(clean.change, Some(Change::Begin { expiry_s: 60 }));
        let ended = admit(&connect(true, 0), Some(stored), 1, 0).expect("ended");
        assert_eq!((ended.change, ended.recorded), (Some(Change::End), false));
    }

    #[test]
    fn an_expired_session_is_not_present() {
        let mut stored = Stored::begin(60, 3);
        stored.apply(Change::Detach { at_ms: 0, expiry_s: 60, position: Position::default() }, 4);
        let entry = admit(&connect(false, FOREVER_S), Some(stored), 1, 60_000).expect("new");
        assert!(!entry.session_present);
        assert_eq!(entry.change, Some(Change::Begin { expiry_s: FOREVER_S }));
    }

    #[test]
    fn a_new_lasting_session_beyond_the_limit_is_refused() {
        let fault = admit(&connect(false, 60), None, SESSIONS_MAX, 0).expect_err("no room");
        assert_eq!(fault.reason, reason::QUOTA);
        assert!(admit(&connect(true, 0), None, SESSIONS_MAX, 0).is_ok(), "a clean one costs none");
    }

    #[test]
    fn what_cannot_be_a_session_is_refused_with_its_reason() {
        let mut v4 = connect(false, FOREVER_S);
        v4.version = Version::V4;
        v4.client.clear();
        assert_eq!(examine(&v4).expect_err("no id").reason, reason::CLIENT_ID_INVALID);
        v4.clean = true;
        assert_eq!(examine(&v4), Ok(()));
        let mut auth = connect(true, 0);
        auth.auth_method = true;
        assert_eq!(examine(&auth).expect_err("auth").reason, reason::BAD_AUTH_METHOD);
    }
}
