//! What is wrong with a configuration, and where.

use std::fmt;

/// A configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {source}; give the path of a configuration with -c")]
    Missing {
        /// The path as it was given.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// Its content is wrong.
    #[error("{}", Lines(.0))]
    Invalid(Vec<Problem>),
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 where the fault is the file as a whole.
    pub line: usize,
    /// The key, with the path to it.
    pub key: String,
    /// What is wrong and what to write instead.
    pub fault: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.key, self.fault)
    }
}

struct Lines<'a>(&'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
