//! Runs many seeds of all kinds: `cargo run --release -p quorate-sim --example soak -- [FIRST] [COUNT] [LINES]`.
//!
//! Prints the last LINES lines of each failing seed and what it found, and at the end how much was simulated and how fast.
//! Ends with a code other than 0 if any seed failed, or if many seeds together never reached a mark.

#![allow(clippy::print_stdout)] // A program's output.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // The speed of the simulator is measured in real time.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;

use quorate_sim::{Kind, Marks, Options, Report, soak};

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
    let (first, count) = (number(0, 0), number(1, 1_000));
    let Some(last) = count.checked_sub(1).and_then(|more| first.checked_add(more)) else {
        println!("there are no {count} seeds from {first} on");
        return ExitCode::FAILURE;
    };
    // An assertion that fails is reported with its seed: the hook's own lines say less.
    std::panic::set_hook(Box::new(|_| {}));
    let trace_lines = usize::try_from(number(2, 0)).unwrap_or(usize::MAX);
    let options = |seed| Options {
        kind: Kind::of_seed(seed),
        trace_lines,
        ..Options::default()
    };
    let mut totals = Totals::new();
    soak(first..=last, options, |verdict| {
        totals.seeds += 1;
        match verdict {
            Ok(report) => totals.add(&report),
            Err(failure) => {
                totals.failed += 1;
                println!("{failure}\n");
            }
        }
        if totals.seeds.is_multiple_of(PROGRESS_EVERY) || totals.seeds == count {
            totals.print();
        }
        ControlFlow::Continue(())
    });
    totals.verdict()
}

/// What all runs came to.
struct Totals {
    started: Instant,
    seeds: u64,
    failed: u64,
    events: u64,
    micros: u64,
    answered: u64,
    marks: Marks,
}

impl Totals {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            seeds: 0,
            failed: 0,
            events: 0,
            micros: 0,
            answered: 0,
            marks: Marks::new(),
        }
    }

    fn add(&mut self, report: &Report) {
        self.marks.add(&report.marks);
        self.events += report.events;
        self.micros += report.time.0;
        self.answered += report.operations.answered;
    }

    fn print(&self) {
        let real = self.started.elapsed().as_secs_f64();
        let simulated = self.micros as f64 / 1e6;
        println!(
            "{} seeds, {} failed; {simulated:.0} virtual s ({:.0} a second), {} events ({:.0} a second), {} answers",
            self.seeds,
            self.failed,
            simulated / real,
            self.events,
            self.events as f64 / real,
            self.answered,
        );
    }

    fn verdict(&self) -> ExitCode {
        let marks = self.marks.iter().map(|(mark, count)| format!("{mark} {count}"));
        println!("{}", marks.collect::<Vec<_>>().join(", "));
        let reached = self.marks.check(self.seeds);
        if let Err(never) = &reached {
            println!("{never}");
        }
        if self.failed == 0 && reached.is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

const PROGRESS_EVERY: u64 = 100;
