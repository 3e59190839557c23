//! Runs many seeds of all kinds: `cargo run --release -p quorate-sim --example soak -- [FIRST] [COUNT] [LINES]`.
//!
//! Prints the last LINES lines of each failing seed and what it found, and at the end how much was simulated and how fast.
//! Ends with a code other than 0 if any seed failed.

#![allow(clippy::print_stdout)] // A program's output.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // The speed of the simulator is measured in real time.

use std::process::ExitCode;
use std::time::Instant;

use quorate_sim::{Kind, Marks, Options, run};

fn main() -> ExitCode {
    let numbers: Result<Vec<u64>, _> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect();
    let Ok(numbers) = numbers else {
        println!("usage: soak [FIRST SEED] [NUMBER OF SEEDS] [LINES OF EACH FAILURE]");
        return ExitCode::FAILURE;
    };
    let number = |place: usize, default| numbers.get(place).copied().unwrap_or(default);
    // An assertion that fails is reported with its seed: the hook's own lines say less.
    std::panic::set_hook(Box::new(|_| {}));
    let options = Options {
        trace_lines: usize::try_from(number(2, 0)).unwrap_or(usize::MAX),
        ..Options::default()
    };
    soak(number(0, 0), number(1, 1_000), &options)
}

fn soak(first: u64, count: u64, options: &Options) -> ExitCode {
    let started = Instant::now();
    let mut marks = Marks::new();
    let (mut events, mut micros, mut answered, mut failed) = (0, 0, 0, 0_u64);
    for seed in first..first + count {
        let options = Options {
            kind: Kind::of_seed(seed),
            ..options.clone()
        };
        match run(seed, &options) {
            Ok(report) => {
                marks.add(&report.marks);
                events += report.events;
                micros += report.time.0;
                answered += report.operations.answered;
            }
            Err(failure) => {
                failed += 1;
                println!("{failure}\n");
            }
        }
        if (seed + 1 - first).is_multiple_of(PROGRESS_EVERY) || seed + 1 == first + count {
            let real = started.elapsed().as_secs_f64();
            println!(
                "{} seeds, {failed} failed; {:.0} virtual s ({:.0} a second), {events} events ({:.0} a second), {answered} answers",
                seed + 1 - first,
                micros as f64 / 1e6,
                micros as f64 / 1e6 / real,
                events as f64 / real,
            );
        }
    }
    for (mark, count) in marks.iter() {
        print!("{mark} {count}, ");
    }
    println!();
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

const PROGRESS_EVERY: u64 = 100;
