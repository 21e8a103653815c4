//! The request that makes a WebSocket of an HTTP connection (RFC 6455, section 4), and its answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

/// A request has to be no longer than this.
pub(super) const REQUEST_BYTES_MAX: usize = 8 << 10;

const HEADERS_MAX: usize = 64;

/// The subprotocol of MQTT 3.1.1 and 5.
const MQTT: &str = "mqtt";

/// What RFC 6455 adds to a client's key before it is hashed.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is said to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// WebSocket frames follow.
    Switch {
        response: String,
        /// The request is a page's in a browser, not a program's.
        from_page: bool,
    },
    /// The connection ends.
    Refuse { response: String, why: &'static str },
}

/// The answer to what has been read so far; none while more belongs to it.
pub(super) fn answer(bytes: &[u8]) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) if bytes.len() < REQUEST_BYTES_MAX => None,
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {
            Some(switch(&request).unwrap_or_else(|refusal| refusal))
        }
        Ok(httparse::Status::Complete(_)) => {
            Some(refuse("400 Bad Request", "", "frames come after the answer, not before"))
        }
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => Some(refuse(
            "431 Request Header Fields Too Large",
            "",
            "the request is longer than 8 KiB or has more than 64 headers",
        )),
        Err(_) => Some(refuse("400 Bad Request", "", "this is not HTTP; MQTT comes by WebSocket")),
    }
}

fn switch(request: &httparse::Request<'_, '_>) -> Result<Answer, Answer> {
    let asks = has(request, "connection", |token| token.eq_ignore_ascii_case("upgrade"))
        && has(request, "upgrade", |token| token.eq_ignore_ascii_case("websocket"));
    if request.method != Some("GET") || request.version != Some(1) || !asks {
        return Err(refuse(
            "426 Upgrade Required",
            "Upgrade: websocket\r\n",
            "here is MQTT over WebSocket; the page is at http.listen",
        ));
    }
    if !has(request, "sec-websocket-version", |version| version == "13") {
        return Err(refuse(
            "426 Upgrade Required",
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            "WebSocket comes in version 13 here",
        ));
    }
    if !has(request, "sec-websocket-protocol", |protocol| protocol == MQTT) {
        return Err(refuse("400 Bad Request", "", "offer the subprotocol \"mqtt\""));
    }
    let key = values(request, "sec-websocket-key").next().filter(|key| is_key(key));
    let Some(key) = key else {
        return Err(refuse(
            "400 Bad Request",
            "",
            "Sec-WebSocket-Key has to be 16 bytes in base64",
        ));
    };
    let accept = accept(key);
    Ok(Answer::Switch {
        response: format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {MQTT}\r\n\r\n"
        ),
        from_page: values(request, "origin").next().is_some(),
    })
}

fn refuse(status: &str, headers: &str, why: &'static str) -> Answer {
    let length = why.len() + 1;
    let connection = if headers.is_empty() { "close" } else { "Upgrade, close" };
    let response = format!(
        "HTTP/1.1 {status}\r\n{headers}Connection: {connection}\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{why}\n"
    );
    Answer::Refuse { response, why }
}

/// The values of a header that are text.
fn values<'a>(
    request: &'a httparse::Request<'_, '_>,
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    let named = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    named.filter_map(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
}

/// True if one of the header's values, which are lists, has a token that fits.
fn has(request: &httparse::Request<'_, '_>, name: &str, fits: impl Fn(&str) -> bool) -> bool {
    values(request, name).flat_map(|list| list.split(',')).any(|token| fits(token.trim()))
}

fn is_key(key: &str) -> bool {
    STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// The proof that the request was understood as one for a WebSocket.
fn accept(key: &str) -> String {
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(GUID);
    STANDARD.encode(digest.finish())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt\r\n\r\n";

    fn refused(request: &str) -> (String, &'static str) {
        match answer(request.as_bytes()) {
            Some(Answer::Refuse { response, why }) => (response, why),
            other => panic!("{request}: {other:?}"),
        }
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_the_rfc_does() {
        for end in 0..GOOD.len() {
            assert_eq!(answer(&GOOD.as_bytes()[..end]), None, "{end}");
        }
        let Some(Answer::Switch { response, from_page: false }) = answer(GOOD.as_bytes()) else {
            panic!("it is good");
        };
        assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(response.ends_with("Sec-WebSocket-Protocol: mqtt\r\n\r\n"));
    }

    #[test]
    fn a_page_is_told_from_a_program() {
        let request = GOOD.replace("Host: a\r\n", "Host: a\r\nOrigin: http://a\r\n");
        let answer = answer(request.as_bytes());
        assert!(matches!(answer, Some(Answer::Switch { from_page: true, .. })), "{answer:?}");
    }

    #[test]
    fn what_cannot_be_answered_says_what_is_wanted() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(REQUEST_BYTES_MAX));
        let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for (request, status, words) in [
            (plain.to_owned(), "426", "MQTT over WebSocket"),
            (GOOD.replace("GET", "POST"), "426", "MQTT over WebSocket"),
            (GOOD.replace("HTTP/1.1", "HTTP/1.0"), "426", "MQTT over WebSocket"),
            (GOOD.replace(": 13", ": 8"), "426", "version 13"),
            (GOOD.replace(", mqtt", ""), "400", "subprotocol"),
            (GOOD.replace("dGhl", ""), "400", "Sec-WebSocket-Key"),
            (format!("{GOOD}\u{1}"), "400", "after the answer"),
            (long, "431", "8 KiB"),
            ("\u{10}\u{1}\u{0}MQTT".to_owned(), "400", "not HTTP"),
        ] {
            let (response, why) = refused(&request);
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
            assert!(why.contains(words) && response.ends_with(&format!("\r\n\r\n{why}\n")));
            let length = format!("Content-Length: {}\r\n", why.len() + 1);
            assert!(response.contains(&length), "{response}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer_or_are_waited_for(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = answer(&bytes);
        }
    }
}
