//! Values that are written out, or as `file:PATH` or `env:NAME` where they are kept.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// No password, key or token is larger.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// What stands for a secret.
pub(super) const MASK: &str = "***";

/// A value that may be a secret: it is shown by where it comes from, or not at all.
#[derive(Clone, PartialEq, Eq)]
pub struct Property {
    value: String,
    reference: Option<String>,
}

impl Property {
    /// Reads what `text` says: `file:PATH`, below `base` where it is relative, `env:NAME`, or the
    /// value itself.
    ///
    /// # Errors
    /// A text that says what to write.
    pub(super) fn read(text: &str, base: &Path) -> Result<Self, String> {
        let reference =
            (text.starts_with("file:") || text.starts_with("env:")).then(|| text.into());
        Ok(Self { value: resolve(text, base)?, reference })
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The value, of a file below `base` where it names one that is relative.
    pub(super) fn below(self, base: &Path) -> Self {
        match self.reference {
            None => Self { value: base.join(&self.value).display().to_string(), reference: None },
            Some(_) => self,
        }
    }

    /// What may be shown of it; `is_secret` says that a value that is written out may not.
    pub(crate) fn shown(&self, is_secret: bool) -> &str {
        match &self.reference {
            Some(reference) => reference,
            None if is_secret => MASK,
            None => &self.value,
        }
    }
}

#[cfg(test)]
impl From<&str> for Property {
    fn from(value: &str) -> Self {
        Self { value: value.to_owned(), reference: None }
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown(true))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_from_a_file_the_environment_or_the_text() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("password"), "s3cret \r\n").expect("written");
        let read = |text: &str| Property::read(text, dir.path());
        let from_file = read("file:password").expect("it is there");
        assert_eq!((from_file.value(), from_file.shown(true)), ("s3cret ", "file:password"));
        assert_eq!(format!("{from_file:?}"), "file:password");
        let path = std::env::var("PATH").expect("tests have one");
        assert_eq!(read("env:PATH").expect("it is set").value(), path);
        let plain = read("plain").expect("a text");
        assert_eq!(
            (plain.value(), plain.shown(true), plain.shown(false)),
            ("plain", "***", "plain")
        );
        assert_eq!(format!("{plain:?}"), "***");
    }

    #[test]
    fn what_is_not_there_says_where_to_put_it() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("empty"), "\n").expect("written");
        std::fs::write(dir.path().join("large"), vec![b'x'; 70 << 10]).expect("written");
        std::fs::write(dir.path().join("binary"), [0xff, 0xfe]).expect("written");
        for (text, words) in [
            ("file:none", "file none: No such file"),
            ("file:empty", "file:empty is empty"),
            ("file:large", "larger than 64 KiB"),
            ("file:binary", "valid UTF-8"),
            ("file:.", "put the value there"),
            ("env:HEADWATER_NOT_SET", "\"HEADWATER_NOT_SET\": environment variable not found"),
        ] {
            let fault = Property::read(text, dir.path()).expect_err(text);
            assert!(fault.contains(words), "{text}: {fault}");
        }
    }
}
