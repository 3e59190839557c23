//! `quorate sim`: the real consensus core, driver and log on simulated time, network and disks.
//!
//! One seed with one set of flags is one run, always the same. A run that finds something wrong
//! prints the line that replays it.

use crate::args::positive;
use crate::output;
use anyhow::{anyhow, bail, ensure};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use quorate_sim::{Failure, Kind, Marks, Options as Simulation, Report, Size, Time, UnknownName};
use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

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
}

/// What makes another run of the same seed.
#[derive(Args, Clone, Copy)]
struct Shape {
    /// Nodes in the cluster, 1 to 9; each seed draws its own number if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// Seconds, in virtual time, during which faults happen
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = positive)]
    faults_for: NonZeroU64,
    /// What runs are about: swarm, calm, lite, one-fault, partial, disk, clock, performance; or all, which take turns
    #[arg(long, value_name = "P", default_value = "all")]
    profile: Choice,
}

/// The kinds of run that were asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    All,
    Only(Kind),
}

impl FromStr for Choice {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.parse().map(Self::Only)
    }
}

impl Shape {
    fn simulation(self, seed: u64) -> Simulation {
        Simulation {
            kind: match self.profile {
                Choice::All => Kind::of_seed(seed),
                Choice::Only(kind) => kind,
            },
            size: self.nodes.map_or(Size::Drawn, Size::Exactly),
            duration: Duration::from_secs(self.faults_for.get()),
            ..Simulation::default()
        }
    }
}

/// Runs what was asked for.
///
/// # Errors
///
/// If a run finds something wrong.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    match options.action {
        Action::Run { seeds, seed, shape } => run_many(seed, seeds.get(), shape),
        Action::Replay { seed, trace, shape } => replay(seed, trace, shape),
    }
}

/// Prints one run, step by step if `trace`.
fn replay(seed: u64, trace: bool, shape: Shape) -> anyhow::Result<()> {
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

/// What all runs came to.
#[derive(Default)]
struct Totals {
    seeds: u64,
    events: u64,
    virtual_time: Duration,
    answered: u64,
    faults: u64,
    marks: Marks,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.events += report.events;
        self.virtual_time += report.time.since(Time::START);
        self.answered += report.operations.answered;
        self.marks.add(&report.marks);
        self.faults += report.faults.values().sum::<u64>();
    }
}

/// Runs the seeds on all cores, lowest first.
fn run_many(first: u64, count: u64, shape: Shape) -> anyhow::Result<()> {
    ensure!(
        first.checked_add(count - 1).is_some(),
        "--seed {first} leaves no room for {count} seeds: the last seed can be {} at most",
        u64::MAX,
    );
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let (sender, verdicts) = mpsc::channel();
    let totals = thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || work(first, count, shape, next, &sender));
        }
        drop(sender);
        let totals = collect(&verdicts, count);
        // Whatever happened, no further seed is begun.
        next.store(count, Ordering::SeqCst);
        totals
    });
    let totals =
        totals.map_err(|failure| anyhow!("{}; replay it: {} --trace", describe(&failure), failure.replay))?;
    let Totals {
        seeds,
        events,
        virtual_time,
        answered,
        faults,
        marks,
    } = totals;
    let noun = if seeds == 1 { "seed" } else { "seeds" };
    output::print(&format!(
        "{seeds} {noun} from {first}: nothing wrong. {:.0} s of virtual time, {events} events, {answered} \
         operations answered, {faults} faults, in {:.1} s\n",
        virtual_time.as_secs_f64(),
        started.elapsed().as_secs_f64(),
    ))?;
    report_marks(&marks, seeds, shape.profile)
}

/// Prints what rare things happened, and fails if one should have and did not.
fn report_marks(marks: &Marks, seeds: u64, profile: Choice) -> anyhow::Result<()> {
    let reached: Vec<String> = marks
        .iter()
        .map(|(mark, count)| format!("{mark} {count}"))
        .collect();
    output::print(&format!("marks: {}\n", reached.join(", ")))?;
    let missing: Vec<String> = marks.missing().map(|mark| mark.to_string()).collect();
    let must_reach = seeds >= SEEDS_FOR_ALL_MARKS && profile == Choice::All;
    ensure!(
        missing.is_empty() || !must_reach,
        "{seeds} seeds never reached: {}; a simulator that does not get there proves nothing about it",
        missing.join(", ")
    );
    Ok(())
}

/// Runs the next seed that nobody has taken, until none is left.
fn work(
    first: u64,
    count: u64,
    shape: Shape,
    next: &AtomicU64,
    verdicts: &mpsc::Sender<Result<Report, Box<Failure>>>,
) {
    loop {
        let place = next.fetch_add(1, Ordering::SeqCst);
        if place >= count {
            return;
        }
        let verdict = quorate_sim::run(first + place, &shape.simulation(first + place));
        // Nobody listens any more: the run as a whole has ended.
        if verdicts.send(verdict).is_err() {
            return;
        }
    }
}

/// Adds up the verdicts as they come, up to the first failure.
fn collect(
    verdicts: &mpsc::Receiver<Result<Report, Box<Failure>>>,
    count: u64,
) -> Result<Totals, Box<Failure>> {
    let progress = progress_bar(count);
    let mut totals = Totals::default();
    for verdict in verdicts {
        totals.add(&verdict?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(totals)
}

fn describe(failure: &Failure) -> String {
    format!(
        "seed {} fails at {}: {}: {}",
        failure.seed, failure.time, failure.invariant, failure.detail
    )
}

fn progress_bar(seeds: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds {eta}")
        .expect("the template is a constant that parses");
    ProgressBar::new(seeds).with_style(style)
}

/// How much of what happened is shown of a run that fails, if not all was asked for.
const LAST_LINES: usize = 30;
/// So many seeds must reach every mark.
const SEEDS_FOR_ALL_MARKS: u64 = 2_000;
