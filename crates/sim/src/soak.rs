//! Many runs on all cores.
//!
//! - Each run is one thread's and follows from its seed alone: how many threads there are changes
//!   nothing but the order in which verdicts come.
//! - Each thread takes the lowest seed that nobody has taken.
//! - What the runs must reach together is [`crate::Marks::check`].
//!
//! Left out: clocks. Whoever wants to know how fast it was looks at one outside.

use std::num::NonZeroUsize;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::profile::Options;
use crate::run::{Failure, Report, run};

/// What a run came to.
pub type Verdict = Result<Report, Box<Failure>>;

/// Runs `seeds` on as many threads as there are cores, each with what `options` makes of it.
///
/// Tells `each` the verdicts as they come, until there are no more or it breaks off: then no further
/// seed is begun.
pub fn soak(
    seeds: RangeInclusive<u64>,
    options: impl Fn(u64) -> Options + Sync,
    mut each: impl FnMut(Verdict) -> ControlFlow<()>,
) {
    let next = Next::new(&seeds);
    let (sender, verdicts) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            let (sender, next, options) = (sender.clone(), &next, &options);
            scope.spawn(move || {
                while let Some(seed) = next.take() {
                    // Nobody listens any more: the soak has been broken off.
                    if sender.send(run(seed, &options(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let broken_off = verdicts.into_iter().any(|verdict| each(verdict).is_break());
        if broken_off {
            next.end();
        }
    });
}

/// The seeds that nobody has taken.
struct Next {
    first: u64,
    /// How many seeds there are after the first.
    rest: u64,
    taken: AtomicU64,
}

impl Next {
    fn new(seeds: &RangeInclusive<u64>) -> Self {
        let (first, last) = (*seeds.start(), *seeds.end());
        assert!(
            first <= last,
            "there is no seed from {first} to {last}: ask for one at least"
        );
        Self {
            first,
            rest: last - first,
            taken: AtomicU64::new(0),
        }
    }

    fn take(&self) -> Option<u64> {
        let place = self.taken.fetch_add(1, Ordering::SeqCst);
        (place <= self.rest).then(|| self.first + place)
    }

    fn end(&self) {
        // Far above any number of seeds, and far below where counting further would begin anew.
        self.taken.fetch_max(u64::MAX / 2, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::profile::Kind;

    fn calm(_seed: u64) -> Options {
        Options {
            kind: Kind::Calm,
            duration: Duration::from_millis(300),
            ..Options::default()
        }
    }

    #[test]
    fn every_seed_is_run_once() {
        let mut seeds = Vec::new();
        soak(7..=12, calm, |verdict| {
            seeds.push(verdict.unwrap_or_else(|failure| panic!("{failure}")).seed);
            ControlFlow::Continue(())
        });
        assert_eq!(seeds.len(), 6);
        assert_eq!(seeds.into_iter().collect::<BTreeSet<_>>(), (7..=12).collect());
    }

    #[test]
    fn whoever_has_seen_enough_breaks_off() {
        let mut verdicts = 0;
        soak(0..=u64::MAX / 4, calm, |_| {
            verdicts += 1;
            ControlFlow::Break(())
        });
        assert_eq!(verdicts, 1);
    }
}
