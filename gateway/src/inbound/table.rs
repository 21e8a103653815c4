//! What sources of tables have in common.

use super::origin::Fault;
use crate::catalog::Catalog;

/// The longest key of a row, in bytes.
pub(super) const KEY_BYTES_MAX: usize = 1 << 10;
/// The longest row, in bytes.
pub(super) const ROW_BYTES_MAX: usize = 900 << 10;

/// How the source of a table is named, in positions and status.
pub(super) fn name_of(table: &str) -> String {
    format!("table/{table}")
}

/// What a table may be made from, given what it was made from before.
pub(super) enum Claim<'a> {
    /// A file says all that the table holds, so it may take over any.
    File,
    /// A topic says what has changed: its rows would mix with those of another source.
    Topic(&'a str),
}

/// Notes what the table is made from.
///
/// # Errors
/// [`Fault`] where that does not go with what it was made from.
pub(super) fn claim(catalog: &Catalog, table: &str, claim: &Claim<'_>) -> Result<(), Fault> {
    let fact = format!("table/{table}/from");
    let retry = |problem: crate::catalog::CatalogError| Fault::retry(problem.to_string());
    match claim {
        Claim::File => {
            if catalog.known_fact(&fact).map_err(retry)?.as_deref() != Some("file") {
                catalog.replace_fact(&fact, "file").map_err(retry)?;
            }
            Ok(())
        }
        Claim::Topic(topic) => {
            let before = catalog.fact(&fact, || (*topic).to_owned()).map_err(retry)?;
            if before == *topic {
                return Ok(());
            }
            Err(Fault::stopped(format!(
                "the table {table} has rows from {before}, which would mix with those of {topic}: \
                 give the table another name"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_take_over_a_table_and_a_topic_may_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let catalog = Catalog::open(&dir.path().join("catalog")).expect("new");
        let claims = |what: &Claim<'_>| claim(&catalog, "devices", what).is_ok();
        assert!(claims(&Claim::Topic("cluster:a")) && claims(&Claim::Topic("cluster:a")));
        assert!(!claims(&Claim::Topic("cluster:b")), "rows of a would stay for ever");
        assert!(claims(&Claim::File) && claims(&Claim::File));
        assert!(!claims(&Claim::Topic("cluster:a")), "what the file took over is gone from a");
    }
}
