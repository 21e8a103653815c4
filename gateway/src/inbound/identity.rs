//! Where a record came from, written into the record itself: two user properties of MQTT 5, which
//! subscribers see too.
//!
//! ```text
//! hw.source    outbox/orders
//! hw.position  17
//! ```
//!
//! Only the gateway writes records whose client is empty, so no device can forge one.

use headwater_shared::envelope::Publish;

use crate::mqtt::{put_user_property, user_properties};

const SOURCE: &str = "hw.source";
const POSITION: &str = "hw.position";

/// Appends the identity to the properties of a message.
pub(super) fn put(properties: &mut Vec<u8>, source: &str, position: u64) {
    put_user_property(properties, SOURCE, source);
    put_user_property(properties, POSITION, &position.to_string());
}

/// Source and position of a record that came in by a source.
pub(super) fn of<'a>(publish: &Publish<'a>) -> Option<(&'a str, u64)> {
    if !publish.client.is_empty() || publish.properties.is_empty() {
        return None;
    }
    let (mut source, mut position) = (None, None);
    for (name, value) in user_properties(publish.properties) {
        match name {
            SOURCE => source = Some(value),
            POSITION => position = value.parse().ok(),
            _ => {}
        }
    }
    source.zip(position)
}

/// True for names that the identity uses: what comes from elsewhere must not bring them along.
pub(super) fn is_own(name: &str) -> bool {
    matches!(name, SOURCE | POSITION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish<'a>(client: &'a str, properties: &'a [u8]) -> Publish<'a> {
        Publish {
            topic: "t",
            client,
            arrival_ms: 0,
            qos: 1,
            retain: false,
            packet_id: None,
            properties,
            rejected: None,
            payload: b"",
        }
    }

    #[test]
    fn an_identity_is_read_where_the_gateway_wrote_it_and_nowhere_else() {
        let mut properties = Vec::new();
        put_user_property(&mut properties, "color", "red");
        put(&mut properties, "outbox/orders", 17);
        assert_eq!(of(&publish("", &properties)), Some(("outbox/orders", 17)));
        assert_eq!(of(&publish("a-device", &properties)), None);
        assert_eq!(of(&publish("", &[])), None);
    }
}
