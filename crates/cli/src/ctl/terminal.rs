//! What is read from whoever runs the command: passwords, and lines of standard input.

use super::failure::Failure;
use crate::output;
use anyhow::Context;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal};

/// Asks for something that is not shown while it is typed.
///
/// Standard input need not be a terminal: then a line of it is read.
///
/// # Errors
///
/// If there is nothing to read.
pub(super) fn secret(question: &str) -> Result<String, Failure> {
    output::print(question)?;
    let silenced = Silence::begin();
    let answer = line()?;
    if silenced.is_some() {
        output::print("\n")?;
    }
    Ok(answer)
}

/// One line of standard input, without its end.
///
/// # Errors
///
/// If there is none.
pub(super) fn line() -> Result<String, Failure> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    match read.context("cannot read standard input")? {
        0 => Err(Failure::error("nothing was given on standard input")),
        _ => Ok(line.trim_end_matches(['\n', '\r']).to_string()),
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence {
    before: Termios,
}

impl Silence {
    fn begin() -> Option<Self> {
        let stdin = io::stdin();
        let before = stdin.is_terminal().then(|| tcgetattr(&stdin).ok()).flatten()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent).ok()?;
        Some(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}
