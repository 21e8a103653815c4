//! The OpenAPI document of the API.

use serde_json::{Value, json};

/// The document, version 3.1.
pub(super) fn document() -> Value {
    let name = json!({
        "name": "name", "in": "path", "required": true,
        "description": "Name of the stream", "schema": { "type": "string" },
    });
    let from = json!({
        "name": "from", "in": "query",
        "description": "An offset, `earliest`, `latest` or an RFC 3339 time; default earliest",
        "schema": { "type": "string" },
    });
    let limit = json!({
        "name": "limit", "in": "query", "description": "Records at most, up to 10000",
        "schema": { "type": "integer", "default": 100 },
    });
    let table = json!({
        "name": "name", "in": "path", "required": true,
        "description": "Name of the table", "schema": { "type": "string" },
    });
    let key = json!({
        "name": "key", "in": "query", "description": "The row of this key alone",
        "schema": { "type": "string" },
    });
    let after = json!({
        "name": "after", "in": "query",
        "description": "Rows behind this key; the `Link` of a full page has it",
        "schema": { "type": "string" },
    });
    let id = json!({
        "name": "id", "in": "path", "required": true,
        "description": "`id` of the route in /routes, percent-encoded",
        "schema": { "type": "string" },
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Headwater gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Streams, windows, routes and nodes of one gateway",
        },
        "servers": [{ "url": "/api/v1" }],
        "paths": {
            "/status": path("Everything the page shows, in one object", "application/json", &[]),
            "/streams": path("Streams with their counts", "application/json", &[]),
            "/streams/{name}/records":
                path("Records of a stream", "application/x-ndjson", &[&name, &from, &limit]),
            "/streams/{name}/tail":
                path("New records of a stream as they come", "text/event-stream", &[&name]),
            "/queries": path("Queries with position and lag", "application/json", &[]),
            "/routes": path("Routes with position, lag and last error", "application/json", &[]),
            "/sources": path("What comes in beside MQTT: position, state and last error", "application/json", &[]),
            "/tables": path("Tables with what they hold, state and last error", "application/json", &[]),
            "/tables/{name}": path(
                "Rows of a table, the last value of each key, in the order of keys",
                "application/x-ndjson",
                &[&table, &key, &after, &limit],
            ),
            "/routes/{id}/pause": action("Pauses a route; it stays so over restarts", &id),
            "/routes/{id}/resume": action("Lets a paused route go on", &id),
            "/nodes": path("Nodes that were heard", "application/json", &[]),
            "/gaps": path("What is missing, and why", "application/json", &[]),
            "/config": path("The configuration, secrets masked", "application/json", &[]),
        },
    })
}

fn path(summary: &str, kind: &str, parameters: &[&Value]) -> Value {
    json!({ "get": {
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": { "description": "OK", "content": { kind: {} } },
            "default": {
                "description": "What went wrong and what to do",
                "content": { "application/problem+json": {} },
            },
        },
    }})
}

/// A POST that changes something and answers with nothing.
fn action(summary: &str, id: &Value) -> Value {
    json!({ "post": {
        "summary": summary,
        "parameters": [id],
        "responses": {
            "204": { "description": "Done, and on disk" },
            "default": {
                "description": "What went wrong and what to do",
                "content": { "application/problem+json": {} },
            },
        },
    }})
}
