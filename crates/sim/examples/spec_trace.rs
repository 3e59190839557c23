//! Prints a run as the TLA+ module `Run`: `cargo run -p quorate-sim --example spec_trace -- SEED [LINES]`.
//!
//! The cluster has three nodes and few requests. `spec/check.sh runs` lets TLC look at some.

#![allow(clippy::print_stdout, clippy::print_stderr)] // A program's output.

use std::process::ExitCode;

use quorate_sim::{Load, Options, Size, spec_trace};

fn main() -> ExitCode {
    let numbers: Result<Vec<u64>, _> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect();
    let (seed, lines) = match numbers.as_deref() {
        Ok([seed]) => (*seed, ENOUGH_LINES),
        Ok([seed, lines]) => (*seed, *lines),
        _ => {
            eprintln!("usage: spec_trace SEED [NUMBER OF LINES]");
            return ExitCode::FAILURE;
        }
    };
    let options = Options {
        size: Size::Exactly(3),
        load: Load::Idle,
        ..Options::default()
    };
    match spec_trace(seed, &options, usize::try_from(lines).unwrap_or(usize::MAX)) {
        Ok(module) => {
            print!("{module}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

const ENOUGH_LINES: u64 = 200;
