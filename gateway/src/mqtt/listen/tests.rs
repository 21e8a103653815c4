use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore};

use super::*;
use crate::config::{Config, TlsConfig};

struct Ca {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let own = params.self_signed(&key).expect("a certificate");
    Ca { certificate: own.der().clone(), pem: own.pem(), issuer: Issuer::new(params, key) }
}

fn listeners(dir: &std::path::Path, ca: &Ca) -> Listeners {
    let at = |name: &str| dir.join(name);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a DNS name");
    let server = params.signed_by(&key, &ca.issuer).expect("signed");
    std::fs::write(at("server.pem"), server.pem()).expect("written");
    std::fs::write(at("server.key"), key.serialize_pem()).expect("written");
    std::fs::write(at("ca.pem"), &ca.pem).expect("written");
    let text = "[gateway]\nid = \"a\"\ndata_dir = \"d\"\n[mqtt]\nlisten = \"127.0.0.1:0\"\n";
    let mut config = Config::parse("test.toml", text).expect("a configuration").mqtt;
    config.tls = Some(TlsConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        certificate: at("server.pem"),
        key: at("server.key"),
        client_ca: Some(at("ca.pem")),
    });
    Listeners::bind(&config).expect("free ports and good files")
}

/// A client with a certificate that is made and signed for it.
fn client(ca: &Ca, params: &CertificateParams) -> TlsConnector {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &ca.issuer).expect("signed").der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate.clone()).expect("a CA");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has both")
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![certificate],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("a certificate and its key");
    TlsConnector::from(Arc::new(config))
}

/// The peer that the server sees, and whether the handshake went back to one before.
async fn meet(listeners: &mut Listeners, client: &TlsConnector) -> (Peer, bool) {
    let (_, at) = listeners.addresses().find(|(way, _)| *way == Way::Tls).expect("TLS");
    let opened = async {
        let arrival = listeners.accept().await.expect("accepted");
        // The stream ends at once, so that the client has read all that there is.
        listeners.opener().open(arrival).await.expect("a handshake").1
    };
    let connected = async {
        let stream = TcpStream::connect(at).await.expect("accepted");
        let name = "localhost".try_into().expect("a name");
        let mut stream = client.connect(name, stream).await.expect("in");
        let kind = stream.get_ref().1.handshake_kind();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        kind == Some(HandshakeKind::Resumed)
    };
    tokio::join!(opened, connected)
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

#[tokio::test]
async fn the_name_in_a_clients_certificate_goes_with_its_peer() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = ca();
    let mut listeners = listeners(dir.path(), &ca);
    let mut email = named("pump-7");
    let address = Ia5String::try_from("pump@plant.example").expect("ASCII");
    email.subject_alt_names = vec![SanType::Rfc822Name(address)];
    let mut nameless = named("");
    nameless.distinguished_name.remove(DnType::CommonName);
    for (params, expected) in
        [(named("pump-7"), Some("pump-7")), (email, Some("pump@plant.example")), (nameless, None)]
    {
        let (peer, _) = meet(&mut listeners, &client(&ca, &params)).await;
        assert_eq!(peer.certificate.as_deref(), expected);
        assert!(peer.is_local());
    }
}

#[tokio::test]
async fn a_handshake_that_goes_back_to_one_before_has_its_name_until_files_are_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = ca();
    let mut listeners = listeners(dir.path(), &ca);
    let client = client(&ca, &named("pump-7"));
    for expected in [false, true] {
        let (peer, resumed) = meet(&mut listeners, &client).await;
        assert_eq!((peer.certificate.as_deref(), resumed), (Some("pump-7"), expected));
    }
    // Whom the new CAs let in is not for the old ones to say.
    listeners.opener().tls().expect("TLS").reload().expect("the same files");
    assert!(!meet(&mut listeners, &client).await.1);
}
