//! A run from its seed to its verdict.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::clients::Counts;
use crate::digest::Digest;
use crate::fault::Fault;
use crate::incident::Incident;
use crate::invariant::{Invariant, Violation};
use crate::linearizable;
use crate::marks::Marks;
use crate::profile::{Options, Profile, Size};
use crate::schedule::Time;
use crate::spec_trace::SpecTrace;
use crate::world::{Wiring, World};

/// What a run that found nothing wrong came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What the seed made of the options.
    pub profile: Box<Profile>,
    /// How long the run was, in virtual time.
    pub time: Time,
    /// How many events there were.
    pub events: u64,
    /// How often each fault happened.
    pub faults: BTreeMap<Fault, u64>,
    /// How often each mark was reached.
    pub marks: Marks,
    /// How the clients' operations ended.
    pub operations: Counts,
    /// The hash over all events: equal for two runs of one seed.
    pub hash: Digest,
    /// The last lines of what happened, as many as were asked for.
    pub lines: Vec<String>,
}

/// What a run found wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What the seed made of the options.
    pub profile: Box<Profile>,
    /// What does not hold.
    pub invariant: Invariant,
    /// How.
    pub detail: String,
    /// When it was found, in virtual time.
    pub time: Time,
    /// The hash over all events up to then.
    pub hash: Digest,
    /// Everything that went wrong up to then.
    pub incidents: Vec<Incident>,
    /// The last lines of what happened, as many as were asked for.
    pub lines: Vec<String>,
    /// The command that does it again.
    pub replay: String,
}

/// Runs a cluster from `seed`: faults first, then healing, then a look at what clients saw.
///
/// # Errors
/// When something does not hold that must.
pub fn run(seed: u64, options: &Options) -> Result<Report, Box<Failure>> {
    run_wired(seed, options, Wiring::Sound)
}

/// Runs `seed` and returns up to `most_lines` lines of it as the TLA+ module `Run`, for the specification.
///
/// The run is another one than [`run`] makes of the seed: each input is a step of its own, and there
/// are no snapshots.
///
/// # Errors
/// When something does not hold that must.
pub fn spec_trace(seed: u64, options: &Options, most_lines: usize) -> Result<String, Box<Failure>> {
    let mut world = World::new(seed, options, Wiring::Sound);
    world.record_for_spec(most_lines);
    run_world(&mut world, seed, options)?;
    Ok(world.spec_trace().map(SpecTrace::module).unwrap_or_default())
}

/// Runs a cluster that is put together as `wiring` says.
pub(crate) fn run_wired(seed: u64, options: &Options, wiring: Wiring) -> Result<Report, Box<Failure>> {
    run_world(&mut World::new(seed, options, wiring), seed, options)
}

fn run_world(world: &mut World, seed: u64, options: &Options) -> Result<Report, Box<Failure>> {
    // An assertion that fails in the code under test is a finding like any other: it needs its seed.
    let ran = catch_unwind(AssertUnwindSafe(|| world.run(options.duration)));
    let verdict = match ran {
        Ok(verdict) => verdict.and_then(|()| check_history(world)),
        Err(panic) => Err(Violation {
            invariant: Invariant::Assertion,
            detail: message_of(panic.as_ref()),
        }),
    };
    let lines = world.trace().lines().map(str::to_owned).collect();
    match verdict {
        Ok(()) => Ok(Report {
            seed,
            profile: Box::new(world.profile().clone()),
            time: world.now(),
            events: world.trace().events(),
            faults: world.faults(),
            marks: world.marks().clone(),
            operations: world.clients().counts(),
            hash: world.trace().hash(),
            lines,
        }),
        Err(Violation { invariant, detail }) => Err(Box::new(Failure {
            seed,
            profile: Box::new(world.profile().clone()),
            invariant,
            detail,
            time: world.now(),
            hash: world.trace().hash(),
            incidents: world.incidents(),
            lines,
            replay: replay(seed, options),
        })),
    }
}

fn check_history(world: &World) -> Result<(), Violation> {
    world.executions().check_answers(world.clients().history())?;
    linearizable::check(world.clients().history()).map_err(|error| Violation {
        invariant: Invariant::Linearizable,
        detail: error.to_string(),
    })
}

/// The command that runs `seed` again with the same options.
fn replay(seed: u64, options: &Options) -> String {
    let mut command = format!("quorate sim replay {seed} --profile {}", options.kind);
    if let Size::Exactly(nodes) = options.size {
        command += &format!(" --nodes {nodes}");
    }
    if options.duration != Options::default().duration {
        command += &format!(" --faults-for {}", options.duration.as_secs());
    }
    command + &options.edits.to_string()
}

pub(crate) fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            answered,
            unknown,
            refused,
        } = self.operations;
        writeln!(f, "seed {}: {}", self.seed, self.profile)?;
        writeln!(
            f,
            "  {} virtual, {} events, hash {}",
            self.time, self.events, self.hash
        )?;
        write!(
            f,
            "  operations: {answered} answered, {unknown} unknown, {refused} refused; faults:"
        )?;
        if self.faults.is_empty() {
            write!(f, " none")?;
        }
        self.faults
            .iter()
            .try_for_each(|(fault, count)| write!(f, " {fault} {count}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        writeln!(f, "seed {} fails at {}: {}", self.seed, self.time, self.invariant)?;
        writeln!(f, "  {}", self.detail)?;
        writeln!(f, "  {}", self.profile)?;
        write!(f, "replay it: {}", self.replay)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    //! The simulator proves that it notices: each wiring below is wrong in one way.

    use std::time::Duration;

    use super::*;
    use crate::profile::Kind;

    /// Tries seeds until one of them finds any of `wanted` broken.
    fn check_found(wiring: Wiring, options: &Options, wanted: &[Invariant]) {
        let mut found = Vec::new();
        for seed in 0..MOST_SEEDS {
            if let Err(failure) = run_wired(seed, options, wiring) {
                let command = format!("quorate sim replay {seed}");
                assert!(failure.to_string().contains(&command), "{failure}");
                found.push(failure.invariant);
            }
            if found.iter().any(|invariant| wanted.contains(invariant)) {
                return;
            }
        }
        panic!("{wiring:?} is wrong, and {MOST_SEEDS} seeds found only {found:?}");
    }

    fn short() -> Options {
        Options {
            duration: Duration::from_secs(6),
            ..Options::default()
        }
    }

    fn sized(nodes: u64) -> Options {
        Options {
            size: Size::Exactly(nodes),
            ..short()
        }
    }

    #[test]
    fn a_log_that_reports_before_it_syncs_is_found_out() {
        let wanted = [Invariant::DurableOnQuorum, Invariant::DurablePromise];
        check_found(Wiring::PersistedBeforeSync, &short(), &wanted);
    }

    #[test]
    fn a_disk_that_lies_about_its_syncs_is_found_out_after_a_crash() {
        check_found(Wiring::LyingDisk, &short(), &[Invariant::Recovery]);
    }

    #[test]
    fn a_state_machine_that_skips_entries_is_found_out() {
        let calm = Options {
            kind: Kind::Calm,
            ..sized(3)
        };
        check_found(Wiring::ForgetfulMachine, &calm, &[Invariant::EqualState]);
    }

    #[test]
    fn votes_that_count_more_than_once_are_found_out() {
        let wanted = [Invariant::ElectionSafety, Invariant::VotersOnly];
        check_found(Wiring::ForgedVotes, &sized(5), &wanted);
    }

    #[test]
    fn reads_that_ask_nobody_are_found_out_to_be_stale() {
        check_found(Wiring::StaleReads, &sized(3), &[Invariant::Linearizable]);
    }

    #[test]
    fn writes_that_are_repeated_after_an_unknown_outcome_are_found_out() {
        check_found(Wiring::RepeatedWrites, &sized(3), &[Invariant::OnceOnly]);
    }

    #[test]
    fn a_cluster_that_never_heals_is_found_out() {
        check_found(Wiring::EndlessFaults, &sized(3), &[Invariant::Progress]);
    }

    const MOST_SEEDS: u64 = 60;
}
