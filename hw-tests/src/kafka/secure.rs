//! What a broker needs to log clients in: certificates, passwords, keys of tokens, rules.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

use super::Options;
use crate::tokens::Tokens;

/// The user that may do everything, by password.
pub const USER: (&str, &str) = ("alice", "alice-secret");
/// A user that may do what rules allow, by PLAIN.
pub const GUEST: (&str, &str) = ("bob", "bob-secret");
/// The common name of the client's certificate, which may do everything too.
pub const CLIENT: &str = "gateway";
/// The one that tokens are issued for, which may do everything too.
pub const SUBJECT: &str = "token-gateway";

/// Certificates, as files beside the broker's.
pub struct Papers {
    dir: PathBuf,
}

impl Papers {
    /// Makes a CA, a certificate of the broker and one of a client in `dir`, and a CA that has
    /// signed nothing.
    ///
    /// # Errors
    /// What could not be made or written.
    pub fn make(dir: &Path) -> io::Result<Self> {
        let (ca, issuer) = ca("Headwater tests").map_err(io::Error::other)?;
        let (other, _) = self::ca("Somebody else").map_err(io::Error::other)?;
        fs::write(dir.join("ca.pem"), ca.pem())?;
        fs::write(dir.join("other-ca.pem"), other.pem())?;
        let names = vec!["127.0.0.1".to_owned()];
        let (server, key) = signed(names, "broker", &issuer).map_err(io::Error::other)?;
        fs::write(dir.join("server.pem"), format!("{key}{server}{}", ca.pem()))?;
        let (client, key) = signed(Vec::new(), CLIENT, &issuer).map_err(io::Error::other)?;
        fs::write(dir.join("client.pem"), client)?;
        fs::write(dir.join("client.key"), key)?;
        Ok(Self { dir: dir.to_path_buf() })
    }

    /// The path of one of the files, as text for a configuration.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

fn ca(name: &str) -> Result<(Certificate, Issuer<'static, KeyPair>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key)?;
    Ok((certificate, Issuer::new(params, key)))
}

/// A certificate and its key, as PEM.
fn signed(
    names: Vec<String>,
    common: &str,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// A broker with each way to log in: PLAIN, SCRAM and tokens with and without TLS, certificates of
/// clients, and an authorizer. Without a password (the plain listener) one may do everything.
///
/// # Errors
/// What could not be written.
pub fn options(dir: &Path, papers: &Papers, tokens: &Tokens) -> io::Result<Options> {
    let jwks = dir.join("jwks.json");
    fs::write(&jwks, tokens.jwks())?;
    let ((user, password), (guest, guest_password)) = (USER, GUEST);
    let mut text = format!(
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS;User:{user};User:CN={CLIENT};User:{SUBJECT}\n\
         ssl.keystore.type=PEM\nssl.keystore.location={server}\n\
         ssl.truststore.type=PEM\nssl.truststore.location={ca}\n\
         listener.name.ssl.ssl.client.auth=required\n\
         sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER\n\
         sasl.oauthbearer.jwks.endpoint.url=file://{jwks}\n\
         sasl.oauthbearer.expected.audience={audience}\n\
         sasl.oauthbearer.expected.issuer={issuer}\n",
        server = papers.path("server.pem"),
        ca = papers.path("ca.pem"),
        jwks = jwks.display(),
        audience = Tokens::AUDIENCE,
        issuer = Tokens::ISSUER,
    );
    for listener in ["sasl_plaintext", "sasl_ssl"] {
        let of = |mechanism: &str, module: &str, more: &str| {
            format!(
                "listener.name.{listener}.{mechanism}.sasl.jaas.config=\
                 org.apache.kafka.common.security.{module} required{more};\n"
            )
        };
        let users = format!(" user_{user}=\"{password}\" user_{guest}=\"{guest_password}\"");
        text.push_str(&of("plain", "plain.PlainLoginModule", &users));
        text.push_str(&of("scram-sha-256", "scram.ScramLoginModule", ""));
        text.push_str(&of("scram-sha-512", "scram.ScramLoginModule", ""));
        text.push_str(&of("oauthbearer", "oauthbearer.OAuthBearerLoginModule", ""));
        text.push_str(&format!(
            "listener.name.{listener}.oauthbearer.sasl.server.callback.handler.class=\
             org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler\n"
        ));
    }
    let scram = |mechanism: &str| format!("{mechanism}=[name={user},password={password}]");
    Ok(Options {
        listeners: vec!["SASL_PLAINTEXT", "SASL_SSL", "SSL"],
        properties: text,
        format: [scram("SCRAM-SHA-256"), scram("SCRAM-SHA-512")]
            .into_iter()
            .flat_map(|scram| ["--add-scram".to_owned(), scram])
            .collect(),
        java: vec![
            format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://{}", jwks.display()),
            format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.files={}", jwks.display()),
        ],
    })
}

/// A kind of thing that rules are about, by Kafka's number.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Resource {
    /// A topic.
    Topic = 2,
    /// The cluster.
    Cluster = 4,
    /// A transactional id.
    TransactionalId = 5,
}

/// What a rule allows, by Kafka's number.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Operation {
    /// To read.
    Read = 3,
    /// To write.
    Write = 4,
    /// To create.
    Create = 5,
    /// To see that it is there.
    Describe = 8,
    /// To see its settings.
    DescribeConfigs = 10,
}

/// What a rule says, by Kafka's number.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Permission {
    /// No, whatever other rules say.
    Deny = 2,
    /// Yes.
    Allow = 3,
}

/// Allows or denies [`GUEST`] an operation on what begins with `name`, or on the cluster. Kafka's
/// tool for it is not among the broker's own libraries, so this is its request, `CreateAcls` version 1.
///
/// # Errors
/// What the broker says.
pub fn rule(
    brokers: &str,
    resource: Resource,
    name: &str,
    operation: Operation,
    permission: Permission,
) -> io::Result<()> {
    let string = |out: &mut Vec<u8>, text: &str| {
        out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    // CreateAcls is 30; then its version, a number that comes back, and who asks.
    let mut body = vec![0, 30, 0, 1, 0, 0, 0, 7];
    string(&mut body, "hw-tests");
    body.extend_from_slice(&1_u32.to_be_bytes());
    body.push(resource as u8);
    let is_cluster = matches!(resource, Resource::Cluster);
    string(&mut body, if is_cluster { "kafka-cluster" } else { name });
    // Literal or prefixed.
    body.push(if is_cluster { 3 } else { 4 });
    string(&mut body, &format!("User:{}", GUEST.0));
    string(&mut body, "*");
    body.push(operation as u8);
    body.push(permission as u8);
    let mut stream = TcpStream::connect(brokers)?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    stream.write_all(&u32::try_from(body.len()).unwrap_or(0).to_be_bytes())?;
    stream.write_all(&body)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; (u32::from_be_bytes(length) as usize).min(1 << 16)];
    stream.read_exact(&mut answer)?;
    // The number, the time it was throttled, how many results, the first one's error.
    match answer.get(12..14) {
        Some([0, 0]) => Ok(()),
        _ => Err(io::Error::other(format!("CreateAcls answered {answer:?}"))),
    }
}
