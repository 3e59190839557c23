//! The clock that leases go by: one that goes on while the machine is suspended, held against the others.
//!
//! - What it shows never goes back and does not follow a clock that somebody sets.
//! - It is in doubt when the machine's clocks disagree about how much time has passed: one of them stood
//!   still, or was set.
//!
//! Left out: reading clocks, but for [`ClockReading::now`]; a simulator has its own.

use std::time::{Duration, Instant, SystemTime};

use quorate_raft::Moment;

use crate::mutant::mutant;

/// What the clocks of a machine show at one moment, each since some moment of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Never set. Stands still while the machine is suspended.
    pub monotonic: Duration,
    /// Never set. Goes on while the machine is suspended, if the system has such a clock; else `monotonic`.
    pub boot: Duration,
    /// The time of day: set by people and by time servers.
    pub real: Duration,
}

/// Whether a clock may have stood still since it was read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// All clocks agree.
    Steady,
    /// They disagree.
    InDoubt,
}

/// The clock of one node.
#[derive(Clone, Debug, Default)]
pub struct LeaseClock {
    /// By how many microseconds `boot` and `real` are ahead of `monotonic`, as of when the clocks last began to agree.
    ahead: Option<(i128, i128)>,
}

impl LeaseClock {
    /// What the clock shows, and whether it can be trusted to have gone on since the last reading.
    pub fn read(&mut self, reading: ClockReading) -> (Moment, Trust) {
        let moment = Moment(micros(mutant!(M61, reading.real, reading.boot)));
        if mutant!(M61) {
            return (moment, Trust::Steady);
        }
        let ahead = (
            difference(reading.boot, reading.monotonic),
            difference(reading.real, reading.monotonic),
        );
        // Against when they last agreed, not the last reading: many small steps are one large one.
        let before = *self.ahead.get_or_insert(ahead);
        let agrees = |a: i128, b: i128| a.abs_diff(b) <= TOLERANCE.as_micros();
        if agrees(ahead.0, before.0) && agrees(ahead.1, before.1) {
            return (moment, Trust::Steady);
        }
        self.ahead = Some(ahead);
        (moment, Trust::InDoubt)
    }
}

impl ClockReading {
    /// What this machine's clocks show.
    pub(crate) fn now(since: Instant) -> Self {
        let monotonic = since.elapsed();
        let real = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            monotonic,
            boot: boot_time().unwrap_or(monotonic),
            // A machine that takes this for the time before 1970 has a clock that is set later.
            real: real.unwrap_or_default(),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn boot_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (
        u64::try_from(time.tv_sec).ok()?,
        u32::try_from(time.tv_nsec).ok()?,
    );
    Some(Duration::new(seconds, nanos))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn boot_time() -> Option<Duration> {
    None
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// In microseconds, of two durations that clocks show.
fn difference(a: Duration, b: Duration) -> i128 {
    i128::from(micros(a)) - i128::from(micros(b))
}

/// How far apart the clocks may seem because they are read one after the other.
const TOLERANCE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(monotonic: u64, boot: u64, real: u64) -> ClockReading {
        let [monotonic, boot, real] = [monotonic, boot, real].map(Duration::from_millis);
        ClockReading {
            monotonic,
            boot,
            real,
        }
    }

    #[test]
    fn clocks_that_go_on_together_are_trusted() {
        let mut clock = LeaseClock::default();
        assert_eq!(clock.read(at(5, 100, 9_000)), (Moment(100_000), Trust::Steady));
        assert_eq!(clock.read(at(15, 110, 9_011)), (Moment(110_000), Trust::Steady));
        assert_eq!(clock.read(at(9_015, 9_110, 18_010)).1, Trust::Steady);
    }

    #[test]
    fn a_suspended_machine_is_noticed_once_and_its_time_counts() {
        let mut clock = LeaseClock::default();
        clock.read(at(5, 100, 9_000));
        let after = clock.read(at(6, 5_101, 14_001));
        assert_eq!(after, (Moment(5_101_000), Trust::InDoubt));
        assert_eq!(clock.read(at(7, 5_102, 14_002)).1, Trust::Steady);
    }

    #[test]
    fn a_time_of_day_that_is_set_is_noticed_and_not_followed() {
        let mut clock = LeaseClock::default();
        clock.read(at(5, 100, 9_000));
        assert_eq!(clock.read(at(6, 101, 2_000)), (Moment(101_000), Trust::InDoubt));
        assert_eq!(
            clock.read(at(7, 102, 2_021)),
            (Moment(102_000), Trust::InDoubt),
            "forward too"
        );
    }

    #[test]
    fn many_small_steps_are_noticed_in_the_end() {
        let mut clock = LeaseClock::default();
        let trusts: Vec<Trust> = (0..8)
            .map(|step| clock.read(at(100 + step, 100 + 4 * step, 100 + 4 * step)).1)
            .collect();
        assert_eq!(trusts.iter().filter(|trust| **trust == Trust::InDoubt).count(), 1);
    }

    #[test]
    fn this_machine_has_clocks_that_agree() {
        let since = Instant::now();
        let mut clock = LeaseClock::default();
        let (first, _) = clock.read(ClockReading::now(since));
        std::thread::sleep(Duration::from_millis(2));
        let (second, _) = clock.read(ClockReading::now(since));
        assert!(second >= first.after(2_000), "{first} {second}");
    }
}
