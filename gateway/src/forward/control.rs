//! Pausing and resuming routes while the gateway runs; what was said last outlives a restart.

use std::sync::Arc;

use tokio::sync::watch;

use crate::catalog::{Catalog, CatalogError};

/// Of all routes of an upstream. Clones share it.
#[derive(Clone)]
pub struct RouteControl {
    catalog: Arc<Catalog>,
    /// Their ids, and their names in the catalog.
    routes: Arc<Vec<(String, String)>>,
    paused: watch::Sender<Vec<bool>>,
}

impl RouteControl {
    /// Of routes with these ids and names, as they were left.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub(super) fn new(
        catalog: Arc<Catalog>,
        routes: Vec<(String, String)>,
    ) -> Result<Self, CatalogError> {
        let mut paused = Vec::new();
        for (_, name) in &routes {
            paused.push(catalog.known_fact(&fact(name))?.as_deref() == Some(PAUSED));
        }
        Ok(Self { catalog, routes: Arc::new(routes), paused: watch::Sender::new(paused) })
    }

    /// Pauses or resumes the route `id`; false if there is none. Blocks for the disk: the catalog
    /// has it when this returns.
    ///
    /// # Errors
    /// [`CatalogError`]; nothing was changed.
    pub fn set(&self, id: &str, paused: bool) -> Result<bool, CatalogError> {
        let Some(index) = self.routes.iter().position(|(known, _)| known == id) else {
            return Ok(false);
        };
        let text = if paused { PAUSED } else { RUNNING };
        self.catalog.replace_fact(&fact(&self.routes[index].1), text)?;
        self.paused.send_modify(|all| all[index] = paused);
        Ok(true)
    }

    /// Which routes are paused, now and whenever it changes.
    pub(super) fn watch(&self) -> watch::Receiver<Vec<bool>> {
        self.paused.subscribe()
    }
}

const PAUSED: &str = "paused";
const RUNNING: &str = "running";

fn fact(name: &str) -> String {
    format!("state of {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_outlives_a_restart_and_an_unknown_route_is_said() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let catalog = Arc::new(Catalog::open(&dir.path().join("c")).expect("new"));
        let routes = || vec![("a".to_owned(), "forward/a".to_owned()), ("b".into(), "b".into())];
        let control = || RouteControl::new(Arc::clone(&catalog), routes()).expect("read");
        let first = control();
        assert_eq!(*first.watch().borrow(), [false, false]);
        assert!(first.set("b", true).expect("saved"));
        assert!(!first.set("c", true).expect("nothing to save"));
        let second = control();
        assert_eq!(*second.watch().borrow(), [false, true]);
        assert!(second.set("b", false).expect("saved"));
        assert_eq!(*control().watch().borrow(), [false, false]);
    }
}
