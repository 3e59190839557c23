//! Many seeds, on all cores.

use super::shape::Shape;
use super::{Output, describe};
use crate::output;
use anyhow::{anyhow, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use quorate_sim::{Failure, Fault, Marks, Report, Time, soak};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// The seeds to run.
pub(super) struct Seeds {
    pub(super) first: u64,
    pub(super) count: u64,
}

/// What all runs came to.
#[derive(Default)]
struct Totals {
    seeds: u64,
    events: u64,
    virtual_time: Duration,
    answered: u64,
    faults: BTreeMap<Fault, u64>,
    marks: Marks,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.events += report.events;
        self.virtual_time += report.time.since(Time::START);
        self.answered += report.operations.answered;
        for (fault, count) in &report.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        self.marks.add(&report.marks);
    }

    fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    fn marks_reached(&self) -> usize {
        self.marks.iter().filter(|(_, count)| *count > 0).count()
    }

    /// How far the runs have come, in a line.
    fn progress(&self, took: Duration) -> String {
        format!(
            "{:.0} s of virtual time, {:.0} events/s, {} faults, {} marks",
            self.virtual_time.as_secs_f64(),
            self.events as f64 / took.as_secs_f64(),
            self.faults(),
            self.marks_reached(),
        )
    }

    fn text(&self, first: u64, took: Duration) -> String {
        let seconds = took.as_secs_f64();
        let noun = if self.seeds == 1 { "seed" } else { "seeds" };
        let simulated = self.virtual_time.as_secs_f64();
        let faults = self
            .faults
            .iter()
            .map(|(fault, count)| format!("{fault} {count}"));
        let marks = self.marks.iter().map(|(mark, count)| format!("{mark} {count}"));
        format!(
            "{} {noun} from {first}: nothing wrong. {simulated:.0} s of virtual time ({:.0} a second), {} events \
             ({:.0} a second), {} operations answered, {} faults, in {seconds:.1} s\nfaults: {}\nmarks: {}\n",
            self.seeds,
            simulated / seconds,
            self.events,
            self.events as f64 / seconds,
            self.answered,
            self.faults(),
            faults.collect::<Vec<_>>().join(", "),
            marks.collect::<Vec<_>>().join(", "),
        )
    }

    fn json(&self, first: u64, took: Duration) -> Value {
        let faults = self
            .faults
            .iter()
            .map(|(fault, count)| (fault.to_string(), json!(count)));
        let marks = self
            .marks
            .iter()
            .map(|(mark, count)| (mark.to_string(), json!(count)));
        json!({
            "first_seed": first,
            "seeds": self.seeds,
            "virtual_seconds": self.virtual_time.as_secs_f64(),
            "events": self.events,
            "answered": self.answered,
            "seconds": took.as_secs_f64(),
            "faults": faults.collect::<Map<_, _>>(),
            "marks": marks.collect::<Map<_, _>>(),
        })
    }
}

/// Runs the seeds on all cores, lowest first.
pub(super) fn run(seeds: &Seeds, shape: &Shape, format: Output) -> anyhow::Result<()> {
    let Seeds { first, count } = *seeds;
    ensure!(
        first.checked_add(count - 1).is_some(),
        "--seed {first} leaves no room for {count} seeds: the last seed can be {} at most",
        u64::MAX,
    );
    let started = Instant::now();
    let totals = collect(seeds, shape).map_err(|failure| failed(&failure, format))?;
    let took = started.elapsed();
    output::print(&match format {
        Output::Text => totals.text(first, took),
        Output::Json => format!("{}\n", totals.json(first, took)),
    })?;
    if shape.is_unrestricted() {
        totals.marks.check(totals.seeds)?;
    }
    Ok(())
}

/// Says what is wrong with a seed, and how to see it again and make it small.
fn failed(failure: &Failure, format: Output) -> anyhow::Error {
    let replay = &failure.replay;
    if format == Output::Json {
        // What cannot be printed is said by the error all the same.
        let _ = output::print(&format!(
            "{}\n",
            json!({
                "seed": failure.seed,
                "invariant": failure.invariant.to_string(),
                "detail": failure.detail,
                "virtual_seconds": failure.time.since(Time::START).as_secs_f64(),
                "replay": replay,
            })
        ));
    }
    let shrink = replay.replacen("replay", "shrink", 1);
    anyhow!(
        "{}; replay it: {replay} --trace; make it small: {shrink}",
        describe(failure)
    )
}

/// Adds up the verdicts as they come, up to the first failure.
fn collect(seeds: &Seeds, shape: &Shape) -> Result<Totals, Box<Failure>> {
    let Seeds { first, count } = *seeds;
    let started = Instant::now();
    let mut progress = Progress::new(count);
    let mut totals = Totals::default();
    let mut failure = None;
    soak(
        first..=first + (count - 1),
        |seed| shape.simulation(seed),
        |verdict| {
            match verdict {
                Ok(report) => totals.add(&report),
                Err(found) => {
                    failure = Some(found);
                    return ControlFlow::Break(());
                }
            }
            progress.advance(&totals, started.elapsed());
            ControlFlow::Continue(())
        },
    );
    progress.end();
    failure.map_or(Ok(totals), Err)
}

/// How far the seeds are, on standard error: a bar on a terminal, a line now and then in a file.
enum Progress {
    Bar(ProgressBar),
    Lines { seeds: u64, told: Duration },
}

impl Progress {
    fn new(seeds: u64) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines {
                seeds,
                told: Duration::ZERO,
            };
        }
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds {eta} {msg}")
            .expect("the template is a constant that parses");
        Self::Bar(ProgressBar::new(seeds).with_style(style))
    }

    fn advance(&mut self, totals: &Totals, elapsed: Duration) {
        match self {
            Self::Bar(bar) => {
                bar.inc(1);
                if totals.seeds.is_multiple_of(SEEDS_PER_MESSAGE) {
                    bar.set_message(totals.progress(elapsed));
                }
            }
            Self::Lines { seeds, told } if elapsed >= *told + BETWEEN_LINES => {
                *told = elapsed;
                // Who does not listen is told nothing.
                let _ = writeln!(
                    io::stderr(),
                    "{} of {seeds} seeds, {}",
                    totals.seeds,
                    totals.progress(elapsed)
                );
            }
            Self::Lines { .. } => {}
        }
    }

    fn end(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

const SEEDS_PER_MESSAGE: u64 = 10;
const BETWEEN_LINES: Duration = Duration::from_secs(10);
