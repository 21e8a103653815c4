//! OAUTHBEARER with client credentials: tokens from an endpoint over HTTP (RFC 6749, 4.4).
//!
//! librdkafka has this of its own where it is built with libcurl, which is another TLS library and
//! another 1 MB; the keys are the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::watch::lock;
use crate::config::Property;
use crate::fetch;
use crate::forward::upstream::Fault;

/// Properties that are ours, because librdkafka without libcurl does not know them.
pub(super) const URL: &str = "sasl.oauthbearer.token.endpoint.url";
const CLIENT_ID: &str = "sasl.oauthbearer.client.id";
const CLIENT_SECRET: &str = "sasl.oauthbearer.client.secret";
const SCOPE: &str = "sasl.oauthbearer.scope";
const METHOD: &str = "sasl.oauthbearer.method";
const CA: &str = "https.ca.location";
/// All of them.
pub(super) const OWN: [&str; 6] = [URL, CLIENT_ID, CLIENT_SECRET, SCOPE, METHOD, CA];

/// A token that says neither when it ends lives this long.
const LIFETIME_MS: i64 = 300_000;

/// Where tokens come from.
#[derive(Debug)]
pub(super) struct Endpoint {
    url: String,
    client_id: String,
    client_secret: String,
    scope: Option<String>,
    ca: Option<PathBuf>,
}

impl Endpoint {
    /// Reads the properties.
    ///
    /// # Errors
    /// The property that is wrong and what to write.
    pub(super) fn read(properties: &BTreeMap<String, Property>) -> Result<Self, (String, String)> {
        let get = |name: &str| properties.get(name).map(|value| value.value().to_owned());
        let need = |name: &str| {
            let fault = "OAUTHBEARER needs it; add it to properties".to_owned();
            get(name).ok_or_else(|| (name.to_owned(), fault))
        };
        if get(METHOD).is_some_and(|method| !method.eq_ignore_ascii_case("oidc")) {
            return Err((METHOD.to_owned(), "write \"oidc\", or remove it".to_owned()));
        }
        let endpoint = Self {
            url: need(URL)?,
            client_id: need(CLIENT_ID)?,
            client_secret: need(CLIENT_SECRET)?,
            scope: get(SCOPE),
            ca: get(CA).map(PathBuf::from),
        };
        fetch::check_url(&endpoint.url).map_err(|fault| (URL.to_owned(), fault))?;
        Ok(endpoint)
    }

    fn fetch(&self, now_ms: i64) -> Result<Token, Fault> {
        let credentials = format!("{}:{}", self.client_id, self.client_secret);
        let authorization = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        let mut body = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &self.scope {
            body.push_str("&scope=");
            body.push_str(&encoded(scope));
        }
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "application/json"),
        ];
        let url = &self.url;
        let answer =
            fetch::post_blocking(url, &headers, body, self.ca.as_deref()).map_err(|problem| {
                Fault::retry(format!(
                    "no token from {url}: {problem}; is it up, and is {URL} right?"
                ))
            })?;
        match answer {
            (200, body) => token(&body, now_ms, &self.client_id)
                .map_err(|problem| Fault::refused(format!("no token from {url}: {problem}"))),
            (status @ 400..500, body) => Err(Fault::refused(format!(
                "no token from {url}: it answered {status}{}: check {CLIENT_ID}, {CLIENT_SECRET} \
                 and {SCOPE} in the upstream's properties",
                reason(&body)
            ))),
            (status, body) => Err(Fault::retry(format!(
                "no token from {url}: it answered {status}{}; it is tried again",
                reason(&body)
            ))),
        }
    }
}

/// A token as librdkafka takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) value: String,
    pub(super) principal: String,
    pub(super) expires_ms: i64,
    /// From here on a new one is fetched.
    renew_ms: i64,
}

/// The tokens of an upstream, shared by all its clients.
#[derive(Debug)]
pub(super) struct Tokens {
    endpoint: Endpoint,
    newest: Mutex<Option<Token>>,
}

impl Tokens {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, newest: Mutex::default() }
    }

    /// A token with a good part of its life before it. May ask the endpoint, which takes seconds.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn current(&self) -> Result<Token, Fault> {
        let now_ms = now_ms();
        let mut newest = lock(&self.newest);
        if let Some(token) = newest.as_ref().filter(|token| now_ms < token.renew_ms) {
            return Ok(token.clone());
        }
        let token = self.endpoint.fetch(now_ms)?;
        *newest = Some(token.clone());
        Ok(token)
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
}

fn token(body: &[u8], now_ms: i64, client_id: &str) -> Result<Token, String> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|problem| format!("the answer has no access_token ({problem})"))?;
    let claims = claims(&answer.access_token);
    let in_ms = answer.expires_in.map(|s| now_ms.saturating_add(s.saturating_mul(1000)));
    // The token's own word is what brokers go by.
    let said_ms = claims.exp.filter(|exp| exp.is_finite()).map(|exp| (exp * 1000.0) as i64);
    let expires_ms = said_ms.or(in_ms).unwrap_or(now_ms.saturating_add(LIFETIME_MS));
    let left_ms = expires_ms.saturating_sub(now_ms);
    if left_ms <= 0 {
        return Err("the token has expired already: is the clock of this machine right?".to_owned());
    }
    Ok(Token {
        value: answer.access_token,
        principal: claims.sub.unwrap_or_else(|| client_id.to_owned()),
        expires_ms,
        // librdkafka asks for another at 80 % of what is left; that one has to be new.
        renew_ms: now_ms.saturating_add(left_ms / 10 * 7),
    })
}

/// What a JWT says about itself; nothing of another kind of token.
fn claims(token: &str) -> Claims {
    let payload = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    payload.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

/// The error of RFC 6749, 5.2, if the answer is one.
fn reason(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let word = |key: &str| {
        let text = json.as_ref()?[key].as_str()?;
        Some(text.chars().filter(|c| !c.is_control()).take(200).collect::<String>())
    };
    match (word("error"), word("error_description")) {
        (Some(error), Some(more)) => format!(" {error} ({more})"),
        (Some(error), None) => format!(" {error}"),
        _ => String::new(),
    }
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    fn read(access_token: &str, more: &str) -> Result<Token, String> {
        let body = format!("{{\"access_token\":\"{access_token}\"{more}}}");
        token(body.as_bytes(), 1_000_000, "me")
    }

    #[test]
    fn a_token_says_who_it_is_and_how_long_it_lives() {
        let named = read(&jwt(r#"{"sub":"gw","exp":1100}"#), ",\"expires_in\":9").expect("a token");
        assert_eq!((named.principal.as_str(), named.expires_ms), ("gw", 1_100_000));
        assert_eq!(named.renew_ms, 1_070_000);
        let opaque = read("opaque", ",\"expires_in\":50").expect("a token");
        assert_eq!((opaque.principal.as_str(), opaque.expires_ms), ("me", 1_050_000));
        assert_eq!(read("a.b.c", "").expect("a token").expires_ms, 1_300_000);
        let huge = read("opaque", ",\"expires_in\":9223372036854775807").expect("a token");
        assert_eq!(huge.expires_ms, i64::MAX);
        assert!(read(&jwt(r#"{"exp":999}"#), "").expect_err("old").contains("clock"));
        assert!(token(b"<html>", 0, "me").expect_err("none").contains("access_token"));
    }

    #[test]
    fn an_endpoint_is_read_from_properties_and_says_what_is_missing() {
        let mut properties = BTreeMap::new();
        for (name, value) in [(URL, "ftp://x"), (CLIENT_ID, "a"), (CLIENT_SECRET, "b")] {
            let (missing, _) = Endpoint::read(&properties).expect_err("not whole");
            assert_eq!(missing, name);
            properties.insert(name.to_owned(), Property::from(value));
        }
        let (wrong, fault) = Endpoint::read(&properties).expect_err("no URL for HTTP");
        assert!(wrong == URL && fault.contains("https://"), "{fault}");
        properties.insert(URL.to_owned(), Property::from("https://idp.example/token"));
        assert!(Endpoint::read(&properties).is_ok());
    }

    #[test]
    fn a_scope_is_encoded_and_a_refusal_says_its_reason() {
        assert_eq!(encoded("a b/ü"), "a%20b%2F%C3%BC");
        let body = br#"{"error":"invalid_client","error_description":"no\nsuch"}"#;
        assert_eq!(reason(body), " invalid_client (nosuch)");
        assert_eq!(reason(b"<html>"), "");
    }
}
