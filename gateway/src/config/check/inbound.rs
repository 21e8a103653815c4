//! `[[outbox]]`.

use super::super::{OutboxConfig, raw};
use super::{Checker, check_name};
use crate::inbound::{TopicTemplate, check_table};

impl Checker<'_> {
    pub(super) fn outboxes(&mut self, raw: &[raw::Outbox]) -> Vec<OutboxConfig> {
        let mut outboxes: Vec<OutboxConfig> = Vec::new();
        for raw in raw {
            let name = self.take("outbox.name", &raw.name, |name| {
                if outboxes.iter().any(|other| other.name == *name) {
                    return Err(format!("there is another outbox {name:?}; give one another name"));
                }
                check_name(name)
            });
            let topic = self.take("outbox.topic", &raw.topic, |topic| TopicTemplate::parse(topic));
            let (Some(name), Some(topic)) = (name, topic) else { continue };
            let database = self.path(raw.database.get_ref());
            let table = raw.table.as_ref().map_or("outbox", |table| table.get_ref()).to_owned();
            // The application may make it later.
            if database.exists()
                && let Err(fault) = check_table(&database, &table, topic.names())
            {
                self.fault(raw.database.span().start, "outbox.database", fault);
            }
            let delete = raw.delete.unwrap_or(false);
            outboxes.push(OutboxConfig { name, database, table, topic, delete });
        }
        outboxes
    }
}
