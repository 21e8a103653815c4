//! Values that are written out, or as `file:PATH` or `env:NAME` where they are kept.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// No password, key or token is larger.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// What stands for a secret.
pub(super) const MASK: &str = "***";

/// The value behind `file:PATH` or `env:NAME`, without the end of its last line; any other text
/// itself.
///
/// # Errors
/// A text that says what to write.
pub(super) fn resolve(text: &str, base: &Path) -> Result<String, String> {
    let found = if let Some(path) = text.strip_prefix("file:") {
        read(&base.join(path)).map_err(|why| {
            format!("file {path}: {why}; put the value there, where the gateway may read it")
        })?
    } else if let Some(name) = text.strip_prefix("env:") {
        std::env::var(name).map_err(|why| {
            format!(
                "environment variable {name:?}: {why}; set it for the gateway (under systemd: \
                 Environment= or EnvironmentFile= of the unit)"
            )
        })?
    } else {
        return Ok(text.to_owned());
    };
    let found = found.trim_end_matches(['\r', '\n']);
    if found.is_empty() {
        return Err(format!("{text} is empty; put the value there"));
    }
    Ok(found.to_owned())
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|why| why.to_string())?;
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(|why| why.to_string())?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err("it is larger than 64 KiB".to_owned());
    }
    Ok(text)
}
