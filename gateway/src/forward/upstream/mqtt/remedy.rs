//! What a refusal of the peer means, and what to do about it.

use super::packet::Refusal;
use crate::forward::upstream::Fault;

/// What the peer refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum What<'a> {
    Connection,
    Message {
        stream: &'a str,
        topic: &'a str,
    },
    /// It ended a connection on which messages went.
    Link,
}

/// The fault behind a refusal by `broker` of what `client` does.
pub(super) fn fault(refusal: &Refusal, what: What<'_>, broker: &str, client: &str) -> Fault {
    let what = match what {
        What::Connection => format!("{broker} refuses the connection"),
        What::Message { stream, topic } => {
            format!("{broker} refuses a message of {stream} on {topic:?}")
        }
        What::Link => format!("{broker} ended the connection"),
    };
    let why = match refusal {
        Refusal::Busy(why) => return Fault::retry(format!("{what} for now ({why})")),
        Refusal::Credentials => {
            "wrong user name or password: set username and password of the upstream".to_owned()
        }
        Refusal::NotAuthorized => format!(
            "not authorized: give the user, or the client id {client:?}, the right to publish \
             there; towards another Headwater gateway its [[user]] needs publish = [...] and \
             gateway = \"...\" with this gateway's id"
        ),
        Refusal::ClientId => {
            format!("the client id {client:?} is not taken there: set client_id of the upstream")
        }
        Refusal::Version => {
            "it does not speak this version of MQTT: set version = \"3.1.1\" or \"5\"".to_owned()
        }
        Refusal::Topic => "it takes no such topic: choose another topic for the route".to_owned(),
        Refusal::Payload => {
            "it does not take the payload: choose another format for the route, or remove the \
             check there"
                .to_owned()
        }
        Refusal::TooLarge => "the packet is too large there: raise its limit".to_owned(),
        Refusal::Quota => "its quota is used up: raise it there".to_owned(),
        Refusal::TakenOver => format!(
            "another client uses the client id {client:?}: give each its own by client_id of the \
             upstream"
        ),
        Refusal::Other(why) => format!("{why}: its log may say more"),
    };
    Fault::refused(format!("{what}: {why}. Nothing is skipped, it is tried again"))
}
