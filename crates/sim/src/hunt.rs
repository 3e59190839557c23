//! Looks for a seed that finds a deliberate bug (crate `quorate-mutants`).
//!
//! - A seed finds a bug if its run fails with the bug switched on and not without.
//! - Every bug is looked for among the same seeds, in order, with the same options, all kinds of run
//!   taking turns: nothing is made easy for the simulator.

use std::ops::Range;
use std::time::Duration;

use quorate_mutants::{Mutant, Switch};

use crate::profile::{Kind, Options};
use crate::run::{Failure, Report, run};
use crate::schedule::Time;

/// What became of the search for a bug.
#[derive(Debug)]
pub struct Hunt {
    /// The bug.
    pub mutant: Mutant,
    /// How many seeds were tried.
    pub seeds: u64,
    /// How long their runs were in virtual time, all together.
    pub time: Duration,
    /// What the seed that found it says; none if no seed has.
    pub caught: Option<Box<Failure>>,
    /// What is wrong without any bug switched on: the code or the simulator.
    pub unsound: Vec<Box<Failure>>,
}

/// What one seed said of a bug.
#[derive(Debug)]
pub enum Verdict {
    /// It found the bug.
    Caught(Box<Failure>),
    /// It saw nothing wrong.
    Missed(Box<Report>),
    /// It fails without any bug switched on.
    Unsound(Box<Failure>),
}

/// Tries `seeds` until one finds `mutant`.
#[must_use]
pub fn hunt(mutant: Mutant, seeds: Range<u64>) -> Hunt {
    let mut hunt = Hunt {
        mutant,
        seeds: 0,
        time: Duration::ZERO,
        caught: None,
        unsound: Vec::new(),
    };
    for seed in seeds {
        hunt.seeds += 1;
        match try_seed(mutant, seed, &options(seed)) {
            Verdict::Missed(report) => hunt.time += report.time.since(Time::START),
            Verdict::Unsound(failure) => hunt.unsound.push(failure),
            Verdict::Caught(failure) => {
                hunt.time += failure.time.since(Time::START);
                hunt.caught = Some(failure);
                break;
            }
        }
    }
    hunt
}

/// Runs `seed` with `mutant` switched on; if that fails, also without.
#[must_use]
pub fn try_seed(mutant: Mutant, seed: u64, options: &Options) -> Verdict {
    let with_bug = {
        let _switch = Switch::on(mutant);
        run(seed, options)
    };
    match with_bug {
        Ok(report) => Verdict::Missed(Box::new(report)),
        Err(failure) => match run(seed, options) {
            Ok(_) => Verdict::Caught(failure),
            Err(unsound) => Verdict::Unsound(unsound),
        },
    }
}

/// A run as `quorate sim run` makes it.
fn options(seed: u64) -> Options {
    Options {
        kind: Kind::of_seed(seed),
        ..Options::default()
    }
}
