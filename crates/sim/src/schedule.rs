//! Virtual time, and what is going to happen in it.
//!
//! - Time only moves by taking the next thing from the [`Schedule`].
//! - Things of one moment happen in the order in which they were scheduled, so that a run has one order only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A moment, in microseconds since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// The start of a run.
    pub const START: Self = Self(0);

    /// How long ago `earlier` was; nothing if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        let micros =
            u64::try_from(span.as_micros()).expect("simulated spans are far below 2^64 microseconds");
        Self(self.0 + micros)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// What is going to happen, by time and then by the order of scheduling.
#[derive(Debug)]
pub(crate) struct Schedule<T> {
    now: Time,
    scheduled: u64,
    heap: BinaryHeap<Reverse<Item<T>>>,
}

#[derive(Debug)]
struct Item<T> {
    at: Time,
    seq: u64,
    what: T,
}

impl<T> Schedule<T> {
    /// Nothing is going to happen.
    pub(crate) fn new() -> Self {
        Self {
            now: Time::START,
            scheduled: 0,
            heap: BinaryHeap::new(),
        }
    }

    /// The moment of what was taken last.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// Lets `what` happen after `delay`.
    pub(crate) fn after(&mut self, delay: Duration, what: T) {
        self.scheduled += 1;
        self.heap.push(Reverse(Item {
            at: self.now + delay,
            seq: self.scheduled,
            what,
        }));
    }

    /// The next thing, and time moves to it.
    pub(crate) fn next(&mut self) -> Option<T> {
        let Reverse(item) = self.heap.pop()?;
        self.now = item.at;
        Some(item.what)
    }
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}

impl<T> Eq for Item<T> {}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Item<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_by_time_and_then_in_the_order_of_scheduling() {
        let mut schedule = Schedule::new();
        schedule.after(Duration::from_micros(5), "later");
        schedule.after(Duration::from_micros(2), "first");
        schedule.after(Duration::from_micros(2), "second");
        assert_eq!(schedule.next(), Some("first"));
        assert_eq!(schedule.now(), Time(2));
        schedule.after(Duration::ZERO, "third");
        assert_eq!(schedule.next(), Some("second"));
        assert_eq!(schedule.next(), Some("third"));
        assert_eq!(schedule.next(), Some("later"));
        assert_eq!(schedule.now(), Time(5));
        assert_eq!(schedule.next(), None);
    }
}
