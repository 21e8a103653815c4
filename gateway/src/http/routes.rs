//! Pausing and resuming routes.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Context, Sources, problem};

pub(super) async fn pause(state: Context, id: Path<String>, headers: HeaderMap) -> Response {
    set(state, id, &headers, true).await
}

pub(super) async fn resume(state: Context, id: Path<String>, headers: HeaderMap) -> Response {
    set(state, id, &headers, false).await
}

async fn set(
    State(sources): Context,
    Path(id): Path<String>,
    headers: &HeaderMap,
    paused: bool,
) -> Response {
    if is_foreign(headers) {
        let detail = "a page of another site may not do this";
        return problem::problem(StatusCode::FORBIDDEN, detail);
    }
    let done = tokio::task::spawn_blocking(move || apply(&sources, &id, paused)).await;
    done.unwrap_or_else(|panic| problem::internal(&panic.to_string()))
}

fn apply(sources: &Arc<Sources>, id: &str, paused: bool) -> Response {
    for control in &sources.controls {
        match control.set(id, paused) {
            Ok(true) => return StatusCode::NO_CONTENT.into_response(),
            Ok(false) => {}
            Err(fault) => return problem::internal(&fault.to_string()),
        }
    }
    problem::not_found(&format!("there is no route {id:?}; /api/v1/routes lists them by id"))
}

/// Any page can make a browser send a POST to this machine; the browser says from which.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    origin.is_none_or(|(_, host)| Some(host) != text(header::HOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_site_is_told_from_our_own_and_from_programs() {
        let headers = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:8080".parse().expect("a host"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().expect("an origin"));
            }
            headers
        };
        assert!(!is_foreign(&headers(None)));
        assert!(!is_foreign(&headers(Some("http://127.0.0.1:8080"))));
        for foreign in ["http://example.com", "null", "http://127.0.0.1:80"] {
            assert!(is_foreign(&headers(Some(foreign))), "{foreign}");
        }
    }
}
