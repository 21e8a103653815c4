use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::double::{Content, Double};
use super::{Registry, Slot};
use crate::catalog::Catalog;
use crate::config::{RegistryConfig, RegistryLogin};

/// Nothing here takes as long.
const LONG: Duration = Duration::from_secs(30);

fn schema(columns: &[(&str, &str)]) -> String {
    let field = |(name, kind): &(&str, &str)| serde_json::json!({ "name": name, "type": ["null", kind], "default": null });
    let fields: Vec<_> = columns.iter().map(field).collect();
    serde_json::json!({ "type": "record", "name": "r", "fields": fields }).to_string()
}

fn config(url: String) -> RegistryConfig {
    RegistryConfig { url, login: None, ca: None }
}

struct Gateway {
    catalog: Arc<Catalog>,
    _dir: tempfile::TempDir,
}

impl Gateway {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let catalog = Arc::new(Catalog::open(&dir.path().join("catalog")).expect("new"));
        Self { catalog, _dir: dir }
    }

    /// A start of the gateway whose one route has this schema.
    fn start(&self, config: &RegistryConfig, schema: &str) -> Started {
        let catalog = Arc::clone(&self.catalog);
        let mut registry = Registry::new("cluster", config, catalog);
        let slot = registry.add("plant.data", schema.to_owned()).expect("the catalog is there");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (stop, stopped) = watch::channel(false);
        runtime.spawn(registry.run(stopped));
        Started { slot, _stop: stop, _runtime: runtime }
    }
}

struct Started {
    slot: Slot,
    _stop: watch::Sender<bool>,
    _runtime: tokio::runtime::Runtime,
}

impl Started {
    fn until(&self, what: &str, holds: impl Fn(&Slot) -> bool) {
        let deadline = Instant::now() + LONG;
        while !holds(&self.slot) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.slot);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn id(&self) -> u32 {
        self.until("an id", |slot| slot.waits().is_none());
        self.slot.id().expect("nothing is waited for")
    }

    fn refusal(&self, part: &str) {
        self.until(part, |slot| slot.waits().is_some_and(|why| why.contains(part)));
    }
}

#[test]
fn a_schema_is_registered_once_and_goes_on_without_the_registry() {
    let content = Arc::new(Mutex::new(Content::default()));
    let double = Double::start(0, Arc::clone(&content)).expect("a port");
    let gateway = Gateway::new();
    let config = config(double.url());
    let schema = schema(&[("a", "double")]);
    assert_eq!(gateway.start(&config, &schema).id(), 1);
    assert_eq!(gateway.start(&config, &schema).id(), 1, "the same again");
    assert_eq!(content.lock().expect("whole").subjects["plant.data-value"], [1]);
    drop(double);
    let started = gateway.start(&config, &schema);
    assert_eq!(started.slot.id(), Some(1), "at once, from the catalog");
}

#[test]
fn a_new_schema_waits_for_the_registry_and_goes_when_it_comes() {
    let content = Arc::new(Mutex::new(Content::default()));
    let double = Double::start(0, Arc::clone(&content)).expect("a port");
    let (url, port) = (double.url(), double.address.port());
    drop(double);
    let gateway = Gateway::new();
    let started = gateway.start(&config(url), &schema(&[("a", "double")]));
    started.refusal("cannot be used");
    let _double = Double::start(port, content).expect("the port is still free");
    assert_eq!(started.id(), 1);
}

#[test]
fn columns_may_come_and_go_and_another_type_is_refused_with_a_remedy() {
    let content = Arc::new(Mutex::new(Content::default()));
    let double = Double::start(0, Arc::clone(&content)).expect("a port");
    let gateway = Gateway::new();
    let config = config(double.url());
    let start = |columns: &[(&str, &str)]| gateway.start(&config, &schema(columns));
    assert_eq!(start(&[("a", "double")]).id(), 1);
    assert_eq!(start(&[("a", "double"), ("b", "long")]).id(), 2);
    assert_eq!(start(&[("b", "long")]).id(), 3);
    start(&[("b", "string")]).refusal("not compatible");
    assert_eq!(start(&[("b", "long")]).id(), 3, "the old one still goes");
    let versions = content.lock().expect("whole").subjects["plant.data-value"].clone();
    assert_eq!(versions, [1, 2, 3]);
}

#[test]
fn an_id_of_a_registry_that_was_set_up_anew_does_not_stay() {
    let double = Double::start(0, Arc::default()).expect("a port");
    let (port, config) = (double.address.port(), config(double.url()));
    let gateway = Gateway::new();
    let schema = schema(&[("a", "double")]);
    assert_eq!(gateway.start(&config, &schema).id(), 1);
    drop(double);
    let other = Content { schemas: vec!["\"string\"".to_owned()], ..Content::default() };
    let _double = Double::start(port, Arc::new(Mutex::new(other))).expect("the port is still free");
    let started = gateway.start(&config, &schema);
    started.until("the new id", |slot| slot.id() == Some(2));
}

#[test]
fn the_registry_wants_to_know_who_asks() {
    let content =
        Content { login: Some("Basic a2V5OnNlY3JldA==".to_owned()), ..Content::default() };
    let double = Double::start(0, Arc::new(Mutex::new(content))).expect("a port");
    let schema = schema(&[("a", "double")]);
    let login = |password: &str| {
        let (username, password) = ("key".to_owned(), password.to_owned());
        let login = Some(RegistryLogin::Basic { username, password });
        RegistryConfig { url: double.url(), login, ca: None }
    };
    Gateway::new().start(&login("wrong"), &schema).refusal("refuses the login");
    assert_eq!(Gateway::new().start(&login("secret"), &schema).id(), 1);
}

#[test]
fn what_is_no_schema_is_refused() {
    let double = Double::start(0, Arc::default()).expect("a port");
    let started = Gateway::new().start(&config(double.url()), "{\"type\":\"rec\"}");
    started.refusal("refuses the schema");
}

#[test]
fn what_is_no_registry_is_said() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    let started = Gateway::new().start(&config(format!("http://{address}")), "\"string\"");
    started.refusal("none of a registry");
}
