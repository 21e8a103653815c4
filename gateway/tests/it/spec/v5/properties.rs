//! 2.2.2.2: which properties belong to which packet, and how often.

use std::slice;

use crate::spec::client::Gateway;
use crate::spec::packet::{
    Connect, Publish, QOS1, Version, Will, byte, four, packet, prop, properties, string, subscribe,
    subscription_id, two, user,
};

const V5: Version = Version::V5;

/// A value of each property, of no harm where it belongs.
fn samples() -> Vec<(u8, Vec<u8>)> {
    let mut samples = vec![
        (prop::SUBSCRIPTION_ID, subscription_id(1)),
        (prop::USER, user("k", "v")),
        (0x7F, vec![0x7F, 0]),
    ];
    for id in [0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A] {
        samples.push((id, byte(id, 1)));
    }
    for id in [0x13, 0x21, 0x22, 0x23] {
        samples.push((id, two(id, 1)));
    }
    for id in [0x02, 0x11, 0x18, 0x27] {
        samples.push((id, four(id, 1000)));
    }
    for id in [0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F] {
        samples.push((id, string(id, "x")));
    }
    samples
}

/// The properties that a client may put into a packet, and how the packet looks with some.
type Place = (&'static str, &'static [u8], fn(&[Vec<u8>]) -> Vec<u8>);

fn ack(first: u8, properties_: &[Vec<u8>]) -> Vec<u8> {
    let properties = properties(V5, &properties_.concat());
    packet(first, &[&[0, 1, 0], &properties[..]].concat())
}

/// Packets of a connected client.
const PLACES: [Place; 8] = [
    ("PUBLISH", &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26], |properties| {
        Publish::new(QOS1, "t", 1, "x").with(properties).bytes(V5)
    }),
    ("PUBACK", &[0x1F, 0x26], |properties| ack(0x40, properties)),
    ("PUBREC", &[0x1F, 0x26], |properties| ack(0x50, properties)),
    ("PUBREL", &[0x1F, 0x26], |properties| ack(0x62, properties)),
    ("PUBCOMP", &[0x1F, 0x26], |properties| ack(0x70, properties)),
    ("SUBSCRIBE", &[0x0B, 0x26], |properties| subscribe(V5, 1, properties, &[("t", 0)])),
    ("UNSUBSCRIBE", &[0x26], |given| {
        let properties = properties(V5, &given.concat());
        packet(0xA2, &[&[0, 1], &properties[..], &[0, 1, b't']].concat())
    }),
    ("DISCONNECT", &[0x11, 0x1F, 0x26], |properties| {
        crate::spec::packet::disconnect(4, properties)
    }),
];

const IN_CONNECT: &[u8] = &[0x11, 0x21, 0x27, 0x22, 0x19, 0x17, 0x26, 0x15];
const IN_WILL: &[u8] = &[0x18, 0x01, 0x02, 0x03, 0x08, 0x09, 0x26];

#[tokio::test]
async fn a_property_of_another_packet_ends_the_connection() {
    let gateway = Gateway::open();
    for (name, allowed, packet) in PLACES {
        for (id, sample) in samples().into_iter().filter(|(id, _)| !allowed.contains(id)) {
            let connect = Connect::new(V5, name).with(&[four(prop::SESSION_EXPIRY, 10)]);
            let mut client = gateway.enter(&connect).await;
            client.send(&packet(&[sample])).await;
            let answer = client.next().await;
            // What a server may say and a client may not is a broken protocol, the rest is no
            // packet at all.
            assert_eq!(answer.first, 0xE0, "{name} 0x{id:02X} {answer:?}");
            assert!([0x81, 0x82].contains(&answer.body[0]), "{name} 0x{id:02X} {answer:?}");
            client.closed().await;
        }
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_property_that_comes_twice_ends_the_connection() {
    let gateway = Gateway::open();
    for (name, allowed, packet) in PLACES {
        for (id, sample) in samples().into_iter().filter(|(id, _)| allowed.contains(id)) {
            let connect = Connect::new(V5, name).with(&[four(prop::SESSION_EXPIRY, 10)]);
            let mut client = gateway.enter(&connect).await;
            client.send(&packet(&[sample.clone(), sample])).await;
            if id == prop::USER {
                client.send(&[0xC0, 0]).await;
            } else {
                client.ended(0x82).await;
            }
        }
    }
    gateway.close().await;
}

#[tokio::test]
async fn connect_takes_its_own_properties_and_each_once() {
    let gateway = Gateway::open();
    for (id, sample) in samples() {
        let once = Connect::new(V5, "c").with(slice::from_ref(&sample));
        match id {
            prop::AUTH_METHOD => gateway.refuses(&once, 0x8C).await,
            prop::AUTH_DATA => gateway.refuses(&once, 0x82).await,
            _ if IN_CONNECT.contains(&id) => gateway.enter(&once).await.leave().await,
            _ => gateway.refuses(&once, 0x81).await,
        }
        if IN_CONNECT.contains(&id) && id != prop::USER {
            gateway.refuses(&once.with(&[sample]), 0x82).await;
        }
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_will_takes_its_own_properties_and_each_once() {
    let gateway = Gateway::open();
    let connect = |properties: &[Vec<u8>]| {
        Connect::new(V5, "c").will(Will::new("w", "x", 0).properties(properties))
    };
    for (id, sample) in samples() {
        if IN_WILL.contains(&id) {
            gateway.enter(&connect(slice::from_ref(&sample))).await.leave().await;
        } else {
            gateway.refuses(&connect(slice::from_ref(&sample)), 0x81).await;
        }
        if IN_WILL.contains(&id) && id != prop::USER {
            gateway.refuses(&connect(&[sample.clone(), sample]), 0x82).await;
        }
    }
    gateway.close().await;
}

#[tokio::test]
async fn values_that_no_property_may_have_break_the_protocol() {
    let gateway = Gateway::open();
    for property in [
        two(prop::RECEIVE_MAX, 0),
        four(prop::PACKET_MAX, 0),
        byte(prop::PROBLEM_INFO, 2),
        byte(prop::RESPONSE_INFO, 2),
    ] {
        gateway.refuses(&Connect::new(V5, "c").with(&[property]), 0x82).await;
    }
    let will = |property| Will::new("w", "x", 0).properties(&[property]);
    for property in [byte(prop::PAYLOAD_FORMAT, 2), string(prop::RESPONSE_TOPIC, "a/#")] {
        gateway.refuses(&Connect::new(V5, "c").will(will(property)), 0x82).await;
    }
    for property in [byte(prop::PAYLOAD_FORMAT, 2), string(prop::RESPONSE_TOPIC, "a/+")] {
        let publish = Publish::new(QOS1, "t", 1, "x").with(&[property]);
        gateway.join(V5, "c").await.breaks(&publish.bytes(V5), 0x82).await;
    }
    let bytes = subscribe(V5, 1, &[subscription_id(0)], &[("t", 0)]);
    gateway.join(V5, "c").await.breaks(&bytes, 0x82).await;
    gateway.close().await;
}

#[tokio::test]
async fn a_length_of_properties_that_does_not_fit_ends_the_connection() {
    let gateway = Gateway::open();
    let cut = [prop::USER, 0, 1, b'k', 0, 9, b'v'];
    for (name, _, packet) in PLACES {
        let client = gateway.join(V5, name).await;
        client.breaks(&packet(&[cut.to_vec()]), 0x81).await;
    }
    gateway.refuses(&Connect::new(V5, "c").with(&[cut.to_vec()]), 0x81).await;
    let will = Will::new("w", "x", 0).properties(&[cut.to_vec()]);
    gateway.refuses(&Connect::new(V5, "c").will(will), 0x81).await;
    gateway.close().await;
}
