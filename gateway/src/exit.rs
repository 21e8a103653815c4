//! How a command ends: sysexits, with a message that says what to do.

use std::fmt;
use std::process::ExitCode;

/// Why a command did not do its work.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What went wrong and what to do.
    pub message: String,
}

/// Exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// The answer is no: damage was found, counts do not match.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A file that was named is not there.
    NoInput = 66,
    /// The disk does not do what it should.
    Disk = 74,
    /// Something is taken for now: a port, the data directory.
    TryAgain = 75,
    /// The configuration is wrong.
    Config = 78,
}

impl Failure {
    /// A failure with its code.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(problem: crate::config::ConfigError) -> Self {
        let code = match problem {
            crate::config::ConfigError::Missing { .. } => Code::NoInput,
            crate::config::ConfigError::Invalid(_) => Code::Config,
        };
        Self::new(code, problem)
    }
}

impl From<crate::catalog::CatalogError> for Failure {
    fn from(problem: crate::catalog::CatalogError) -> Self {
        Self::new(Code::Disk, problem)
    }
}

impl From<log_lite::JournalError> for Failure {
    fn from(problem: log_lite::JournalError) -> Self {
        let code = match problem {
            log_lite::JournalError::Locked { .. } => Code::TryAgain,
            _ => Code::Disk,
        };
        Self::new(code, problem)
    }
}
