//! Records of a stream: a page of NDJSON, or live as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{Context, Sources, problem};
use crate::journal::{ReadError, Reader};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;
/// A page stops after this many records of other streams, and its `Link` carries on from there.
const SCAN_MAX: usize = 200_000;
const READ_BYTES: usize = 256 << 10;
/// Events that a slow reader of a tail may be behind; then reading the journal waits for it.
const TAIL_AHEAD: usize = 64;

#[derive(Deserialize)]
pub(super) struct Page {
    from: Option<String>,
    limit: Option<usize>,
}

/// `GET /streams/{name}/records?from=&limit=`
pub(super) async fn list(
    State(sources): Context,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Response {
    let limit = page.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let read = tokio::task::spawn_blocking(move || {
        let partitions = partitions(&sources, &name)?;
        let from = start(&sources, &partitions, page.from.as_deref())?;
        let (lines, next) = read_page(&sources, &partitions, from, limit)?;
        Ok::<_, Box<Response>>((
            lines,
            format!("/api/v1/streams/{name}/records?from={next}&limit={limit}"),
        ))
    })
    .await;
    match read {
        Ok(Ok((lines, next))) => {
            let headers = [
                (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
                (header::LINK, format!("<{next}>; rel=\"next\"")),
            ];
            (headers, Body::from(lines)).into_response()
        }
        Ok(Err(problem)) => *problem,
        Err(fault) => problem::internal(&fault.to_string()),
    }
}

fn partitions(sources: &Sources, name: &str) -> Result<Vec<u16>, Box<Response>> {
    match sources.streams.get(name) {
        Some(stream) => Ok(stream.partitions.clone()),
        None => Err(Box::new(problem::not_found(&format!(
            "there is no stream {name:?}; /api/v1/streams lists them"
        )))),
    }
}

/// An offset, `earliest`, `latest` or a time.
fn start(sources: &Sources, partitions: &[u16], from: Option<&str>) -> Result<u64, Box<Response>> {
    let Some(from) = from else { return Ok(sources.journal.start_of(partitions)) };
    match from {
        "earliest" => return Ok(sources.journal.start_of(partitions)),
        "latest" => return Ok(sources.journal.durable().end),
        _ => {}
    }
    if let Ok(offset) = from.parse() {
        return Ok(offset);
    }
    if let Ok(time) = from.parse::<jiff::Timestamp>() {
        return sources
            .journal
            .offset_at(partitions, time.as_millisecond())
            .map_err(|fault| Box::new(problem::internal(&fault.to_string())));
    }
    Err(Box::new(problem::bad_request(&format!(
        "from={from:?} is no offset, not \"earliest\" or \"latest\", and no RFC 3339 time"
    ))))
}

/// The lines of a page and the offset after it.
fn read_page(
    sources: &Sources,
    partitions: &[u16],
    from: u64,
    limit: usize,
) -> Result<(Vec<u8>, u64), Box<Response>> {
    let mut reader = sources.journal.reader_of(partitions, from);
    let mut lines = Vec::new();
    let (mut found, mut scanned) = (0, 0);
    let mut next = from;
    loop {
        let records = match reader.read(READ_BYTES) {
            Ok(records) => records,
            Err(ReadError::Io(fault)) => return Err(Box::new(problem::internal(&fault))),
            // What is gone or damaged is skipped; /gaps and `log verify` name it.
            Err(_) => continue,
        };
        if records.is_empty() {
            return Ok((lines, next));
        }
        for record in &records {
            next = record.offset + 1;
            scanned += 1;
            if partitions.contains(&record.partition) {
                lines.extend_from_slice(sources.rows.record_json(record).to_string().as_bytes());
                lines.push(b'\n');
                found += 1;
            }
            if found >= limit || scanned >= SCAN_MAX {
                return Ok((lines, next));
            }
        }
    }
}

/// `GET /streams/{name}/tail`
pub(super) async fn tail(State(sources): Context, Path(name): Path<String>) -> Response {
    let partitions = match partitions(&sources, &name) {
        Ok(partitions) => partitions,
        Err(problem) => return *problem,
    };
    let (sender, receiver) = mpsc::channel(TAIL_AHEAD);
    let reader = sources.journal.reader(sources.journal.durable().end);
    tokio::spawn(follow(sources, partitions, reader, sender));
    Sse::new(Events(receiver)).keep_alive(KeepAlive::default()).into_response()
}

async fn follow(
    sources: Arc<Sources>,
    partitions: Vec<u16>,
    mut reader: Reader,
    sender: mpsc::Sender<Result<Event, Infallible>>,
) {
    loop {
        tokio::select! {
            more = reader.wait() => if !more { return },
            () = sender.closed() => return,
        }
        let Ok(records) = reader.read(READ_BYTES) else { continue };
        for record in records.iter().filter(|record| partitions.contains(&record.partition)) {
            let event = Event::default()
                .id(record.offset.to_string())
                .data(sources.rows.record_json(record).to_string());
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
        }
    }
}

struct Events(mpsc::Receiver<Result<Event, Infallible>>);

impl futures_core::Stream for Events {
    type Item = Result<Event, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
