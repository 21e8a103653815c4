//! Page, API, metrics and health over HTTP. Reads only, but for pausing routes; everything comes from
//! the other rooms.

mod api;
mod guard;
mod openapi;
mod problem;
mod records;
mod routes;
mod tables;
mod wear;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde_json::Value as Json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::HttpConfig;
use crate::forward::RouteControl;
use crate::journal::Journal;
use crate::node::Nodes;
use crate::placement::PlacementMetrics;
use crate::sparkplug::Sparkplug;
use crate::stream::{Rows, StreamStats, Streams};
use crate::table::Tables;

const PAGE: &str = include_str!("page/index.html");

/// Asks a room for its part of the status.
pub type Ask = Arc<dyn Fn() -> Json + Send + Sync>;

/// Where the answers come from.
pub struct Sources {
    /// The gateway's id.
    pub id: String,
    /// What to know where the data directory was used on another machine before.
    pub moved: Option<&'static str>,
    /// When it started.
    pub started: Instant,
    /// The journal.
    pub journal: Journal,
    /// The routing table.
    pub streams: Arc<Streams>,
    /// Records to columns.
    pub rows: Rows,
    /// Counts of streams.
    pub stats: StreamStats,
    /// Nodes.
    pub nodes: Arc<Nodes>,
    /// Edge nodes of Sparkplug B.
    pub sparkplug: Arc<Sparkplug>,
    /// Metrics of all rooms.
    pub registry: Registry,
    /// Connections and messages of the front door.
    pub mqtt: Ask,
    /// A list of query statuses.
    pub queries: Ask,
    /// A list of route statuses.
    pub routes: Ask,
    /// A list of the statuses of what comes in beside MQTT.
    pub inbound: Ask,
    /// A list of the statuses of tables.
    pub tables: Ask,
    /// The rows of tables.
    pub table_rows: Arc<Tables>,
    /// Pauses and resumes routes, one an upstream.
    pub controls: Vec<RouteControl>,
    /// The logs beside the journal.
    pub logs: PlacementMetrics,
    /// The configuration, secrets masked.
    pub config: RwLock<Json>,
}

impl Sources {
    /// The configuration that holds, secrets masked.
    pub fn config(&self) -> Json {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another configuration holds.
    pub fn set_config(&self, masked: Json) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = masked;
    }
}

/// Names what this room counts itself.
pub fn register(registry: &mut Registry) {
    wear::register(registry);
}

impl Sources {
    /// Why the gateway is not ready; `None` when it is.
    fn not_ready(&self) -> Option<String> {
        let stats = self.journal.stats();
        let why = stats.last_error.unwrap_or_default();
        if self.journal.durable().closed {
            Some(format!("the journal takes no more: {why}"))
        } else if stats.failing {
            Some(format!("the journal cannot store, and nobody is acknowledged: {why}"))
        } else {
            self.journal.blocked().borrow().as_ref().map(ToString::to_string)
        }
    }
}

/// The listener of page, API and metrics.
pub struct HttpServer {
    listener: TcpListener,
    router: Router,
}

impl HttpServer {
    /// Takes the port.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub async fn bind(config: &HttpConfig, sources: Arc<Sources>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        Ok(Self { listener, router: router(config.token.clone(), sources) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` turns true.
    ///
    /// # Errors
    /// Where accepting fails for good.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) -> std::io::Result<()> {
        let stop = async move {
            // A sender that is gone has ended the gateway as well.
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        axum::serve(self.listener, self.router).with_graceful_shutdown(stop).await
    }
}

fn router(token: Option<String>, sources: Arc<Sources>) -> Router {
    let guarded = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/metrics", get(metrics))
        .nest("/api/v1", api::router())
        .layer(axum::middleware::from_fn_with_state(Arc::new(token), guard::check));
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .merge(guarded)
        .fallback(|| async { problem::not_found("there is nothing at this path") })
        .with_state(sources)
}

type Context = axum::extract::State<Arc<Sources>>;

async fn ready(axum::extract::State(sources): Context) -> Response {
    match sources.not_ready() {
        None => (StatusCode::OK, "ready\n").into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(axum::extract::State(sources): Context) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &sources.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(fault) => problem::internal(&fault.to_string()),
    }
}
