//! From an accepted socket to a session: CONNECT within its deadline, credentials, take-over, CONNACK.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};

use super::auth::Pass;
use super::codec::{self, BadConnect};
use super::connection::{Connection, Start, unix_ms};
use super::context::Context;
use super::frame;
use super::packet::{ConnAck, Connect, Fault, Version, reason};
use super::peer::Peer;
use super::registry::Claim;
use super::session::{
    self, ALIAS_MAX, Change, Entry, KEEP_ALIVE_S_MAX, RECEIVE_MAXIMUM, Session, Subscriber,
};
use super::wire::{Event, Wire};

/// The whole handshake, CONNECT and credentials, has to be done in this time.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// A connection that is refused gets this long to take its CONNACK.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Makes a connection of a socket, or says on it and in the log why not. `refuse` is a reason to
/// refuse whoever it is.
pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Peer,
    context: &Arc<Context>,
    refuse: Option<Fault>,
) -> Option<Connection<S>> {
    let deadline = Instant::now() + HANDSHAKE_MAX;
    let mut wire = Wire::new(stream);
    let connect = match timeout_at(deadline, read_connect(&mut wire, context)).await {
        // A port scan, or a client that gave up: nothing was asked.
        Ok(Ok(None)) => return None,
        Ok(Ok(Some(connect))) => connect,
        Ok(Err(BadConnect::Silent(fault))) => {
            context.metrics.fault(fault.reason);
            context.complaints.log("", &peer, &fault);
            return None;
        }
        Ok(Err(BadConnect::Refused(version, fault))) => {
            refused(&mut wire, version, "", &peer, context, &fault).await;
            return None;
        }
        Err(_) => {
            let fault = Fault::new(reason::KEEP_ALIVE, "no CONNECT within 10 s");
            context.metrics.fault(fault.reason);
            context.complaints.log("", &peer, &fault);
            return None;
        }
    };
    let (version, client) = (connect.version, connect.client.clone());
    let welcomed = match refuse {
        Some(fault) => Err(fault),
        None => timeout_at(deadline, enter(&connect, &peer, context)).await.unwrap_or_else(|_| {
            Err(Fault::new(reason::SERVER_BUSY, "credentials or take-over took longer than 10 s"))
        }),
    };
    match welcomed {
        Ok(entered) => Some(welcome(wire, peer, context, connect, entered)),
        Err(fault) => {
            refused(&mut wire, version, &client, &peer, context, &fault).await;
            None
        }
    }
}

async fn read_connect<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    context: &Context,
) -> Result<Option<Connect>, BadConnect> {
    loop {
        let split = frame::split(&wire.inbuf, context.bounds.packet_bytes());
        if let Some(frame) = split.map_err(BadConnect::Silent)? {
            let connect = codec::read_connect(&frame)?;
            let used = frame.whole.len();
            wire.consume(used);
            return Ok(Some(connect));
        }
        // The first byte decides: what is not CONNECT is not waited for.
        if wire.inbuf.first().is_some_and(|first| first >> 4 != frame::CONNECT) {
            return Err(BadConnect::Silent(Fault::protocol("the first packet is not CONNECT")));
        }
        match wire.next(true).await {
            Ok(Event::Read(_) | Event::Wrote(_)) => {}
            Ok(Event::Closed) | Err(_) => return Ok(None),
        }
    }
}

struct Entered {
    pass: Pass,
    claim: Claim,
    entry: Entry,
    assigned: Option<String>,
}

async fn enter(connect: &Connect, peer: &Peer, context: &Arc<Context>) -> Result<Entered, Fault> {
    session::examine(connect)?;
    let assigned = connect.client.is_empty().then(random_client);
    let client: Arc<str> = assigned.as_deref().unwrap_or(&connect.client).into();
    let mut pass = context.gate.enter(connect.login.clone(), &client, peer).await?;
    if let Some(will) = &connect.will
        && !pass.access().may_publish(&will.topic)
    {
        return Err(Fault::new(reason::NOT_AUTHORIZED, "a will on a topic that is not allowed"));
    }
    let claim = context.registry.claim(&client).await;
    claim.belongs_to(pass.shown());
    // Only now: a client that comes back takes the place of its old connection.
    pass.sit()?;
    let stored = context.state.session(&client);
    let entry = session::admit(connect, stored, context.state.sessions(), unix_ms())?;
    context.registry.decide_will(&client, !entry.session_present);
    if let Some(change) = &entry.change {
        let unavailable =
            |_| Fault::new(reason::SERVER_UNAVAILABLE, "the session cannot be recorded");
        let ticket = context.record(&client, change, unix_ms()).map_err(unavailable)?;
        if !matches!(change, Change::Resume { .. }) {
            context.journal().wait(ticket).await.map_err(unavailable)?;
        }
    }
    Ok(Entered { pass, claim, entry, assigned })
}

fn welcome<S: AsyncRead + AsyncWrite + Unpin>(
    mut wire: Wire<S>,
    peer: Peer,
    context: &Arc<Context>,
    connect: Connect,
    entered: Entered,
) -> Connection<S> {
    let version = connect.version;
    let capped = version == Version::V5 && connect.keep_alive_s > KEEP_ALIVE_S_MAX;
    let keep_alive_s = if capped { KEEP_ALIVE_S_MAX } else { connect.keep_alive_s };
    let client: Arc<str> = Arc::clone(entered.claim.client());
    let packet_bytes_max = context.bounds.packet_bytes();
    let connack = ConnAck {
        session_present: entered.entry.session_present,
        assigned: entered.assigned,
        keep_alive_s: capped.then_some(keep_alive_s),
        expiry_s: None,
        packet_bytes_max: u32::try_from(packet_bytes_max).unwrap_or(u32::MAX),
        receive_maximum: RECEIVE_MAXIMUM,
        alias_max: ALIAS_MAX,
    };
    codec::put_connack(&mut wire.out, version, connack);
    context.metrics.connects.inc();
    let subscriber = Subscriber {
        version,
        client,
        receive_maximum: connect.receive_maximum,
        packet_bytes_max: connect.packet_bytes_max,
        access: Arc::clone(entered.pass.access()),
    };
    let end = context.journal().end();
    let again = entered.entry.stored.position.in_flight.clone();
    let session = Session::new(subscriber, entered.entry.recorded, entered.entry.stored, end);
    let keep_alive =
        (keep_alive_s > 0).then(|| Duration::from_millis(u64::from(keep_alive_s) * 1500));
    let start = Start {
        session,
        again,
        claim: entered.claim,
        pass: entered.pass,
        packet_bytes_max,
        peer,
        keep_alive,
        will: connect.will,
        expiry_s: connect.expiry_s,
    };
    Connection::new(Arc::clone(context), wire, start)
}

async fn refused<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    version: Version,
    client: &str,
    peer: &Peer,
    context: &Context,
    fault: &Fault,
) {
    context.metrics.refuse(fault.reason);
    context.complaints.log(client, peer, fault);
    codec::put_refusal(&mut wire.out, version, fault.reason);
    // Whether the client takes it is its own affair.
    let _ = timeout(FAREWELL_MAX, wire.close()).await;
}

/// An id for a client that gave none.
fn random_client() -> String {
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("auto-{random:016x}")
}
