//! Rows of tables.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value as Json;

use super::{Context, problem};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;

#[derive(Deserialize)]
pub(super) struct Page {
    key: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /tables/{name}?key=&after=&limit=`
pub(super) async fn rows(
    State(sources): Context,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Response {
    let tables = &sources.table_rows;
    if !tables.contains(&name) {
        return problem::not_found(&format!(
            "there is no table {name:?}; /api/v1/tables lists them"
        ));
    }
    if let Some(key) = page.key {
        return match tables.row(&name, &key) {
            Some(row) => lines([&row], None),
            None => problem::not_found(&format!("the table {name} has no key {key:?}")),
        };
    }
    let limit = page.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let rows = tables.rows(&name, page.after.as_deref(), limit);
    let last = rows.last().filter(|_| rows.len() == limit).map(|(key, _)| encoded(key));
    let next = last.map(|key| format!("/api/v1/tables/{name}?after={key}&limit={limit}"));
    lines(rows.iter().map(|(_, row)| row), next)
}

fn lines<'a>(rows: impl IntoIterator<Item = &'a Json>, next: Option<String>) -> Response {
    let text: String = rows.into_iter().map(|row| format!("{row}\n")).collect();
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    match next {
        None => (kind, Body::from(text)).into_response(),
        Some(next) => {
            let link = [(header::LINK, format!("<{next}>; rel=\"next\""))];
            (kind, link, Body::from(text)).into_response()
        }
    }
}

/// As it stands in a query of a URL.
fn encoded(text: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let put = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(put).collect()
}
