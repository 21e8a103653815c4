use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

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

async fn connect(at: SocketAddr, ca: &Ca, params: CertificateParams) {
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
    let stream = TcpStream::connect(at).await.expect("accepted");
    let name = "localhost".try_into().expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("in");
}

#[tokio::test]
async fn the_name_in_a_clients_certificate_goes_with_its_peer() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = ca();
    let mut listeners = listeners(dir.path(), &ca);
    let (_, at) = listeners.addresses().find(|(way, _)| *way == Way::Tls).expect("TLS");
    let mut common = CertificateParams::default();
    common.distinguished_name.remove(DnType::CommonName);
    common.distinguished_name.push(DnType::CommonName, "pump-7");
    let mut email = common.clone();
    let address = Ia5String::try_from("pump@plant.example").expect("ASCII");
    email.subject_alt_names = vec![SanType::Rfc822Name(address)];
    let mut nameless = common.clone();
    nameless.distinguished_name.remove(DnType::CommonName);
    for (params, expected) in
        [(common, Some("pump-7")), (email, Some("pump@plant.example")), (nameless, None)]
    {
        let opened = async {
            let arrival = listeners.accept().await.expect("accepted");
            listeners.opener().open(arrival).await.expect("a handshake").1
        };
        let (peer, ()) = tokio::join!(opened, connect(at, &ca, params));
        assert_eq!(peer.certificate.as_deref(), expected);
        assert!(peer.is_local());
    }
}
