//! The few HTTP requests that the gateway makes itself, on threads of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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

/// All of a request and its answer at most.
const TIME: Duration = Duration::from_secs(10);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Where systems keep the CAs that they trust.
const SYSTEM_CA: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whether `url` can be asked.
///
/// # Errors
/// A text that says what to write.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    place(url).map(drop)
}

/// POST; status and body of the answer, within 10 s.
///
/// # Errors
/// Why there is no answer.
pub(crate) async fn post(
    url: &str,
    headers: &[(&str, &str)],
    body: String,
    ca: Option<&Path>,
) -> Result<(u16, Vec<u8>), String> {
    let place = place(url)?;
    let mut request = Request::post(place.path.as_str())
        .header(header::HOST, &place.authority)
        .header(header::CONNECTION, "close");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body)).map_err(|problem| problem.to_string())?;
    let within = tokio::time::timeout(TIME, exchange(&place, request, ca)).await;
    within.unwrap_or_else(|_| Err(format!("no answer within {} s", TIME.as_secs())))
}

/// As [`post`], for threads that are not of a runtime.
///
/// # Errors
/// Why there is no answer.
pub(crate) fn post_blocking(
    url: &str,
    headers: &[(&str, &str)],
    body: String,
    ca: Option<&Path>,
) -> Result<(u16, Vec<u8>), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|problem| problem.to_string())?.block_on(post(url, headers, body, ca))
}

struct Place {
    is_tls: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

fn place(url: &str) -> Result<Place, String> {
    let wrong =
        || format!("{url:?} is not a URL: write https://HOST/PATH or http://HOST:PORT/PATH");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong()),
    };
    let authority = uri.authority().ok_or_else(wrong)?;
    Ok(Place {
        is_tls,
        host: authority.host().trim_matches(['[', ']']).to_owned(),
        port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
        authority: authority.to_string(),
        path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
    })
}

async fn exchange(
    place: &Place,
    request: Request<Full<Bytes>>,
    ca: Option<&Path>,
) -> Result<(u16, Vec<u8>), String> {
    let stream = TcpStream::connect((place.host.as_str(), place.port));
    let stream = stream.await.map_err(|problem| problem.to_string())?;
    if !place.is_tls {
        return over(stream, request).await;
    }
    let name = ServerName::try_from(place.host.clone()).map_err(|problem| problem.to_string())?;
    let connector = TlsConnector::from(Arc::new(tls(ca)?));
    let stream = connector.connect(name, stream).await.map_err(|problem| problem.to_string())?;
    over(stream, request).await
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<(u16, Vec<u8>), String> {
    let text = |problem: hyper::Error| problem.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(text)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|problem| problem.to_string())?;
        Ok((status, body.to_bytes().to_vec()))
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        // What has come before the other side closed is still there to be taken.
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(problem) => Err(problem.to_string()),
        },
    }
}

fn tls(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let found = || SYSTEM_CA.iter().map(Path::new).find(|path| path.exists());
    let path = ca.or_else(found).ok_or("this machine has no CAs: install ca-certificates")?;
    let fault = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let text = std::fs::read(path).map_err(|problem| fault(&problem))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        // A system's list may have some that are too odd to be used.
        let certificate = certificate.map_err(|problem| fault(&problem))?;
        if let Err(problem) = roots.add(certificate) {
            tracing::debug!(%problem, path = %path.display(), "a CA cannot be used");
        }
    }
    if roots.is_empty() {
        return Err(fault(&"there is no certificate of a CA in it"));
    }
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|problem| problem.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with `answer`; gives back what was asked.
    fn serve(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/a?b", listener.local_addr().expect("bound"));
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut asked = Vec::new();
            while !asked.ends_with(b"x=1") {
                let mut piece = [0; 512];
                let read = stream.read(&mut piece).expect("the request");
                asked.extend_from_slice(&piece[..read]);
            }
            stream.write_all(answer.as_bytes()).expect("answered");
            String::from_utf8(asked).expect("text")
        });
        (url, served)
    }

    #[test]
    fn a_post_brings_status_and_body_back() {
        let (url, served) = serve("HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\nno");
        let answer =
            post_blocking(&url, &[("x-y", "z")], "x=1".to_owned(), None).expect("an answer");
        assert_eq!(answer, (401, b"no".to_vec()));
        let asked = served.join().expect("served");
        assert!(asked.starts_with("POST /a?b HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("x-y: z\r\n") && asked.contains("host: 127.0.0.1:"), "{asked}");
    }

    #[test]
    fn an_answer_that_ends_with_its_connection_is_taken() {
        let (url, _served) = serve("HTTP/1.0 200 OK\r\n\r\n{}");
        assert_eq!(post_blocking(&url, &[], "x=1".to_owned(), None), Ok((200, b"{}".to_vec())));
    }

    #[test]
    fn what_cannot_be_asked_says_why() {
        assert!(check_url("host/path").expect_err("no scheme").contains("https://HOST"));
        assert!(check_url("ftp://host/").is_err());
        assert!(check_url("https://[::1]:8443/token").is_ok());
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let problem = post_blocking(&format!("http://{closed}/"), &[], String::new(), None);
        assert!(problem.expect_err("closed").contains("refused"));
    }
}
