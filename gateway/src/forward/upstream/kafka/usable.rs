//! Which topics can be used: found or made, and, where that is asked, with all rights.

use std::collections::BTreeSet;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::settings::Settings;
use super::topics::{self, Usable, Wanted};
use super::watch::{Watch, Watched};
use super::{REQUEST, native};
use crate::forward::upstream::Fault;

/// Asks about topics.
pub(super) struct Survey<'a> {
    pub(super) settings: &'a Settings,
    pub(super) client: &'a BaseConsumer<Watch>,
    pub(super) watched: &'a Arc<Watched>,
    /// A topic on which a right is missing is there all the same, and a transaction that fails for
    /// it does not say which one that is.
    pub(super) asks_rights: bool,
}

/// What was found of topics, one by one.
pub(super) struct Surveyed {
    pub(super) topics: Vec<Usable>,
    /// False where rights were asked for, and the cluster does not tell all.
    pub(super) rights_are_told: bool,
}

impl Survey<'_> {
    /// Finds or makes topics.
    ///
    /// # Errors
    /// [`Fault`], which is not of one topic alone.
    pub(super) fn of(&self, wanted: &[Wanted]) -> Result<Surveyed, Fault> {
        let admin = || self.settings.admin(self.watched);
        let ensure = |wanted| topics::ensure(self.client, &admin, wanted, self.watched);
        let topics = wanted.iter().map(ensure).collect::<Result<_, Fault>>()?;
        let mut surveyed = Surveyed { topics, rights_are_told: true };
        if self.asks_rights {
            self.compare(wanted, &mut surveyed);
        }
        Ok(surveyed)
    }

    fn compare(&self, wanted: &[Wanted], surveyed: &mut Surveyed) {
        let there = wanted.iter().zip(&surveyed.topics).filter(|(_, topic)| topic.is_ok());
        let names: BTreeSet<&str> = there.map(|(wanted, _)| wanted.name.as_str()).collect();
        let told = native::rights(self.client.client(), &names, REQUEST);
        surveyed.rights_are_told = names.iter().all(|name| told.contains_key(*name));
        for (wanted, topic) in wanted.iter().zip(&mut surveyed.topics) {
            let rights = told.get(&wanted.name).filter(|_| topic.is_ok());
            if let Some(fault) = rights.and_then(|rights| topics::lacking(&wanted.name, *rights)) {
                *topic = Err(fault);
            }
        }
    }
}
