//! The API below `/api/v1`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;

use super::{Context, Sources, openapi, records, routes, tables, wear};

pub(super) fn router() -> Router<Arc<Sources>> {
    Router::new()
        .route("/status", get(status))
        .route("/streams", get(async |State(s): Context| Json(streams(&s))))
        .route("/streams/{name}/records", get(records::list))
        .route("/streams/{name}/tail", get(records::tail))
        .route("/queries", get(async |State(s): Context| Json((s.queries)())))
        .route("/routes", get(async |State(s): Context| Json((s.routes)())))
        .route("/sources", get(async |State(s): Context| Json((s.inbound)())))
        .route("/tables", get(async |State(s): Context| Json((s.tables)())))
        .route("/tables/{name}", get(tables::rows))
        .route("/routes/{id}/pause", post(routes::pause))
        .route("/routes/{id}/resume", post(routes::resume))
        .route("/nodes", get(async |State(s): Context| Json(json!(s.nodes.status()))))
        .route("/gaps", get(async |State(s): Context| Json(gaps(&s))))
        .route("/config", get(async |State(s): Context| Json(s.config())))
        .route("/openapi.json", get(async || Json(openapi::document())))
}

async fn status(State(sources): Context) -> Response {
    let journal = sources.journal.stats();
    let durable = sources.journal.durable();
    let reads = sources.journal.reads();
    let blocked = sources.journal.blocked().borrow().as_ref().map(ToString::to_string);
    Json(json!({
        "gateway": {
            "id": sources.id,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": sources.started.elapsed().as_secs(),
            "ready": sources.not_ready().is_none(),
            "moved": sources.moved,
        },
        "journal": {
            "start": journal.start,
            "end": durable.end,
            "bytes": journal.bytes,
            "commits": journal.commits,
            "records": journal.records,
            "writes": journal.counters.writes,
            "syncs": journal.counters.syncs,
            "bytes_written": journal.counters.bytes_issued,
            "last_error": journal.last_error,
            "dropped_past_keep": journal.dropped_past_keep,
            "blocked": blocked,
            "reads_from_memory": reads.memory,
            "reads_from_disk": reads.disk,
        },
        "logs": sources.logs.statuses(),
        "wear": wear::wear(&sources),
        "mqtt": (sources.mqtt)(),
        "streams": streams(&sources),
        "queries": (sources.queries)(),
        "routes": (sources.routes)(),
        "sources": (sources.inbound)(),
        "tables": (sources.tables)(),
        "nodes": sources.nodes.status(),
        "edge_nodes": sources.sparkplug.status(),
        "gaps": { "total": sources.stats.gaps().0 },
    }))
    .into_response()
}

fn streams(sources: &Sources) -> Value {
    let streams = sources.streams.iter().map(|stream| {
        let stats = sources.stats.of(&stream.partitions);
        let config = stream.config.as_ref();
        json!({
            "name": stream.name,
            "topic": config.map(|config| config.topic.to_string()),
            "format": config.map(|config| config.format.name()),
            "partitions": stream.partitions.len(),
            "records": stats.records,
            "bytes": stats.bytes,
            "newest_ms": stats.newest_ms,
        })
    });
    Value::Array(streams.collect())
}

fn gaps(sources: &Sources) -> Value {
    let (total, newest) = sources.stats.gaps();
    let newest: Vec<Value> = newest
        .into_iter()
        .map(|(offset, number, gap)| {
            let place = sources.streams.partition(number);
            json!({
                "offset": offset,
                "stream": place.map(|place| place.stream.as_str()),
                "partition": place.map(|place| place.partition),
                "gap": gap["gap"],
            })
        })
        .collect();
    json!({ "total": total, "newest": newest })
}
