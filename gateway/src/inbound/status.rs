//! What can be seen of sources: status for API and page, counters for metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tracing::{info, warn};

use super::origin::Skipped;

/// How a source does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InboundState {
    /// It is being opened.
    Connecting,
    /// Records come.
    Running,
    /// Something failed; it is tried again.
    Retrying,
    /// It does not go on until somebody has done what `last_error` says.
    Stopped,
}

/// A source, as API and page show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InboundStatus {
    /// Its name, such as `outbox/orders`.
    pub name: String,
    /// How it does.
    pub state: InboundState,
    /// What failed last and what to do about it; stays until records come again, or all
    /// that there is is known to be here.
    pub last_error: Option<String>,
    /// Records stored since the start.
    pub records: u64,
    /// Records since the start whose time to live was over.
    pub expired: u64,
    /// Records that were deleted there before they were read, as found since the start.
    pub missed: u64,
    /// The first position that is not stored, by source.
    pub positions: BTreeMap<String, u64>,
}

type Labels = Vec<(&'static str, String)>;

/// Counters of all sources.
#[derive(Clone, Debug, Default)]
pub struct InboundMetrics {
    records: Family<Labels, Counter>,
    retries: Family<Labels, Counter>,
    expired: Family<Labels, Counter>,
    missed: Family<Labels, Counter>,
}

impl InboundMetrics {
    /// Names the counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("inbound_records", "Records stored of a source", self.records.clone());
        let help = "Faults after which a source was opened again";
        registry.register("inbound_retries", help, self.retries.clone());
        let help = "Records whose time to live was over before they were stored";
        registry.register("inbound_expired", help, self.expired.clone());
        let help = "Records that were deleted at their source before they were read";
        registry.register("inbound_missed", help, self.missed.clone());
    }
}

/// The status of one source, shared with whoever asks.
#[derive(Clone)]
pub(super) struct Score {
    status: Arc<Mutex<InboundStatus>>,
    records: Counter,
    retries: Counter,
    expired: Counter,
    missed: Counter,
}

impl Score {
    pub(super) fn new(name: &str, metrics: &InboundMetrics) -> Self {
        let labels = vec![("source", name.to_owned())];
        let status = InboundStatus {
            name: name.to_owned(),
            state: InboundState::Connecting,
            last_error: None,
            records: 0,
            expired: 0,
            missed: 0,
            positions: BTreeMap::new(),
        };
        Self {
            status: Arc::new(Mutex::new(status)),
            records: metrics.records.get_or_create_owned(&labels),
            retries: metrics.retries.get_or_create_owned(&labels),
            expired: metrics.expired.get_or_create_owned(&labels),
            missed: metrics.missed.get_or_create_owned(&labels),
        }
    }

    pub(super) fn get(&self) -> InboundStatus {
        self.lock().clone()
    }

    pub(super) fn running(&self) {
        let mut status = self.lock();
        if status.state != InboundState::Running {
            info!(source = status.name, "records come in");
        }
        status.state = InboundState::Running;
    }

    pub(super) fn current(&self) {
        self.lock().last_error = None;
    }

    pub(super) fn sent(&self) {
        self.records.inc();
        let mut status = self.lock();
        status.records += 1;
        status.last_error = None;
    }

    pub(super) fn skipped(&self, Skipped { expired, missed }: Skipped) {
        self.expired.inc_by(expired);
        self.missed.inc_by(missed);
        let mut status = self.lock();
        status.expired += expired;
        status.missed += missed;
    }

    pub(super) fn settled(&self, source: &str, next: u64) {
        self.lock().positions.insert(source.to_owned(), next);
    }

    pub(super) fn failed(&self, is_final: bool, message: &str) {
        self.retries.inc();
        let mut status = self.lock();
        if status.last_error.as_deref() != Some(message) {
            warn!(source = status.name, problem = message, "nothing comes in");
        }
        status.last_error = Some(message.to_owned());
        status.state = if is_final { InboundState::Stopped } else { InboundState::Retrying };
    }

    fn lock(&self) -> MutexGuard<'_, InboundStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
