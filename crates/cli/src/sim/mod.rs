//! `quorate sim`: the real consensus core, driver and log on simulated time, network and disks.
//!
//! One seed with one set of flags is one run, always the same. A run that finds something wrong
//! prints the line that replays it.

mod many;
mod mutants;
mod shape;

use crate::args::positive;
use crate::output;
use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use many::Seeds;
use quorate_sim::{Failure, Options as Simulation, shrink};
use shape::Shape;
use std::io::{self, Write};
use std::num::NonZeroU64;

/// The arguments of `quorate sim`.
#[derive(Args)]
#[command(after_help = "Example:\n  quorate sim run --seeds 100 --seed 1")]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run many seeds; stop at the first that fails
    #[command(after_help = "Example:\n  quorate sim run --seeds 1000 --seed 1 --nodes 5")]
    Run {
        /// How many seeds to run
        #[arg(long, value_name = "N", default_value = "100", value_parser = positive)]
        seeds: NonZeroU64,
        /// The first seed
        #[arg(long, value_name = "S", default_value_t = 1)]
        seed: u64,
        /// How to say what the runs came to
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
        #[command(flatten)]
        shape: Shape,
    },
    /// Run one seed again
    #[command(after_help = "Example:\n  quorate sim replay 4711 --trace")]
    Replay {
        /// The seed to run
        seed: u64,
        /// Print every event
        #[arg(long)]
        trace: bool,
        #[command(flatten)]
        shape: Shape,
    },
    /// Find the least that a seed that fails still fails with
    #[command(after_help = "Example:\n  quorate sim shrink 4711 --profile swarm")]
    Shrink {
        /// The seed that fails
        seed: u64,
        /// The most runs to try
        #[arg(long, value_name = "N", default_value_t = MOST_RUNS)]
        runs: u64,
        #[command(flatten)]
        shape: Shape,
    },
    /// Look for deliberate bugs, one after the other, and tell which seed found which
    #[command(after_help = "Example:\n  quorate sim mutants --only M17 --seeds 200")]
    Mutants(mutants::Options),
}

/// How to say what the runs came to.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One object, for programs.
    Json,
}

/// Runs what was asked for.
///
/// # Errors
///
/// If a run finds something wrong.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    match options.action {
        Action::Run {
            seeds,
            seed,
            output,
            shape,
        } => many::run(
            &Seeds {
                first: seed,
                count: seeds.get(),
            },
            &shape,
            output,
        ),
        Action::Replay { seed, trace, shape } => replay(seed, trace, &shape),
        Action::Shrink { seed, runs, shape } => shrink_one(seed, runs, &shape),
        Action::Mutants(options) => mutants::run(&options),
    }
}

/// Prints one run, step by step if `trace`.
fn replay(seed: u64, trace: bool, shape: &Shape) -> anyhow::Result<()> {
    let trace_lines = if trace { usize::MAX } else { LAST_LINES };
    let simulation = Simulation {
        trace_lines,
        ..shape.simulation(seed)
    };
    let (lines, verdict) = match quorate_sim::run(seed, &simulation) {
        Ok(report) => (report.lines.clone(), Ok(report)),
        Err(failure) => (failure.lines.clone(), Err(failure)),
    };
    let printed = if trace || verdict.is_err() {
        lines
            .iter()
            .try_for_each(|line| output::print(&format!("{line}\n")))
    } else {
        Ok(())
    };
    match verdict {
        // A reader that saw enough of the trace does not make the run a good one.
        Err(failure) => bail!("{}", describe(&failure)),
        Ok(report) => printed.and_then(|()| output::print(&format!("{report}\n"))),
    }
}

/// Prints the least that `seed` still fails with.
fn shrink_one(seed: u64, runs: u64, shape: &Shape) -> anyhow::Result<()> {
    // An assertion that fails is what is looked for: once is enough to say so.
    std::panic::set_hook(Box::new(|_| {}));
    let simulation = Simulation {
        trace_lines: LAST_LINES,
        ..shape.simulation(seed)
    };
    let mut show = |failure: &Failure, runs: u64| {
        // Who does not want to watch may still want the result.
        let _ = writeln!(
            io::stderr(),
            "{runs} runs: {} incidents, {}",
            failure.incidents.len(),
            failure.replay
        );
    };
    let Some(smallest) = shrink(seed, &simulation, runs, &mut show) else {
        bail!("seed {seed} does not fail with these flags");
    };
    let failure = smallest.failure;
    output::print(&format!(
        "{failure}\n{} runs; {} incidents are left\n",
        smallest.runs,
        failure.incidents.len()
    ))
}

fn describe(failure: &Failure) -> String {
    format!(
        "seed {} fails at {}: {}: {}",
        failure.seed, failure.time, failure.invariant, failure.detail
    )
}

/// How much of what happened is shown of a run that fails, if not all was asked for.
const LAST_LINES: usize = 30;
/// After this many runs the smallest one found is good enough.
const MOST_RUNS: u64 = 2_000;
