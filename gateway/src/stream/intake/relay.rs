//! A record of another gateway on its way in: once, with the time and the key that it has there.

use headwater_shared::envelope::Envelope;

use super::{Accepted, Incoming, Intake, IntakeError};
use crate::chain::{Relayed, Verdict, read_gap};
use crate::journal::{AppendError, NewRecord, Ticket};
use crate::stream::Stream;

impl Intake {
    pub(super) fn relay(
        &self,
        message: &Incoming<'_>,
        relayed: &Relayed<'_>,
    ) -> Result<Accepted, IntakeError> {
        let durable = self.journal.durable();
        if durable.generation != relayed.generation {
            return Err(IntakeError::Recovering);
        }
        let mut live = self.chain.live(durable).ok_or(IntakeError::Recovering)?;
        let from = match live.admit(&relayed.origin) {
            Verdict::Fresh { from } => from,
            Verdict::Duplicate => return Ok(self.second_copy(durable.generation)),
            Verdict::Full => return Err(IntakeError::RoutesFull),
        };
        let accepted = match relayed.is_gap {
            true => self.relay_gap(message, relayed, from)?,
            false => self.take(message)?,
        };
        live.accept(&relayed.origin);
        Ok(accepted)
    }

    fn relay_gap(
        &self,
        message: &Incoming<'_>,
        relayed: &Relayed<'_>,
        from: u64,
    ) -> Result<Accepted, IntakeError> {
        let stream = self.streams.route(message.topic);
        let json = serde_json::from_slice(message.payload).unwrap_or_default();
        let gap = match read_gap(&json, from) {
            Ok(gap) => gap,
            Err(reason) => return self.reject(stream, message, reason),
        };
        let ticket = self.append_relayed(stream, relayed, &Envelope::Gap(gap))?;
        self.metrics.gaps.inc();
        Ok(Accepted { ticket, duplicate: false })
    }

    pub(super) fn append_relayed(
        &self,
        stream: &Stream,
        relayed: &Relayed<'_>,
        envelope: &Envelope<'_>,
    ) -> Result<Ticket, AppendError> {
        let Relayed { origin, time_ms, key, generation, .. } = relayed;
        let partition = stream.partition_of(key);
        let record = NewRecord { partition, time_ms: *time_ms, key, envelope };
        self.journal.append_from(origin, &record, *generation)
    }
}
