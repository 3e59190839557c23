//! Quorate's core beside raft-rs and OmniPaxos: how many 8-byte commands a second three replicas commit in
//! one thread.
//!
//! See the README beside this for the rules, which are the same for all.

#[cfg(feature = "allocations")]
mod allocations;
mod cluster;
mod omni;
mod quorate;
mod raft_rs;
mod report;

use std::time::Duration;

use clap::{Parser, ValueEnum};

use cluster::{Clock, Cluster, measure};
use report::{Report, Row};

/// Measures Quorate's core beside raft-rs and OmniPaxos, all in this one run.
#[derive(Parser)]
struct Args {
    /// How many commands are under way at a time; each is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256, 1024, 4096])]
    outstanding: Vec<u64>,
    /// How often each is measured; the libraries take turns, and the fastest round of each counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a round of one library takes, in milliseconds.
    #[arg(long, default_value_t = 300)]
    millis: u64,
    /// What time is measured by.
    #[arg(long, value_enum, default_value_t = Clock::Wall)]
    clock: Clock,
    /// Measure this library only.
    #[arg(long, value_enum)]
    only: Option<Library>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Library {
    /// quorate-raft, with commands as bytes.
    Quorate,
    /// raft 0.7, with commands as bytes.
    RaftRs,
    /// omnipaxos 0.2, with commands as bytes.
    OmnipaxosBytes,
    /// omnipaxos 0.2, with commands by value.
    OmnipaxosValue,
}

impl Library {
    fn cluster(self) -> Box<dyn Cluster> {
        match self {
            Self::Quorate => Box::new(quorate::Quorate::new()),
            Self::RaftRs => Box::new(raft_rs::RaftRs::new()),
            Self::OmnipaxosBytes => Box::new(omni::Omni::<omni::AsBytes>::new()),
            Self::OmnipaxosValue => Box::new(omni::Omni::<omni::ByValue>::new()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Quorate => "quorate",
            Self::RaftRs => "raft-rs",
            Self::OmnipaxosBytes => "omnipaxos (bytes)",
            Self::OmnipaxosValue => "omnipaxos (by value)",
        }
    }
}

fn main() {
    let args = Args::parse();
    let libraries: Vec<Library> = match args.only {
        Some(library) => vec![library],
        None => Library::value_variants().to_vec(),
    };
    #[cfg(feature = "allocations")]
    print_allocations(&args, &libraries);
    print_speed(&args, &libraries);
}

#[cfg(feature = "allocations")]
fn print_allocations(args: &Args, libraries: &[Library]) {
    for outstanding in &args.outstanding {
        for library in libraries {
            let mut cluster = library.cluster();
            let mut round = || {
                cluster.propose(*outstanding);
                cluster.settle()
            };
            while round() < 50_000 {}
            let (before, commits) = (allocations::allocations(), round());
            let mut after = commits;
            while after < commits + 100_000 {
                after = round();
            }
            let allocations = allocations::allocations() - before;
            let each = allocations as f64 / (after - commits + outstanding) as f64;
            println!(
                "{outstanding:>6} outstanding, {:>20}: {each:>7.3} allocations a commit",
                library.name()
            );
        }
    }
}

fn print_speed(args: &Args, libraries: &[Library]) {
    let report = Report {
        libraries: libraries.iter().map(|library| library.name()).collect(),
        rounds: args.rounds,
        round_ms: args.millis,
        rows: args
            .outstanding
            .iter()
            .map(|outstanding| row(args, libraries, *outstanding))
            .collect(),
    };
    match args.output {
        Output::Table => print!("{}", report.table()),
        Output::Json => println!("{}", report.json()),
    }
}

/// Measures the libraries in turn, so that a slow moment of the machine meets all of them.
fn row(args: &Args, libraries: &[Library], outstanding: u64) -> Row {
    let duration = Duration::from_millis(args.millis);
    let mut rounds = vec![Vec::new(); libraries.len()];
    for _ in 0..args.rounds {
        for (library, rounds) in libraries.iter().zip(&mut rounds) {
            rounds.push(measure(
                library.cluster().as_mut(),
                args.clock,
                outstanding,
                duration,
            ));
        }
    }
    Row::new(outstanding, rounds)
}
