//! What librdkafka tells: deliveries, trouble of connections, bytes on the wire.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use serde::Deserialize;

use super::oauth::Tokens;
use super::{refusals, remedy};
use crate::forward::status::Wire;
use crate::forward::upstream::{Fault, FaultKind};

/// Older trouble of a connection does not explain what fails now.
const TROUBLE_AGE_MAX: Duration = Duration::from_secs(60);

/// What the clients of one session told.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) deliveries: Mutex<Deliveries>,
    trouble: Mutex<Option<Trouble>>,
    wire: Option<Wire>,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

/// What became of what was sent and did not arrive.
#[derive(Default)]
pub(super) struct Deliveries {
    pub(super) failures: u64,
    pub(super) failed: Option<KafkaError>,
    /// Records that were refused for good, by their number in the transaction.
    pub(super) refused: Vec<(usize, i32)>,
}

#[derive(Clone)]
struct Trouble {
    at: Instant,
    code: i32,
    reason: String,
}

/// The context of each client.
pub(super) struct Watch {
    pub(super) watched: Arc<Watched>,
    pub(super) tokens: Option<Arc<Tokens>>,
}

/// The part of librdkafka's statistics that is used; all counters since the client was made.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    tx_bytes: u64,
    #[serde(default)]
    rx_bytes: u64,
}

impl Watched {
    /// Counts bytes in `wire`.
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire: Some(wire), ..Self::default() }
    }

    /// What an error means and what to do about it. A timeout says little; the connection's own
    /// trouble says why.
    pub(super) fn fault(&self, what: &str, problem: &KafkaError) -> Fault {
        let code = problem.rdkafka_error_code().map(|code| code as i32);
        let trouble = self.trouble();
        let last = trouble.as_ref().map(|trouble| (trouble.code, trouble.reason.as_str()));
        remedy::fault(what, &problem.to_string(), code, last)
    }

    /// Whether a connection failed for what a human has to cure.
    pub(super) fn is_refused(&self) -> bool {
        let kind = self.trouble().and_then(|trouble| remedy::kind(trouble.code));
        kind == Some(FaultKind::Refused)
    }

    fn trouble(&self) -> Option<Trouble> {
        lock(&self.trouble).clone().filter(|trouble| trouble.at.elapsed() < TROUBLE_AGE_MAX)
    }

    fn on_trouble(&self, code: Code, reason: &str) {
        // That all are down says less than why one is.
        if code == Code::AllBrokersDown && self.trouble().is_some() {
            return;
        }
        let code = remedy::meant(code as i32, reason);
        let trouble = Trouble { at: Instant::now(), code, reason: reason.to_owned() };
        *lock(&self.trouble) = Some(trouble);
    }

    fn on_statistics(&self, json: &[u8]) {
        let (Some(wire), Ok(now)) = (&self.wire, serde_json::from_slice::<Statistics>(json)) else {
            return;
        };
        let news =
            |last: &AtomicU64, now: u64| now.saturating_sub(last.swap(now, Ordering::Relaxed));
        wire.sent.inc_by(news(&self.sent_bytes, now.tx_bytes));
        wire.received.inc_by(news(&self.received_bytes, now.rx_bytes));
    }
}

impl ClientContext for Watch {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.watched.on_trouble(code, reason);
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.watched.on_statistics(statistics);
    }

    fn generate_oauth_token(
        &self,
        _config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens =
            self.tokens.as_ref().ok_or("sasl.oauthbearer.token.endpoint.url is not set")?;
        let token = tokens.current()?;
        Ok(OAuthToken {
            token: token.value,
            principal_name: token.principal,
            lifetime_ms: token.expires_ms,
        })
    }
}

impl ConsumerContext for Watch {}

impl ProducerContext for Watch {
    /// One more than the record's number in the transaction; 0 for a position.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        // Only those that fail are reported; the producer knows what is still under way.
        let Err((error, _)) = result else { return };
        let mut deliveries = lock(&self.watched.deliveries);
        deliveries.failures += 1;
        let code = error.rdkafka_error_code().map_or(0, |code| code as i32);
        if let Some(number) = number.checked_sub(1)
            && refusals::cause(code).is_some()
        {
            deliveries.refused.push((number, code));
        }
        deliveries.failed.get_or_insert_with(|| error.clone());
    }
}

/// No lock is held over code that can leave its data half changed, so a poisoned one is sound.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_all_brokers_are_down_does_not_hide_why() {
        let watched = Watched::default();
        assert!(!watched.is_refused());
        watched.on_trouble(Code::Authentication, "bad password");
        watched.on_trouble(Code::AllBrokersDown, "1/1 brokers are down");
        assert!(watched.is_refused());
        let timeout = KafkaError::Flush(Code::OperationTimedOut);
        let fault = watched.fault("x", &timeout);
        assert_eq!(fault.kind, FaultKind::Refused);
        assert!(fault.message.contains("bad password"), "{fault}");
    }

    #[test]
    fn bytes_on_the_wire_are_counted_once() {
        let wire = Wire::default();
        let watched = Watched::new(wire.clone());
        watched.on_statistics(br#"{"name":"x","tx_bytes":100,"rx_bytes":7,"brokers":{}}"#);
        watched.on_statistics(br#"{"tx_bytes":150,"rx_bytes":7}"#);
        watched.on_statistics(b"no statistics");
        assert_eq!((wire.sent.get(), wire.received.get()), (150, 7));
    }
}
