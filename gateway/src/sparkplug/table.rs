//! What a birth defines: names, aliases and types of metrics, and which birth was when.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::payload::Metric;

/// Births of one source that say other than the one before, which are remembered for the records
/// that lie between them.
pub(super) const VERSIONS_MAX: usize = 16;

/// What an entry takes in memory beside its name.
const ENTRY_BYTES: usize = 48;

/// The metrics of an edge node or a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    /// By name.
    metrics: Vec<Defined>,
    /// (alias, its metric), by alias.
    aliases: Vec<(u64, u32)>,
}

/// A metric as its birth defines it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Defined {
    pub(super) name: Box<str>,
    pub(super) datatype: Option<u32>,
    alias: Option<u64>,
}

impl Table {
    /// The table of a birth. An alias that stands for two metrics stands for none.
    ///
    /// # Errors
    /// A metric has no name.
    pub(super) fn of(metrics: &[Metric]) -> Result<Self, String> {
        let defined = metrics.iter().enumerate().map(|(index, metric)| match &metric.name {
            Some(name) => Ok(Defined {
                name: name.as_str().into(),
                datatype: metric.datatype,
                alias: metric.alias,
            }),
            None => Err(format!("metric {index} of a birth has no name")),
        });
        let mut metrics: Vec<Defined> = defined.collect::<Result<_, _>>()?;
        metrics.sort();
        metrics.dedup_by(|later, first| later.name == first.name);
        let numbered = metrics.iter().zip(0..);
        let mut aliases: Vec<(u64, u32)> = numbered
            .filter_map(|(metric, index): (_, u32)| metric.alias.map(|alias| (alias, index)))
            .collect();
        aliases.sort_unstable();
        let unique = aliases.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() == 1);
        let aliases = unique.map(|same| same[0]).collect();
        Ok(Self { metrics, aliases })
    }

    /// What the metric is: by its name, else by its alias.
    pub(super) fn find(&self, metric: &Metric) -> Option<&Defined> {
        let index = match (&metric.name, metric.alias) {
            (Some(name), _) => {
                self.metrics.binary_search_by(|other| (*other.name).cmp(name.as_str())).ok()?
            }
            (None, Some(alias)) => {
                let at = self.aliases.binary_search_by_key(&alias, |(alias, _)| *alias).ok()?;
                usize::try_from(self.aliases[at].1).ok()?
            }
            (None, None) => return None,
        };
        self.metrics.get(index)
    }

    /// What it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.metrics.iter().map(|metric| ENTRY_BYTES + metric.name.len()).sum()
    }
}

/// The births of an edge node or of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Births {
    /// The last is not over.
    pub(super) is_alive: bool,
    /// (offset of the first birth that says so, what it says), oldest first.
    versions: Vec<(u64, Arc<Table>)>,
}

impl Births {
    /// A birth at `offset`. Returns how many bytes it takes more, and those that it freed.
    pub(super) fn bear(&mut self, offset: u64, table: Table) -> (usize, usize) {
        self.is_alive = true;
        if self.versions.last().is_some_and(|(_, last)| **last == table) {
            return (0, 0);
        }
        let taken = table.bytes();
        self.versions.push((offset, Arc::new(table)));
        let mut freed = 0;
        if self.versions.len() > VERSIONS_MAX {
            freed = self.versions.remove(0).1.bytes();
        }
        (taken, freed)
    }

    /// What is true for the next message; none where there is no birth or it is over.
    pub(super) fn now(&self) -> Option<&Table> {
        let newest = self.versions.last().filter(|_| self.is_alive);
        newest.map(|(_, table)| &**table)
    }

    /// What was true for the record at `offset`.
    pub(super) fn at(&self, offset: u64) -> Option<Arc<Table>> {
        let before = self.versions.iter().rev().find(|(from, _)| *from <= offset);
        before.map(|(_, table)| Arc::clone(table))
    }
}

#[cfg(test)]
impl Births {
    /// What its tables take.
    pub(super) fn bytes(&self) -> usize {
        self.versions.iter().map(|(_, table)| table.bytes()).sum()
    }
}
