//! Makes a failing run small: leaves out of it whatever it fails without.
//!
//! - A smaller run counts only if the same invariant breaks.
//! - First whole faults go, then time, nodes, clients and operations, then single incidents by delta
//!   debugging (Zeller and Hildebrandt 2002); and all of it again until nothing more goes.
//! - The number of runs is bounded: what is left then may not be the smallest, and still fails.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::fault::Fault;
use crate::incident::{Incident, Kept};
use crate::profile::{Options, Size};
use crate::run::{Failure, run_wired};
use crate::world::Wiring;

/// A failing run from which nothing more could be left out.
#[derive(Debug)]
pub struct Smallest {
    /// What it fails with.
    pub failure: Box<Failure>,
    /// How it is run.
    pub options: Options,
    /// How many runs it took.
    pub runs: u64,
}

struct Shrink<'a> {
    seed: u64,
    wiring: Wiring,
    best: Options,
    failure: Box<Failure>,
    runs: u64,
    most_runs: u64,
    progress: &'a mut dyn FnMut(&Failure, u64),
}

/// Shrinks the run of `seed`; none if it does not fail. Calls `progress` whenever it has become smaller,
/// with the number of runs so far.
pub fn shrink(
    seed: u64,
    options: &Options,
    most_runs: u64,
    progress: &mut dyn FnMut(&Failure, u64),
) -> Option<Smallest> {
    shrink_wired(seed, options, Wiring::Sound, most_runs, progress)
}

fn shrink_wired(
    seed: u64,
    options: &Options,
    wiring: Wiring,
    most_runs: u64,
    progress: &mut dyn FnMut(&Failure, u64),
) -> Option<Smallest> {
    let failure = run_wired(seed, options, wiring).err()?;
    let mut shrink = Shrink {
        seed,
        wiring,
        best: options.clone(),
        failure,
        runs: 1,
        most_runs,
        progress,
    };
    while shrink.round() {}
    Some(Smallest {
        failure: shrink.failure,
        options: shrink.best,
        runs: shrink.runs,
    })
}

impl Shrink<'_> {
    /// Tries everything once. True if anything could be left out.
    fn round(&mut self) -> bool {
        let before = self.best.clone();
        self.drop_faults();
        self.drop_time();
        self.drop_nodes();
        self.drop_clients();
        self.drop_incidents();
        self.drop_operations();
        is_smaller(&self.best, &before)
    }

    fn drop_faults(&mut self) {
        let faults: Vec<Fault> = self.failure.profile.faults.iter().copied().collect();
        for fault in faults {
            self.attempt(|options| {
                options.edits.without.insert(fault);
            });
        }
    }

    /// Faults need not last longer than until the failure, and perhaps not that long.
    fn drop_time(&mut self) {
        let until = Duration::from_secs(self.failure.time.0 / 1_000_000 + 1);
        if until < self.best.duration {
            self.attempt(|options| options.duration = until);
        }
        while self.best.duration > SECOND && self.attempt(|options| options.duration -= SECOND) {}
    }

    fn drop_nodes(&mut self) {
        for nodes in 1..self.failure.profile.nodes {
            if self.attempt(|options| options.size = Size::Exactly(nodes)) {
                return;
            }
        }
    }

    fn drop_clients(&mut self) {
        let client = &self.failure.profile.client;
        for clients in 0..client.clients.max(client.readers) {
            if self.attempt(|options| options.edits.clients = Some(clients)) {
                return;
            }
        }
    }

    /// Halves what may be asked for as long as that is enough to fail.
    fn drop_operations(&mut self) {
        let mut enough = self.best.edits.operations.unwrap_or(MOST_OPERATIONS);
        let mut too_few = 0;
        while too_few + 1 < enough && self.runs < self.most_runs {
            let middle = too_few + (enough - too_few) / 2;
            if self.attempt(|options| options.edits.operations = Some(middle)) {
                enough = middle;
            } else {
                too_few = middle;
            }
        }
    }

    /// Leaves out ever smaller parts of what went wrong (ddmin, complements only).
    fn drop_incidents(&mut self) {
        let mut kept: Vec<Incident> = self.failure.incidents.clone();
        let mut parts = 2;
        while !kept.is_empty() && self.runs < self.most_runs {
            let size = kept.len().div_ceil(parts);
            let smaller = (0..kept.len()).step_by(size).find_map(|from| {
                let part = from..(from + size).min(kept.len());
                let rest = kept.iter().enumerate().filter(|(place, _)| !part.contains(place));
                let rest: BTreeSet<Incident> = rest.map(|(_, incident)| *incident).collect();
                let fails = self.attempt(|options| options.edits.kept = Kept::Only(rest));
                fails.then(|| self.failure.incidents.clone())
            });
            match smaller {
                // What is left out may have kept others from happening: only what happened counts.
                Some(smaller) if smaller.len() < kept.len() => {
                    kept = smaller;
                    parts = 2.max(parts - 1);
                }
                Some(_) | None if size == 1 => return,
                Some(_) | None => parts = kept.len().min(parts * 2),
            }
        }
    }

    /// Runs with one thing less. Keeps it so if the same invariant breaks.
    fn attempt(&mut self, change: impl FnOnce(&mut Options)) -> bool {
        if self.runs >= self.most_runs {
            return false;
        }
        let mut options = self.best.clone();
        change(&mut options);
        if options.edits == self.best.edits
            && options.duration == self.best.duration
            && options.size == self.best.size
        {
            return false;
        }
        self.runs += 1;
        match run_wired(self.seed, &options, self.wiring) {
            Err(failure) if failure.invariant == self.failure.invariant => {
                (self.progress)(&failure, self.runs);
                self.failure = failure;
                self.best = options;
                true
            }
            Err(_) | Ok(_) => false,
        }
    }
}

fn is_smaller(now: &Options, before: &Options) -> bool {
    now.edits != before.edits || now.duration != before.duration || now.size != before.size
}

const SECOND: Duration = Duration::from_secs(1);
/// More than clients ask for in a run.
const MOST_OPERATIONS: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::Invariant;

    #[test]
    fn a_failing_run_shrinks_to_little_and_fails_the_same_when_run_so() {
        let wiring = Wiring::LyingDisk;
        let options = Options {
            duration: Duration::from_secs(4),
            ..Options::default()
        };
        let is_wanted = |seed: &u64| {
            let failure = run_wired(*seed, &options, wiring).err();
            failure.is_some_and(|failure| failure.invariant == Invariant::Recovery)
        };
        let seed = (0..40).find(is_wanted).expect("a disk that lies is found out");
        let smallest = shrink_wired(seed, &options, wiring, 300, &mut |_, _| {}).expect("it fails");
        let again = run_wired(seed, &smallest.options, wiring).expect_err("it fails the same");
        assert_eq!(again.hash, smallest.failure.hash);
        assert_eq!(again.invariant, Invariant::Recovery);
        assert!(again.incidents.len() <= 3, "{again}");
        assert!(smallest.runs <= 300);
    }
}
