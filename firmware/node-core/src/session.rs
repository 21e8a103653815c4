//! What a node says to its gateway, and when: a pure core, driven by events and asked for steps.
//!
//! After each connect: announce, presence, time, then the blocks of the outbox from its start, in
//! order, a window of them at a time. An acknowledgement trims the outbox up to the first block that
//! is not acknowledged; so what a lost link or a reset leaves in doubt is sent again, unchanged.

use core::ops::{Range, RangeInclusive};
use headwater_shared::node::TimeResponse;
use heapless::Deque;

/// The most messages that wait for an acknowledgement at a time.
pub const WINDOW_MAX: usize = 8;

/// How patient a session is.
#[derive(Clone, Copy, Debug)]
pub struct SessionPolicy {
    /// Messages in flight, 1 to [`WINDOW_MAX`].
    pub window: usize,
    /// The wait after a first failure to connect; it doubles with each.
    pub backoff_ms_min: u64,
    /// The longest wait.
    pub backoff_ms_max: u64,
    /// A link whose oldest message waits this long for its acknowledgement is given up.
    pub ack_ms_max: u64,
    /// A time request is asked again after this long without an answer.
    pub time_reply_ms_max: u64,
    /// The clock is checked against the gateway's this often.
    pub time_check_ms: u64,
    /// A check that contradicts the known time by less than this changes nothing.
    pub time_step_ms_min: u64,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            window: 6,
            backoff_ms_min: 500,
            backoff_ms_max: 15_000,
            ack_ms_max: 20_000,
            time_reply_ms_max: 3_000,
            time_check_ms: 600_000,
            time_step_ms_min: 20,
        }
    }
}

/// Names a message in flight; used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u32);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The gateway accepted the connection.
    Connected,
    /// There is no connection: it could not be made, or has ended.
    Disconnected,
    /// The gateway acknowledged a message.
    Acknowledged(Ticket),
    /// The gateway answered a time request.
    Time(TimeResponse),
}

/// What follows from an event, for the node around the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Every block before this offset is the gateway's.
    pub(crate) trim: Option<u64>,
    /// The gateway knows the gap that the presence named.
    pub(crate) gap_reported: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Connect to the gateway, and say how it went.
    Connect,
    /// Drop the connection; the session takes it for gone.
    Disconnect,
    /// Publish the announcement.
    Announce(Ticket),
    /// Publish the presence, with a gap if there is one to report.
    Online(Ticket),
    /// Ask for the time.
    AskTime {
        /// Ties the answer to the request.
        nonce: u32,
    },
    /// Publish the first block at or after `from`, then say which by [`Session::block_sent`], or
    /// that there is none by [`Session::no_block_before`].
    Block {
        /// Names the message.
        ticket: Ticket,
        /// Where to look.
        from: u64,
    },
    /// Nothing before this time, unless an event comes or a block is sealed.
    Wait {
        /// In ms since boot.
        until_ms: u64,
    },
}

/// What the session needs to know of its surroundings to take a step.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// The offsets that the outbox holds.
    pub(crate) outbox: Range<u64>,
    /// A gap waits to be reported.
    pub(crate) has_gap: bool,
    /// The link takes another message.
    pub(crate) can_send: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Announce,
    Online { with_gap: bool },
    Block(u64),
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    ticket: Ticket,
    what: What,
    sent_ms: u64,
    acknowledged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down { retry_ms: u64 },
    Connecting,
    Up { announced: bool, online: bool },
}

#[derive(Clone, Copy, Debug)]
struct TimeAsked {
    nonce: u32,
    uptime_ms: u64,
}

/// The session of one node with its gateway.
#[derive(Debug)]
pub(crate) struct Session {
    policy: SessionPolicy,
    link: Link,
    in_flight: Deque<InFlight, WINDOW_MAX>,
    next_ticket: u32,
    cursor: u64,
    failures: u32,
    up_since_ms: u64,
    random: u32,
    time_due_ms: u64,
    time_asked: Option<TimeAsked>,
    /// When the node started, earliest and latest.
    boot_unix_ms: Option<RangeInclusive<u64>>,
}

impl Session {
    /// Not connected. `seed` should differ from node to node and boot to boot: after an outage it
    /// keeps a fleet from coming back all at once.
    pub(crate) fn new(policy: SessionPolicy, seed: u32) -> Self {
        Self {
            policy,
            link: Link::Down { retry_ms: 0 },
            in_flight: Deque::new(),
            next_ticket: 0,
            cursor: 0,
            failures: 0,
            up_since_ms: 0,
            random: seed | 1,
            time_due_ms: 0,
            time_asked: None,
            boot_unix_ms: None,
        }
    }

    /// Takes in what happened.
    pub(crate) fn event(&mut self, now_ms: u64, event: Event) -> Effect {
        match event {
            Event::Connected => {
                self.link = Link::Up { announced: false, online: false };
                self.cursor = 0;
                self.up_since_ms = now_ms;
                self.time_due_ms = now_ms;
            }
            Event::Disconnected => self.disconnected(now_ms),
            Event::Acknowledged(ticket) => return self.acknowledged(ticket),
            Event::Time(response) => self.time(now_ms, &response),
        }
        Effect::default()
    }

    /// What to do now. Each step is taken once: ask again when it is done.
    pub(crate) fn step(&mut self, now_ms: u64, view: &View) -> Step {
        match self.link {
            Link::Down { retry_ms } if now_ms < retry_ms => Step::Wait { until_ms: retry_ms },
            Link::Down { .. } => {
                self.link = Link::Connecting;
                Step::Connect
            }
            Link::Connecting => Step::Wait { until_ms: u64::MAX },
            Link::Up { announced, online } => self.step_up(now_ms, view, announced, online),
        }
    }

    /// The block of a [`Step::Block`] was the one at `offset`.
    pub(crate) fn block_sent(&mut self, now_ms: u64, ticket: Ticket, offset: u64) {
        self.cursor = offset + 1;
        self.fly(now_ms, ticket, What::Block(offset));
    }

    /// The outbox has no block at or after the `from` of a [`Step::Block`] and before `end`.
    pub(crate) fn no_block_before(&mut self, end: u64) {
        self.cursor = self.cursor.max(end);
    }

    /// When the node started, in ms since 1970, once the gateway has said it.
    pub(crate) fn boot_unix_ms(&self) -> Option<u64> {
        self.boot_unix_ms.as_ref().map(|known| *known.end())
    }

    fn step_up(&mut self, now_ms: u64, view: &View, announced: bool, online: bool) -> Step {
        let oldest = self.in_flight.iter().find(|flying| !flying.acknowledged);
        let give_up_ms = oldest.map_or(u64::MAX, |o| o.sent_ms + self.policy.ack_ms_max);
        if now_ms >= give_up_ms {
            self.disconnected(now_ms);
            return Step::Disconnect;
        }
        if !view.can_send {
            return Step::Wait { until_ms: give_up_ms };
        }
        let has_room = self.in_flight.len() < self.policy.window.min(WINDOW_MAX);
        if !announced || (!online && has_room) {
            self.link = Link::Up { announced: true, online: announced };
            let ticket = self.ticket();
            if announced {
                self.fly(now_ms, ticket, What::Online { with_gap: view.has_gap });
                return Step::Online(ticket);
            }
            self.fly(now_ms, ticket, What::Announce);
            return Step::Announce(ticket);
        }
        if now_ms >= self.time_due_ms {
            return self.ask_time(now_ms);
        }
        let wait = Step::Wait { until_ms: give_up_ms.min(self.time_due_ms) };
        if !has_room {
            return wait;
        }
        if view.has_gap && !self.reports_gap() {
            let ticket = self.ticket();
            self.fly(now_ms, ticket, What::Online { with_gap: true });
            return Step::Online(ticket);
        }
        let from = self.cursor.max(view.outbox.start);
        if from < view.outbox.end {
            return Step::Block { ticket: self.ticket(), from };
        }
        wait
    }

    fn ask_time(&mut self, now_ms: u64) -> Step {
        let nonce = self.next_random();
        self.time_asked = Some(TimeAsked { nonce, uptime_ms: now_ms });
        self.time_due_ms = now_ms + self.policy.time_reply_ms_max;
        Step::AskTime { nonce }
    }

    fn time(&mut self, now_ms: u64, response: &TimeResponse) {
        // The uptime is the node's own memory of the request, not what the response claims.
        let Some(asked) = self.time_asked.take_if(|asked| asked.nonce == response.nonce) else {
            return;
        };
        self.time_due_ms = now_ms + self.policy.time_check_ms;
        let response = TimeResponse { uptime_ms: asked.uptime_ms, ..*response };
        if let Some(found) = response.boot_unix_ms(now_ms) {
            // A slow answer is a vague one: only what contradicts the known time moves the clock,
            // for a clock that moves back gives two readings the same time.
            let step_ms = self.policy.time_step_ms_min;
            let agrees = |known: &RangeInclusive<u64>| {
                *found.start() < known.end().saturating_add(step_ms)
                    && *known.start() < found.end().saturating_add(step_ms)
            };
            if !self.boot_unix_ms.as_ref().is_some_and(agrees) {
                self.boot_unix_ms = Some(found);
            }
        }
    }

    fn acknowledged(&mut self, ticket: Ticket) -> Effect {
        let mut effect = Effect::default();
        let Some(flying) = self.in_flight.iter_mut().find(|flying| flying.ticket == ticket) else {
            return effect;
        };
        flying.acknowledged = true;
        effect.gap_reported = flying.what == What::Online { with_gap: true };
        while self.in_flight.front().is_some_and(|oldest| oldest.acknowledged) {
            if let Some(InFlight { what: What::Block(offset), .. }) = self.in_flight.pop_front() {
                effect.trim = Some(offset + 1);
                self.failures = 0;
            }
        }
        effect
    }

    fn disconnected(&mut self, now_ms: u64) {
        // A gateway that takes the connection and then refuses the blocks is a failure too.
        let lasted_ms = match self.link {
            Link::Down { .. } => return,
            Link::Connecting => 0,
            Link::Up { .. } => now_ms.saturating_sub(self.up_since_ms),
        };
        if lasted_ms >= self.policy.backoff_ms_max {
            self.failures = 0;
        }
        let doubled = self.policy.backoff_ms_min << self.failures.min(16);
        let wait_ms = doubled.min(self.policy.backoff_ms_max);
        let jitter_ms = u64::from(self.next_random()) % (wait_ms / 2 + 1);
        self.link = Link::Down { retry_ms: now_ms + wait_ms / 2 + jitter_ms };
        self.failures = self.failures.saturating_add(1);
        self.in_flight.clear();
        self.time_asked = None;
    }

    fn reports_gap(&self) -> bool {
        self.in_flight.iter().any(|f| f.what == What::Online { with_gap: true } && !f.acknowledged)
    }

    fn fly(&mut self, sent_ms: u64, ticket: Ticket, what: What) {
        self.in_flight
            .push_back(InFlight { ticket, what, sent_ms, acknowledged: false })
            .expect("a step that sends is only taken while the window has room");
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        Ticket(self.next_ticket)
    }

    /// xorshift32; its state is never 0.
    fn next_random(&mut self) -> u32 {
        let mut x = self.random;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random = x;
        x
    }
}

#[cfg(test)]
mod tests;
