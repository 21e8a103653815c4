//! Who is at the other end of a connection, as far as the way in shows it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A socket of the network.
    Net(SocketAddr),
    /// A page in a browser. Whatever its address, others than the owner of this machine wrote it.
    Page(SocketAddr),
    /// A Unix socket: a program of this machine that its file's permissions have let in.
    Unix,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) origin: Origin,
    /// The name in the certificate that the client has shown and our CA has signed.
    pub(crate) certificate: Option<Arc<str>>,
}

impl Peer {
    /// A client that has shown no certificate.
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, certificate: None }
    }

    /// True for programs of this machine.
    pub(crate) fn is_local(&self) -> bool {
        match self.origin {
            Origin::Net(address) => address.ip().to_canonical().is_loopback(),
            Origin::Unix => true,
            Origin::Page(_) => false,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::new(Origin::Net(address))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Net(address) => address.fmt(f),
            Origin::Page(address) => write!(f, "{address} (a page in a browser)"),
            Origin::Unix => f.write_str("unix"),
        }
    }
}
