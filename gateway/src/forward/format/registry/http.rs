//! Requests to a registry's API.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::config::{RegistryConfig, RegistryLogin};
use crate::fetch;

/// What the registry's API is written in.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Whether a registry can be at `url`.
///
/// # Errors
/// What to write instead.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    if url.contains('@') || url.contains('?') {
        return Err(format!("{url:?}: write username and password as keys of their own"));
    }
    fetch::check_url(url).map_err(|_| format!("{url:?}: write http://HOST:8081 or https://HOST"))
}

/// A registry that can be asked.
pub(super) struct Http {
    /// Without a slash at its end.
    url: String,
    login: Option<String>,
    ca: Option<PathBuf>,
}

impl Http {
    pub(super) fn new(config: &RegistryConfig) -> Self {
        let login = config.login.as_ref().map(|login| match login {
            RegistryLogin::Basic { username, password } => {
                format!("Basic {}", BASE64.encode(format!("{username}:{password}")))
            }
            RegistryLogin::Token(token) => format!("Bearer {token}"),
        });
        let url = config.url.trim_end_matches('/').to_owned();
        Self { url, login, ca: config.ca.clone() }
    }

    /// The status and the body of the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn post(&self, path: &str, body: String) -> Result<(u16, Vec<u8>), String> {
        let mut headers = vec![("content-type", CONTENT_TYPE), ("accept", CONTENT_TYPE)];
        headers.extend(self.login.as_deref().map(|login| ("authorization", login)));
        fetch::post(&format!("{}{path}", self.url), &headers, body, self.ca.as_deref()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_named_by_scheme_host_port_and_path() {
        for url in ["http://registry:8081", "https://r/apis/v7/", "http://[::1]:8081/"] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        for url in ["registry:8081", "ftp://r", "http://u:p@r", "http://r/?a", "", "http://"] {
            assert!(check_url(url).is_err(), "{url}");
        }
    }
}
