//! The server: takes what the listeners accept, bounds how many connections there are, and sweeps
//! sessions that are over.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::auth::Gate;
use super::bounds::Bounds;
use super::complaints::Complaints;
use super::connection::unix_ms;
use super::context::Context;
use super::handshake::handshake;
use super::listen::{Arrival, Listeners, Opener, Renewal, Socket, Unopened, Way, keep_fresh};
use super::lookout::Lookout;
use super::metrics::MqttMetrics;
use super::packet::{Fault, reason};
use super::peer::Peer;
use super::registry::Registry;
use super::reload::MqttControl;
use super::session::Change;
use super::share::Shares;
use super::state::{MqttState, Overdue, StateCounts};
use super::sys::{self, Sys};
use super::wills;
use crate::config::MqttConfig;
use crate::stream::Intake;

/// Connections above the limit that are told so at a time; others are just closed.
const REFUSED_AT_A_TIME: usize = 32;

/// From its arrival a client has so long for all handshakes: TLS, CONNECT and credentials.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

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
            connections_max: self.context.bounds.connections(),
            state: self.context.state.counts(),
        }
    }
}

/// The front door.
pub struct MqttServer {
    listeners: Listeners,
    context: Arc<Context>,
    renewal: Renewal,
}

impl MqttServer {
    /// Listens in all the ways that are configured. `applied` is the follower's word on how far
    /// `state` is.
    ///
    /// # Errors
    /// An error that names the key and what to do, where an address is taken or not ours, or a
    /// certificate cannot be used.
    pub fn bind(
        config: &MqttConfig,
        intake: Intake,
        state: Arc<MqttState>,
        applied: watch::Receiver<u64>,
        metrics: MqttMetrics,
    ) -> io::Result<Self> {
        let listeners = Listeners::bind(config)?;
        let context = Arc::new(Context {
            lookout: Lookout::new(intake.journal().durable().end),
            intake,
            state,
            applied,
            gate: Gate::new(
                &config.users,
                config.anonymous.as_ref(),
                metrics.logins_limited.clone(),
            ),
            registry: Arc::new(Registry::default()),
            shares: Shares::default(),
            sys: Sys::new(std::time::Instant::now()),
            metrics,
            complaints: Complaints::new(std::time::Instant::now()),
            bounds: Bounds::new(config),
        });
        Ok(Self { listeners, context, renewal: Renewal::default() })
    }

    /// Where it listens for plain TCP.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let tcp = self.addresses().find(|(way, _)| *way == Way::Tcp);
        tcp.map(|(_, address)| address).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Where each way of the network listens.
    pub fn addresses(&self) -> impl Iterator<Item = (Way, SocketAddr)> {
        self.listeners.addresses()
    }

    /// Asks for certificates to be read again while the server runs.
    pub fn renewal(&self) -> Renewal {
        self.renewal.clone()
    }

    /// Looks at the server while it runs.
    pub fn view(&self) -> MqttView {
        MqttView { context: Arc::clone(&self.context) }
    }

    /// Changes the server while it runs.
    pub fn control(&self) -> MqttControl {
        MqttControl::new(&self.context)
    }

    /// Serves until `shutdown` is true or its sender is gone; then acknowledges what is being
    /// committed and ends all connections.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let Self { mut listeners, context, renewal } = self;
        let places = Arc::clone(context.bounds.places());
        let refusals = Arc::new(Semaphore::new(REFUSED_AT_A_TIME));
        let mut connections = JoinSet::new();
        wills::resume(&context);
        let figures = tokio::spawn(figures(Arc::clone(&context)));
        let lookout = tokio::spawn(look_out(Arc::clone(&context)));
        listeners.announce();
        let opener = listeners.opener().clone();
        if let Some(tls) = opener.tls().cloned() {
            connections.spawn(keep_fresh(tls, renewal, shutdown.clone()));
        }
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                biased;
                () = asked_to_end(&mut shutdown) => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                _ = sweep.tick() => {
                    connections.spawn(sweep_sessions(Arc::clone(&context)));
                }
                accepted = listeners.accept() => match accepted {
                    Ok(arrival) => {
                        if let Some(place) = place(&places, &refusals) {
                            let (context, shutdown) = (Arc::clone(&context), shutdown.clone());
                            let opener = opener.clone();
                            connections.spawn(serve(arrival, context, opener, shutdown, place));
                        }
                    }
                    Err(problem) => {
                        warn!(%problem, "no connection can be accepted");
                        tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    }
                },
            }
        }
        drop(listeners);
        figures.abort();
        info!(connections = connections.len(), "the front door closes");
        context.registry.end_all(reason::SHUTTING_DOWN);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_MAX, all).await.is_err() {
            warn!("connections that did not settle in time are cut");
        }
        lookout.abort();
    }
}

async fn asked_to_end(shutdown: &mut watch::Receiver<bool>) {
    // Without its sender nobody is left who could ask.
    let _ = shutdown.wait_for(|shutdown| *shutdown).await;
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

/// A client that was let in, until it goes.
type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One connection, from its arrival to its end. What this holds is held for each idle connection:
/// the ways in, which take much and not for long, are on the heap and gone when the client is in.
async fn serve(
    arrival: Arrival,
    context: Arc<Context>,
    opener: Opener,
    mut shutdown: watch::Receiver<bool>,
    mut place: Place,
) {
    let refuse = place.refuse.take();
    let counted = Arc::clone(&context);
    let served = tokio::select! {
        served = Box::pin(enter(arrival, context, opener, refuse)) => served,
        () = asked_to_end(&mut shutdown) => None,
    };
    drop(shutdown);
    if let Some(served) = served {
        counted.metrics.connected();
        served.await;
        counted.metrics.connections.dec();
    }
}

/// Lets a client in by the way it came, TLS, upgrade and CONNECT together within their deadline.
async fn enter(
    arrival: Arrival,
    context: Arc<Context>,
    opener: Opener,
    refuse: Option<Fault>,
) -> Option<Served> {
    let deadline = Instant::now() + HANDSHAKE_MAX;
    let (way, peer) = (arrival.way, arrival.peer());
    context.metrics.arrived(way);
    let arrival = match arrival {
        Arrival { way: Way::Tcp, socket: Socket::Net(socket, _) } => {
            return converse(socket, peer, context, deadline, refuse).await;
        }
        arrival => arrival,
    };
    let late = |_| Err(Unopened::Refused(format!("no {} handshake within 10 s", way.name())));
    match timeout_at(deadline, opener.open(arrival)).await.unwrap_or_else(late) {
        Ok((stream, peer)) => converse(stream, peer, context, deadline, refuse).await,
        Err(unopened) => {
            context.metrics.unopened(way);
            if let Unopened::Refused(why) = unopened {
                context.complaints.log("", &peer, &why);
            }
            None
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    context: Arc<Context>,
    deadline: Instant,
    refuse: Option<Fault>,
) -> Option<Served> {
    let connection = handshake(stream, peer, &context, deadline, refuse).await?;
    Some(Box::pin(Box::new(connection).run()))
}

/// Tells subscribers where the log has something for them.
async fn look_out(context: Arc<Context>) {
    context.lookout.run(context.journal()).await;
}

/// Keeps the `$SYS` topics up to date.
async fn figures(context: Arc<Context>) {
    let count = || {
        let journal = context.journal();
        let stored = journal.durable().end.saturating_sub(journal.stats().start);
        let stored = (stored, journal.stats().bytes);
        sys::counts(&context.metrics, context.state.counts(), stored)
    };
    context.sys.run(count).await;
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
    sweep_shares(&context, now_ms);
}

/// Ends shared subscriptions that nobody holds any more.
fn sweep_shares(context: &Context, now_ms: i64) {
    for filter in context.state.unheld_shares() {
        if !context.shares.forget(&filter) {
            continue;
        }
        if let Err(problem) = context.record(&filter, &Change::End, now_ms) {
            warn!(filter, %problem, "the end of a shared subscription is not recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::connection::Connection;
    use tokio::net::TcpStream;

    fn task_bytes<A, B, C, D, E, F: Future>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    fn run_bytes<A, F: Future>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_costs_little_while_it_is_idle() {
        let (task, run) = (task_bytes(serve), run_bytes(Connection::<TcpStream>::run));
        let connection = size_of::<Connection<TcpStream>>();
        let what = format!("{task} B of task, {run} B of run, {connection} B of connection");
        assert!(task + run + connection <= 4096, "{what}");
    }
}
