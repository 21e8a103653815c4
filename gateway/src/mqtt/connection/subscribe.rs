//! The subscriptions of a connection that are more than a filter: shared ones, and `$SYS`.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, End};
use crate::journal::Ticket;
use crate::mqtt::deliver::ShareStart;
use crate::mqtt::session::{Change, Position, Subscribing, is_own};
use crate::mqtt::{share, sys};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn subscribe(&mut self, subscribing: Subscribing, now_ms: i64) -> Result<(), End> {
        let change = Change::Subscribe(subscribing.granted.clone());
        let grants = !subscribing.granted.is_empty();
        let ticket = self.record_if(grants, &change, now_ms)?;
        let since = ticket.map_or_else(|| self.context.journal().end(), |ticket| ticket.offset);
        let shared = subscribing.granted.iter().map(|s| s.filter.clone());
        for filter in shared.filter(|filter| share::is_shared(filter)).collect::<Vec<_>>() {
            // Who held it and is gone has not left its backlog to who comes now.
            let client = self.session.client();
            let anew = !self.context.state.is_share_held(&filter, client);
            if let Some(position) = self.join(&filter, since, anew) {
                self.record_share(&filter, position, now_ms)?;
            }
        }
        for own in subscribing.granted.iter().filter(|s| is_own(&s.filter)) {
            let Self { context, deliver, .. } = self;
            deliver.look_out(&context.lookout, &own.filter, since, context.journal());
        }
        let retained = self.session.subscribed(subscribing, since, ticket, &mut self.wire.out);
        let (figures, retained) = retained.into_iter().partition(|filter| sys::is_sys(filter));
        self.deliver.retain(retained, since);
        if self.session.outbound.wants_figures() {
            self.deliver.feed(&self.context.sys, figures);
        }
        Ok(())
    }

    /// Takes part in a shared subscription; returns its position where that is to be recorded.
    fn join(&mut self, filter: &str, since: u64, anew: bool) -> Option<Position> {
        let Self { context, session, deliver, .. } = self;
        let new = Position { next: since, in_flight: Vec::new() };
        let recorded = if anew { None } else { context.state.share(filter) };
        let start = ShareStart { anew, position: recorded.unwrap_or(new) };
        deliver.join(&context.shares, filter, session.is_recorded(), context.journal(), start)
    }

    /// Takes part again in the shared subscriptions that the session holds, looks out for its own,
    /// and follows `$SYS`.
    pub(super) fn join_again(&mut self) {
        let Self { context, session, deliver, .. } = self;
        let from = session.outbound.next();
        for filter in session.outbound.own_filters() {
            deliver.look_out(&context.lookout, filter, from, context.journal());
        }
        if self.session.outbound.wants_figures() {
            self.deliver.feed(&self.context.sys, Vec::new());
        }
        let held = self.session.outbound.subscriptions().iter();
        let held = held.filter(|s| share::is_shared(&s.filter));
        let held: Vec<(String, u64)> = held.map(|s| (s.filter.clone(), s.since)).collect();
        for (filter, since) in held {
            let _recorded_before = self.join(&filter, since, false);
        }
    }

    pub(super) fn record_share(
        &self,
        filter: &str,
        position: Position,
        now_ms: i64,
    ) -> Result<Ticket, End> {
        let change = Change::Reached(position);
        self.context.record(filter, &change, now_ms).map_err(|_| End::Lost)
    }
}
