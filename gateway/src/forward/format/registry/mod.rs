//! Schemas and their ids at a schema registry.
//!
//! The id of a schema is kept in the catalog, so a route goes on while the registry is away, also
//! after a restart. Each start asks the registry all the same: it may have been set up anew. Only a
//! schema that was never registered waits for it.

mod http;
mod rest;

#[cfg(test)]
mod double;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use self::http::Http;
pub(crate) use self::http::check_url;
use self::rest::Problem;
use crate::catalog::{Catalog, CatalogError};
use crate::config::RegistryConfig;
use crate::forward::format::Encoder;
use crate::forward::format::avro::{Shape, Writer};
use crate::stream::Stream;

/// The first try after one that failed comes after this...
const RETRY_MIN: Duration = Duration::from_secs(1);
/// ...and each further one after twice as long, up to this.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// No id.
const NONE: u64 = u64::MAX;

/// Where a schema's id comes once it is known.
#[derive(Clone, Debug)]
pub(in crate::forward) struct Slot(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: AtomicU64,
    /// The id does not hold any more; what is being encoded still has it.
    is_refused: AtomicBool,
    why: Mutex<String>,
}

impl Slot {
    pub(super) fn new(id: Option<u32>, why: String) -> Self {
        let id = AtomicU64::new(id.map_or(NONE, u64::from));
        Self(Arc::new(Shared { id, is_refused: AtomicBool::new(false), why: Mutex::new(why) }))
    }

    /// The id; there is one where nothing is waited for, and from then on.
    pub(in crate::forward) fn id(&self) -> Option<u32> {
        u32::try_from(self.0.id.load(Ordering::Acquire)).ok()
    }

    /// Why there is no id; `None` where there is one.
    pub(in crate::forward) fn waits(&self) -> Option<String> {
        let is_refused = self.0.is_refused.load(Ordering::Acquire);
        (is_refused || self.id().is_none()).then(|| self.why().clone())
    }

    fn why(&self) -> MutexGuard<'_, String> {
        self.0.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, id: u32) {
        self.0.id.store(id.into(), Ordering::Release);
        self.0.is_refused.store(false, Ordering::Release);
    }

    fn refuse(&self, why: String) {
        *self.why() = why;
        self.0.is_refused.store(true, Ordering::Release);
    }
}

struct Subject {
    name: String,
    schema: String,
    slot: Slot,
}

/// The registry of an upstream.
pub(in crate::forward) struct Registry {
    http: Http,
    url: String,
    upstream: String,
    catalog: Arc<Catalog>,
    subjects: Vec<Subject>,
}

impl Registry {
    /// That of the upstream of this name; nothing is asked yet.
    pub(in crate::forward) fn new(
        upstream: &str,
        config: &RegistryConfig,
        catalog: Arc<Catalog>,
    ) -> Self {
        let (upstream, url) = (upstream.to_owned(), config.url.clone());
        Self { http: Http::new(config), url, upstream, catalog, subjects: Vec::new() }
    }

    /// Lets `encoder` write the records of `stream` to `topic` in Avro. Blocks for the catalog.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub(in crate::forward) fn encoder(
        &mut self,
        encoder: Encoder,
        topic: &str,
        stream: &Stream,
    ) -> Result<Encoder, CatalogError> {
        let shape = Shape::of(stream).expect("the configuration was checked");
        let slot = self.add(topic, shape.text())?;
        let writer = Writer::new(shape).expect("what a shape says is a schema");
        Ok(encoder.with_avro(writer, slot))
    }

    fn add(&mut self, topic: &str, schema: String) -> Result<Slot, CatalogError> {
        let name = subject_of(topic);
        let saved = self.catalog.schema(&self.upstream, &name)?;
        let known = saved.filter(|saved| saved.schema == schema && saved.registry == self.url);
        let why = format!("subject {name}: the registry {} has not answered yet", self.url);
        let slot = Slot::new(known.map(|saved| saved.id), why);
        self.subjects.push(Subject { name, schema, slot: slot.clone() });
        Ok(slot)
    }

    /// Registers all schemas, as often as it takes.
    pub(in crate::forward) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut wait = RETRY_MIN;
        loop {
            let mut left = Vec::new();
            for subject in std::mem::take(&mut self.subjects) {
                if !self.register(&subject).await {
                    left.push(subject);
                }
            }
            self.subjects = left;
            if self.subjects.is_empty() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // Nobody who could ask for a shutdown is one, too.
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            wait = (2 * wait).min(RETRY_MAX);
        }
    }

    /// True once the subject has its id.
    async fn register(&self, Subject { name, schema, slot }: &Subject) -> bool {
        match rest::register(&self.http, name, schema).await {
            Ok(id) => {
                if slot.id() != Some(id) {
                    info!(subject = name, id, "the schema is registered");
                }
                let saved = crate::catalog::SavedSchema {
                    registry: self.url.clone(),
                    id,
                    schema: schema.clone(),
                };
                if let Err(problem) = self.catalog.save_schema(&self.upstream, name, &saved) {
                    warn!(subject = name, %problem, "the schema's id is not kept");
                }
                slot.take(id);
                true
            }
            Err(Problem::Away(why)) => {
                let why = format!(
                    "subject {name}: the registry {} cannot be used: {why}; is it up, and is its \
                     url right? The route begins when it answers",
                    self.url
                );
                if slot.waits().is_none() {
                    warn!(subject = name, why, "going on with the schema's id as it is known");
                } else {
                    *slot.why() = why;
                }
                false
            }
            Err(Problem::Refused(why)) => {
                warn!(subject = name, why, "the schema is refused");
                slot.refuse(why);
                false
            }
        }
    }
}

/// Confluent's TopicNameStrategy.
pub(crate) fn subject_of(topic: &str) -> String {
    format!("{topic}-value")
}
