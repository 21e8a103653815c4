//! Which machine this is, so that a data directory that has moved is noticed.

use std::collections::BTreeMap;
use std::path::Path;

use ring::digest::{SHA256, digest};

use crate::catalog::{Catalog, CatalogError};

/// What tells machines apart, the surest first. The last one lies on the disk, and so is copied with
/// a whole card; it counts only where the others cannot be read.
const SOURCES: [(&str, &str); 3] = [
    ("serial", "/proc/device-tree/serial-number"),
    ("product", "/sys/class/dmi/id/product_uuid"),
    ("machine-id", "/etc/machine-id"),
];

/// Where the catalog keeps them.
const FACT: &str = "machine";

/// Hashes of what tells this machine from others, by source.
type Traits = BTreeMap<String, String>;

/// Says what to know where the data directory was last used on another machine, and takes note of
/// this one.
///
/// # Errors
/// [`CatalogError`].
pub(crate) fn notice(catalog: &Catalog) -> Result<Option<&'static str>, CatalogError> {
    let now = read(Path::new("/"));
    let text = serde_json::to_string(&now).expect("texts are always JSON");
    let before = catalog.replace_fact(FACT, &text)?;
    // What cannot be read says nothing.
    let before = before.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    Ok(moved(&before, &now).then_some(
        "the data directory was used on another machine before: if it was moved, all is well; if \
         it is a copy, stop one of the two, because both have the same identity at the upstreams",
    ))
}

fn read(root: &Path) -> Traits {
    let hash = |(name, path): (&str, &str)| {
        let text = std::fs::read(root.join(path.trim_start_matches('/'))).ok()?;
        let text = text.trim_ascii();
        if text.is_empty() {
            return None;
        }
        let hash = digest(&SHA256, text);
        let hex = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Some((name.to_owned(), hex))
    };
    SOURCES.into_iter().filter_map(hash).collect()
}

/// The surest source that is known of both decides.
fn moved(before: &Traits, now: &Traits) -> bool {
    let differs = |(name, _): (&str, _)| Some(before.get(name)? != now.get(name)?);
    SOURCES.into_iter().find_map(differs).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Traits {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        read(root.path())
    }

    #[test]
    fn a_data_directory_on_another_machine_is_noticed_and_no_other() {
        const SERIAL: &str = "proc/device-tree/serial-number";
        const ID: &str = "etc/machine-id";
        let board = machine(&[(SERIAL, "10000000aaaa\0"), (ID, "m\n")]);
        assert!(!board["serial"].contains("aaaa"), "hashed");
        assert!(!moved(&Traits::new(), &board), "the first start");
        assert!(!moved(&board, &board));
        let card_moved = machine(&[(SERIAL, "10000000bbbb\0"), (ID, "m\n")]);
        assert!(moved(&board, &card_moved), "the id of the system travels with the card");
        let installed_anew = machine(&[(SERIAL, "10000000aaaa\0"), (ID, "n\n")]);
        assert!(!moved(&board, &installed_anew));
        let (container, other) = (machine(&[(ID, "m\n")]), machine(&[(ID, "o\n")]));
        assert!(!moved(&board, &container), "less may be read");
        assert!(moved(&container, &other));
        assert!(!moved(&container, &machine(&[])));
    }

    #[test]
    fn the_catalog_remembers_the_machine() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let catalog = Catalog::open(&dir.path().join("c")).expect("new");
        assert_eq!(notice(&catalog).expect("noted"), None);
        assert_eq!(notice(&catalog).expect("noted"), None);
        let other = Traits::from(SOURCES.map(|(name, _)| (name.to_owned(), "x".to_owned())));
        let text = serde_json::to_string(&other).expect("texts");
        catalog.replace_fact(FACT, &text).expect("saved");
        // A machine without any of the sources cannot tell.
        let told = notice(&catalog).expect("noted").is_some();
        assert_eq!(told, !read(Path::new("/")).is_empty());
    }
}
