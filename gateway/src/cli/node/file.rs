//! A file that is replaced as a whole, by one of the same owner and mode.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Writes `bytes` beside the file at `path` and puts them in its place. After a power cut either
/// the old or the new file is there.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A link stays a link.
    let path = path.canonicalize()?;
    let aside = aside(&path)?;
    let replaced = write(&path, &aside, bytes).and_then(|()| std::fs::rename(&aside, &path));
    if let Err(problem) = replaced {
        // It may not even have been made.
        drop(std::fs::remove_file(&aside));
        return Err(problem);
    }
    File::open(parent(&path))?.sync_all()
}

fn write(path: &Path, aside: &Path, bytes: &[u8]) -> io::Result<()> {
    let old = std::fs::metadata(path)?;
    // Nobody else reads it before it has its owner.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside)?;
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o7777))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn aside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut aside = std::ffi::OsString::from(".");
    aside.push(name);
    aside.push(format!(".{}.new", std::process::id()));
    Ok(parent(path).join(aside))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_keeps_its_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "old").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("its own");
        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        replace(&link, b"new").expect("replaced");
        assert_eq!(std::fs::read(&path).expect("there"), b"new");
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o7777, 0o640);
        assert!(std::fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 2);
        assert!(replace(&dir.path().join("none"), b"x").is_err());
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 2);
    }
}
