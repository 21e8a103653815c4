//! What an error of a Kafka cluster means and what to do about it.
//!
//! Numbers are the protocol's error codes; negative ones are the client's own (librdkafka's
//! `rd_kafka_resp_err_t`).

use crate::forward::upstream::{Fault, FaultKind};

/// INVALID_PRODUCER_EPOCH, PRODUCER_FENCED, and the client's word for both.
const FENCED: [i32; 3] = [47, 90, -144];

/// Another gateway has this one's identity.
pub(in crate::forward) fn rival() -> Fault {
    Fault::fenced(
        "another gateway with this id and data directory took over (a copied data directory?). \
         Stop one of the two; the copy needs a data directory of its own. Then restart this one",
    )
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
    if let Some((kind, remedy)) = code.and_then(remedy) {
        return Fault { kind, message: format!("{what}: {problem}: {remedy}") };
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
        // Credentials, SASL, its mechanism, TLS.
        -169 | 58 | 33 | -181 => (Refused, "check sasl.* and ssl.* in the upstream's properties"),
        29 => (Refused, "give the user Write, Read, Describe and Create on the topic"),
        53 => (Refused, "give the user Write and Describe on the transactional id"),
        31 => (Refused, "give the user IdempotentWrite, and Create or make the topics by hand"),
        50 => (Refused, "set transaction.timeout.ms in properties, or raise the broker's maximum"),
        // A message, a batch of them.
        10 | 18 => {
            (Refused, "raise max.message.bytes of the topic, or lower message.max.bytes here")
        }
        32 => {
            (Refused, "raise message.timestamp.after.max.ms of the topic: a device's time is ahead")
        }
        // A policy, the replication factor, the topic's name.
        44 | 38 | 17 => (Refused, "make the topic by hand, with the stream's number of partitions"),
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
    }
}
