//! The clocks of a simulated machine.
//!
//! - Its ticks, a timer's, may be late, early, or many at once.
//! - What leases go by drifts within the bound and does nothing else; the time of day can be set, and the
//!   monotonic clock stands still while the machine is suspended. That the three disagree is for the
//!   production code to notice.

use std::time::Duration;

use quorate::clock::ClockReading;

use crate::mutant::mutant;
use crate::profile::NodeProfile;
use crate::rng::Rng;
use crate::schedule::Time;

/// How fast a machine's clocks run, and what befell them.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// The time between two ticks, by this machine's own rate.
    tick: Duration,
    /// The time between two ticks of a machine without drift.
    nominal: Duration,
    /// Until then its ticks come fast and slow in turn.
    pub(crate) strobe_until: Time,
    /// For how long it was suspended, in all.
    suspended: Duration,
    /// What the time of day showed at the start of the run.
    day: Duration,
}

/// Which way the time of day is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Back,
}

impl Clock {
    /// A clock whose rate differs from any other's by no more than the profile allows.
    pub(crate) fn new(profile: &NodeProfile, rng: &mut Rng) -> Self {
        let slower =
            u32::try_from(rng.between(0, u64::from(profile.drift))).expect("a part of what was a u32");
        Self {
            tick: profile.tick - profile.tick * (profile.drift / 2) / 1_000_000
                + profile.tick * slower / 1_000_000,
            nominal: profile.tick,
            strobe_until: Time::START,
            suspended: Duration::ZERO,
            day: FIRST_DAY,
        }
    }

    /// The time to the next tick.
    pub(crate) fn next_tick(&self, now: Time, rng: &mut Rng) -> Duration {
        if now >= self.strobe_until {
            self.tick
        } else if rng.coin() {
            self.tick / STROBE
        } else {
            self.tick * STROBE
        }
    }

    /// What the clocks show.
    pub(crate) fn reading(&self, now: Time) -> ClockReading {
        let boot = scaled(now.since(Time::START), self.nominal, self.tick);
        ClockReading {
            monotonic: boot.saturating_sub(self.suspended),
            boot,
            real: boot + self.day,
        }
    }

    /// When the clock that leases go by, which shows `reading` at `now`, will show `until`.
    pub(crate) fn true_time(&self, now: Time, reading: ClockReading, until: Duration) -> Time {
        let shows = mutant!(M61, reading.real, reading.boot);
        let left = scaled(until.saturating_sub(shows), self.tick, self.nominal);
        // What a clock shows is rounded down, so that it may show the next microsecond at any time.
        now + left.saturating_sub(ROUNDING)
    }

    /// The machine is suspended for so long, by true time.
    pub(crate) fn suspend(&mut self, lasts: Duration) {
        self.suspended += lasts;
    }

    /// Somebody sets the time of day.
    pub(crate) fn set(&mut self, by: Duration, direction: Direction) {
        self.day = match direction {
            Direction::Forward => self.day + by,
            Direction::Back => self.day.saturating_sub(by),
        };
    }
}

/// `duration` times `dividend` by `divisor`, rounded down to a microsecond.
fn scaled(duration: Duration, dividend: Duration, divisor: Duration) -> Duration {
    let micros = duration.as_micros() * dividend.as_micros() / divisor.as_micros();
    Duration::from_micros(u64::try_from(micros).expect("a run is short"))
}

/// How many times too fast, or too slow, a clock that flickers runs.
const STROBE: u32 = 4;
/// The time of day at the start of a run: far more than it is ever set back.
const FIRST_DAY: Duration = Duration::from_secs(1_000_000);
const ROUNDING: Duration = Duration::from_micros(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Options, Profile};
    use crate::rng::Stream;

    /// No two machines that a profile allows are further apart than its leases allow for.
    #[test]
    fn clocks_keep_within_the_bound_of_the_leases() {
        let mut checked = 0;
        for seed in 0..400 {
            let profile = Profile::draw(seed, &Options::default()).node;
            let Some(bound) = profile.leases else { continue };
            checked += 1;
            let hour = |node| {
                let clock = Clock::new(&profile, &mut Rng::new(seed, Stream::Process(node)));
                clock.reading(Time(3_600_000_000)).boot.as_micros()
            };
            let hours: Vec<u128> = (1..=5).map(hour).collect();
            let (slow, fast) = (hours.iter().min(), hours.iter().max());
            let (slow, fast) = (slow.copied().unwrap_or(0), fast.copied().unwrap_or(0));
            assert!(
                fast * 1_000_000 <= slow * (1_000_000 + u128::from(bound.0)) + 1_000_000,
                "seed {seed}: {slow} to {fast}, bound {bound:?}"
            );
        }
        assert!(checked > 100, "leases were drawn {checked} times");
    }
}
