//! TLS 1.2 and 1.3. All of rustls is in this file.
//!
//! A connection takes the certificate that is there when it begins; files that are read again
//! later change nothing for it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoClientAuth, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore, ServerConfig};

use super::Unopened;
use super::certificate::client_name;
use crate::config::TlsConfig;

/// A socket with TLS around it.
pub(super) type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// What a connection encrypts ahead of its socket, at most.
const AHEAD_BYTES_MAX: usize = 16 << 10;

/// What is spoken inside TLS, as ALPN names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Mqtt,
    /// What a WebSocket begins with.
    Http,
}

impl Speaks {
    fn alpn(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Http => "http/1.1",
        }
    }
}

/// The same certificate for all that is spoken.
struct Sides {
    mqtt: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
}

/// A file of `[mqtt.tls]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPart {
    /// Our certificate.
    Certificate,
    /// Its private key.
    Key,
    /// The CAs of clients.
    ClientCa,
}

impl TlsPart {
    /// The key of the configuration that names the file.
    pub fn config_key(self) -> &'static str {
        match self {
            Self::Certificate => "mqtt.tls.certificate",
            Self::Key => "mqtt.tls.key",
            Self::ClientCa => "mqtt.tls.client_ca",
        }
    }
}

/// What is wrong with a file of `[mqtt.tls]`, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFault {
    /// Which file.
    pub part: TlsPart,
    path: PathBuf,
    what: String,
}

impl TlsFault {
    fn new(part: TlsPart, path: &Path, what: impl Into<String>) -> Self {
        Self { part, path: path.to_owned(), what: what.into() }
    }

    /// File, fault and remedy, without the key.
    pub fn text(&self) -> String {
        format!("{} {}", self.path.display(), self.what)
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part.config_key(), self.text())
    }
}

/// Everything that is wrong with the files: they are not there, do not parse, do not belong
/// together.
pub fn check_tls(config: &TlsConfig) -> Vec<TlsFault> {
    load(config).err().unwrap_or_default()
}

/// Our side of TLS.
pub(crate) struct Tls {
    files: TlsConfig,
    current: Mutex<Sides>,
}

impl Tls {
    pub(crate) fn load(files: &TlsConfig) -> Result<Self, Vec<TlsFault>> {
        Ok(Self { files: files.clone(), current: Mutex::new(load(files)?) })
    }

    /// Reads the files again, for the connections to come; with a fault nothing changes.
    pub(crate) fn reload(&self) -> Result<(), Vec<TlsFault>> {
        let renewed = load(&self.files)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// The files that are read.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let TlsConfig { certificate, key, client_ca, .. } = &self.files;
        [certificate, key].into_iter().chain(client_ca).map(PathBuf::as_path)
    }

    /// The handshake, and the name in the client's certificate.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        speaks: Speaks,
    ) -> Result<(TlsStream, Option<Arc<str>>), Unopened> {
        let current = self.side(speaks);
        let limit = |session: &mut tokio_rustls::rustls::ServerConnection| {
            session.set_buffer_limit(Some(AHEAD_BYTES_MAX));
        };
        let accepting = TlsAcceptor::from(current).accept_with(stream, limit);
        let stream = accepting.await.map_err(|problem| explain(&problem, speaks))?;
        let shown = stream.get_ref().1.peer_certificates();
        let name = shown.and_then(|chain| client_name(chain.first()?)).map(Arc::from);
        Ok((stream, name))
    }

    fn side(&self, speaks: Speaks) -> Arc<ServerConfig> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(match speaks {
            Speaks::Mqtt => &current.mqtt,
            Speaks::Http => &current.http,
        })
    }
}

fn load(config: &TlsConfig) -> Result<Sides, Vec<TlsFault>> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(TlsPart::Certificate, &config.certificate);
    let key = private_key(&config.key);
    let verifier = verifier(config.client_ca.as_deref(), &provider);
    let (chain, key, verifier) = match (chain, key, verifier) {
        (Ok(chain), Ok(key), Ok(verifier)) => (chain, key, verifier),
        (chain, key, verifier) => {
            return Err([chain.err(), key.err(), verifier.err()].into_iter().flatten().collect());
        }
    };
    let ours = certified(config, chain, key, &provider).map_err(|fault| vec![fault])?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has suites for both versions")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(ours)));
    let mut side = |speaks: Speaks| {
        server.alpn_protocols = vec![speaks.alpn().into()];
        Arc::new(server.clone())
    };
    Ok(Sides { mqtt: side(Speaks::Mqtt), http: side(Speaks::Http) })
}

fn certified(
    config: &TlsConfig,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsFault> {
    CertifiedKey::from_der(chain, key, provider).map_err(|problem| match problem {
        Error::InvalidCertificate(problem) => {
            let what = format!("is not a certificate that TLS can use ({problem}): make it anew");
            TlsFault::new(TlsPart::Certificate, &config.certificate, what)
        }
        Error::InconsistentKeys(_) => {
            let certificate = config.certificate.display();
            let what = format!(
                "is not the key of the certificate {certificate}: give the two that were made \
                 together; in a chain our own certificate comes first"
            );
            TlsFault::new(TlsPart::Key, &config.key, what)
        }
        problem => {
            let what = format!("cannot be used ({problem}): give an ECDSA, Ed25519 or RSA key");
            TlsFault::new(TlsPart::Key, &config.key, what)
        }
    })
}

fn verifier(
    client_ca: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsFault> {
    let Some(path) = client_ca else { return Ok(Arc::new(NoClientAuth)) };
    let fault = |problem: &dyn fmt::Display| {
        let what = format!("is not the certificate of a CA ({problem}): give the one that signs");
        TlsFault::new(TlsPart::ClientCa, path, what)
    };
    let mut roots = RootCertStore::empty();
    for ca in certificates(TlsPart::ClientCa, path)? {
        roots.add(ca).map_err(|problem| fault(&problem))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier = verifier.build().map_err(|problem| fault(&problem))?;
    Ok(verifier)
}

fn certificates(part: TlsPart, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let text = read(part, path)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => {
            let what = "holds no certificate: a PEM file has -----BEGIN CERTIFICATE-----";
            Err(TlsFault::new(part, path, what))
        }
        Err(problem) => {
            let what = format!("is not a PEM file ({problem:?}): copy it anew");
            Err(TlsFault::new(part, path, what))
        }
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFault> {
    let text = read(TlsPart::Key, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|problem| {
        let encrypted = text.windows(9).any(|word| word == b"ENCRYPTED");
        let what = match problem {
            pem::Error::NoItemsFound if encrypted => {
                "is encrypted, and nobody is there to be asked for its passphrase: write it \
                 without, as in openssl pkey -in FILE -out NEW-FILE"
                    .to_owned()
            }
            pem::Error::NoItemsFound => {
                "holds no private key: a PEM file has -----BEGIN PRIVATE KEY-----".to_owned()
            }
            problem => format!("is not a PEM file ({problem:?}): copy it anew"),
        };
        TlsFault::new(TlsPart::Key, path, what)
    })
}

fn read(part: TlsPart, path: &Path) -> Result<Vec<u8>, TlsFault> {
    std::fs::read(path).map_err(|problem| {
        let remedy = match problem.kind() {
            io::ErrorKind::NotFound => "put it there, or give the right path",
            io::ErrorKind::PermissionDenied => {
                "let the gateway's user read it: chgrp headwater FILE and chmod 640 FILE"
            }
            _ => "give a PEM file",
        };
        TlsFault::new(part, path, format!("cannot be read ({problem}): {remedy}"))
    })
}

/// Why a handshake failed, in words for the log; a client that only went away is not worth any.
fn explain(problem: &io::Error, speaks: Speaks) -> Unopened {
    let Some(tls) = problem.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return Unopened::Gone;
    };
    Unopened::Refused(match tls {
        Error::NoApplicationProtocol => {
            let ours = speaks.alpn();
            format!("the client offers other protocols by ALPN: let it offer {ours:?}, or none")
        }
        Error::InvalidMessage(_) => {
            format!("not TLS ({tls}): a client without TLS belongs to the port of mqtt.listen")
        }
        Error::NoCertificatesPresented => {
            "the client has no certificate, and mqtt.tls.client_ca wants one".to_owned()
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "no CA in mqtt.tls.client_ca has signed the client's certificate".to_owned()
        }
        Error::InvalidCertificate(_) => format!("the client's certificate is refused: {tls}"),
        Error::AlertReceived(_) => format!(
            "the client has refused us ({tls}): it has to know the CA of mqtt.tls.certificate \
             and to use a name that is in there"
        ),
        _ => tls.to_string(),
    })
}
