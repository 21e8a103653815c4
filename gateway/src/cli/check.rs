//! `headwater check`

use std::path::Path;

use super::print_line;
use crate::config::Config;
use crate::exit::Failure;

pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
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
