//! One connection to the peer: bytes out, answers in, messages on the way. No socket and no clock
//! of its own: both are its [`Wire`]'s.

use std::io;

use bytes::BytesMut;

use super::packet::{self, Answer, Hello, Message, Refusal, Welcome};
use super::window::Window;
use crate::config::MqttVersion;

/// A peer that gives no answer for this long is given up.
pub(super) const ANSWER_MS: u64 = 20_000;

/// Messages on the way where the peer allows more, or does not say.
const WINDOW_MAX: u16 = 500;
/// A peer of 3.1.1 cannot say what it takes; some end the connection at more than this.
const WINDOW_UNSAID: u16 = 100;

/// Bytes gather up to this before they are written.
const OUT_BYTES: usize = 32 << 10;

/// A connection's bytes and its clock.
pub(in crate::forward) trait Wire: Send {
    /// Writes all of `bytes`, or gives up in bounded time.
    ///
    /// # Errors
    /// The connection is of no more use.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Appends to `into` what has come, waiting for it at most `wait_ms`.
    ///
    /// # Errors
    /// The connection is of no more use; that the peer closed it is one.
    fn read(&mut self, into: &mut BytesMut, wait_ms: u64) -> io::Result<()>;
    /// A clock that only goes forward, ms.
    fn now_ms(&self) -> u64;
}

/// Why a connection is of no more use.
#[derive(Debug)]
pub(super) enum Broken {
    Io(io::Error),
    /// No answer in time.
    Silent,
    /// The peer said what makes no sense.
    Nonsense(String),
    /// The connection was not let in.
    Refused(Refusal),
    /// A message of this route was not taken.
    NotTaken(Refusal, usize),
    /// The peer ended it.
    SentAway(Refusal),
    /// The peer is of no use for a route, and why.
    Unfit(String),
}

impl From<io::Error> for Broken {
    fn from(problem: io::Error) -> Self {
        Self::Io(problem)
    }
}

/// A connection that was let in.
pub(super) struct Link<W> {
    wire: W,
    version: MqttVersion,
    window: Window,
    out: BytesMut,
    inbuf: BytesMut,
    pub(super) welcome: Welcome,
    /// 0: nobody wants pings.
    keep_alive_ms: u64,
    last_sent_ms: u64,
    /// Since when a ping waits for its answer.
    pinged_ms: Option<u64>,
}

impl<W: Wire> Link<W> {
    /// Says hello and waits for the welcome.
    pub(super) fn open(
        mut wire: W,
        version: MqttVersion,
        hello: &Hello<'_>,
    ) -> Result<Self, Broken> {
        let mut out = BytesMut::new();
        packet::connect(version, hello, &mut out);
        wire.write(&out)?;
        out.clear();
        let mut inbuf = BytesMut::new();
        let welcome = match answer(&mut wire, version, &mut inbuf, ANSWER_MS)? {
            Some(Answer::Welcome(welcome)) => welcome,
            Some(Answer::Refused(refusal)) => return Err(Broken::Refused(refusal)),
            Some(Answer::Goodbye(refusal)) => return Err(Broken::SentAway(refusal)),
            Some(other) => return Err(Broken::Nonsense(format!("{other:?} for a welcome"))),
            None => return Err(Broken::Silent),
        };
        if !welcome.takes_qos_1 {
            return Err(Broken::Unfit("takes no messages of QoS 1: use another broker".to_owned()));
        }
        let room = welcome.receive_maximum.map_or(WINDOW_UNSAID, |max| max.min(WINDOW_MAX));
        let keep_alive_s = welcome.keep_alive_s.unwrap_or(hello.keep_alive_s);
        let last_sent_ms = wire.now_ms();
        Ok(Self {
            wire,
            version,
            window: Window::new(room),
            out,
            inbuf,
            welcome,
            keep_alive_ms: u64::from(keep_alive_s) * 1000,
            last_sent_ms,
            pinged_ms: None,
        })
    }

    /// Sends a message of `route`, whose id is set here, once there is room in the window. False:
    /// it is larger than the peer takes.
    pub(super) fn send(&mut self, route: usize, message: Message<'_>) -> Result<bool, Broken> {
        if self.window.is_full() {
            self.flush()?;
            self.settle(Window::is_full)?;
        }
        // The id is taken only by what is written.
        let id = self.window.next();
        let bytes_max = self.welcome.packet_bytes_max;
        if !packet::publish(self.version, Message { id, ..message }, bytes_max, &mut self.out) {
            return Ok(false);
        }
        self.window.sent(route);
        if self.out.len() >= OUT_BYTES {
            self.flush()?;
        }
        Ok(true)
    }

    /// Waits until the peer has acknowledged all that was sent.
    pub(super) fn finish(&mut self) -> Result<(), Broken> {
        self.flush()?;
        self.settle(|window| !window.is_empty())
    }

    /// Takes answers while `waits`. Only an acknowledgement counts as progress: a peer that talks
    /// and acknowledges nothing is silent too.
    fn settle(&mut self, waits: impl Fn(&Window) -> bool) -> Result<(), Broken> {
        let mut since_ms = self.wire.now_ms();
        while waits(&self.window) {
            let waited_ms = self.wire.now_ms().saturating_sub(since_ms);
            let Some(left_ms) = ANSWER_MS.checked_sub(waited_ms).filter(|left| *left > 0) else {
                return Err(Broken::Silent);
            };
            match answer(&mut self.wire, self.version, &mut self.inbuf, left_ms)? {
                Some(answer) => {
                    if self.take(answer)? {
                        since_ms = self.wire.now_ms();
                    }
                }
                None => return Err(Broken::Silent),
            }
        }
        Ok(())
    }

    /// Keeps a connection on which nothing goes: pings in time, and finds out that it is gone.
    pub(super) fn rest(&mut self) -> Result<(), Broken> {
        while let Some(answer) = answer(&mut self.wire, self.version, &mut self.inbuf, 0)? {
            self.take(answer)?;
        }
        let now_ms = self.wire.now_ms();
        if self.pinged_ms.is_some_and(|pinged_ms| now_ms >= pinged_ms.saturating_add(ANSWER_MS)) {
            return Err(Broken::Silent);
        }
        let due_ms = self.last_sent_ms.saturating_add(self.keep_alive_ms / 2);
        if self.keep_alive_ms > 0 && self.pinged_ms.is_none() && now_ms >= due_ms {
            packet::ping(&mut self.out);
            self.pinged_ms = Some(now_ms);
            self.flush()?;
        }
        Ok(())
    }

    /// Says goodbye, if the peer takes it. What was not written yet is dropped.
    pub(super) fn leave(mut self) {
        self.out.clear();
        packet::disconnect(self.version, &mut self.out);
        // It is over whether the peer hears it or not.
        drop(self.flush());
    }

    fn flush(&mut self) -> Result<(), Broken> {
        if !self.out.is_empty() {
            self.wire.write(&self.out)?;
            self.out.clear();
            self.last_sent_ms = self.wire.now_ms();
        }
        Ok(())
    }

    /// True for an acknowledgement.
    fn take(&mut self, answer: Answer) -> Result<bool, Broken> {
        match answer {
            Answer::Acknowledged { id, refusal } => {
                let Ok(route) = self.window.answered(id) else {
                    let what = format!("an acknowledgement of {id}, which was not sent");
                    return Err(Broken::Nonsense(what));
                };
                refusal.map_or(Ok(true), |refusal| Err(Broken::NotTaken(refusal, route)))
            }
            Answer::Pong => {
                self.pinged_ms = None;
                Ok(false)
            }
            Answer::Goodbye(refusal) => Err(Broken::SentAway(refusal)),
            Answer::Welcome(_) | Answer::Refused(_) => {
                Err(Broken::Nonsense("a second CONNACK".to_owned()))
            }
        }
    }
}

/// The next answer; `None` if it does not come within `wait_ms`.
fn answer<W: Wire>(
    wire: &mut W,
    version: MqttVersion,
    inbuf: &mut BytesMut,
    wait_ms: u64,
) -> Result<Option<Answer>, Broken> {
    let until_ms = wire.now_ms().saturating_add(wait_ms);
    loop {
        if let Some(answer) = packet::read(version, inbuf).map_err(Broken::Nonsense)? {
            return Ok(Some(answer));
        }
        let before = inbuf.len();
        wire.read(inbuf, until_ms.saturating_sub(wire.now_ms()))?;
        if inbuf.len() == before && wire.now_ms() >= until_ms {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];
    const PONG: &[u8] = &[0xD0, 0];

    /// A peer that gives the same answer whenever it is read, and otherwise nothing.
    struct Script {
        once: Vec<u8>,
        ever: &'static [u8],
        sent: Vec<u8>,
        now_ms: u64,
    }

    impl Wire for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.sent.extend_from_slice(bytes);
            Ok(())
        }

        fn read(&mut self, into: &mut BytesMut, wait_ms: u64) -> io::Result<()> {
            let once = std::mem::take(&mut self.once);
            if once.is_empty() && wait_ms > 0 {
                into.extend_from_slice(self.ever);
                self.now_ms += if self.ever.is_empty() { wait_ms } else { 100 };
            }
            into.extend_from_slice(&once);
            Ok(())
        }

        fn now_ms(&self) -> u64 {
            self.now_ms
        }
    }

    fn open(once: &[u8], ever: &'static [u8]) -> Result<Link<Script>, Broken> {
        let script = Script { once: once.to_vec(), ever, sent: Vec::new(), now_ms: 0 };
        let hello = Hello { client_id: "c", login: None, keep_alive_s: 30, says: &[] };
        Link::open(script, MqttVersion::V5, &hello)
    }

    fn sent(answers: &[u8], ever: &'static [u8]) -> (Link<Script>, Result<(), Broken>) {
        let mut link = open(CONNACK, ever).expect("welcome");
        for route in [4, 5] {
            let message = Message { topic: "t", payload: b"x", ..Message::default() };
            assert!(link.send(route, message).expect("room"));
        }
        link.wire.once = answers.to_vec();
        let end = link.finish();
        (link, end)
    }

    #[test]
    fn all_that_was_sent_has_to_be_acknowledged_in_whatever_order() {
        assert!(sent(&[0x40, 2, 0, 2, 0xD0, 0, 0x40, 2, 0, 1], b"").1.is_ok());
    }

    #[test]
    fn a_peer_that_is_silent_or_only_talks_is_given_up_in_time() {
        for (answers, ever) in [(&[][..], &b""[..]), (&[0x40, 2, 0, 1], b""), (&[], PONG)] {
            let (link, end) = sent(answers, ever);
            assert!(matches!(end, Err(Broken::Silent)), "{end:?}");
            assert!(link.wire.now_ms <= 2 * ANSWER_MS + 100, "{}", link.wire.now_ms);
        }
        assert!(matches!(open(b"", b""), Err(Broken::Silent)));
    }

    #[test]
    fn nonsense_ends_a_connection() {
        for nonsense in [
            &[0x40, 2, 0, 9][..],
            &[0x40, 2, 0, 1, 0x40, 2, 0, 1],
            CONNACK,
            &[0xF0, 2, 0, 0],
            &[0x30, 5, 0, 1, b'a', 0, b'x'],
        ] {
            let end = sent(nonsense, b"").1;
            assert!(matches!(end, Err(Broken::Nonsense(_))), "{nonsense:?}: {end:?}");
        }
        assert!(matches!(open(PONG, b""), Err(Broken::Nonsense(_))));
    }

    #[test]
    fn a_refusal_names_the_route_and_a_goodbye_its_reason() {
        let end = sent(&[0x40, 2, 0, 1, 0x40, 3, 0, 2, 0x87], b"").1;
        assert!(matches!(end, Err(Broken::NotTaken(Refusal::NotAuthorized, 5))), "{end:?}");
        let end = sent(&[0xE0, 2, 0x8E, 0], b"").1;
        assert!(matches!(end, Err(Broken::SentAway(Refusal::TakenOver))), "{end:?}");
        let refused = open(&[0x20, 3, 0, 0x86, 0], b"");
        assert!(matches!(refused, Err(Broken::Refused(Refusal::Credentials))));
        let unfit = open(&[0x20, 5, 0, 0, 2, 0x24, 0], b"");
        assert!(matches!(unfit, Err(Broken::Unfit(_))), "no QoS 1");
    }

    #[test]
    fn a_connection_that_rests_is_pinged_and_one_that_does_not_answer_is_found_out() {
        let mut link = open(CONNACK, b"").expect("welcome");
        let hello = link.wire.sent.len();
        for (now_ms, pings) in [(14_000, 0), (15_000, 1), (16_000, 1)] {
            link.wire.now_ms = now_ms;
            link.rest().expect("it lives");
            assert_eq!(link.wire.sent.len() - hello, 2 * pings, "{now_ms}");
        }
        link.wire.once = PONG.to_vec();
        link.rest().expect("it lives");
        link.wire.now_ms = 31_000;
        link.rest().expect("another ping");
        link.wire.now_ms = 31_000 + ANSWER_MS;
        assert!(matches!(link.rest(), Err(Broken::Silent)));
    }

    #[test]
    fn the_window_is_what_the_peer_allows() {
        let mut link = open(&[0x20, 6, 0, 0, 3, 0x21, 0, 2], b"").expect("welcome");
        for _ in 0..2 {
            link.send(0, Message { topic: "t", ..Message::default() }).expect("room");
        }
        link.wire.once = vec![0x40, 2, 0, 1];
        link.send(0, Message { topic: "t", ..Message::default() }).expect("room again");
        let third = link.send(0, Message { topic: "t", ..Message::default() });
        assert!(matches!(third, Err(Broken::Silent)), "{third:?}");
    }
}
