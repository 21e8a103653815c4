//! A file of rows as a whole: read, checked, bounded.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::super::table::{KEY_BYTES_MAX, ROW_BYTES_MAX};
use super::{csv, lines};
use crate::table::size_of_row;

/// Payloads by key: JSON objects without the key column.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content(pub(super) BTreeMap<String, String>);

/// True for a name that says how the rows are written.
pub fn is_row_file(path: &Path) -> bool {
    reader_of(path).is_some()
}

type Reader = fn(&str, &str, &mut Gather) -> Result<(), String>;

fn reader_of(path: &Path) -> Option<Reader> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "csv" => Some(csv::read),
        "ndjson" | "jsonl" => Some(lines::read),
        _ => None,
    }
}

/// The rows of a file whose column `key` is the key.
///
/// # Errors
/// What does not fit, in which line, and what to do.
pub(super) fn read(path: &Path, key: &str, bytes_max: u64) -> Result<Content, String> {
    let reader = reader_of(path).ok_or("name a file that ends with .csv, .ndjson or .jsonl")?;
    // To open a pipe would wait for who writes it.
    let kind = std::fs::metadata(path).map_err(|problem| problem.to_string())?;
    if !kind.is_file() {
        return Err("not a file: name one".to_owned());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|problem| problem.to_string())?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|problem| problem.to_string())?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("more than {bytes_max} bytes: raise max_size of the table"));
    }
    let text = String::from_utf8(bytes).map_err(|problem| {
        let before = &problem.as_bytes()[..problem.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        format!("line {line} is not UTF-8: save the file as UTF-8")
    })?;
    let mut gather = Gather { rows: BTreeMap::new(), bytes: 0, bytes_max };
    // What some editors put in front.
    reader(text.trim_start_matches('\u{feff}'), key, &mut gather)?;
    Ok(Content(gather.rows))
}

/// Takes rows as long as they fit.
pub(super) struct Gather {
    rows: BTreeMap<String, String>,
    bytes: u64,
    bytes_max: u64,
}

impl Gather {
    /// A row of this line.
    ///
    /// # Errors
    /// Why it does not fit.
    pub(super) fn row(&mut self, line: u64, key: String, payload: String) -> Result<(), String> {
        let fault = match (key.len(), payload.len()) {
            (0, _) => Some("the key is empty: give the row one".to_owned()),
            (bytes, _) if bytes > KEY_BYTES_MAX => {
                Some(format!("a key of {bytes} bytes: at most {KEY_BYTES_MAX} fit"))
            }
            (_, bytes) if bytes > ROW_BYTES_MAX => {
                Some(format!("a row of {bytes} bytes: at most {ROW_BYTES_MAX} fit"))
            }
            _ if self.rows.contains_key(&key) => {
                Some(format!("the key {key:?} stands in an earlier line too: remove one"))
            }
            _ => None,
        };
        if let Some(fault) = fault {
            return Err(format!("line {line}: {fault}"));
        }
        self.bytes += size_of_row(&key, payload.as_bytes());
        if self.bytes > self.bytes_max {
            let max = self.bytes_max;
            return Err(format!(
                "line {line}: the rows up to here take more than {max} bytes in memory: raise \
                 max_size of the table"
            ));
        }
        self.rows.insert(key, payload);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        read(&path, "id", 4_096).map(|Content(rows)| rows.into_iter().collect())
    }

    fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter().map(|(key, row)| ((*key).to_owned(), (*row).to_owned())).collect()
    }

    #[test]
    fn cells_are_numbers_where_json_would_write_them_so_and_texts_else() {
        let text = b"\xef\xbb\xbfid,v\r\n1,007\n2,7\n3,1.50\n4,1.5\n5,-0.25\n6,true\n7,True\n8,\n\
                     9,\"a,\"\"b\"\"\nc\"\n10,1e3\n11,12345678901234567890123\n12, 7\n13,NaN\n14,null\n";
        let read = read_as("t.csv", text).expect("it is good");
        let mut wanted = pairs(&[
            ("1", r#"{"v":"007"}"#),
            ("2", r#"{"v":7}"#),
            ("3", r#"{"v":"1.50"}"#),
            ("4", r#"{"v":1.5}"#),
            ("5", r#"{"v":-0.25}"#),
            ("6", r#"{"v":true}"#),
            ("7", r#"{"v":"True"}"#),
            ("8", r#"{"v":null}"#),
            ("9", r#"{"v":"a,\"b\"\nc"}"#),
            ("10", r#"{"v":"1e3"}"#),
            ("11", r#"{"v":"12345678901234567890123"}"#),
            ("12", r#"{"v":" 7"}"#),
            ("13", r#"{"v":"NaN"}"#),
            ("14", r#"{"v":"null"}"#),
        ]);
        wanted.sort();
        assert_eq!(read, wanted);
    }

    #[test]
    fn lines_of_json_give_the_same_rows() {
        let text = b"{\"id\": 7, \"v\": 1.5, \"w\": [1]}\n\n{\"v\": \"x\", \"id\": \"a/b\"}";
        let read = read_as("t.ndjson", text).expect("it is good");
        assert_eq!(read, pairs(&[("7", r#"{"v":1.5,"w":[1]}"#), ("a/b", r#"{"v":"x"}"#)]));
    }

    #[test]
    fn a_line_that_does_not_fit_is_named() {
        let long = format!("id,v\na,1\nb,{}\n", "x".repeat(4_080));
        let many = (0..60).map(|n| format!("{n},1\n")).collect::<String>();
        for (name, text, words) in [
            ("t.csv", &b"id,v\na,1\nb\n"[..], "line 3: 1 cell, the header has 2"),
            ("t.csv", b"id,v\na,1\n\na,2\n", "line 4: the key \"a\" stands in an earlier line"),
            ("t.csv", b"id,v\n,1\n", "line 2: the key is empty"),
            ("t.csv", b"id,v\na,\xff\n", "line 2 is not UTF-8"),
            ("t.csv", b"a;id;v\n1;2;3\n", "line 1: no column \"id\"; there are: a;id;v"),
            ("t.csv", b"id,v,v\n", "line 1: the column \"v\" stands twice"),
            ("t.csv", b"id,\n", "line 1: a column without a name"),
            ("t.csv", b"", "empty"),
            ("t.csv", long.as_bytes(), "line 3: the rows up to here take more than 4096 bytes"),
            ("t.csv", format!("id,v\n{many}").as_bytes(), "raise max_size"),
            ("t.csv", "x".repeat(5_000).as_bytes(), "more than 4096 bytes"),
            ("t.jsonl", b"{\"id\":1}\n[1]\n", "line 2: not a JSON object"),
            ("t.jsonl", b"{\"id\":null}\n", "line 1: the key column id is missing"),
            ("t.txt", b"", "ends with .csv"),
        ] {
            let said = read_as(name, text).expect_err(words);
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(read_as("t.csv", b"id,v\n"), Ok(Vec::new()), "a header alone is no row");
    }
}
