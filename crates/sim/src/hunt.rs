//! Looks for a seed that finds a deliberate bug (crate `quorate-mutants`).
//!
//! - A seed finds a bug if its run fails with the bug switched on and not without.
//! - Every bug is looked for among the same seeds, in order, with the same options: nothing is made
//!   easy for the simulator.

use quorate_mutants::{Mutant, Switch};

use crate::profile::Options;
use crate::run::{Failure, Report, run};

/// What one seed said of a bug.
#[derive(Debug)]
pub enum Verdict {
    /// It found the bug.
    Caught(Box<Failure>),
    /// It saw nothing wrong.
    Missed(Box<Report>),
    /// It fails without any bug switched on: it is the code or the simulator that is wrong.
    Unsound(Box<Failure>),
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
