//! From an accepted socket to a session: CONNECT within its deadline, credentials, take-over, CONNACK.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};

use super::auth::Pass;
use super::bounds::Stranger;
use super::codec::{self, BadConnect};
use super::connection::{Connection, Start, unix_ms};
use super::context::Context;
use super::frame;
use super::packet::{ConnAck, Connect, Fault, Version, reason};
use super::peer::Peer;
use super::registry::Claim;
use super::relay;
use super::session::{
    self, ALIAS_MAX, Change, Entry, KEEP_ALIVE_S_MAX, RECEIVE_MAXIMUM, Session, Subscriber,
};
use super::wills;
use super::wire::{Event, Wire};

/// A connection that is refused gets this long to take its CONNACK.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Makes a connection of a stream, or says on it and in the log why not. By `deadline` it has to be
/// done; `refuse` is a reason to refuse whoever it is.
pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Peer,
    context: &Arc<Context>,
    deadline: Instant,
    refuse: Option<Fault>,
) -> Option<Connection<S>> {
    let mut wire = Wire::new(stream);
    // Held until the client is let in: till then its CONNECT is in memory, will and all.
    let mut room = context.bounds.stranger();
    let connect = match timeout_at(deadline, read_connect(&mut wire, context, &mut room)).await {
        // A port scan, or a client that gave up: nothing was asked.
        Ok(Ok(None)) => return None,
        Ok(Ok(Some(connect))) => connect,
        Ok(Err(BadConnect::Silent(fault))) => {
            context.metrics.fault(fault.reason);
            context.complaints.log("", &peer, &fault);
            return None;
        }
        Ok(Err(BadConnect::Refused(version, fault))) => {
            let whom = Refused { version, client: "", packet_bytes_max: u32::MAX };
            refused(&mut wire, &whom, &peer, context, &fault).await;
            return None;
        }
        Err(_) => {
            let fault = Fault::new(reason::KEEP_ALIVE, "no CONNECT within 10 s");
            context.metrics.fault(fault.reason);
            context.complaints.log("", &peer, &fault);
            return None;
        }
    };
    let welcomed = match refuse {
        Some(fault) => Err(fault),
        None => timeout_at(deadline, enter(&connect, &peer, context)).await.unwrap_or_else(|_| {
            Err(Fault::new(reason::SERVER_BUSY, "credentials or take-over took longer than 10 s"))
        }),
    };
    match welcomed {
        Ok(entered) => Some(welcome(wire, peer, context, connect, entered)),
        Err(fault) => {
            let (version, packet_bytes_max) = (connect.version, connect.packet_bytes_max);
            let whom = Refused { version, client: &connect.client, packet_bytes_max };
            refused(&mut wire, &whom, &peer, context, &fault).await;
            None
        }
    }
}

async fn read_connect<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    context: &Context,
    room: &mut Stranger,
) -> Result<Option<Connect>, BadConnect> {
    loop {
        // The first byte decides: what is not CONNECT is not waited for.
        if wire.inbuf.first().is_some_and(|first| first >> 4 != frame::CONNECT) {
            return Err(BadConnect::Silent(Fault::protocol("the first packet is not CONNECT")));
        }
        let split = frame::split(&wire.inbuf, context.bounds.packet_bytes());
        if let Some(frame) = split.map_err(BadConnect::Silent)? {
            let connect = codec::read_connect(&frame)?;
            let used = frame.whole.len();
            wire.consume(used);
            return Ok(Some(connect));
        }
        if !room.has_sent(wire.inbuf.len()) {
            let why = "too many clients send a long CONNECT at a time";
            return Err(BadConnect::Silent(Fault::new(reason::SERVER_BUSY, why)));
        }
        match wire.next(true).await {
            Ok(Event::Read(_) | Event::Wrote(_)) => {}
            Err(problem) if problem.kind() == std::io::ErrorKind::InvalidData => {
                return Err(BadConnect::Silent(Fault::protocol(problem.to_string())));
            }
            Ok(Event::Closed) | Err(_) => return Ok(None),
        }
    }
}

struct Entered {
    pass: Pass,
    claim: Claim,
    entry: Entry,
    connack: ConnAck,
}

async fn enter(connect: &Connect, peer: &Peer, context: &Arc<Context>) -> Result<Entered, Fault> {
    session::examine(connect)?;
    let mut connack = offer(connect, context);
    check_fits(connect, &connack)?;
    let client: Arc<str> = connack.assigned.as_deref().unwrap_or(&connect.client).into();
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
    let unavailable = |_| Fault::new(reason::SERVER_UNAVAILABLE, "the session cannot be recorded");
    let mut promised = None;
    if let Some(change) = &entry.change {
        let ticket = context.record(&client, change, unix_ms()).map_err(unavailable)?;
        promised = (!matches!(change, Change::Resume { .. })).then_some(ticket);
    }
    let present = entry.session_present;
    connack.session_present = present;
    let kept = wills::enter(context, &client, connect.will.as_ref(), connect.expiry_s, present)?;
    if let Some(ticket) = kept.or(promised) {
        context.journal().wait(ticket).await.map_err(unavailable)?;
    }
    if connect.version == Version::V5 {
        relay::greet(context, connect, pass.access().gateway(), &mut connack).await;
        check_fits(connect, &connack)?;
    }
    Ok(Entered { pass, claim, entry, connack })
}

/// What this client is told of the server, but for its session.
fn offer(connect: &Connect, context: &Context) -> ConnAck {
    let capped = connect.version == Version::V5 && connect.keep_alive_s > KEEP_ALIVE_S_MAX;
    ConnAck {
        session_present: false,
        assigned: connect.client.is_empty().then(random_client),
        keep_alive_s: capped.then_some(KEEP_ALIVE_S_MAX),
        expiry_s: None,
        packet_bytes_max: u32::try_from(context.bounds.packet_bytes()).unwrap_or(u32::MAX),
        receive_maximum: RECEIVE_MAXIMUM,
        alias_max: ALIAS_MAX,
        says: Vec::new(),
    }
}

/// A client that cannot take its CONNACK cannot be told what it has to know [MQTT-3.1.2-24].
fn check_fits(connect: &Connect, connack: &ConnAck) -> Result<(), Fault> {
    let mut bytes = Vec::new();
    codec::put_connack(&mut bytes, connect.version, connack);
    let max = connect.packet_bytes_max;
    if u32::try_from(bytes.len()).is_ok_and(|size| size <= max) {
        return Ok(());
    }
    let why = format!("takes packets of {max} bytes, and CONNACK has {}", bytes.len());
    Err(Fault::new(reason::PACKET_TOO_LARGE, why))
}

fn welcome<S: AsyncRead + AsyncWrite + Unpin>(
    mut wire: Wire<S>,
    peer: Peer,
    context: &Arc<Context>,
    connect: Connect,
    entered: Entered,
) -> Connection<S> {
    let version = connect.version;
    let keep_alive_s = entered.connack.keep_alive_s.unwrap_or(connect.keep_alive_s);
    let client: Arc<str> = Arc::clone(entered.claim.client());
    let packet_bytes_max = usize::try_from(entered.connack.packet_bytes_max).unwrap_or(usize::MAX);
    codec::put_connack(&mut wire.out, version, &entered.connack);
    context.metrics.connects.inc();
    let subscriber = Subscriber {
        version,
        client,
        receive_maximum: connect.receive_maximum,
        packet_bytes_max: connect.packet_bytes_max,
        alias_max: connect.alias_max,
        lasts: connect.expiry_s > 0,
        access: Arc::clone(entered.pass.access()),
    };
    let end = context.journal().end();
    let session = Session::new(subscriber, entered.entry.recorded, entered.entry.stored, end);
    let keep_alive =
        (keep_alive_s > 0).then(|| Duration::from_millis(u64::from(keep_alive_s) * 1500));
    let start = Start {
        session,
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

/// Who is refused.
struct Refused<'a> {
    version: Version,
    client: &'a str,
    packet_bytes_max: u32,
}

async fn refused<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    whom: &Refused<'_>,
    peer: &Peer,
    context: &Context,
    fault: &Fault,
) {
    context.metrics.refuse(fault.reason);
    context.complaints.log(whom.client, peer, fault);
    if whom.packet_bytes_max >= codec::REFUSAL_BYTES {
        codec::put_refusal(&mut wire.out, whom.version, fault.reason);
    }
    // Whether the client takes it is its own affair.
    let _ = timeout(FAREWELL_MAX, wire.close()).await;
}

/// An id for a client that gave none.
fn random_client() -> String {
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("auto-{random:016x}")
}
