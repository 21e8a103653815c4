//! Listening sockets of the network.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted by us.
pub(super) const BACKLOG: u32 = 1024;

/// Listens at `address`, which the configuration gives as `key`.
pub(super) fn listen(key: &str, address: SocketAddr) -> io::Result<TcpListener> {
    bind(address).map_err(|problem| {
        let remedy = match problem.kind() {
            io::ErrorKind::AddrInUse => format!("end what listens there, or set another {key}"),
            _ => format!("set {key} to an address of this machine"),
        };
        let text = format!("{key}: MQTT cannot listen on {address}: {problem}; {remedy}");
        io::Error::new(problem.kind(), text)
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it: a peer without power is noticed though it asked for no
    // keep-alive.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
