//! Bytes of anybody through decoder and session.

use proptest::prelude::*;

use super::{each_packet, session};
use crate::journal::Ticket;
use crate::mqtt::codec::{BadConnect, read_connect};
use crate::mqtt::frame::split;
use crate::mqtt::packet::{Fault, Packet, Version};
use crate::mqtt::session::{Action, Session, Stored};

/// Well-formed packets, to be bent.
const SAMPLES: [&[u8]; 14] = [
    &[0x30, 6, 0, 1, b'a', 0, b'y', b'z'],
    &[0x32, 7, 0, 1, b'a', 0, 7, 0, b'x'],
    &[0x34, 15, 0, 1, b'a', 0, 8, 8, 0x01, 1, 0x02, 0, 0, 0, 9, 0x23, b'x'],
    &[0x3D, 11, 0, 3, b'a', b'/', 0xC3, 0, 9, 3, 0x23, 0, 1],
    &[0x40, 2, 0, 1],
    &[0x50, 4, 0, 1, 0x10, 0],
    &[0x62, 2, 0, 8],
    &[0x70, 3, 0, 1, 0x92],
    &[0x82, 9, 0, 3, 2, 0x0B, 1, 0, 1, b'#', 0x2D],
    &[0x82, 6, 0, 3, 0, 1, b'#', 1],
    &[0xA2, 6, 0, 3, 0, 0, 1, b'#'],
    &[0xC0, 0],
    &[0xE0, 7, 0x04, 5, 0x11, 0, 0, 0, 9],
    &[0xF0, 0],
];

/// What a shell does, with a journal that always takes.
fn serve(session: &mut Session, packet: Packet<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let ticket = Ticket { offset: 0, generation: 0 };
    match session.packet(packet, out)? {
        Action::Done | Action::Leave { .. } => {}
        Action::Store(message) => session.stored(message.id, message.qos, ticket),
        Action::Release(id) => session.released(id, ticket),
        Action::Received { id, .. } => session.received(id, ticket),
        Action::Subscribe(subscribing) => {
            session.subscribed(subscribing, 0, None, out);
        }
        Action::Unsubscribe(unsubscribe) => session.unsubscribed(&unsubscribe, None, out),
    }
    Ok(())
}

fn feed(bytes: &[u8], version: Version) {
    let mut session = session(version, true, Stored::default());
    let mut out = Vec::new();
    // A fault is an answer as good as any: what counts is that there is one.
    let _ = each_packet(bytes, version, |packet| serve(&mut session, packet, &mut out));
    assert!(out.len() <= 8 * bytes.len() + 64, "{} for {}", out.len(), bytes.len());
}

/// Samples one behind the other, with some of their bytes changed.
fn bent() -> impl Strategy<Value = Vec<u8>> {
    let picks = proptest::collection::vec(0..SAMPLES.len(), 1..8);
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (picks, changes).prop_map(|(picks, changes)| {
        let mut bytes: Vec<u8> =
            picks.into_iter().flat_map(|pick| SAMPLES[pick]).copied().collect();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn no_bytes_bring_the_session_down(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        feed(&bytes, Version::V4);
        feed(&bytes, Version::V5);
    }

    #[test]
    fn no_bent_packets_bring_the_session_down(bytes in bent()) {
        feed(&bytes, Version::V4);
        feed(&bytes, Version::V5);
    }

    #[test]
    fn no_bent_connect_brings_the_handshake_down(
        index in any::<prop::sample::Index>(),
        value in any::<u8>(),
        level in 3_u8..7,
    ) {
        let mut bytes = vec![
            0x10, 34, 0, 4, b'M', b'Q', b'T', b'T', level, 0xC6, 0, 60, 5, 0x11, 0, 0, 0, 9, 0, 1,
            b'c', 0, 0, 1, b'w', 0, 1, b'x', 0, 1, b'u', 0, 1, b'p', 0, 0,
        ];
        let index = index.index(bytes.len());
        bytes[index] = value;
        if let Ok(Some(frame)) = split(&bytes, 1000) {
            match read_connect(&frame) {
                Ok(connect) => prop_assert!(connect.client.len() <= bytes.len()),
                Err(BadConnect::Silent(fault) | BadConnect::Refused(_, fault)) => {
                    prop_assert!(fault.reason >= 0x80);
                }
            }
        }
    }
}

#[test]
fn the_samples_are_what_they_say_in_version_5() {
    for sample in [SAMPLES[0], SAMPLES[1], SAMPLES[4], SAMPLES[8], SAMPLES[10], SAMPLES[12]] {
        let mut session = session(Version::V5, true, Stored::default());
        let mut out = Vec::new();
        let mut taken = 0;
        let left = each_packet(sample, Version::V5, |packet| {
            taken += 1;
            serve(&mut session, packet, &mut out)
        });
        assert_eq!((left, taken), (Ok(0), 1), "{sample:?}");
    }
}

#[test]
fn packets_that_break_the_protocol_are_faults_with_their_reason() {
    for (bytes, version, reason) in [
        (&[0x10_u8, 0][..], Version::V5, 0x82), // a second CONNECT
        (&[0x20, 2, 0, 0], Version::V4, 0x81),  // CONNACK from a client
        (&[0x60, 2, 0, 1], Version::V4, 0x81),  // PUBREL without its flag
        (&[0x80, 6, 0, 3, 0, 1, b'#', 1], Version::V4, 0x81), // SUBSCRIBE without its flag
        (&[0x82, 3, 0, 3, 0], Version::V5, 0x82), // SUBSCRIBE without a filter
        (&[0xA2, 3, 0, 3, 0], Version::V5, 0x82), // UNSUBSCRIBE without a filter
        (&[0xF0, 0], Version::V5, 0x82),        // AUTH that was not agreed
        (&[0xF0, 0], Version::V4, 0x81),        // no such packet
        (&[0x30, 4, 0, 1, b'+', b'x'], Version::V4, 0x90), // a wildcard in a topic
        (&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9], Version::V5, 0x82), // expiry for a session that had none
    ] {
        let mut session = session(version, false, Stored::default());
        let mut out = Vec::new();
        let fault = each_packet(bytes, version, |packet| serve(&mut session, packet, &mut out));
        assert_eq!(fault.map_err(|fault| fault.reason), Err(reason), "{bytes:?}");
    }
}

#[test]
fn a_disconnect_or_auth_of_length_0_is_read() {
    for version in [Version::V4, Version::V5] {
        let mut seen = Vec::new();
        let left = each_packet(&[0xE0, 0], version, |packet| {
            seen.push(matches!(packet, Packet::Disconnect { reason: 0, expiry_s: None }));
            Ok(())
        });
        assert_eq!((left, seen), (Ok(0), vec![true]));
    }
}
