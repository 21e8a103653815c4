//! `check` knows what a registry has taken.

use std::path::Path;
use std::sync::Arc;

use crate::double::Double;
use crate::process::{Gateway, config, headwater, text};

fn write(dir: &Path, registry: &str, columns: &str) -> std::path::PathBuf {
    config(
        dir,
        &format!(
            "[[stream]]\nname = \"climate\"\ntopic = \"s/{{device}}\"\nkey = \"device\"\n\
             format = \"json\"\ncolumns = {columns}\n\
             [upstream.cluster]\nkind = \"kafka\"\nbrokers = \"127.0.0.1:1\"\n\
             [upstream.cluster.registry]\nurl = \"{registry}\"\n\
             [[route]]\nstream = \"climate\"\nupstream = \"cluster\"\ntopic = \"plant.climate\"\n\
             format = \"avro\"\n"
        ),
    )
}

fn check(config: &Path) -> (Option<i32>, String) {
    let output = headwater(&["check", "-c", config.to_str().expect("UTF-8")]);
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_column_that_changes_its_type_is_refused_before_the_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let double = Double::start(0, Arc::default()).expect("a port");
    let path = write(dir.path(), &double.url(), "{ t = \"double\" }");
    let mut gateway = Gateway::start(&path);
    gateway.says("the schema is registered");
    let (code, said) = check(&path);
    assert!(code == Some(0) && said.contains("schemas were not compared"), "{said}");
    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0));
    drop(double);

    assert_eq!(check(&path).0, Some(0));
    let url = std::fs::read_to_string(&path).expect("the configuration");
    let url = url.lines().find_map(|line| line.strip_prefix("url = \"")).expect("the registry");
    let url = url.trim_end_matches('"').to_owned();
    let more = write(dir.path(), &url, "{ t = \"double\", n = \"integer\" }");
    assert_eq!(check(&more).0, Some(0), "a column more");
    let other = write(dir.path(), &url, "{ t = \"text\" }");
    let (code, said) = check(&other);
    assert!(code == Some(78) && said.contains("climate -> plant.climate"), "{said}");
}
