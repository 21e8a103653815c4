//! The listener: accepts, bounds how many connections there are, and sweeps sessions that are over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::auth::Gate;
use super::complaints::Complaints;
use super::connection::unix_ms;
use super::context::Context;
use super::handshake::handshake;
use super::metrics::MqttMetrics;
use super::packet::{Fault, reason};
use super::peer::Peer;
use super::registry::Registry;
use super::session::Change;
use super::state::{MqttState, Overdue, StateCounts};
use crate::config::MqttConfig;
use crate::stream::Intake;

/// Connections that wait to be accepted by us.
const BACKLOG: u32 = 1024;

/// Connections above the limit that are told so at a time; others are just closed.
const REFUSED_AT_A_TIME: usize = 32;

/// How often sessions that are over are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// After the system had no socket for us, we wait so long.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// At the end, connections get so long to settle what is being committed.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// What the page and the API show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MqttStatus {
    /// Connections at the moment.
    pub connections: usize,
    /// The configured limit.
    pub connections_max: usize,
    /// Retained messages and recorded sessions.
    pub state: StateCounts,
}

/// Looks at a running server.
#[derive(Clone)]
pub struct MqttView {
    context: Arc<Context>,
}

impl MqttView {
    /// What the page and the API show.
    pub fn status(&self) -> MqttStatus {
        MqttStatus {
            connections: usize::try_from(self.context.metrics.connections.get()).unwrap_or(0),
            connections_max: self.context.connections_max,
            state: self.context.state.counts(),
        }
    }
}

/// The front door.
pub struct MqttServer {
    listener: TcpListener,
    context: Arc<Context>,
}

impl MqttServer {
    /// Listens at the configured address. `applied` is the follower's word on how far `state` is.
    ///
    /// # Errors
    /// An error that names the address, where it is taken or not ours.
    pub fn bind(
        config: &MqttConfig,
        intake: Intake,
        state: Arc<MqttState>,
        applied: watch::Receiver<u64>,
        metrics: MqttMetrics,
    ) -> io::Result<Self> {
        let listener = listen(config.listen).map_err(|problem| {
            let address = config.listen;
            let remedy = match problem.kind() {
                io::ErrorKind::AddrInUse => "end what listens there, or set another mqtt.listen",
                _ => "set mqtt.listen to an address of this machine",
            };
            let text = format!("MQTT cannot listen on {address}: {problem}; {remedy}");
            io::Error::new(problem.kind(), text)
        })?;
        let context = Arc::new(Context {
            intake,
            state,
            applied,
            gate: Gate::new(config),
            registry: Arc::new(Registry::default()),
            metrics,
            complaints: Complaints::new(Instant::now()),
            packet_bytes_max: usize::try_from(config.max_packet_bytes).unwrap_or(usize::MAX),
            connections_max: usize::try_from(config.max_connections).unwrap_or(usize::MAX),
        });
        Ok(Self { listener, context })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Looks at the server while it runs.
    pub fn view(&self) -> MqttView {
        MqttView { context: Arc::clone(&self.context) }
    }

    /// Serves until `shutdown` is true or its sender is gone; then acknowledges what is being
    /// committed and ends all connections.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let Self { listener, context } = self;
        let places = Arc::new(Semaphore::new(context.connections_max));
        let refusals = Arc::new(Semaphore::new(REFUSED_AT_A_TIME));
        let mut connections = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                biased;
                () = asked_to_end(&mut shutdown) => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                _ = sweep.tick() => {
                    connections.spawn(sweep_sessions(Arc::clone(&context)));
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Some(place) = place(&places, &refusals) {
                            let (context, shutdown) = (Arc::clone(&context), shutdown.clone());
                            connections.spawn(serve(stream, peer.into(), context, shutdown, place));
                        }
                    }
                    Err(problem) => {
                        warn!(%problem, "no connection can be accepted");
                        tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    }
                },
            }
        }
        drop(listener);
        info!(connections = connections.len(), "the front door closes");
        context.registry.end_all(reason::SHUTTING_DOWN);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_MAX, all).await.is_err() {
            warn!("connections that did not settle in time are cut");
        }
    }
}

async fn asked_to_end(shutdown: &mut watch::Receiver<bool>) {
    // Without its sender nobody is left who could ask.
    let _ = shutdown.wait_for(|shutdown| *shutdown).await;
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it: a peer without power is noticed though it asked for no
    // keep-alive.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A connection's place, held while it is served.
struct Place {
    _permit: OwnedSemaphorePermit,
    /// It is only to be told why it cannot stay.
    refuse: Option<Fault>,
}

/// A place for a connection, or one to be refused from; none where even that would be too many.
fn place(places: &Arc<Semaphore>, refusals: &Arc<Semaphore>) -> Option<Place> {
    if let Ok(permit) = Arc::clone(places).try_acquire_owned() {
        return Some(Place { _permit: permit, refuse: None });
    }
    let permit = Arc::clone(refusals).try_acquire_owned().ok()?;
    let refuse = Fault::new(reason::SERVER_BUSY, "mqtt.max_connections is reached");
    Some(Place { _permit: permit, refuse: Some(refuse) })
}

/// Serves one client. What this holds is held for every idle connection: the handshake, which is
/// large and short, and the connection are on the heap, and a future holds what it is given twice.
async fn serve(
    stream: TcpStream,
    peer: Peer,
    context: Arc<Context>,
    mut shutdown: watch::Receiver<bool>,
    mut place: Place,
) {
    // Without it small acknowledgements wait for each other; with an error the socket is dead.
    let _ = stream.set_nodelay(true);
    let refuse = place.refuse.take();
    let welcomed = async { handshake(stream, peer, &context, refuse).await.map(Box::new) };
    let connection = tokio::select! {
        connection = Box::pin(welcomed) => connection,
        () = asked_to_end(&mut shutdown) => None,
    };
    drop(shutdown);
    if let Some(connection) = connection {
        context.metrics.connections.inc();
        connection.run().await;
        context.metrics.connections.dec();
    }
}

/// Ends sessions whose time is over, and notes of those that a dead gateway left connected that
/// they are not.
async fn sweep_sessions(context: Arc<Context>) {
    let now_ms = unix_ms();
    for (client, overdue) in context.state.overdue(now_ms) {
        let client: Arc<str> = client.into();
        let Some(claim) = context.registry.claim_free(&client) else { continue };
        // Between the look and the claim a connection may have come and gone.
        let Some(stored) = context.state.session(&client) else { continue };
        let change = match overdue {
            Overdue::Expired if stored.expired(now_ms) => Change::End,
            Overdue::Undetached if stored.detached_ms.is_none() => Change::Detach {
                at_ms: now_ms,
                expiry_s: stored.expiry_s,
                position: stored.position,
            },
            _ => continue,
        };
        if let Ok(ticket) = context.record(&client, &change, now_ms) {
            context.wait_applied(ticket).await;
        }
        drop(claim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::connection::Connection;

    fn future_bytes<A, B, C, D, E, F: Future>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_costs_little_while_it_is_idle() {
        let (task, connection) = (future_bytes(serve), size_of::<Connection<TcpStream>>());
        assert!(task + connection <= 4096, "{task} B of task, {connection} B of connection");
    }
}
