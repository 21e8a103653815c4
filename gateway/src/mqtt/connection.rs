//! The shell of one connection: moves bytes between its socket and the session's core, carries the
//! core's actions to the journal, and brings commits, time and take-over to the core.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::codec;
use super::context::Context;
use super::deliver::{Deliver, Sources, Waiting};
use super::frame;
use super::packet::{Fault, Packet, Will, reason};
use super::peer::Peer;
use super::registry::Claim;
use super::session::{Action, Change, InFlight, Message, Session};
use super::wire::{Event, Wire};
use crate::journal::{AppendError, Durable, Ticket};
use crate::stream::{Incoming, IntakeError};

/// The client is not read while so many bytes wait for it.
const OUT_BYTES_MAX: usize = 128 << 10;

/// How often the position of a recorded session is recorded while messages go out.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// A client that takes no bytes for this long is given up.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Wills that wait for their delay.
const WAITING_WILLS_MAX: usize = 10_000;

/// At the end a client gets this long to take what is still for it.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// With take-over or shutdown it is shorter.
const TAKE_OVER_MAX: Duration = Duration::from_millis(200);

/// The timer sleeps at most this long.
const TIMER_MAX: Duration = Duration::from_secs(3600);

/// Now, in ms since 1970.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client said goodbye.
    Left { will: bool },
    /// The socket is closed or broken.
    Closed,
    /// The client broke the protocol or a limit.
    Fault(Fault),
    /// Take-over or shutdown, with its reason code.
    Kicked(u8),
    /// A commit failed; what was not acknowledged has to be sent again.
    Lost,
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// One connected client.
pub(crate) struct Connection<S> {
    context: Arc<Context>,
    wire: Wire<S>,
    session: Session,
    deliver: Deliver,
    claim: Claim,
    peer: Peer,
    /// 1.5 times what the client asked for.
    keep_alive: Option<Duration>,
    will: Option<Will>,
    expiry_s: u32,
    durable: watch::Receiver<Durable>,
    /// Of the journal, when it was last looked at.
    generation: u64,
    applied: watch::Receiver<u64>,
    /// A message waits in the buffer until the journal takes more.
    held: bool,
    last_heard: Instant,
    last_progress: Instant,
    last_save: Instant,
}

/// What a connection starts with.
pub(crate) struct Start {
    pub(crate) session: Session,
    /// In flight when the last connection ended.
    pub(crate) again: Vec<InFlight>,
    pub(crate) claim: Claim,
    pub(crate) peer: Peer,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) will: Option<Will>,
    pub(crate) expiry_s: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(context: Arc<Context>, wire: Wire<S>, start: Start) -> Self {
        let now = Instant::now();
        Self {
            durable: context.journal().watch(),
            generation: context.journal().durable().generation,
            applied: context.applied.clone(),
            context,
            wire,
            session: start.session,
            deliver: Deliver::new(start.again),
            claim: start.claim,
            peer: start.peer,
            keep_alive: start.keep_alive,
            will: start.will,
            expiry_s: start.expiry_s,
            held: false,
            last_heard: now,
            last_progress: now,
            last_save: now,
        }
    }

    /// Serves the client until one side ends it; then settles its session and its will.
    pub(crate) async fn run(mut self: Box<Self>) {
        let end = match self.serve().await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        self.say_goodbye(&end).await;
        self.leave(&end).await;
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        let mut timer = std::pin::pin!(sleep_until(Instant::now() + TIMER_MAX));
        loop {
            let waiting = self.turn()?;
            let now = Instant::now();
            let deadline = self.deadline(now);
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            let willing = self.willing();
            let held = willing && self.held;
            let settles = self.session.is_waiting() || waiting == Waiting::Durable;
            tokio::select! {
                biased;
                code = &mut self.claim.kick => {
                    return Err(End::Kicked(code.unwrap_or(reason::UNSPECIFIED)));
                }
                event = self.wire.next(willing && !held) => self.moved(event)?,
                () = self.context.intake.journal().admit(), if held => {}
                _ = self.durable.changed(), if settles => {}
                _ = self.applied.changed(), if waiting == Waiting::State => {}
                () = timer.as_mut() => self.tick(willing)?,
                () = tokio::task::yield_now(), if waiting == Waiting::Turn => {}
            }
        }
    }

    /// Does all that can be done without waiting.
    fn turn(&mut self) -> Result<Waiting, End> {
        let now_ms = unix_ms();
        self.settle()?;
        self.take_packets(now_ms)?;
        self.settle()?;
        let sources = Sources {
            journal: self.context.journal(),
            state: &self.context.state,
            applied: *self.applied.borrow_and_update(),
            metrics: &self.context.metrics,
            now_ms,
        };
        let outbound = &mut self.session.outbound;
        let (waiting, gone) = self.deliver.pump(outbound, &sources, &mut self.wire.out);
        if let Some(problem) = gone {
            let client = self.session.client();
            self.context.complaints.log(client, &self.peer, &format!("goes on, but {problem}"));
        }
        Ok(waiting)
    }

    fn settle(&mut self) -> Result<(), End> {
        let durable = *self.durable.borrow_and_update();
        let settled = self.session.settle(&durable, &mut self.wire.out).map_err(|_| End::Lost)?;
        if durable.generation != self.generation {
            self.generation = durable.generation;
            self.session.outbound.rewind(durable.end);
            self.deliver.rewind(durable.end);
        }
        if settled > 0 {
            self.context.metrics.acknowledged.inc_by(settled);
        }
        Ok(())
    }

    /// True while the client may be read: nothing of ours is in the way.
    fn willing(&self) -> bool {
        !self.session.is_full() && self.wire.waiting() < OUT_BYTES_MAX
    }

    /// True if the journal takes more at once.
    fn is_admitted(&self) -> bool {
        let mut admit = std::pin::pin!(self.context.journal().admit());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        admit.as_mut().poll(&mut context).is_ready()
    }

    fn take_packets(&mut self, now_ms: i64) -> Result<(), End> {
        let bytes = std::mem::take(&mut self.wire.inbuf);
        let mut used = 0;
        let mut received = 0;
        self.held = false;
        let result = loop {
            if !self.willing() {
                break Ok(());
            }
            let frame = match frame::split(&bytes[used..], self.context.packet_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(fault) => break Err(End::Fault(fault)),
            };
            // Messages wait at the door; what else a client says is taken all the while.
            if frame.kind == frame::PUBLISH {
                self.held = received == 0 && !self.is_admitted();
                if self.held {
                    break Ok(());
                }
                received += 1;
            }
            used += frame.whole.len();
            let packet = match codec::read_packet(&frame, self.session.version()) {
                Ok(packet) => packet,
                Err(fault) => break Err(End::Fault(fault)),
            };
            if let Err(end) = self.take_packet(packet, now_ms) {
                break Err(end);
            }
        };
        if received > 0 {
            self.context.metrics.received.inc_by(received);
        }
        self.wire.inbuf = bytes;
        self.wire.consume(used);
        result
    }

    fn take_packet(&mut self, packet: Packet<'_>, now_ms: i64) -> Result<(), End> {
        match self.session.packet(packet, &mut self.wire.out)? {
            Action::Done => {}
            Action::Store(message) => self.store(&message, now_ms)?,
            Action::Release(id) => {
                let ticket = self.record(&Change::Release(id), now_ms)?;
                self.session.released(id, ticket);
            }
            Action::Subscribe(subscribing) => {
                let change = Change::Subscribe(subscribing.granted.clone());
                let grants = !subscribing.granted.is_empty();
                let ticket = self.record_if(grants, &change, now_ms)?;
                let since =
                    ticket.map_or_else(|| self.context.journal().end(), |ticket| ticket.offset);
                let out = &mut self.wire.out;
                let retained = self.session.subscribed(subscribing, since, ticket, out);
                self.deliver.retain(retained, since);
            }
            Action::Unsubscribe(unsubscribe) => {
                let change = Change::Unsubscribe(unsubscribe.filters.clone());
                let ticket = self.record_if(true, &change, now_ms)?;
                self.session.unsubscribed(&unsubscribe, ticket, &mut self.wire.out);
            }
            Action::Leave { will, expiry_s } => {
                self.expiry_s = expiry_s.unwrap_or(self.expiry_s);
                return Err(End::Left { will });
            }
        }
        Ok(())
    }

    fn store(&mut self, message: &Message<'_>, now_ms: i64) -> Result<(), End> {
        let stored = self.context.intake.publish(&Incoming {
            client: self.session.client(),
            topic: &message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            packet_id: (message.qos == 2).then_some(message.id),
            properties: &message.properties,
            now_ms,
        });
        match stored {
            Ok(accepted) => {
                self.session.stored(message.id, message.qos, accepted.ticket);
                Ok(())
            }
            Err(IntakeError::Append(AppendError::TooLarge(_))) => {
                Ok(self.session.not_stored(message.id, message.qos, reason::QUOTA)?)
            }
            Err(IntakeError::Append(_) | IntakeError::Recovering) => Err(End::Lost),
        }
    }

    fn record(&self, change: &Change, now_ms: i64) -> Result<Ticket, End> {
        self.context.record(self.session.client(), change, now_ms).map_err(|_| End::Lost)
    }

    fn record_if(&self, needed: bool, change: &Change, now_ms: i64) -> Result<Option<Ticket>, End> {
        (needed && self.session.is_recorded()).then(|| self.record(change, now_ms)).transpose()
    }

    fn moved(&mut self, event: std::io::Result<Event>) -> Result<(), End> {
        match event {
            Ok(Event::Read(count)) => {
                self.last_heard = Instant::now();
                self.context.metrics.bytes_in.inc_by(count as u64);
                Ok(())
            }
            Ok(Event::Wrote(count)) => {
                self.last_progress = Instant::now();
                self.context.metrics.bytes_out.inc_by(count as u64);
                Ok(())
            }
            Ok(Event::Closed) | Err(_) => Err(End::Closed),
        }
    }

    fn deadline(&mut self, now: Instant) -> Instant {
        let mut deadline = now + TIMER_MAX;
        if let Some(keep_alive) = self.keep_alive {
            deadline = deadline.min(self.last_heard + keep_alive);
        }
        if self.wire.waiting() == 0 {
            self.last_progress = now;
        } else {
            deadline = deadline.min(self.last_progress + STALL_MAX);
        }
        if self.session.is_recorded() && self.session.outbound.moved() {
            deadline = deadline.min(self.last_save + SAVE_EVERY);
        }
        deadline
    }

    /// Time has passed. While the gateway itself does not read, the client is not silent.
    fn tick(&mut self, willing: bool) -> Result<(), End> {
        let now = Instant::now();
        if now >= self.last_progress + STALL_MAX && self.wire.waiting() > 0 {
            return Err(Fault::new(reason::KEEP_ALIVE, "took no bytes for 60 s").into());
        }
        if let Some(keep_alive) = self.keep_alive
            && now >= self.last_heard + keep_alive
        {
            if self.held && self.context.journal().is_blocked() {
                // Long enough that the client has given up; its next connection sends again.
                return Err(Fault::new(reason::SERVER_BUSY, "the log is full").into());
            }
            if willing && !self.held {
                return Err(Fault::new(reason::KEEP_ALIVE, "silent for 1.5 keep-alives").into());
            }
            self.last_heard = now;
        }
        if now >= self.last_save + SAVE_EVERY
            && self.session.is_recorded()
            && self.session.outbound.moved()
        {
            self.last_save = now;
            let position = self.session.outbound.position();
            self.record(&Change::Position(position), unix_ms())?;
            self.session.outbound.position_recorded();
        }
        Ok(())
    }

    /// Sends what is still to be said and closes the socket.
    async fn say_goodbye(&mut self, end: &End) {
        let code = match end {
            End::Closed | End::Left { .. } => None,
            End::Fault(fault) => {
                self.context.metrics.fault(fault.reason);
                self.context.complaints.log(self.session.client(), &self.peer, fault);
                Some(fault.reason)
            }
            End::Lost => {
                self.context.metrics.lost_commits.inc();
                Some(reason::SERVER_BUSY)
            }
            End::Kicked(code) => Some(*code),
        };
        if matches!(end, End::Kicked(reason::SHUTTING_DOWN)) {
            // What is being committed may still be acknowledged.
            let _ = timeout(FAREWELL_MAX, self.settle_all()).await;
        }
        if let Some(code) = code {
            codec::put_disconnect(&mut self.wire.out, self.session.version(), code);
        }
        match end {
            End::Closed | End::Left { .. } => {}
            // Somebody waits for this client id, and the old peer may be long dead.
            End::Kicked(_) => {
                let _ = timeout(TAKE_OVER_MAX, self.wire.flush()).await;
            }
            End::Fault(_) | End::Lost => {
                let _ = timeout(FAREWELL_MAX, self.wire.close()).await;
            }
        }
    }

    async fn settle_all(&mut self) {
        while self.settle().is_ok() && self.session.is_waiting() {
            if self.durable.changed().await.is_err() {
                return;
            }
        }
    }

    /// Settles will and session. The client id is free again after this.
    async fn leave(self: Box<Self>, end: &End) {
        let Self { context, session, claim, will, expiry_s, wire, .. } = *self;
        // The socket closes before anything is waited for.
        drop(wire);
        let client = Arc::clone(session.client());
        let wanted = match end {
            End::Left { will } => *will,
            End::Kicked(reason::SHUTTING_DOWN) => false,
            _ => true,
        };
        if let Some(will) = will.filter(|_| wanted) {
            publish_will(&context, &client, will, expiry_s);
        }
        if session.is_recorded() {
            let now_ms = unix_ms();
            let change = match expiry_s {
                0 => Change::End,
                _ => {
                    let position = session.outbound.position();
                    Change::Detach { at_ms: now_ms, expiry_s, position }
                }
            };
            drop(session);
            match context.record(&client, &change, now_ms) {
                Ok(ticket) => context.wait_applied(ticket).await,
                Err(problem) => {
                    tracing::debug!(%client, %problem, "the end of a connection is not recorded");
                }
            }
        }
        drop(claim);
    }
}

/// Publishes a will now, or after its delay or the session's end, whichever is first (5, 3.1.3.2.2).
fn publish_will(context: &Arc<Context>, client: &Arc<str>, will: Will, expiry_s: u32) {
    let delay_s = will.delay_s.min(expiry_s);
    let waits = match delay_s {
        0 => None,
        _ => context.registry.will_waits(client, WAITING_WILLS_MAX),
    };
    let Some((number, decided)) = waits else {
        context.publish_will(client, &will, unix_ms());
        return;
    };
    let (context, client) = (Arc::clone(context), Arc::clone(client));
    tokio::spawn(async move {
        let publish = match timeout(Duration::from_secs(u64::from(delay_s)), decided).await {
            Ok(decision) => decision.unwrap_or(false),
            Err(_) => true,
        };
        context.registry.will_done(&client, number);
        if publish {
            context.publish_will(&client, &will, unix_ms());
        }
    });
}
