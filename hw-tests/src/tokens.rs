//! A token endpoint as RFC 6749 describes it: client credentials for a JWT that is really signed.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

/// Issues tokens until the process ends; a thread waits for who asks.
pub struct Tokens {
    url: String,
    key: Arc<EcdsaKeyPair>,
    issued: Arc<AtomicU64>,
}

impl Tokens {
    /// Who may use the tokens.
    pub const AUDIENCE: &str = "kafka";
    /// Who says so.
    pub const ISSUER: &str = "https://idp.example/";
    /// The credentials that get one.
    pub const CLIENT: (&str, &str) = ("gateway-client", "client+secret/1");
    const KEY_ID: &str = "hw-tests";

    /// Starts an endpoint on a free port that issues tokens for `subject` which live `lifetime`.
    ///
    /// # Errors
    /// Where no port or key can be had.
    pub fn start(subject: &'static str, lifetime: Duration) -> io::Result<Self> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
            .and_then(|pkcs8| {
                EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random)
                    .map_err(|_| ring::error::Unspecified)
            })
            .map_err(|_| io::Error::other("no key can be made"))?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/oauth2/token", listener.local_addr()?);
        let tokens = Self { url, key: Arc::new(key), issued: Arc::default() };
        let (key, issued) = (Arc::clone(&tokens.key), Arc::clone(&tokens.issued));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that does not ask properly gets nothing.
                drop(serve(stream, &key, &issued, subject, lifetime));
            }
        });
        Ok(tokens)
    }

    /// Where to ask.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many it has issued.
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    /// The public key, as brokers read it (RFC 7517).
    pub fn jwks(&self) -> String {
        // 4, x, y.
        let public = self.key.public_key().as_ref();
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": Self::KEY_ID,
            "x": part(&public[1..33]), "y": part(&public[33..65]),
        }]})
        .to_string()
    }
}

fn serve(
    mut stream: TcpStream,
    key: &EcdsaKeyPair,
    issued: &AtomicU64,
    subject: &str,
    lifetime: Duration,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut asked = Vec::new();
    let mut piece = [0; 1024];
    let wanted = b"grant_type=client_credentials&scope=plant%20write";
    while !asked.ends_with(wanted) {
        let read = stream.read(&mut piece)?;
        if read == 0 || asked.len() > 16 << 10 {
            return answer(&mut stream, "400 Bad Request", r#"{"error":"invalid_request"}"#);
        }
        asked.extend_from_slice(&piece[..read]);
    }
    let asked = String::from_utf8_lossy(&asked);
    let (id, secret) = Tokens::CLIENT;
    let credentials = BASE64_STANDARD.encode(format!("{id}:{secret}"));
    if !asked.contains(&format!("authorization: Basic {credentials}\r\n")) {
        let body = r#"{"error":"invalid_client","error_description":"wrong secret"}"#;
        return answer(&mut stream, "401 Unauthorized", body);
    }
    let token = jwt(key, subject, lifetime).map_err(|_| io::Error::other("cannot be signed"))?;
    issued.fetch_add(1, Ordering::Relaxed);
    let body = json!({
        "access_token": token, "token_type": "Bearer", "expires_in": lifetime.as_secs(),
    });
    answer(&mut stream, "200 OK", &body.to_string())
}

fn answer(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

fn jwt(
    key: &EcdsaKeyPair,
    subject: &str,
    lifetime: Duration,
) -> Result<String, ring::error::Unspecified> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let header = json!({ "alg": "ES256", "typ": "JWT", "kid": Tokens::KEY_ID });
    let claims = json!({
        "iss": Tokens::ISSUER, "aud": Tokens::AUDIENCE, "sub": subject, "scope": "plant write",
        "iat": now.as_secs(), "exp": (now + lifetime).as_secs(),
    });
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let signed =
        format!("{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()));
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes())?;
    Ok(format!("{signed}.{}", part(signature.as_ref())))
}
