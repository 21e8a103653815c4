//! The token, and the host that a browser was told to ask.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem;

/// Lets a request through that has the token as `Authorization: Bearer`, or as the password of
/// HTTP basic authentication, so that a browser can ask for it.
pub(super) async fn check(
    State(token): State<Arc<Option<String>>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = token.as_deref() else { return next.run(request).await };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given.is_some_and(|given| is_token(given, token)) {
        return next.run(request).await;
    }
    let mut response = problem::problem(
        StatusCode::UNAUTHORIZED,
        "send the token of [http] token as \"Authorization: Bearer ...\", or as the password",
    )
    .into_response();
    let ask = header::HeaderValue::from_static("Basic realm=\"headwater\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
    response
}

fn is_token(given: &str, token: &str) -> bool {
    use base64::Engine;
    if let Some(bearer) = given.strip_prefix("Bearer ") {
        return same(bearer.trim().as_bytes(), token.as_bytes());
    }
    let Some(basic) = given.strip_prefix("Basic ") else { return false };
    let decoded = base64::engine::general_purpose::STANDARD.decode(basic.trim());
    let decoded = decoded.unwrap_or_default();
    let password = decoded.iter().position(|byte| *byte == b':').map(|at| &decoded[at + 1..]);
    password.is_some_and(|password| same(password, token.as_bytes()))
}

/// Compares in a time that does not tell where the texts differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_as_bearer_or_as_password() {
        assert!(is_token("Bearer s3cret", "s3cret"));
        assert!(is_token("Basic YW55OnMzY3JldA==", "s3cret"));
        for wrong in ["Bearer s3cre", "Bearer ", "Basic !!", "Basic YW55", "s3cret", ""] {
            assert!(!is_token(wrong, "s3cret"), "{wrong}");
        }
    }
}
