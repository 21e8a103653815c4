//! The shell of one connection: moves bytes between its socket and the session's core, carries the
//! core's actions to the journal, and brings commits, time and take-over to the core.

mod ending;
mod subscribe;

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::auth::Pass;
use super::codec;
use super::context::Context;
use super::deliver::{Deliver, Sources, Waiting};
use super::frame;
use super::packet::{Fault, Packet, Will, reason};
use super::peer::Peer;
use super::registry::Claim;
use super::relay;
use super::session::{Action, Change, Message, Session};
use super::share;
use super::sys::Feed;
use super::wire::{Event, Wire};
use crate::journal::{AppendError, Durable, Ticket};
use crate::stream::{Incoming, IntakeError};

/// The client is not read while so many bytes wait for it.
const OUT_BYTES_MAX: usize = 128 << 10;

/// How often the position of a recorded session is recorded while messages go out.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// A client that takes no bytes for this long is given up.
const STALL_MAX: Duration = Duration::from_secs(60);

/// A client that sends more than it may is looked at this often, for a reload may allow it more.
const HELD_BACK_MAX: Duration = Duration::from_secs(1);

/// The timer sleeps at most this long.
const TIMER_MAX: Duration = Duration::from_secs(3600);

/// Now, in ms since 1970.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What `future` is at once, without waiting for it.
fn at_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::pin!(future).poll(&mut context)
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
    pass: Pass,
    /// The client was told so, and keeps it when a reload allows less.
    packet_bytes_max: usize,
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
    pub(crate) claim: Claim,
    pub(crate) pass: Pass,
    pub(crate) packet_bytes_max: usize,
    pub(crate) peer: Peer,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) will: Option<Will>,
    pub(crate) expiry_s: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(context: Arc<Context>, wire: Wire<S>, start: Start) -> Self {
        let now = Instant::now();
        let mut connection = Self {
            durable: context.journal().watch(),
            generation: context.journal().durable().generation,
            applied: context.applied.clone(),
            context,
            wire,
            deliver: Deliver::new(start.session.outbound.again()),
            session: start.session,
            claim: start.claim,
            pass: start.pass,
            packet_bytes_max: start.packet_bytes_max,
            peer: start.peer,
            keep_alive: start.keep_alive,
            will: start.will,
            expiry_s: start.expiry_s,
            held: false,
            last_heard: now,
            last_progress: now,
            last_save: now,
        };
        connection.join_again();
        connection
    }

    /// Serves the client until one side ends it; then settles its session and its will.
    pub(crate) async fn run(mut self: Box<Self>) {
        let end = match self.serve().await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        self.say_goodbye(&end).await;
        Box::pin(self.leave(&end)).await;
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
                    return Err(self.kicked(code.unwrap_or(reason::UNSPECIFIED)));
                }
                event = self.wire.next(willing && !held) => self.moved(event)?,
                () = self.context.intake.journal().admit(), if held => {}
                _ = self.durable.changed(), if settles => {}
                _ = self.applied.changed(), if waiting == Waiting::State => {}
                () = self.deliver.dealt.notified() => {}
                () = changed(&mut self.deliver.feed) => {}
                () = timer.as_mut() => self.tick(willing)?,
                () = tokio::task::yield_now(), if waiting == Waiting::Turn => {}
            }
        }
    }

    /// Does all that can be done without waiting.
    fn turn(&mut self) -> Result<Waiting, End> {
        let now_ms = unix_ms();
        self.keep_up()?;
        self.settle()?;
        self.take_packets(now_ms)?;
        self.settle()?;
        let sources = Sources {
            journal: self.context.journal(),
            lookout: &self.context.lookout,
            state: &self.context.state,
            applied: *self.applied.borrow_and_update(),
            metrics: &self.context.metrics,
            now_ms,
        };
        let outbound = &mut self.session.outbound;
        let (waiting, gone) = self.deliver.pump(outbound, &sources, &mut self.wire.out);
        for (filter, offset) in outbound.take_done() {
            self.context.shares.done(&filter, offset);
        }
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

    /// Takes over what a reload has changed.
    fn keep_up(&mut self) -> Result<(), End> {
        let gate = &self.context.gate;
        if gate.generation() != self.pass.generation() {
            self.session.set_access(gate.renew(&mut self.pass)?);
            let packet_bytes = self.context.bounds.packet_bytes();
            self.packet_bytes_max = self.packet_bytes_max.max(packet_bytes);
        }
        Ok(())
    }

    /// True while the client may be read: nothing of ours is in the way.
    fn willing(&self) -> bool {
        self.has_room() && self.pass.toll.turn().is_none()
    }

    /// True while answers to what the client says have room.
    fn has_room(&self) -> bool {
        !self.session.is_full() && self.wire.waiting() < OUT_BYTES_MAX
    }

    /// True if the journal takes more at once.
    fn is_admitted(&self) -> bool {
        at_once(self.context.journal().admit()).is_ready()
    }

    fn take_packets(&mut self, now_ms: i64) -> Result<(), End> {
        let bytes = std::mem::take(&mut self.wire.inbuf);
        let mut used = 0;
        let mut received = 0;
        let mut packets = 0;
        self.held = false;
        let result = loop {
            if !self.has_room() {
                break Ok(());
            }
            let frame = match frame::split(&bytes[used..], self.packet_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(fault) => break Err(End::Fault(fault)),
            };
            if !self.pass.toll.admits(frame.kind == frame::PUBLISH, frame.whole.len()) {
                break Ok(());
            }
            // Messages wait at the door; what else a client says is taken all the while.
            if frame.kind == frame::PUBLISH {
                self.held = received == 0 && !self.is_admitted();
                if self.held {
                    self.pass.toll.keep();
                    break Ok(());
                }
                received += 1;
            }
            used += frame.whole.len();
            packets += 1;
            let packet = match codec::read_packet(&frame, self.session.version()) {
                Ok(packet) => packet,
                Err(fault) => break Err(End::Fault(fault)),
            };
            if let Err(end) = self.take_packet(packet, now_ms) {
                break Err(end);
            }
        };
        if packets > 0 {
            self.context.metrics.packets.inc_by(packets);
        }
        if received > 0 {
            self.context.metrics.received.inc_by(received);
            self.context.metrics.dropped.inc_by(self.session.take_dropped());
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
            Action::Received { id, offset } => {
                let ticket = self.record(&Change::Received(offset), now_ms)?;
                self.session.received(id, ticket);
            }
            Action::Subscribe(subscribing) => self.subscribe(subscribing, now_ms)?,
            Action::Unsubscribe(unsubscribe) => {
                for filter in &unsubscribe.filters {
                    if share::is_shared(filter) {
                        self.deliver.part(&self.context.shares, filter);
                    } else {
                        self.deliver.look_away(&self.context.lookout, filter);
                    }
                }
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
        let relayed = match self.session.gateway() {
            Some(gateway) => relay::read(gateway, &message.properties, self.generation)?,
            None => None,
        };
        let stored = self.context.intake.publish(&Incoming {
            client: self.session.client(),
            topic: &message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            packet_id: (message.qos == 2).then_some(message.id),
            properties: relayed.as_ref().map_or(&*message.properties, |(_, properties)| properties),
            now_ms,
            relayed: relayed.as_ref().map(|(relayed, _)| relayed),
        });
        match stored {
            Ok(accepted) => {
                self.session.stored(message.id, message.qos, accepted.ticket);
                Ok(())
            }
            Err(IntakeError::Append(AppendError::TooLarge(_))) => {
                Ok(self.session.not_stored(message.id, message.qos, reason::QUOTA)?)
            }
            Err(problem @ IntakeError::RoutesFull) => {
                Err(Fault::new(reason::QUOTA, problem.to_string()).into())
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
            Ok(Event::Closed) => Err(End::Closed),
            // The way in has understood the client, and does not allow what it did.
            Err(problem) if problem.kind() == std::io::ErrorKind::InvalidData => {
                Err(Fault::protocol(problem.to_string()).into())
            }
            Err(_) => Err(End::Closed),
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
        if self.is_to_be_saved() {
            deadline = deadline.min(self.last_save + SAVE_EVERY);
        }
        if let Some(turn) = self.pass.toll.turn() {
            deadline = deadline.min(Instant::from_std(turn).min(now + HELD_BACK_MAX));
        }
        deadline
    }

    fn is_to_be_saved(&self) -> bool {
        self.deliver.is_shared() || self.session.is_recorded() && self.session.outbound.moved()
    }

    fn save(&mut self) -> Result<(), End> {
        if self.session.is_recorded() && self.session.outbound.moved() {
            let position = self.session.outbound.position();
            self.record(&Change::Reached(position), unix_ms())?;
            self.session.outbound.position_recorded();
        }
        for (filter, position) in self.deliver.positions_to_record() {
            self.record_share(&filter, position, unix_ms())?;
        }
        Ok(())
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
        if now >= self.last_save + SAVE_EVERY && self.is_to_be_saved() {
            self.last_save = now;
            self.save()?;
        }
        Ok(())
    }
}

/// Returns when the `$SYS` figures have changed; never, where they are not wanted.
async fn changed(feed: &mut Option<Feed>) {
    match feed {
        Some(feed) => feed.changed().await,
        None => std::future::pending().await,
    }
}
