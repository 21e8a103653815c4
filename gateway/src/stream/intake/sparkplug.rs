//! A message of Sparkplug B on its way in: what is missing before it, and whom to ask for births.

use std::borrow::Cow;

use headwater_shared::envelope::Envelope;

use super::{Accepted, Incoming, Intake, IntakeError, key_of};
use crate::journal::{AppendError, NewRecord};
use crate::sparkplug::Admission;
use crate::stream::Stream;

impl Intake {
    pub(super) fn publish_metrics(
        &self,
        stream: &Stream,
        message: &Incoming<'_>,
    ) -> Result<Accepted, IntakeError> {
        let durable = self.journal.durable();
        let mut live = self.sparkplug.live(durable).ok_or(IntakeError::Recovering)?;
        let admission = match live.admit(message) {
            Ok(admission) => admission,
            Err(reason) => return self.reject(stream, message, &reason),
        };
        let key = metrics_key(stream, message.topic, &admission);
        // Another gateway has named what is missing, and asked for births.
        if message.relayed.is_none() {
            self.note_missing(stream, &key, &admission)?;
        }
        let accepted = match &admission.refused {
            None => self.append(stream, message, admission.time_ms, &key, None)?,
            Some(reason) => self.reject(stream, message, reason)?,
        };
        self.metrics.births_refused.inc_by(admission.is_full.into());
        let request = live.accept(admission, accepted.ticket.offset, message.now_ms);
        if let Some((topic, payload)) = request.filter(|_| message.relayed.is_none()) {
            self.request_birth(&topic, &payload, message.now_ms);
        }
        Ok(accepted)
    }

    fn note_missing(
        &self,
        stream: &Stream,
        key: &str,
        admission: &Admission<'_>,
    ) -> Result<(), AppendError> {
        let Some(gap) = admission.gap() else { return Ok(()) };
        let (partition, time_ms) = (stream.partition_of(key), admission.time_ms);
        let envelope = Envelope::Gap(gap);
        self.journal.append(&NewRecord { partition, time_ms, key, envelope: &envelope })?;
        self.metrics.gaps.inc();
        Ok(())
    }

    /// Publishes a request for births, at QoS 0 and not retained, as Sparkplug wants commands. The
    /// message that gave rise to it is stored whatever becomes of it: the next one asks again.
    fn request_birth(&self, topic: &str, payload: &[u8], now_ms: i64) {
        let request = Incoming {
            client: "",
            topic,
            payload,
            qos: 0,
            retain: false,
            packet_id: None,
            properties: &[],
            now_ms,
            relayed: None,
        };
        let stream = self.streams.route(topic);
        // Its key is that of all that concerns the edge node.
        let key = topic.replacen("spBv1.0/", "", 1).replacen("/NCMD/", "/", 1);
        match self.append(stream, &request, now_ms, &key, None) {
            Ok(_) => {
                self.metrics.rebirths.inc();
            }
            Err(problem) => tracing::warn!(topic, %problem, "births could not be asked for"),
        }
    }
}

/// The key of a message: by itself the edge node and device.
fn metrics_key<'a>(
    stream: &'a Stream,
    topic: &'a str,
    admission: &'a Admission<'_>,
) -> Cow<'a, str> {
    match stream.config.as_ref().and_then(|config| config.key.as_deref()) {
        None => Cow::Borrowed(&admission.source),
        Some("edge_node") => Cow::Borrowed(admission.edge_node),
        Some(_) => key_of(stream, topic),
    }
}
