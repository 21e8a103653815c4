//! Sockets to the peer, plain or with TLS, blocking and with a bound on every wait.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::link::{ANSWER_MS, Wire};
use crate::config::{MqttUpstream, UpstreamTls};

/// A machine that does not answer within this is not there.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A peer that takes no bytes for this long is gone.
const WRITE_MAX: Duration = Duration::from_millis(ANSWER_MS);
/// The shortest wait that a socket knows.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// Bytes that are read at a time.
const READ_BYTES: usize = 4 << 10;

/// Makes connections.
pub(in crate::forward) trait Dial: Send {
    type Wire: Wire;
    /// A new connection.
    ///
    /// # Errors
    /// It did not come about.
    fn dial(&mut self) -> io::Result<Self::Wire>;
}

/// Connections over TCP.
pub(in crate::forward) struct Tcp {
    host: String,
    port: u16,
    tls: Option<UpstreamTls>,
}

impl Tcp {
    pub(in crate::forward) fn new(upstream: &MqttUpstream) -> Self {
        let MqttUpstream { host, port, tls, .. } = upstream;
        Self { host: host.clone(), port: *port, tls: tls.clone() }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A socket.
pub(in crate::forward) struct Socket {
    stream: Stream,
    started: Instant,
}

impl Dial for Tcp {
    type Wire = Socket;

    fn dial(&mut self) -> io::Result<Socket> {
        let tcp = connect(&self.host, self.port)?;
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(WRITE_MAX))?;
        tcp.set_read_timeout(Some(WRITE_MAX))?;
        let stream = match &self.tls {
            None => Stream::Plain(tcp),
            // The files are read anew, so that new certificates need no restart.
            Some(tls) => Stream::Tls(Box::new(secure(tls, &self.host, tcp)?)),
        };
        Ok(Socket { stream, started: Instant::now() })
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut problem = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(tcp) => return Ok(tcp),
            Err(other) => problem = other,
        }
    }
    Err(problem)
}

fn secure(
    tls: &UpstreamTls,
    host: &str,
    mut tcp: TcpStream,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let config = client_config(tls).map_err(io::Error::other)?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let until = Instant::now() + CONNECT_MAX;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp)?;
        if Instant::now() >= until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "TLS did not come about in time"));
        }
    }
    Ok(StreamOwned::new(connection, tcp))
}

/// Reads the files of `tls`.
///
/// # Errors
/// A text that says what is wrong with which file.
pub(crate) fn client_config(tls: &UpstreamTls) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&tls.ca)?);
    if roots.is_empty() {
        return Err(format!("{}: no certificate of a CA in it", tls.ca.display()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|problem| problem.to_string())?
        .with_root_certificates(roots);
    match &tls.own {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key_of = PrivateKeyDer::from_pem_file(key)
                .map_err(|problem| format!("{}: {problem}", key.display()))?;
            builder
                .with_client_auth_cert(chain, key_of)
                .map_err(|problem| format!("{}: {problem}", certificate.display()))
        }
    }
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let say = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(|problem| say(&problem))?;
    found.collect::<Result<Vec<_>, _>>().map_err(|problem| say(&problem))
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }
}

impl Wire for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => {
                tls.write_all(bytes)?;
                tls.flush()
            }
        }
    }

    fn read(&mut self, into: &mut BytesMut, wait_ms: u64) -> io::Result<()> {
        let wait = Duration::from_millis(wait_ms).max(WAIT_MIN);
        self.tcp().set_read_timeout(Some(wait))?;
        let mut buffer = [0; READ_BYTES];
        let count = match &mut self.stream {
            Stream::Plain(tcp) => tcp.read(&mut buffer),
            Stream::Tls(tls) => tls.read(&mut buffer),
        };
        match count {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed it")),
            Ok(count) => {
                into.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(problem) => match problem.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(()),
                io::ErrorKind::Interrupted => Ok(()),
                _ => Err(problem),
            },
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
