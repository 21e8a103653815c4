//! `headwater passwd`

use std::io::{BufRead, IsTerminal};

use super::print_line;
use crate::exit::{Code, Failure};

pub(super) fn passwd() -> Result<(), Failure> {
    if std::io::stdin().is_terminal() {
        prompt();
    }
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|problem| Failure::new(Code::NoInput, problem))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::new(Code::Usage, "the password is empty; write one line"));
    }
    let hash = crate::mqtt::hash_password(password)
        .map_err(|problem| Failure::new(Code::Disk, problem))?;
    print_line(&hash);
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the prompt must not be part of the output")]
fn prompt() {
    eprintln!("password (it is shown as you type; or pipe it in):");
}
