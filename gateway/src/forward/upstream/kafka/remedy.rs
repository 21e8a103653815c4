//! What an error of a Kafka cluster means and what to do about it.
//!
//! Numbers are the protocol's error codes; negative ones are the client's own (librdkafka's
//! `rd_kafka_resp_err_t`).

use crate::forward::upstream::{Fault, FaultKind};

/// INVALID_PRODUCER_EPOCH, PRODUCER_FENCED, and the client's word for both.
const FENCED: [i32; 3] = [47, 90, -144];

const TIMEOUT: &str = "raise transaction.max.timeout.ms of the brokers, or set \
                       transaction.timeout.ms in the upstream's properties";

/// Another gateway has this one's identity.
pub(in crate::forward) fn rival() -> Fault {
    Fault::fenced(
        "another gateway with this id and data directory took over (a copied data directory?). \
         Stop one of the two; the copy needs a data directory of its own. Then restart this one",
    )
}

/// A right on a topic is missing.
pub(in crate::forward) fn right(topic: &str, missing: &str) -> Fault {
    Fault::refused(format!(
        "topic {topic}: the user has no right {missing}: kafka-acls.sh --add --allow-principal \
         User:NAME --operation {missing} --topic {topic}"
    ))
}

/// The cluster allows no transaction to stay open as long as ours may.
pub(in crate::forward) fn timeout(ours_ms: u32, max_ms: u32) -> Fault {
    Fault::refused(format!(
        "transactions cannot be started: the cluster's transaction.max.timeout.ms is {max_ms}, ours \
         are {ours_ms}: {TIMEOUT}"
    ))
}

/// The number that says what a connection suffered: a broker that refuses our certificate closes it
/// with an alert, which the client takes for a lost one.
pub(in crate::forward) fn meant(code: i32, reason: &str) -> i32 {
    if code == -195 && reason.contains("SSL alert") { -181 } else { code }
}

/// What an error of this number means, if it is known.
pub(in crate::forward) fn kind(code: i32) -> Option<FaultKind> {
    remedy(code).map(|(kind, _)| kind)
}

/// True for an error that is about one topic and goes away only when somebody does something about
/// that one: it is invalid, a right is missing, or the cluster does not let it be made.
pub(in crate::forward) fn is_of_topic(code: Option<i32>) -> bool {
    matches!(code, Some(17 | 29 | 31 | 37..=40 | 44))
}

/// True where a right on a topic is missing.
pub(in crate::forward) fn is_right(code: Option<i32>) -> bool {
    code == Some(29)
}

/// `what` failed with `problem`, whose number is `code`; `last` is the last trouble that the client
/// had with a connection.
pub(in crate::forward) fn fault(
    what: &str,
    problem: &str,
    code: Option<i32>,
    last: Option<(i32, &str)>,
) -> Fault {
    if code.is_some_and(|code| FENCED.contains(&code)) {
        return rival();
    }
    let refused = |code: i32| kind(code) == Some(FaultKind::Refused);
    // A connection that was refused is lost as well, which says less.
    let says_why = last.is_some_and(|(last, _)| refused(last)) && !code.is_some_and(refused);
    if let Some((kind, remedy)) = code.filter(|_| !says_why).and_then(remedy) {
        let why = last.filter(|(last, _)| code == Some(*last));
        let why = why.map_or_else(String::new, |(_, reason)| format!(" ({reason})"));
        return Fault { kind, message: format!("{what}: {problem}{why}: {remedy}") };
    }
    match last.and_then(|(code, reason)| Some((remedy(code)?, reason))) {
        Some(((kind, remedy), reason)) => {
            Fault { kind, message: format!("{what}: {problem} ({reason}): {remedy}") }
        }
        None => Fault::retry(format!("{what}: {problem}; it is tried again")),
    }
}

fn remedy(code: i32) -> Option<(FaultKind, &'static str)> {
    use FaultKind::{Refused, Retry};
    Some(match code {
        // No broker up, connection lost, name not found.
        -187 | -195 | -193 => (Retry, "is the cluster up, and are the upstream's brokers right?"),
        -169 | 58 => (
            Refused,
            "the cluster does not know this user and password: check sasl.* in properties",
        ),
        33 => (Refused, "the cluster has another sasl.mechanism: check it in properties"),
        -181 => (
            Refused,
            "check ssl.* in properties: is ssl.ca.location the CA of the brokers, their address a \
             name in their certificate, and do they want ssl.certificate.location?",
        ),
        29 => (
            Refused,
            "give the user Write and Describe on the topic, Read too on headwater.positions, and \
             Create where it is to be made (kafka-acls.sh --add)",
        ),
        53 => (
            Refused,
            "give the user Write and Describe on transactional ids that begin with the gateway's \
             id (kafka-acls.sh --add --transactional-id ID. --resource-pattern-type prefixed)",
        ),
        31 => (Refused, "give the user Create on the cluster, or make the topics by hand"),
        50 => (Refused, TIMEOUT),
        // A message, a batch of them.
        10 | 18 => {
            (Refused, "raise max.message.bytes of the topic, or lower message.max.bytes here")
        }
        32 => {
            (Refused, "raise message.timestamp.after.max.ms of the topic: a device's time is ahead")
        }
        // A policy, the numbers of partitions and replicas, who has them, the topic's name.
        44 | 37 | 38 | 39 | 17 => {
            (Refused, "make the topic by hand, with the stream's number of partitions")
        }
        40 => (Refused, "check topic_config of the route"),
        // A feature, the version of a request.
        -165 | 35 => (Refused, "the brokers are too old for transactions"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_it_means_and_what_to_do() {
        let refused = fault("topic t", "no", Some(29), None);
        assert_eq!(refused.kind, FaultKind::Refused);
        assert!(refused.message.contains("give the user Write"), "{refused}");
        assert_eq!(fault("x", "fenced", Some(90), None).kind, FaultKind::Fenced);
        assert_eq!(fault("x", "odd", Some(-1), None).kind, FaultKind::Retry);
    }

    #[test]
    fn a_timeout_is_explained_by_the_connections_own_trouble() {
        let timeout = |last| fault("init", "timed out", Some(-185), Some(last));
        let down = timeout((-195, "Connection refused"));
        assert_eq!(down.kind, FaultKind::Retry);
        assert!(down.message.contains("Connection refused"), "{down}");
        assert!(down.message.contains("is the cluster up"), "{down}");
        assert_eq!(timeout((-169, "bad password")).kind, FaultKind::Refused);
        assert_eq!(timeout((-1, "odd")).kind, FaultKind::Retry);
        let lost =
            fault("metadata", "lost", Some(-195), Some((meant(-195, "SSL alert 42"), "why")));
        assert_eq!(lost.kind, FaultKind::Refused);
        assert!(lost.message.contains("(why): check ssl.*"), "{lost}");
    }
}
