//! Wills: kept in the journal from CONNECT on, published when a client goes without saying so, at
//! once or after their delay, and by the next start where the gateway went first (5, 3.1.2.5).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connection::unix_ms;
use super::context::Context;
use super::packet::{Fault, Will, reason};
use super::session::{Change, StoredWill};
use crate::journal::{AppendError, Ticket};

/// Wills that wait for their delay.
const WAITING_MAX: usize = 10_000;

/// Bytes of all wills.
const BYTES_MAX: usize = 16 << 20;

/// A client has connected and its id is claimed: settles the will of its last connection, which is
/// published unless the session goes on [MQTT-3.1.3-9], and keeps the new one. The ticket is that
/// of the record, if there is one.
pub(crate) fn enter(
    context: &Context,
    client: &Arc<str>,
    will: Option<&Will>,
    expiry_s: u32,
    session_present: bool,
) -> Result<Option<Ticket>, Fault> {
    if let Some(will) = will
        && context.state.wills_bytes() + will.payload.len() > BYTES_MAX
    {
        return Err(Fault::new(reason::QUOTA, "the wills of all clients take 16 MiB already"));
    }
    context.registry.will_settled(client);
    let last = context.state.will(client);
    if let Some(last) = &last
        && !session_present
    {
        context.publish_will(client, &last.will, unix_ms());
    }
    if last.is_none() && will.is_none() {
        return Ok(None);
    }
    let kept = will.map(|will| StoredWill { will: will.clone(), due_ms: None, expiry_s });
    let unavailable = |_| Fault::new(reason::SERVER_UNAVAILABLE, "the will cannot be recorded");
    record(context, client, kept).map(Some).map_err(unavailable)
}

/// The connection has ended. `wanted`: without a goodbye. The ticket is that of the last record.
pub(crate) fn leave(
    context: &Arc<Context>,
    client: &Arc<str>,
    will: Will,
    expiry_s: u32,
    wanted: bool,
) -> Result<Ticket, AppendError> {
    let mut stored = StoredWill { will, due_ms: None, expiry_s };
    let delay_ms = i64::from(stored.delay_s()) * 1000;
    if wanted && delay_ms > 0 && wait(context, client, delay_ms) {
        stored.due_ms = Some(unix_ms().saturating_add(delay_ms));
        return record(context, client, Some(stored));
    }
    if wanted {
        context.publish_will(client, &stored.will, unix_ms());
    }
    record(context, client, None)
}

/// The gateway starts, before any client is let in: whoever had a will has lost its connection.
pub(crate) fn resume(context: &Arc<Context>) {
    let now_ms = unix_ms();
    for (client, stored) in context.state.wills() {
        let delay_ms = i64::from(stored.delay_s()) * 1000;
        let left_ms = stored.due_ms.map_or(delay_ms, |due_ms| (due_ms - now_ms).min(delay_ms));
        let client: Arc<str> = client.into();
        if left_ms > 0 && wait(context, &client, left_ms) {
            continue;
        }
        publish(context, &client, &stored);
    }
}

fn publish(context: &Context, client: &Arc<str>, stored: &StoredWill) {
    context.publish_will(client, &stored.will, unix_ms());
    if let Err(problem) = record(context, client, None) {
        tracing::warn!(%client, %problem, "a will that was published may be published again");
    }
}

fn record(
    context: &Context,
    client: &str,
    will: Option<StoredWill>,
) -> Result<Ticket, AppendError> {
    context.record(client, &Change::Will(will), unix_ms())
}

/// Starts the wait of a client's will; false where too many wait already.
fn wait(context: &Arc<Context>, client: &Arc<str>, delay_ms: i64) -> bool {
    let Some((number, settled)) = context.registry.will_waits(client, WAITING_MAX) else {
        return false;
    };
    let delay = Duration::from_millis(u64::try_from(delay_ms).unwrap_or(0));
    tokio::spawn(due(Arc::clone(context), Arc::clone(client), number, delay, settled));
    true
}

/// Publishes the will after its delay, unless a connection of the client settles it first.
async fn due(
    context: Arc<Context>,
    client: Arc<str>,
    number: u64,
    delay: Duration,
    settled: oneshot::Receiver<()>,
) {
    if timeout(delay, settled).await.is_ok() {
        return;
    }
    // A connection that has the id finds the will when it comes to it, and settles it.
    let Some(claim) = context.registry.claim_free(&client) else { return };
    if context.registry.will_done(&client, number)
        && let Some(stored) = context.state.will(&client)
    {
        publish(&context, &client, &stored);
        // The next connection finds the state without it.
        context.wait_durable().await;
    }
    drop(claim);
}
