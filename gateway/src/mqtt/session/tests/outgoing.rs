//! What a subscriber gets, and how many at a time.

use headwater_shared::envelope::Publish;

use super::{each_packet, session};
use crate::mqtt::frame::{Outgoing, read_publish, split};
use crate::mqtt::packet::{Filter, Packet, RetainHandling, Subscribe, Version};
use crate::mqtt::session::{Action, InFlight, Offer, Phase, Position, Session, Stored};

/// A message that the sessions are offered.
fn message(topic: &'static str, qos: u8) -> Publish<'static> {
    Publish {
        topic,
        client: "other",
        arrival_ms: 0,
        qos,
        retain: false,
        packet_id: None,
        properties: &[],
        rejected: None,
        payload: b"x",
    }
}

fn filter(text: &str, qos: u8) -> Filter {
    Filter {
        filter: text.to_owned(),
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    }
}

/// Subscribes from offset 0 on; returns the codes and the filters whose retained messages come.
fn subscribe(
    session: &mut Session,
    filters: Vec<Filter>,
    identifier: Option<u32>,
) -> (Vec<u8>, Vec<String>) {
    let mut out = Vec::new();
    let packet = Packet::Subscribe(Subscribe { id: 1, identifier, filters });
    let Ok(Action::Subscribe(subscribing)) = session.packet(packet, &mut out) else {
        panic!("a SUBSCRIBE is for the journal");
    };
    let codes = subscribing.codes.clone();
    let retained = session.subscribed(subscribing, 0, None, &mut out);
    (codes, retained)
}

/// The one message in `out`.
fn sent(out: &[u8], version: Version) -> (bool, u8, bool, u16, Vec<u8>) {
    let frame = split(out, 2000).expect("well-formed").expect("whole");
    let publish = read_publish(&frame, Version::V4);
    let publish = match version {
        Version::V4 => publish.expect("a PUBLISH"),
        // Subscription identifiers are the server's to send, so our own reader refuses them.
        Version::V5 => {
            let mut rest = frame.body;
            crate::mqtt::frame::take_text(&mut rest).expect("a topic");
            let qos = (frame.flags >> 1) & 3;
            let id =
                if qos > 0 { crate::mqtt::frame::take_u16(&mut rest).expect("an id") } else { 0 };
            let properties = crate::mqtt::properties::take(&mut rest).expect("properties");
            let retain = frame.flags & 1 != 0;
            return (frame.flags & 8 != 0, qos, retain, id, properties.to_vec());
        }
    };
    (publish.dup, publish.qos, publish.retain, publish.id, Vec::new())
}

#[test]
fn overlapping_subscriptions_give_one_copy_at_the_highest_qos_with_all_identifiers() {
    let mut session = session(Version::V5, false, Stored::default());
    subscribe(&mut session, vec![filter("a/#", 0)], Some(5));
    subscribe(&mut session, vec![filter("a/+", 2)], Some(6));
    let mut out = Vec::new();
    assert_eq!(session.outbound.offer(0, 0, &message("a/b", 2), &mut out), Offer::Sent);
    assert_eq!(sent(&out, Version::V5), (false, 2, false, 1, vec![0x0B, 5, 0x0B, 6]));
    out.clear();
    assert_eq!(session.outbound.offer(0, 1, &message("b", 2), &mut out), Offer::NotForUs);
    assert!(out.is_empty());
}

#[test]
fn the_window_bounds_what_is_in_flight_and_an_acknowledgement_makes_room() {
    let mut session = session(Version::V4, false, Stored::default());
    subscribe(&mut session, vec![filter("#", 1)], None);
    let mut out = Vec::new();
    for offset in 0..3 {
        assert_eq!(session.outbound.offer(0, offset, &message("a", 1), &mut out), Offer::Sent);
    }
    assert_eq!(session.outbound.offer(0, 3, &message("a", 1), &mut out), Offer::Full);
    assert_eq!(session.outbound.next(), 3, "it is offered again");
    session.packet(Packet::PubAck(77), &mut out).expect("an id that is not ours does no harm");
    assert_eq!(session.outbound.room(), 0);
    session.packet(Packet::PubAck(2), &mut out).expect("ours");
    out.clear();
    assert_eq!(session.outbound.offer(0, 3, &message("a", 1), &mut out), Offer::Sent);
    assert_eq!(sent(&out, Version::V4).3, 4, "ids in flight are not given twice");
}

#[test]
fn what_was_in_flight_is_sent_again_as_a_duplicate_with_its_own_id() {
    let mut session1 = session(Version::V4, true, Stored::default());
    subscribe(&mut session1, vec![filter("#", 1)], None);
    let mut out = Vec::new();
    session1.outbound.offer(0, 0, &message("a", 1), &mut out);
    session1.outbound.offer(0, 1, &message("a", 1), &mut out);
    session1.packet(Packet::PubAck(1), &mut out).expect("acknowledged");
    let position = session1.outbound.position();
    let again = InFlight::new(1, Phase::Once, false);
    assert_eq!(position, Position { next: 2, in_flight: vec![again] });
    let subscriptions = session1.outbound.subscriptions().to_vec();
    let stored = Stored { subscriptions, position, ..Stored::default() };
    let mut session2 = session(Version::V4, true, stored);
    out.clear();
    let offer = session2.outbound.send_again(0, again, &message("a", 1), &mut out);
    assert_eq!((offer, sent(&out, Version::V4)), (Offer::Sent, (true, 1, false, 2, vec![])));
    out.clear();
    assert_eq!(session2.outbound.offer(0, 2, &message("a", 1), &mut out), Offer::Sent);
    assert_eq!(sent(&out, Version::V4).3, 3);
}

#[test]
fn a_subscription_that_waits_behind_a_failed_commit_starts_where_offsets_start_anew() {
    let mut session = session(Version::V4, false, Stored::default());
    let mut out = Vec::new();
    let packet =
        Packet::Subscribe(Subscribe { id: 1, identifier: None, filters: vec![filter("#", 0)] });
    let Ok(Action::Subscribe(subscribing)) = session.packet(packet, &mut out) else {
        panic!("a SUBSCRIBE is for the journal");
    };
    session.subscribed(subscribing, 9, None, &mut out);
    session.outbound.rewind(5);
    assert_eq!(session.outbound.next(), 5);
    assert_eq!(session.outbound.offer(0, 5, &message("a", 0), &mut out), Offer::Sent);
}

#[test]
fn no_local_and_retain_as_published_are_kept_per_subscription() {
    let mut session = session(Version::V5, false, Stored::default());
    let own = Filter { no_local: true, ..filter("a", 0) };
    let as_published = Filter { retain_as_published: true, ..filter("b", 0) };
    subscribe(&mut session, vec![own, as_published, filter("c", 0)], None);
    let mut out = Vec::new();
    let ours = Publish { client: "c", ..message("a", 0) };
    assert_eq!(session.outbound.offer(0, 0, &ours, &mut out), Offer::NotForUs);
    for (topic, retain) in [("b", true), ("c", false)] {
        out.clear();
        let retained = Publish { retain: true, ..message(topic, 0) };
        assert_eq!(session.outbound.offer(0, 1, &retained, &mut out), Offer::Sent);
        assert_eq!(sent(&out, Version::V5).2, retain, "{topic}");
    }
    out.clear();
    let offer = session.outbound.offer_retained(0, 0, "c", &message("c", 0), &mut out);
    assert_eq!((offer, sent(&out, Version::V5).2), (Offer::Sent, true));
}

#[test]
fn a_message_is_not_sent_when_its_time_is_over_or_its_packet_is_too_large() {
    let mut session = session(Version::V5, false, Stored::default());
    subscribe(&mut session, vec![filter("#", 0)], None);
    let properties = [0x02, 0, 0, 0, 10];
    let expiring = Publish { properties: &properties, ..message("a", 0) };
    let mut out = Vec::new();
    assert_eq!(session.outbound.offer(10_000, 0, &expiring, &mut out), Offer::Expired);
    assert_eq!(session.outbound.offer(4_000, 1, &expiring, &mut out), Offer::Sent);
    assert_eq!(sent(&out, Version::V5).4, [0x02, 0, 0, 0, 6]);
    let large = vec![0; 1100];
    let large = Publish { payload: &large, ..message("a", 0) };
    out.clear();
    assert_eq!(session.outbound.offer(0, 2, &large, &mut out), Offer::TooLarge);
    assert!(out.is_empty());
}

#[test]
fn a_session_that_comes_back_gets_what_it_missed_at_qos_1_only() {
    let mut session1 = session(Version::V4, true, Stored::default());
    subscribe(&mut session1, vec![filter("#", 1)], None);
    let subscriptions = session1.outbound.subscriptions().to_vec();
    let stored = Stored { subscriptions, ..Stored::default() };
    let mut back = Session::new(super::subscriber(Version::V4), true, stored, 5);
    let mut out = Vec::new();
    assert_eq!(back.outbound.offer(0, 0, &message("a", 0), &mut out), Offer::NotForUs);
    assert_eq!(back.outbound.offer(0, 1, &message("a", 1), &mut out), Offer::Sent);
    assert_eq!(back.outbound.offer(0, 5, &message("a", 0), &mut out), Offer::Sent);
}

#[test]
fn retained_messages_come_as_the_subscription_asked() {
    let mut session = session(Version::V5, false, Stored::default());
    let new = Filter { retain_handling: RetainHandling::IfNew, ..filter("a", 1) };
    let never = Filter { retain_handling: RetainHandling::Never, ..filter("b", 1) };
    let (_, first) = subscribe(&mut session, vec![new.clone(), never, filter("c", 1)], None);
    assert_eq!(first, ["a", "c"]);
    let (_, second) = subscribe(&mut session, vec![new, filter("c", 1)], None);
    assert_eq!(second, ["c"]);
}

#[test]
fn each_filter_of_a_subscribe_has_its_own_code() {
    let mut session = session(Version::V5, false, Stored::default());
    let filters = ["$share/g", "a/#/b", "ok/+", "ok"].map(|text| filter(text, 2)).to_vec();
    let (codes, _) = subscribe(&mut session, filters, None);
    assert_eq!(codes, [0x8F, 0x8F, 2, 2]);
    let many: Vec<Filter> = (0..1000).map(|n| filter(&format!("n/{n}"), 0)).collect();
    let (codes, _) = subscribe(&mut session, many, None);
    assert_eq!(codes.iter().filter(|code| **code == 0x97).count(), 2, "two were there already");
}

#[test]
fn a_publish_with_an_alias_is_stored_under_its_topic() {
    let mut session = session(Version::V5, false, Stored::default());
    let mut out = Vec::new();
    let alias = [0x23, 0, 3];
    let mut publish = |topic: &str| {
        let mut bytes = Vec::new();
        let (dup, qos, retain, id, payload) = (false, 0, false, 0, &b"x"[..]);
        Outgoing { dup, qos, retain, topic, id, properties: &alias, payload }
            .put(&mut bytes, Version::V5);
        let mut topics = Vec::new();
        each_packet(&bytes, Version::V5, |packet| {
            match session.packet(packet, &mut out)? {
                Action::Store(message) => {
                    topics.push(message.topic.into_owned());
                    assert!(message.properties.is_empty(), "the alias is not stored");
                }
                other => panic!("a PUBLISH is stored, not {other:?}"),
            }
            Ok(())
        })
        .map(|_| topics)
    };
    assert_eq!(publish("").expect_err("never set").reason, 0x82);
    assert_eq!(publish("a/b"), Ok(vec!["a/b".to_owned()]));
    assert_eq!(publish(""), Ok(vec!["a/b".to_owned()]));
}
