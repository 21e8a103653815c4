//! What breaks, and for how long.

use std::time::Duration;

use hw_tests::random::Random;

/// One thing that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL of the gateway, and a new start.
    KillGateway,
    /// SIGKILL of the broker, and a new start.
    KillBroker,
    /// All connections between them break, and new ones for so long.
    Cut(Duration),
    /// The link between them carries nothing for so long, and stays up.
    Stall(Duration),
    /// SIGSTOP of the gateway for so long.
    StopGateway(Duration),
    /// SIGSTOP of the broker for so long.
    StopBroker(Duration),
    /// SIGKILL of the gateway while the link is cut for so long.
    KillWhileCut(Duration),
}

impl Fault {
    /// One at random. A broker that was killed takes long to come back, so that is rare; and so are
    /// stalls beyond the time that a commit may take, and beyond a transaction's own.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let ms = |random: &mut Random, from: u64, to: u64| {
            Duration::from_millis(from + random.below(to - from))
        };
        match random.below(100) {
            0..30 => Self::KillGateway,
            30..36 => Self::KillBroker,
            36..56 => Self::Cut(ms(random, 0, 1_500)),
            56..70 => Self::Stall(ms(random, 100, 3_000)),
            70..73 => Self::Stall(ms(random, 11_000, 16_000)),
            73..82 => Self::StopGateway(ms(random, 100, 2_000)),
            82..83 => Self::StopGateway(ms(random, 31_000, 34_000)),
            83..92 => Self::StopBroker(ms(random, 100, 4_000)),
            _ => Self::KillWhileCut(ms(random, 100, 1_500)),
        }
    }
}
