//! Certificates made for a test, and clients that use them.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// All files are filled up to this, so that a new one differs in what it says only.
const FILE_BYTES: usize = 4096;

/// A CA and what it has signed.
pub(crate) struct Ca {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for `name`, as DNS name and as common name.
    pub(crate) fn sign(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a DNS name");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Identity { certificate: certificate.der().clone(), pem: certificate.pem(), key }
    }
}

/// The files of a gateway, in a directory.
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) ca: PathBuf,
}

impl Files {
    pub(crate) fn new(dir: &Path, ca: &Ca, server: &Identity) -> Self {
        let at = |name: &str| dir.join(name);
        let files = Self { certificate: at("server.pem"), key: at("server.key"), ca: at("ca.pem") };
        write(&files.ca, &ca.pem);
        files.replace(server);
        files
    }

    /// As far as the file system says, the files are the ones that were there before.
    pub(crate) fn replace(&self, server: &Identity) {
        write(&self.certificate, &server.pem);
        write(&self.key, &server.key.serialize_pem());
    }

    /// The section `[mqtt.tls]`, with clients' certificates or without.
    pub(crate) fn section(&self, client_ca: bool) -> String {
        let Self { certificate, key, ca } = self;
        let (certificate, key) = (certificate.display(), key.display());
        let ca =
            if client_ca { format!("client_ca = \"{}\"\n", ca.display()) } else { String::new() };
        format!(
            "[mqtt.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{certificate}\"\n\
             key = \"{key}\"\n{ca}"
        )
    }
}

fn write(path: &Path, pem: &str) {
    let text = format!("{pem:<FILE_BYTES$}");
    assert_eq!(text.len(), FILE_BYTES, "room for a PEM file");
    std::fs::write(path, text).expect("a temporary file");
    touch(path, 0);
}

/// Says that a file was written at this second.
pub(crate) fn touch(path: &Path, second: u64) {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second);
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_modified(at))
        .expect("a file of ours");
}

/// A client of TLS.
pub(crate) struct Client {
    versions: Vec<&'static SupportedProtocolVersion>,
    roots: RootCertStore,
    identity: Option<(CertificateDer<'static>, Vec<u8>)>,
    alpn: Vec<Vec<u8>>,
}

impl Client {
    /// Knows a CA.
    pub(crate) fn new(ca: &Ca) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate.clone()).expect("a CA");
        Self { versions: vec![&TLS12, &TLS13], roots, identity: None, alpn: Vec::new() }
    }

    pub(crate) fn only(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    pub(crate) fn shows(mut self, identity: &Identity) -> Self {
        self.identity = Some((identity.certificate.clone(), identity.key.serialize_der()));
        self
    }

    pub(crate) fn offers(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// A handshake with the server `localhost`.
    pub(crate) async fn connect(&self, at: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .expect("versions that ring has")
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![certificate.clone()],
                    PrivatePkcs8KeyDer::from(key.clone()).into(),
                )
                .expect("a certificate and its key"),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let name = "localhost".try_into().expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}
