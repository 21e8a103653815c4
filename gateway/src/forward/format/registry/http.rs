//! One POST over HTTP/1.1, plain or through TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config::{RegistryConfig, RegistryLogin};

/// What the registry's API is written in.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// A request is answered within this, or not.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The system's own CAs, on Debian.
const SYSTEM_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where a registry is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    tls: bool,
    host: String,
    port: u16,
    /// What comes before the API's own paths, without a slash at its end.
    prefix: String,
}

impl Place {
    fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("{url:?}: write http://HOST:8081 or https://HOST");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(format!("{url:?}: write username and password as keys of their own"));
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        Ok(Self { tls, host, port, prefix: uri.path().trim_end_matches('/').to_owned() })
    }
}

/// Whether a registry can be at `url`.
///
/// # Errors
/// What to write instead.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    Place::parse(url).map(drop)
}

/// A registry that can be asked.
pub(super) struct Http {
    place: Place,
    login: Option<String>,
    ca: PathBuf,
}

impl Http {
    /// # Errors
    /// What is wrong with the URL.
    pub(super) fn new(config: &RegistryConfig) -> Result<Self, String> {
        let login = config.login.as_ref().map(|login| match login {
            RegistryLogin::Basic { username, password } => {
                format!("Basic {}", BASE64.encode(format!("{username}:{password}")))
            }
            RegistryLogin::Token(token) => format!("Bearer {token}"),
        });
        let ca = config.ca.clone().unwrap_or_else(|| PathBuf::from(SYSTEM_CAS));
        Ok(Self { place: Place::parse(&config.url)?, login, ca })
    }

    /// The status and the body of the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn post(&self, path: &str, body: String) -> Result<(u16, Vec<u8>), String> {
        let answer = tokio::time::timeout(ANSWER_TIME, self.exchange(path, body)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_TIME.as_secs())))
    }

    async fn exchange(&self, path: &str, body: String) -> Result<(u16, Vec<u8>), String> {
        let Place { host, port, tls, .. } = &self.place;
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(text)?;
        if !tls {
            return self.ask(stream, path, body).await;
        }
        let name = ServerName::try_from(host.clone()).map_err(text)?;
        let connector = TlsConnector::from(Arc::new(tls_config(&self.ca)?));
        let stream = connector.connect(name, stream).await.map_err(text)?;
        self.ask(stream, path, body).await
    }

    async fn ask<S>(&self, stream: S, path: &str, body: String) -> Result<(u16, Vec<u8>), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(text)?;
        // It ends with the answer or with an error that the answer shows as well.
        tokio::spawn(connection);
        let Place { host, port, prefix, .. } = &self.place;
        let mut request = Request::post(format!("{prefix}{path}"))
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::CONTENT_TYPE, CONTENT_TYPE)
            .header(header::ACCEPT, CONTENT_TYPE)
            .header(header::CONNECTION, "close");
        if let Some(login) = &self.login {
            request = request.header(header::AUTHORIZATION, login);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(text)?;
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(text)?;
        Ok((status, body.to_bytes().to_vec()))
    }
}

fn tls_config(ca: &Path) -> Result<ClientConfig, String> {
    let fault = |problem: &dyn std::fmt::Display| {
        format!(
            "ca {}: {problem}; give a PEM file of the CA that the registry's is of",
            ca.display()
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|problem| fault(&problem))? {
        let certificate = certificate.map_err(|problem| fault(&problem))?;
        roots.add(certificate).map_err(|problem| fault(&problem))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|problem| fault(&problem))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn text(problem: impl std::fmt::Display) -> String {
    problem.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_named_by_scheme_host_port_and_path() {
        let place = |url| Place::parse(url).ok().map(|p| (p.tls, p.host, p.port, p.prefix));
        let named = |tls, host: &str, port, prefix: &str| {
            Some((tls, host.to_owned(), port, prefix.to_owned()))
        };
        assert_eq!(place("http://registry:8081"), named(false, "registry", 8081, ""));
        assert_eq!(place("https://r/apis/v7/"), named(true, "r", 443, "/apis/v7"));
        assert_eq!(place("http://[::1]:8081/"), named(false, "::1", 8081, ""));
        for url in ["registry:8081", "ftp://r", "http://u:p@r", "http://r/?a", "", "http://"] {
            assert_eq!(place(url), None, "{url}");
        }
    }
}
