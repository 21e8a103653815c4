//! What can be seen of routes: status for API and page, counters for metrics.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;
use tracing::{error, info, warn};

use super::policy::position::Position;
use crate::config::RouteConfig;

/// How a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteState {
    /// The upstream has not answered yet.
    Connecting,
    /// Records go.
    Running,
    /// Something failed; it is tried again.
    Retrying,
    /// Its link rests, or has no budget left today; `last_error` says until when.
    Held,
    /// It was told to wait.
    Paused,
    /// It does not go on before somebody has done what `last_error` says.
    Stopped,
}

/// A route, as API and page show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteStatus {
    /// Names it in the API: upstream, stream and topic.
    pub id: String,
    /// The stream.
    pub stream: String,
    /// The upstream.
    pub upstream: String,
    /// The topic there.
    pub topic: String,
    /// All offsets below are there, or are not the route's.
    pub position: u64,
    /// The same as a set of ranges, `[first, end)`: nearly always one.
    pub ranges: Position,
    /// Durable records of the journal that it has not dealt with.
    pub lag: u64,
    /// How it does.
    pub state: RouteState,
    /// What failed last and what to do about it, until records go again; or what it waits for.
    pub last_error: Option<String>,
    /// Transactions committed since the start.
    pub transactions: u64,
    /// How long the last one took, ms.
    pub transaction_ms: u64,
    /// Records confirmed since the start.
    pub records: u64,
    /// Bytes of keys and values of these.
    pub bytes: u64,
    /// Records since the start that it refused for good: they are in `<stream>.dead`.
    pub refused: u64,
    /// Faults since the start after which the upstream was opened again.
    pub retries: u64,
}

type Labels = Vec<(&'static str, String)>;

/// Counters of all forwarders, by upstream, stream and topic.
#[derive(Clone, Debug, Default)]
pub struct ForwardMetrics {
    records: Family<Labels, Counter>,
    bytes: Family<Labels, Counter>,
    transactions: Family<Labels, Counter>,
    gaps: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    retries: Family<Labels, Counter>,
    position: Family<Labels, Gauge<u64, AtomicU64>>,
    stopped: Family<Labels, Gauge<u64, AtomicU64>>,
    held: Family<Labels, Gauge<u64, AtomicU64>>,
    paused: Family<Labels, Gauge<u64, AtomicU64>>,
    lag: Family<Labels, Gauge<u64, AtomicU64>>,
    transaction_ms: Family<Labels, Gauge<u64, AtomicU64>>,
    wire_bytes: Family<Labels, Counter>,
}

/// What went out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    records: u64,
    bytes: u64,
    gaps: u64,
}

impl Sent {
    /// One more record, of so many bytes.
    pub(super) fn add(&mut self, bytes: u64, is_gap: bool) {
        self.records += 1;
        self.bytes += bytes;
        self.gaps += u64::from(is_gap);
    }
}

/// Bytes that an upstream's client has sent and received, headers of its protocol included.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire {
    pub(super) sent: Counter,
    pub(super) received: Counter,
}

impl ForwardMetrics {
    /// The counters of an upstream that tells what is on the wire.
    pub(super) fn wire(&self, upstream: &str) -> Wire {
        let of = |direction: &str| {
            let labels =
                vec![("upstream", upstream.to_owned()), ("direction", direction.to_owned())];
            self.wire_bytes.get_or_create_owned(&labels)
        };
        Wire { sent: of("sent"), received: of("received") }
    }

    /// Names the counters.
    pub fn register(&self, registry: &mut Registry) {
        let mut add = |name: &str, help: &str, family: &Family<Labels, Counter>| {
            registry.register(name, help, family.clone());
        };
        add("forward_records", "Records confirmed by the upstream", &self.records);
        add("forward_transactions", "Transactions confirmed", &self.transactions);
        add("forward_gaps", "Gap records among them", &self.gaps);
        add("forward_refused", "Records that went to dead letters, and as gaps", &self.refused);
        add("forward_retries", "Faults after which the upstream was opened again", &self.retries);
        let bytes = self.bytes.clone();
        let help = "Bytes of keys and values confirmed";
        registry.register_with_unit("forward", help, Unit::Bytes, bytes);
        let wire_bytes = self.wire_bytes.clone();
        let help = "Bytes on the wire, without those of TLS and TCP";
        registry.register_with_unit("forward_wire", help, Unit::Bytes, wire_bytes);
        let help = "Offset of the journal below which the upstream has everything";
        registry.register("forward_position", help, self.position.clone());
        let mut add = |name: &str, help: &str, family: &Family<Labels, Gauge<u64, AtomicU64>>| {
            registry.register(name, help, family.clone());
        };
        add(
            "forward_stopped",
            "1 for a route that waits for somebody to cure what its last error says",
            &self.stopped,
        );
        add("forward_held", "1 for a route whose link rests or has no budget left", &self.held);
        add("forward_paused", "1 for a route that was told to wait", &self.paused);
        add("forward_lag", "Durable records that the route has not dealt with", &self.lag);
        let help = "How long the last transaction took, ms";
        add("forward_transaction_ms", help, &self.transaction_ms);
    }
}

/// One route's numbers; what was sent counts when it is confirmed.
struct Row {
    status: RouteStatus,
    records: Counter,
    bytes: Counter,
    transactions: Counter,
    gaps: Counter,
    refused: Counter,
    retries: Counter,
    position: Gauge<u64, AtomicU64>,
    stopped: Gauge<u64, AtomicU64>,
    held: Gauge<u64, AtomicU64>,
    paused: Gauge<u64, AtomicU64>,
    lag: Gauge<u64, AtomicU64>,
    transaction_ms: Gauge<u64, AtomicU64>,
    /// In the transaction that is open.
    sent: Sent,
}

/// The numbers of an upstream's routes, shared with whoever asks.
#[derive(Clone)]
pub(super) struct Scores {
    rows: Arc<Mutex<Vec<Row>>>,
}

impl Scores {
    pub(super) fn new(routes: &[RouteConfig], metrics: &ForwardMetrics) -> Self {
        let rows = routes.iter().map(|route| row(route, metrics)).collect();
        Self { rows: Arc::new(Mutex::new(rows)) }
    }

    /// The state of all routes, for a journal that ends at `end`.
    pub(super) fn statuses(&self, end: u64) -> Vec<RouteStatus> {
        let status = |row: &Row| {
            let mut status = row.status.clone();
            status.lag = status.ranges.missing(end);
            status
        };
        self.lock().iter().map(status).collect()
    }

    /// These went out, by route.
    pub(super) fn sent(&self, counts: &[Sent]) {
        for (row, sent) in self.lock().iter_mut().zip(counts) {
            row.sent.records += sent.records;
            row.sent.bytes += sent.bytes;
            row.sent.gaps += sent.gaps;
        }
    }

    /// A record went to the dead letters.
    pub(super) fn refused(&self, route: usize, offset: u64, reason: &str) {
        let row = &mut self.lock()[route];
        row.refused.inc();
        row.status.refused += 1;
        let RouteStatus { stream, topic, .. } = &row.status;
        warn!(
            stream,
            topic,
            offset,
            reason,
            "a record is refused for good; a gap goes in its place, and the record to the \
             stream of dead letters"
        );
    }

    pub(super) fn committed(&self, routes: impl Iterator<Item = usize>, took_ms: u64) {
        let mut rows = self.lock();
        for route in routes {
            let row = &mut rows[route];
            row.records.inc_by(row.sent.records);
            row.bytes.inc_by(row.sent.bytes);
            row.gaps.inc_by(row.sent.gaps);
            row.transactions.inc();
            row.status.records += row.sent.records;
            row.status.bytes += row.sent.bytes;
            row.status.transactions += 1;
            row.status.transaction_ms = took_ms;
            row.transaction_ms.set(took_ms);
            row.status.last_error = None;
        }
        forget(&mut rows);
    }

    pub(super) fn abandoned(&self) {
        let mut rows = self.lock();
        forget(&mut rows);
        for row in rows.iter_mut() {
            row.retries.inc();
            row.status.retries += 1;
        }
    }

    /// `state`: `None` where it is as it was. The journal ends at `end`.
    pub(super) fn show(
        &self,
        route: usize,
        state: Option<RouteState>,
        error: Option<&str>,
        position: &Position,
        end: u64,
    ) {
        let row = &mut self.lock()[route];
        row.position.set(position.next());
        row.lag.set(position.missing(end));
        let status = &mut row.status;
        let waited =
            matches!(status.state, RouteState::Held | RouteState::Paused | RouteState::Stopped);
        let state = match state {
            Some(state) => state,
            None if waited => RouteState::Connecting,
            None => status.state,
        };
        if waited && error.is_none() {
            status.last_error = None;
        }
        row.stopped.set(u64::from(state == RouteState::Stopped));
        row.held.set(u64::from(state == RouteState::Held));
        row.paused.set(u64::from(state == RouteState::Paused));
        status.position = position.next();
        status.ranges.clone_from(position);
        if let Some(error) = error
            && status.last_error.as_deref() != Some(error)
        {
            status.last_error = Some(error.to_owned());
            let RouteStatus { stream, upstream, topic, .. } = &*status;
            match state {
                RouteState::Held | RouteState::Paused => {
                    info!(upstream, stream, topic, why = error, "route waits");
                }
                RouteState::Stopped => error!(upstream, stream, topic, error, "route stopped"),
                _ => warn!(upstream, stream, topic, error, "route has to try again"),
            }
        }
        if status.state != state {
            let RouteStatus { stream, upstream, topic, .. } = &*status;
            if state == RouteState::Running {
                info!(upstream, stream, topic, position = position.next(), "route runs");
            }
            status.state = state;
        }
    }

    /// Nothing panics while it is held, so a poisoned lock is still sound.
    fn lock(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(rows: &mut [Row]) {
    for row in rows {
        row.sent = Sent::default();
    }
}

/// The name of a route in the API.
pub(super) fn route_id(route: &RouteConfig) -> String {
    format!("{}:{}:{}", route.upstream, route.stream, route.topic)
}

fn row(route: &RouteConfig, metrics: &ForwardMetrics) -> Row {
    let labels: Labels = vec![
        ("upstream", route.upstream.clone()),
        ("stream", route.stream.clone()),
        ("topic", route.topic.clone()),
    ];
    Row {
        status: RouteStatus {
            id: route_id(route),
            stream: route.stream.clone(),
            upstream: route.upstream.clone(),
            topic: route.topic.clone(),
            position: 0,
            ranges: Position::default(),
            lag: 0,
            state: RouteState::Connecting,
            last_error: None,
            transactions: 0,
            transaction_ms: 0,
            records: 0,
            bytes: 0,
            refused: 0,
            retries: 0,
        },
        records: metrics.records.get_or_create_owned(&labels),
        bytes: metrics.bytes.get_or_create_owned(&labels),
        transactions: metrics.transactions.get_or_create_owned(&labels),
        gaps: metrics.gaps.get_or_create_owned(&labels),
        refused: metrics.refused.get_or_create_owned(&labels),
        retries: metrics.retries.get_or_create_owned(&labels),
        position: metrics.position.get_or_create_owned(&labels),
        stopped: metrics.stopped.get_or_create_owned(&labels),
        held: metrics.held.get_or_create_owned(&labels),
        paused: metrics.paused.get_or_create_owned(&labels),
        lag: metrics.lag.get_or_create_owned(&labels),
        transaction_ms: metrics.transaction_ms.get_or_create_owned(&labels),
        sent: Sent::default(),
    }
}
