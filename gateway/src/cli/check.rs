//! `headwater check`

use std::path::Path;

use super::{ConfigArg, print_line};
use crate::app::CATALOG_FILE;
use crate::catalog::{Catalog, SavedSchema};
use crate::config::{Config, RouteConfig, TableFrom, UpstreamConfig};
use crate::exit::{Code, Failure};
use crate::forward::{Finding, Verdict, can_read, check_online, subject_of};
use crate::inbound::check_file;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Ask the upstreams whether they would take what the routes carry; nothing is written there.
    /// Exit 1 if one would not, 75 if one does not answer
    #[arg(long)]
    online: bool,
}

pub(super) fn check(args: &Args) -> Result<(), Failure> {
    let path = args.config.path();
    let config = Config::load(&path)?;
    changed_schemas(&path, &config)?;
    let notes = table_files(&path, &config)?;
    print_line(&format!(
        "{}: good: gateway {}, {} streams, {} tables, {} queries, {} routes",
        path.display(),
        config.id,
        config.streams.len() - config.tables.len(),
        config.tables.len(),
        config.queries.len(),
        config.routes.len(),
    ));
    notes.iter().for_each(|note| print_line(note));
    if !args.online {
        return Ok(());
    }
    let mut findings = Vec::new();
    for (upstream, found) in check_online(&config) {
        for finding in found {
            print_line(&line(&upstream, &finding));
            findings.push(finding.verdict);
        }
    }
    let count = |verdict| findings.iter().filter(|found| **found == verdict).count();
    let (troubles, away) = (count(Verdict::Trouble), count(Verdict::Away));
    let failure = |code, many: usize| {
        let things = if many == 1 { "1 trouble".to_owned() } else { format!("{many} troubles") };
        Err(Failure::new(code, format!("{things}; the lines above say what to do")))
    };
    match (troubles, away) {
        (0, 0) => Ok(()),
        (0, away) => failure(Code::TryAgain, away),
        (troubles, away) => failure(Code::No, troubles + away),
    }
}

/// What is to be known of the files of tables. A gateway starts without them, and with wrong ones: its
/// tables then stay as they are.
fn table_files(config_path: &Path, config: &Config) -> Result<Vec<String>, Failure> {
    let (mut notes, mut faults) = (Vec::new(), Vec::new());
    for table in &config.tables {
        let TableFrom::File(file) = &table.from else { continue };
        let (name, shown) = (&table.name, file.display());
        if !file.exists() {
            notes.push(format!("table {name}: note: {shown} is not there yet"));
            continue;
        }
        match check_file(file, table) {
            Ok(rows) => notes.push(format!("table {name}: {rows} rows in {shown}")),
            Err(why) => {
                let config = config_path.display();
                faults.push(format!("{config}: table.from: {name}: {shown}: {why}"));
            }
        }
    }
    if faults.is_empty() { Ok(notes) } else { Err(Failure::new(Code::Config, faults.join("\n"))) }
}

fn changed_schemas(path: &Path, config: &Config) -> Result<(), Failure> {
    let changes = schemas(config);
    if changes.is_empty() {
        return Ok(());
    }
    let faults: Vec<String> =
        changes.iter().map(|fault| format!("{}: {fault}", path.display())).collect();
    Err(Failure::new(Code::Config, faults.join("\n")))
}

fn line(upstream: &str, finding: &Finding) -> String {
    let kind = match finding.verdict {
        Verdict::Good => "",
        Verdict::Note => "note: ",
        Verdict::Warning => "warning: ",
        Verdict::Away | Verdict::Trouble => "trouble: ",
    };
    format!("{upstream}: {kind}{}", finding.text)
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
        UpstreamConfig::Kafka(kafka) => &kafka.registry.as_ref()?.url,
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
