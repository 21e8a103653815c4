//! What all connections share.

use std::sync::Arc;

use headwater_shared::envelope::{Envelope, Session};
use tokio::sync::watch;

use super::auth::Gate;
use super::bounds::Bounds;
use super::complaints::Complaints;
use super::lookout::Lookout;
use super::metrics::MqttMetrics;
use super::packet::Will;
use super::registry::Registry;
use super::session::Change;
use super::share::Shares;
use super::state::MqttState;
use super::sys::Sys;
use crate::journal::{AppendError, Durable, Journal, NewRecord, SYSTEM_PARTITION, Ticket};
use crate::stream::{Incoming, Intake};

pub(crate) struct Context {
    pub(crate) intake: Intake,
    pub(crate) state: Arc<MqttState>,
    /// The offset below which the state has every record.
    pub(crate) applied: watch::Receiver<u64>,
    pub(crate) gate: Gate,
    pub(crate) registry: Arc<Registry>,
    pub(crate) shares: Shares,
    pub(crate) lookout: Lookout,
    pub(crate) sys: Sys,
    pub(crate) metrics: MqttMetrics,
    pub(crate) complaints: Complaints,
    pub(crate) bounds: Bounds,
}

impl Context {
    pub(crate) fn journal(&self) -> &Journal {
        self.intake.journal()
    }

    /// Appends a change of a client's session.
    pub(crate) fn record(
        &self,
        client: &str,
        change: &Change,
        now_ms: i64,
    ) -> Result<Ticket, AppendError> {
        let change = change.encode();
        let envelope = Envelope::Session(Session { client, change: &change });
        self.journal().append(&NewRecord {
            partition: SYSTEM_PARTITION,
            time_ms: now_ms,
            key: client,
            envelope: &envelope,
        })
    }

    /// Publishes a will in its client's name.
    pub(crate) fn publish_will(&self, client: &str, will: &Will, now_ms: i64) {
        let published = self.intake.publish(&Incoming {
            client,
            topic: &will.topic,
            payload: &will.payload,
            qos: will.qos,
            retain: will.retain,
            packet_id: None,
            properties: &will.properties,
            now_ms,
            relayed: None,
        });
        match published {
            Ok(_) => {
                self.metrics.wills.inc();
            }
            Err(problem) => tracing::warn!(client, %problem, "a will could not be published"),
        }
    }

    /// Returns once the state has all that is in the journal now.
    pub(crate) async fn wait_durable(&self) {
        let Durable { generation, .. } = self.journal().durable();
        let last = self.journal().end().saturating_sub(1);
        self.wait_applied(Ticket { offset: last, generation }).await;
    }

    /// Returns once the state has the record at `offset`, or never will.
    pub(crate) async fn wait_applied(&self, ticket: Ticket) {
        // A commit that failed took the record; what is durable is all that the state can have.
        let _ = self.journal().wait(ticket).await;
        let target = self.journal().durable().end.min(ticket.offset + 1);
        let mut applied = self.applied.clone();
        let mut durable = self.journal().watch();
        tokio::select! {
            _ = applied.wait_for(|applied| *applied >= target) => {}
            _ = durable.wait_for(|durable| durable.closed) => {}
        }
    }
}
