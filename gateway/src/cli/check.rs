//! `headwater check`

use std::path::Path;

use super::print_line;
use crate::app::CATALOG_FILE;
use crate::catalog::{Catalog, SavedSchema};
use crate::config::{Config, RouteConfig, UpstreamConfig};
use crate::exit::{Code, Failure};
use crate::forward::{can_read, subject_of};

pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    let changes = schemas(&config);
    if !changes.is_empty() {
        let faults: Vec<String> =
            changes.iter().map(|fault| format!("{}: {fault}", path.display())).collect();
        return Err(Failure::new(Code::Config, faults.join("\n")));
    }
    print_line(&format!(
        "{}: good: gateway {}, {} streams, {} queries, {} routes",
        path.display(),
        config.id,
        config.streams.len(),
        config.queries.len(),
        config.routes.len(),
    ));
    Ok(())
}

/// Routes whose schema cannot follow the one that was registered last. Nothing is known where the
/// gateway never ran, or holds its catalog because it runs; then the registry says it at the start.
fn schemas(config: &Config) -> Vec<String> {
    let path = config.data_dir.join(CATALOG_FILE);
    let avro: Vec<(&RouteConfig, String)> =
        config.routes.iter().filter_map(|route| Some((route, config.schema_of(route)?))).collect();
    if avro.is_empty() || !path.exists() {
        return Vec::new();
    }
    let Ok(catalog) = Catalog::open(&path) else {
        print_line(
            "the catalog is in use or cannot be read: schemas were not compared with those that \
             are registered",
        );
        return Vec::new();
    };
    avro.iter().filter_map(|(route, schema)| change(config, route, schema, &catalog)).collect()
}

fn change(config: &Config, route: &RouteConfig, schema: &str, catalog: &Catalog) -> Option<String> {
    let subject = subject_of(&route.topic);
    let saved: SavedSchema = catalog.schema(&route.upstream, &subject).ok().flatten()?;
    let url = match config.upstreams.get(&route.upstream)? {
        UpstreamConfig::Kafka { registry, .. } => &registry.as_ref()?.url,
        UpstreamConfig::Mqtt(_) | UpstreamConfig::Directory { .. } => return None,
    };
    if *url != saved.registry {
        return None;
    }
    let why = can_read(schema, &saved.schema).err()?;
    Some(format!(
        "route.format: {} -> {}: the schema cannot follow the one that is registered ({why}). \
         Columns can come and go; one with another type needs another name, or the route another \
         topic",
        route.stream, route.topic
    ))
}
