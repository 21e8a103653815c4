//! The ways in: listeners of several kinds, each of which makes a stream of bytes and a [`Peer`].
//!
//! ```text
//! accept (never waits for a peer) -> Arrival -> open (TLS, WebSocket) -> MQTT
//!                                               in the connection's own task
//! ```

mod certificate;
mod renew;
mod tcp;
mod tls;
mod unix;
mod upgrade;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tracing::info;

use super::peer::{Origin, Peer};
use crate::config::MqttConfig;

#[cfg(test)]
mod tests;

pub use renew::Renewal;
pub(crate) use renew::keep_fresh;
pub(crate) use tls::Tls;
use tls::{Speaks, TlsStream};
pub use tls::{TlsFault, TlsPart, check_tls};

/// How a connection comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    WebSocket,
    /// WebSocket over TLS.
    WebSocketTls,
    /// A Unix socket.
    Unix,
}

impl Way {
    /// As metrics and log lines name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
            Self::WebSocketTls => "websocket-tls",
            Self::Unix => "unix",
        }
    }
}

/// A socket of the system.
pub(crate) enum Socket {
    Net(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// A socket that was accepted; nothing has been read from it.
pub(crate) struct Arrival {
    pub(crate) way: Way,
    pub(crate) socket: Socket,
}

impl Arrival {
    /// Where it comes from, as far as the socket says.
    pub(crate) fn peer(&self) -> Peer {
        match self.socket {
            Socket::Net(_, address) => address.into(),
            Socket::Unix(_) => Peer::new(Origin::Unix),
        }
    }
}

/// Why an arrival did not come as far as MQTT.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// The peer went away.
    Gone,
    /// It did something wrong, or was refused.
    Refused(String),
}

/// Any stream of bytes.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A stream that is more than a socket. One type for all of them: next to what they do, a call
/// through a pointer costs nothing, and the session's code is there once.
pub(crate) type Layered = Box<dyn ByteStream>;

enum Listener {
    Net(Way, TcpListener),
    Unix(unix::Listener),
}

impl Listener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arrival>> {
        match self {
            Self::Net(way, listener) => listener.poll_accept(cx).map_ok(|(socket, address)| {
                // Without it small acknowledgements wait for each other; with an error the socket
                // is dead.
                let _ = socket.set_nodelay(true);
                Arrival { way: *way, socket: Socket::Net(socket, address) }
            }),
            Self::Unix(listener) => listener
                .socket
                .poll_accept(cx)
                .map_ok(|(socket, _)| Arrival { way: Way::Unix, socket: Socket::Unix(socket) }),
        }
    }
}

/// All listeners of the front door.
pub(crate) struct Listeners {
    listeners: Vec<Listener>,
    /// Whose turn it is to be asked first.
    first: usize,
    opener: Opener,
}

impl Listeners {
    /// Opens all ways in that the configuration names.
    pub(crate) fn bind(config: &MqttConfig) -> io::Result<Self> {
        let mut listeners =
            vec![Listener::Net(Way::Tcp, tcp::listen("mqtt.listen", config.listen)?)];
        let tls = config.tls.as_ref().map(Tls::load).transpose().map_err(|faults| {
            let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
            io::Error::new(io::ErrorKind::InvalidInput, lines.join("\n"))
        })?;
        if let Some(config) = &config.tls {
            let socket = tcp::listen("mqtt.tls.listen", config.listen)?;
            listeners.push(Listener::Net(Way::Tls, socket));
        }
        if let Some(config) = &config.websocket {
            let socket = tcp::listen("mqtt.websocket.listen", config.listen)?;
            let way = if config.tls { Way::WebSocketTls } else { Way::WebSocket };
            listeners.push(Listener::Net(way, socket));
        }
        if let Some(path) = &config.unix {
            listeners.push(Listener::Unix(unix::listen(path)?));
        }
        let packet_bytes_max = usize::try_from(config.max_packet_bytes).unwrap_or(usize::MAX);
        let opener = Opener { tls: tls.map(Arc::new), packet_bytes_max };
        Ok(Self { listeners, first: 0, opener })
    }

    /// What opens the arrivals.
    pub(crate) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// Where each way of the network listens.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (Way, SocketAddr)> {
        self.listeners.iter().filter_map(|listener| {
            let Listener::Net(way, listener) = listener else { return None };
            Some((*way, listener.local_addr().ok()?))
        })
    }

    /// Says in the log where they listen.
    pub(crate) fn announce(&self) {
        for (way, address) in self.addresses() {
            info!(way = way.name(), %address, "listening");
        }
        for listener in &self.listeners {
            if let Listener::Unix(listener) = listener {
                info!(way = Way::Unix.name(), path = %listener.path().display(), "listening");
            }
        }
    }

    /// The next connection, of whatever way; a busy one does not keep the others from theirs.
    /// Dropping the future loses nothing.
    pub(crate) async fn accept(&mut self) -> io::Result<Arrival> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Arrival>> {
        let count = self.listeners.len();
        for turn in 0..count {
            let listener = &self.listeners[(self.first + turn) % count];
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                self.first = (self.first + turn + 1) % count;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

/// Brings arrivals to where MQTT begins.
#[derive(Clone)]
pub(crate) struct Opener {
    tls: Option<Arc<Tls>>,
    packet_bytes_max: usize,
}

impl Opener {
    /// Our side of TLS, where there is one.
    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// Does all that comes before MQTT. It waits for the peer, for as long as that lets it.
    pub(crate) async fn open(&self, arrival: Arrival) -> Result<(Layered, Peer), Unopened> {
        let mut peer = arrival.peer();
        let (socket, address) = match arrival.socket {
            Socket::Net(socket, address) => (socket, address),
            Socket::Unix(socket) => return Ok((Box::new(socket), peer)),
        };
        let stream: Layered = match arrival.way {
            Way::Tcp | Way::Unix => Box::new(socket),
            Way::Tls => Box::new(self.secure(socket, Speaks::Mqtt, &mut peer).await?),
            Way::WebSocket => self.upgrade(socket, address, &mut peer).await?,
            Way::WebSocketTls => {
                let stream = self.secure(socket, Speaks::Http, &mut peer).await?;
                self.upgrade(stream, address, &mut peer).await?
            }
        };
        Ok((stream, peer))
    }

    async fn secure(
        &self,
        socket: TcpStream,
        speaks: Speaks,
        peer: &mut Peer,
    ) -> Result<TlsStream, Unopened> {
        let tls = self.tls.as_ref().expect("a listener for TLS comes with our side of it");
        let (stream, certificate) = tls.accept(socket, speaks).await?;
        peer.certificate = certificate;
        Ok(stream)
    }

    /// A message may hold two of the largest packets: clients put together what has waited.
    async fn upgrade<S: ByteStream + 'static>(
        &self,
        stream: S,
        address: SocketAddr,
        peer: &mut Peer,
    ) -> Result<Layered, Unopened> {
        let message_bytes_max = self.packet_bytes_max.saturating_mul(2);
        let (stream, from_page) = websocket::accept(stream, message_bytes_max).await?;
        if from_page {
            peer.origin = Origin::Page(address);
        }
        Ok(Box::new(stream))
    }
}
