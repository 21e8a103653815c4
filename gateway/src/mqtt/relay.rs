//! What a client says of messages as the gateway that it is. Others may say the same, and it means
//! nothing.

use headwater_shared::origin::property;

use super::context::Context;
use super::packet::{ConnAck, Connect, Fault, reason};
use super::properties;
use crate::chain::{Reached, Relayed};

/// An identity, and the properties that are left for subscribers.
pub(crate) type Told<'a> = (Relayed<'a>, Vec<u8>);

/// The identity of a message of the client that may speak for `gateway`. All that it sent before is
/// in `generation` of the journal.
///
/// # Errors
/// A [`Fault`] that ends the connection.
pub(crate) fn read<'a>(
    gateway: &str,
    bytes: &'a [u8],
    generation: u64,
) -> Result<Option<Told<'a>>, Fault> {
    let relayed = Relayed::read(gateway, properties::user(bytes), generation)
        .map_err(|why| Fault::new(reason::NOT_AUTHORIZED, why))?;
    Ok(relayed.map(|relayed| {
        let kept = properties::without_user(bytes, property::PREFIX);
        (relayed, kept)
    }))
}

/// Tells a client that it is taken for the gateway that it may be, and what of it is here.
pub(crate) async fn greet(
    context: &Context,
    connect: &Connect,
    gateway: Option<&str>,
    connack: &mut ConnAck,
) {
    let Some(gateway) = gateway else { return };
    connack.says.push((property::GATEWAY.to_owned(), gateway.to_owned()));
    let Some(incarnation) = &connect.incarnation else { return };
    // What an earlier connection brought in has to be known, where it lasts.
    if context.journal().end() > 0 {
        context.wait_durable().await;
    }
    for Reached { stream, route, last } in context.intake.chain().reached(gateway, incarnation) {
        connack.says.push((property::REACHED.to_owned(), format!("{last} {stream} {route}")));
    }
}
