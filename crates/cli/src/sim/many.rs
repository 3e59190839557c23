//! Many seeds, on all cores.

use super::shape::{Choice, Shape};
use super::{Output, describe};
use crate::output;
use anyhow::{anyhow, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use quorate_sim::{Failure, Fault, Marks, Report, Time};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
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
    let next = AtomicU64::new(0);
    let (sender, verdicts) = mpsc::channel();
    let totals = thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || work(seeds, shape, next, &sender));
        }
        drop(sender);
        let totals = collect(&verdicts, count);
        // Whatever happened, no further seed is begun.
        next.store(count, Ordering::SeqCst);
        totals
    });
    let totals = totals.map_err(|failure| failed(&failure, format))?;
    let took = started.elapsed();
    output::print(&match format {
        Output::Text => totals.text(first, took),
        Output::Json => format!("{}\n", totals.json(first, took)),
    })?;
    check_marks(&totals, shape.profile)
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

/// Fails if something rare should have happened and did not.
fn check_marks(totals: &Totals, profile: Choice) -> anyhow::Result<()> {
    let missing: Vec<String> = totals.marks.missing().map(|mark| mark.to_string()).collect();
    let must_reach = totals.seeds >= SEEDS_FOR_ALL_MARKS && profile == Choice::All;
    ensure!(
        missing.is_empty() || !must_reach,
        "{} seeds never reached: {}; a simulator that does not get there proves nothing about it",
        totals.seeds,
        missing.join(", ")
    );
    Ok(())
}

/// Runs the next seed that nobody has taken, until none is left.
fn work(
    seeds: &Seeds,
    shape: &Shape,
    next: &AtomicU64,
    verdicts: &mpsc::Sender<Result<Report, Box<Failure>>>,
) {
    loop {
        let place = next.fetch_add(1, Ordering::SeqCst);
        if place >= seeds.count {
            return;
        }
        let seed = seeds.first + place;
        let verdict = quorate_sim::run(seed, &shape.simulation(seed));
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
    let started = Instant::now();
    let progress = progress_bar(count);
    let mut totals = Totals::default();
    for verdict in verdicts {
        totals.add(&verdict?);
        progress.inc(1);
        if totals.seeds.is_multiple_of(SEEDS_PER_MESSAGE) {
            progress.set_message(totals.progress(started.elapsed()));
        }
    }
    progress.finish_and_clear();
    Ok(totals)
}

fn progress_bar(seeds: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds {eta} {msg}")
        .expect("the template is a constant that parses");
    ProgressBar::new(seeds).with_style(style)
}

/// So many seeds must reach every mark.
const SEEDS_FOR_ALL_MARKS: u64 = 2_000;
const SEEDS_PER_MESSAGE: u64 = 10;
