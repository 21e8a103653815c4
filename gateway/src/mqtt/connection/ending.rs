//! The end of a connection: the last words, and what becomes of will, session and shared
//! subscriptions.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::{Connection, End, at_once, unix_ms};
use crate::journal::{AppendError, Ticket};
use crate::mqtt::codec;
use crate::mqtt::context::Context;
use crate::mqtt::deliver::Deliver;
use crate::mqtt::packet::reason;
use crate::mqtt::session::{Change, Phase, Session};
use crate::mqtt::wills;
use crate::mqtt::wire::Event;

/// At the end a client gets this long to take what is still for it.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// With take-over or shutdown it is shorter.
const TAKE_OVER_MAX: Duration = Duration::from_millis(200);

/// Of a connection that is taken over so much is still read.
const LAST_BYTES_MAX: usize = 256 << 10;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// The end that a kick makes. A client that says goodbye and comes back at once is taken over
    /// while its goodbye waits in the socket: that was first, so it has no will and no session that
    /// it has ended.
    pub(super) fn kicked(&mut self, code: u8) -> End {
        if code == reason::TAKEN_OVER
            && let Err(left @ End::Left { .. }) = self.take_what_came()
        {
            return left;
        }
        End::Kicked(code)
    }

    /// Takes what the socket already has, as far as there is room for it.
    fn take_what_came(&mut self) -> Result<(), End> {
        let mut bytes = 0;
        while bytes < LAST_BYTES_MAX
            && let Poll::Ready(event) = at_once(self.wire.next(true))
        {
            if let Ok(Event::Read(count)) = event {
                bytes += count;
            }
            self.moved(event)?;
            self.take_packets(unix_ms())?;
        }
        Ok(())
    }

    /// Sends what is still to be said and closes the socket.
    pub(super) async fn say_goodbye(&mut self, end: &End) {
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
            End::Closed => {}
            // A way in with an end of its own says it, but nobody waits for the answer.
            End::Left { .. } => {
                let _ = timeout(TAKE_OVER_MAX, self.wire.shut()).await;
            }
            // Somebody waits for this client id, and the old peer may be long dead.
            End::Kicked(_) => {
                let last_words = async {
                    self.wire.flush().await?;
                    self.wire.shut().await
                };
                let _ = timeout(TAKE_OVER_MAX, last_words).await;
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

    /// Settles will, session and shared subscriptions. The client id is free again after this.
    pub(super) async fn leave(self: Box<Self>, end: &End) {
        let Self {
            context, mut session, mut deliver, claim, will, expiry_s, wire, mut pass, ..
        } = *self;
        // A reload may have come since its last turn; who has no place any more keeps the last word.
        let access = context.gate.renew(&mut pass).unwrap_or_else(|_| Arc::clone(pass.access()));
        // The socket closes before anything is waited for, and the user may have another.
        drop((wire, pass));
        let client = Arc::clone(session.client());
        let mut last = Ok(None);
        // At a shutdown the journal keeps the will for the next start.
        if let Some(will) = will.filter(|_| !matches!(end, End::Kicked(reason::SHUTTING_DOWN))) {
            let left = matches!(end, End::Left { will: false });
            let wanted = !left && access.may_publish(&will.topic);
            last = wills::leave(&context, &client, will, expiry_s, wanted).map(Some);
        }
        deliver.look_no_more(&context.lookout, &mut session.outbound);
        if session.is_recorded() {
            last = detach(&context, &session, expiry_s).map(Some);
        }
        leave_shares(&context, &session, &mut deliver);
        drop((session, deliver));
        match last {
            Ok(Some(ticket)) => context.wait_applied(ticket).await,
            Ok(None) => {}
            Err(problem) => {
                tracing::debug!(%client, %problem, "the end of a connection is not recorded");
            }
        }
        drop(claim);
    }
}

fn detach(context: &Context, session: &Session, expiry_s: u32) -> Result<Ticket, AppendError> {
    let at_ms = unix_ms();
    let change = match expiry_s {
        0 => Change::End,
        _ => Change::Detach { at_ms, expiry_s, position: session.outbound.position() },
    };
    context.record(session.client(), &change, at_ms)
}

/// What this client did not finish goes to the other members. Of QoS 2 it may have a part: that
/// stays its own, and ends with its session [MQTT-4.8.2-4, MQTT-4.8.2-5].
fn leave_shares(context: &Context, session: &Session, deliver: &mut Deliver) {
    for entry in session.outbound.in_flight() {
        let Some(filter) = &entry.share else { continue };
        if entry.flight.phase == Phase::Once {
            context.shares.give_back(filter, entry.flight.offset);
        } else {
            context.shares.done(filter, entry.flight.offset);
        }
    }
    for (filter, position) in deliver.leave(&context.shares) {
        if let Err(problem) = context.record(&filter, &Change::Reached(position), unix_ms()) {
            tracing::debug!(%filter, %problem, "a shared subscription's position is not recorded");
        }
    }
}
