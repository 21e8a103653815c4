//! Records of a running gateway, through its API: pages of NDJSON, each with a link to the next.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde_json::Value as Json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::select::{Bound, Select};
use super::walk::Flow;
use crate::exit::{Code, Failure};

const PAGE_RECORDS: usize = 1000;
/// The longest record as JSON.
const LINE_MAX: usize = 64 << 20;
/// The gateway has to answer, and to go on answering, within this.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// A gateway that can be asked.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    authority: String,
    token: Option<String>,
}

impl Gateway {
    /// Reads `http://host:port`, and a token or `file:PATH` of one.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn parse(url: &str, token: Option<&str>) -> Result<Self, Failure> {
        let wrong = || {
            let fault = format!("--url {url:?}: write http://HOST:PORT, as [http] listen says");
            Failure::new(Code::Usage, fault)
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(wrong)?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let token = match token.map(|token| (token, token.strip_prefix("file:"))) {
            None => None,
            Some((_, Some(path))) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|problem| {
                    Failure::new(Code::NoInput, format!("--token {path}: {problem}"))
                })?;
                Some(text.trim().to_owned())
            }
            Some((token, None)) => Some(token.to_owned()),
        };
        Ok(Self { authority, token })
    }

    /// Gives each wanted record of a stream to `each`, in order.
    ///
    /// # Errors
    /// What the gateway answers, and those of `each`.
    pub(super) async fn records(
        &self,
        stream: &str,
        select: &Select,
        each: &mut dyn FnMut(&Json) -> Result<Flow, Failure>,
    ) -> Result<(), Failure> {
        let from = match select.from {
            Bound::Offset(offset) => offset.to_string(),
            Bound::Time(time_ms) => jiff::Timestamp::from_millisecond(time_ms)
                .map_or_else(|_| "earliest".to_owned(), |time| time.to_string()),
        };
        let mut path = format!("/api/v1/streams/{stream}/records?from={from}&limit={PAGE_RECORDS}");
        loop {
            let response = self.get(&path).await?;
            let next = link(&response);
            let mut lines = Body { body: response.into_body(), text: Vec::new() };
            while let Some(line) = lines.next().await? {
                let record: Json = serde_json::from_slice(&line)
                    .map_err(|problem| self.fault(&format!("answered no record: {problem}")))?;
                if record["offset"].as_u64().is_some_and(|offset| ends_before(select, offset)) {
                    return Ok(());
                }
                if has(select, &record) && each(&record)?.is_break() {
                    return Ok(());
                }
            }
            // A page that leads to itself is behind the newest record.
            match next.filter(|next| *next != path) {
                Some(next) => path = next,
                None => return Ok(()),
            }
        }
    }

    async fn get(&self, path: &str) -> Result<Response<Incoming>, Failure> {
        let response = timeout(ANSWER_TIME, self.ask(path)).await;
        let response = response.map_err(|_| self.fault("does not answer"))?;
        let response = response.map_err(|problem| self.fault(&problem))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let mut body = Body { body: response.into_body(), text: Vec::new() };
        let problem: Option<Json> =
            body.next().await?.and_then(|text| serde_json::from_slice(&text).ok());
        let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str());
        let detail = detail.unwrap_or(status.as_str());
        Err(match status {
            StatusCode::UNAUTHORIZED => {
                Failure::new(Code::Usage, format!("{detail}; give it as --token"))
            }
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => Failure::new(Code::Usage, detail),
            _ => self.fault(detail),
        })
    }

    async fn ask(&self, path: &str) -> Result<Response<Incoming>, String> {
        let text = |problem: &dyn std::fmt::Display| problem.to_string();
        let stream = TcpStream::connect(&self.authority).await.map_err(|p| text(&p))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|p| text(&p))?;
        // It ends with the response or with an error that the response shows as well.
        tokio::spawn(connection);
        let mut request = Request::get(path).header(header::HOST, &self.authority);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|p| text(&p))?;
        sender.send_request(request).await.map_err(|p| text(&p))
    }

    fn fault(&self, why: &str) -> Failure {
        Failure::new(
            Code::TryAgain,
            format!("the gateway at http://{}: {why}; is it running?", self.authority),
        )
    }
}

/// The body of an answer, line by line.
struct Body {
    body: Incoming,
    text: Vec<u8>,
}

impl Body {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let cut = |why: &str| Failure::new(Code::TryAgain, format!("the answer was cut: {why}"));
        let mut searched = 0;
        loop {
            if let Some(at) = self.text[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.text.drain(..=searched + at).collect();
                line.pop();
                return Ok(Some(line));
            }
            searched = self.text.len();
            if searched > LINE_MAX {
                return Err(cut("a line is longer than any record"));
            }
            let frame = timeout(ANSWER_TIME, self.body.frame()).await;
            match frame.map_err(|_| cut("the gateway does not go on"))? {
                Some(Ok(frame)) => {
                    self.text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
                }
                Some(Err(problem)) => return Err(cut(&problem.to_string())),
                None if self.text.is_empty() => return Ok(None),
                None => return Ok(Some(std::mem::take(&mut self.text))),
            }
        }
    }
}

/// Where `Link: <...>; rel="next"` leads.
fn link<B>(response: &Response<B>) -> Option<String> {
    let link = response.headers().get(header::LINK)?.to_str().ok()?;
    let (path, rest) = link.strip_prefix('<')?.split_once('>')?;
    (rest.contains("rel=\"next\"") && path.starts_with('/')).then(|| path.to_owned())
}

fn ends_before(select: &Select, offset: u64) -> bool {
    matches!(select.to, Some(Bound::Offset(end)) if end <= offset)
}

fn has(select: &Select, record: &Json) -> bool {
    let (Some(offset), Some(time_ms)) = (record["offset"].as_u64(), record["time"].as_i64()) else {
        return false;
    };
    let partition = record["partition"].as_u64();
    select.in_range(offset, time_ms)
        && select.partition.is_none_or(|wanted| partition == Some(wanted.into()))
        && select.key.as_deref().is_none_or(|wanted| record["key"].as_str() == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_named_by_scheme_host_and_port() {
        let authority = |url| Gateway::parse(url, None).map(|gateway| gateway.authority).ok();
        assert_eq!(authority("http://127.0.0.1:8080").as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(authority("http://gateway/").as_deref(), Some("gateway:80"));
        for url in ["127.0.0.1:8080", "https://gateway", "nowhere at all", ""] {
            assert_eq!(authority(url), None, "{url}");
        }
    }

    #[test]
    fn only_a_link_to_the_next_page_of_the_same_gateway_is_followed() {
        let link_of = |text: &str| {
            let response = Response::builder().header(header::LINK, text).body(());
            link(&response.expect("a header"))
        };
        assert_eq!(link_of("</api?from=3>; rel=\"next\"").as_deref(), Some("/api?from=3"));
        assert_eq!(link_of("<http://elsewhere/>; rel=\"next\""), None);
        assert_eq!(link_of("</api>; rel=\"prev\""), None);
    }
}
