//! What travels beside a message: who it is, and what the record was. User properties of MQTT 5.

use headwater_shared::origin::property as name;

use crate::forward::engine::batch::OutRecord;
use crate::forward::run::Identity;

/// The longest text of a property.
const TEXT_BYTES_MAX: usize = 65_535;

/// The properties of a record of `stream` on its way to `topic` by `route`.
pub(super) fn properties(
    identity: &Identity,
    (stream, route): (&str, &str),
    record: &OutRecord<'_>,
    topic: &str,
) -> Vec<(String, String)> {
    let mut all = Vec::with_capacity(12);
    let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
    add(name::GATEWAY, identity.gateway.clone());
    add(name::INCARNATION, identity.incarnation.clone());
    add(name::STREAM, stream.to_owned());
    add(name::ROUTE, route.to_owned());
    add(name::OFFSET, record.offset.to_string());
    if record.last != record.offset {
        add(name::LAST, record.last.to_string());
    }
    if let Some(index) = record.index {
        add(name::INDEX, index.to_string());
    }
    add(name::TIME, record.time_ms.to_string());
    add(name::KEY, record.key.to_owned());
    if let Some(original) = record.topic.filter(|original| *original != topic) {
        add(name::TOPIC, original.to_owned());
    }
    if let Some(cause) = record.gap {
        add(name::GAP, cause.to_owned());
    }
    if let Some(origin) = record.origin {
        add(name::ORIGIN, origin.to_owned());
    }
    all
}

/// True if a peer takes this connection for that of the gateway.
pub(super) fn is_known(says: &[(String, String)], identity: &Identity) -> bool {
    says.iter().any(|(name, value)| name == name::GATEWAY && *value == identity.gateway)
}

/// The last offset that a peer has of a route, if it says so.
pub(super) fn reached(says: &[(String, String)], stream: &str, route: &str) -> Option<u64> {
    says.iter().filter(|(name, _)| name == name::REACHED).find_map(|(_, value)| {
        let (last, rest) = value.split_once(' ')?;
        let (its_stream, its_route) = rest.split_once(' ')?;
        (its_stream == stream && its_route == route).then(|| last.parse().ok())?
    })
}

/// True if every text of the record fits into a property.
pub(super) fn fits(record: &OutRecord<'_>) -> bool {
    record.key.len() <= TEXT_BYTES_MAX
}
