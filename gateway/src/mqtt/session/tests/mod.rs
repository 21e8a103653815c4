//! The core in simulated time: no socket, no clock, no disk.

mod foreign;
mod outgoing;
mod qos2;
mod qos2_out;

use std::sync::Arc;

use super::{Session, Stored, Subscriber};
use crate::mqtt::auth::Access;
use crate::mqtt::codec;
use crate::mqtt::frame;
use crate::mqtt::packet::{Fault, Packet, Version};

fn subscriber(version: Version) -> Subscriber {
    Subscriber {
        version,
        client: "c".into(),
        receive_maximum: 3,
        packet_bytes_max: 1100,
        alias_max: 0,
        lasts: true,
        access: Arc::new(Access::All),
    }
}

fn session(version: Version, recorded: bool, stored: Stored) -> Session {
    let subscriber = Subscriber { lasts: recorded, ..subscriber(version) };
    Session::new(subscriber, recorded, stored, 0)
}

/// The packets of `bytes`, decoded as the shell does.
fn each_packet(
    mut bytes: &[u8],
    version: Version,
    mut take: impl FnMut(Packet<'_>) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    while let Some(frame) = frame::split(bytes, 2000)? {
        take(codec::read_packet(&frame, version)?)?;
        bytes = &bytes[frame.whole.len()..];
    }
    Ok(bytes.len())
}
