//! Looks for many deliberate bugs, one on each core at a time.

use super::{Options, report};
use crate::output;
use crate::sim::Output;
use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use quorate_mutants::Mutant;
use quorate_sim::hunt::{Hunt, hunt};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A search that has ended, and how long it took.
pub(super) struct Ended {
    pub(super) hunt: Hunt,
    pub(super) took: Duration,
}

/// Looks for what was asked for, and prints what came of it.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let mutants = wanted(&options.only)?;
    let last = options.seed.checked_add(options.seeds.get());
    let last = last.with_context(|| format!("--seed {} leaves no room for so many seeds", options.seed))?;
    // A panic of the code under test is a finding like any other, and is part of the result.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let ended = hunt_all(&mutants, &(options.seed..last));
    std::panic::set_hook(hook);
    match options.output {
        Output::Text => output::print(&report::to_text(&ended))?,
        Output::Json => output::print(&format!("{}\n", report::to_json(&ended)))?,
    }
    verdict(&ended, options.seeds.get())
}

fn wanted(names: &[String]) -> anyhow::Result<Vec<Mutant>> {
    if names.is_empty() {
        return Ok(Mutant::ALL.to_vec());
    }
    let parsed = names.iter().map(|name| name.parse());
    Ok(parsed.collect::<Result<_, _>>()?)
}

/// Searches on all cores; the results come in the order of `mutants`.
fn hunt_all(mutants: &[Mutant], seeds: &Range<u64>) -> Vec<Ended> {
    let next = AtomicUsize::new(0);
    let progress = progress_bar(mutants.len() as u64);
    let (sender, ended) = mpsc::channel();
    let mut ended: Vec<Ended> = thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let started = Instant::now();
                    let hunt = hunt(*mutant, seeds.clone());
                    let took = started.elapsed();
                    // Nobody listens any more: the program ends.
                    let _ = sender.send(Ended { hunt, took });
                }
            });
        }
        drop(sender);
        ended.into_iter().inspect(|_| progress.inc(1)).collect()
    });
    progress.finish_and_clear();
    ended.sort_by_key(|ended| ended.hunt.mutant);
    ended
}

fn verdict(ended: &[Ended], seeds: u64) -> anyhow::Result<()> {
    let missed = ended.iter().filter(|ended| ended.hunt.caught.is_none());
    let missed: Vec<String> = missed.map(|ended| ended.hunt.mutant.to_string()).collect();
    ensure!(
        missed.is_empty(),
        "{seeds} seeds did not find {}; try more of them with --seeds, and if that does not help either, \
         the simulator is what is wrong",
        missed.join(", ")
    );
    let unsound = ended.iter().flat_map(|ended| &ended.hunt.unsound).next();
    ensure!(
        unsound.is_none(),
        "a seed fails without any deliberate bug; replay it: {}",
        unsound.map_or("", |failure| &failure.replay)
    );
    Ok(())
}

fn progress_bar(mutants: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} mutations {elapsed}")
        .expect("the template is a constant that parses");
    ProgressBar::new(mutants).with_style(style)
}
