//! Chores of this repository, run as `cargo run -p xtask -- COMMAND`.
//!
//! - `codegen` writes the Rust code of the etcd API from its .proto files; `codegen --check` writes
//!   nothing and fails if what is checked in differs.
//! - `mutations REPORT` writes the table of `docs/mutations.md` from a report of `quorate sim mutants`.
//! - `arrows` checks that no crate depends on another one that `ARCHITECTURE.md` does not allow it.

mod arrows;
mod codegen;
mod mutations;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo run -p xtask -- codegen [--check] | mutations REPORT | arrows";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["codegen"] => codegen::write(&root()),
        ["codegen", "--check"] => codegen::check(&root()),
        ["mutations", report] => mutations::write(&root(), Path::new(report)),
        ["arrows"] => arrows::check(&root()),
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace, two folders above this crate.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}
