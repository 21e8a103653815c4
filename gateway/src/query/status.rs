//! What a query shows and counts.

use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

/// How a query stands, for the API and the page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueryStatus {
    /// The query, which is also the name of its stream.
    pub name: String,
    /// Its statement.
    pub sql: String,
    /// The offset of the next record that it reads.
    pub position: u64,
    /// Records of the journal that it has not read yet.
    pub lag: u64,
    /// Rows of windows written since the first start.
    pub emitted: u64,
    /// Rows that came after their window was closed, since the first start.
    pub late: u64,
    /// Windows that are open.
    pub open_windows: u64,
    /// The lowest watermark of the groups with open windows, ms since 1970; the highest of all
    /// where none is open.
    pub watermark_ms: Option<i64>,
    /// The last fault, in words.
    pub last_error: Option<String>,
}

/// The status, shared between the runner and who shows it.
#[derive(Debug, Default)]
pub(super) struct SharedStatus(Mutex<QueryStatus>);

impl SharedStatus {
    pub(super) fn new(name: &str, sql: &str) -> Self {
        let status =
            QueryStatus { name: name.to_owned(), sql: sql.to_owned(), ..QueryStatus::default() };
        Self(Mutex::new(status))
    }

    pub(super) fn get(&self) -> QueryStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut QueryStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The label of a query's metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueryLabel {
    /// The query's name.
    pub query: String,
}

/// What queries count, by query.
#[derive(Clone, Debug, Default)]
pub struct QueryMetrics {
    /// Rows read.
    pub rows: Family<QueryLabel, Counter>,
    /// Rows of windows written.
    pub emitted: Family<QueryLabel, Counter>,
    /// Rows that came after their window was closed.
    pub late: Family<QueryLabel, Counter>,
    /// Rows without a usable group key or time, and records that do not read as their stream says.
    pub unusable: Family<QueryLabel, Counter>,
    /// Values that were no number where an aggregate needs one.
    pub not_numbers: Family<QueryLabel, Counter>,
    /// Windows closed before their time because too many were open.
    pub closed_early: Family<QueryLabel, Counter>,
    /// Groups whose watermark was forgotten because there were too many.
    pub forgotten: Family<QueryLabel, Counter>,
    /// Records of the journal that could not be read.
    pub lost: Family<QueryLabel, Counter>,
    /// Rows that were too large to be written.
    pub too_large: Family<QueryLabel, Counter>,
    /// Windows that are open.
    pub open_windows: Family<QueryLabel, Gauge>,
    /// Records of the journal that are not read yet.
    pub lag: Family<QueryLabel, Gauge>,
}

impl QueryMetrics {
    /// Names the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let mut add = |name, help, counter: &Family<QueryLabel, Counter>| {
            registry.register(name, help, counter.clone());
        };
        add("query_rows", "Rows read by queries", &self.rows);
        add("query_emitted", "Rows of windows written", &self.emitted);
        add("query_late", "Rows that came after their window was closed", &self.late);
        add("query_unusable", "Rows without a usable key or time", &self.unusable);
        add("query_not_numbers", "Values that were no number in an aggregate", &self.not_numbers);
        add("query_closed_early", "Windows closed before their time", &self.closed_early);
        add("query_forgotten", "Groups whose watermark was forgotten", &self.forgotten);
        add("query_lost_records", "Journal records that queries could not read", &self.lost);
        add("query_too_large", "Rows too large to be written", &self.too_large);
        registry.register("query_open_windows", "Open windows", self.open_windows.clone());
        registry.register("query_lag_records", "Records not read yet", self.lag.clone());
    }
}
