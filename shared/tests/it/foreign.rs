//! Messages and records from anywhere: read or refused, and within the sizes that are promised.

use headwater_shared::envelope::{Envelope, Publish};
use headwater_shared::node::{self, Announce, Message, Status, TimeRequest, TimeResponse};
use headwater_shared::topic;
use proptest::prelude::*;

/// What is read from foreign bytes can be written and read again as the same.
fn survive<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = node::decode::<M>(bytes) {
        let mut buffer = [0; 1024];
        let again = node::encode(&message, &mut buffer).expect("room for the largest");
        assert!(again.len() <= M::SIZE_MAX);
        assert_eq!(node::decode(again), Ok(message));
    }
}

proptest! {
    #[test]
    fn any_bytes_give_a_message_or_an_error(
        mut bytes in prop::collection::vec(prop_oneof![0..12u8, any::<u8>()], 1..80),
    ) {
        bytes[0] = node::VERSION;
        survive::<Announce>(&bytes);
        survive::<Status>(&bytes);
        survive::<TimeRequest>(&bytes);
        survive::<TimeResponse>(&bytes);
    }

    #[test]
    fn any_bytes_give_an_envelope_or_an_error(
        mut bytes in prop::collection::vec(prop_oneof![0..12u8, any::<u8>()], 1..120),
    ) {
        bytes[0] = 1;
        if let Ok(envelope) = Envelope::decode(&bytes) {
            let mut buffer = vec![0; envelope.size_max()];
            let again = envelope.encode(&mut buffer).unwrap();
            prop_assert_eq!(Envelope::decode(again), Ok(envelope));
        }
    }

    #[test]
    fn an_envelope_fits_its_size_max_and_ends_with_the_payload(
        (topic, client) in (".{0,40}", ".{0,40}"),
        arrival_ms: i64,
        (qos, retain, packet_id) in (0..=2u8, any::<bool>(), any::<Option<u16>>()),
        rejected in prop::option::of(".{0,200}"),
        properties in prop::collection::vec(any::<u8>(), 0..300),
        payload in prop::collection::vec(any::<u8>(), 0..20_000),
    ) {
        let envelope = Envelope::Publish(Publish {
            topic: &topic,
            client: &client,
            arrival_ms,
            qos,
            retain,
            packet_id,
            properties: &properties,
            rejected: rejected.as_deref(),
            payload: &payload,
        });
        let mut buffer = vec![0; envelope.size_max()];
        let bytes = envelope.encode(&mut buffer).unwrap();
        prop_assert!(bytes.ends_with(&payload));
        prop_assert_eq!(Envelope::decode(bytes), Ok(envelope));
    }

    #[test]
    fn a_topic_is_a_node_topic_only_if_it_would_be_made(text in "(headwater/v1/)?[a-z/+#.]{0,40}") {
        if let Some((node, subject)) = topic::parse(&text) {
            let made = topic::topic(node, subject);
            prop_assert_eq!(made.as_deref(), Some(&text[..]));
        }
    }
}
