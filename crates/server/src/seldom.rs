//! Telling the operator of what strangers can cause, without letting them fill the log.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Says at most once a second that something is to be told of.
pub(crate) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    pub(crate) fn new() -> Seldom {
        Seldom(Mutex::new(None))
    }

    /// Whether it is to be told of at this time.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let mut told = self.0.lock();
        let due = told.is_none_or(|at| now.saturating_duration_since(at) >= PAUSE);
        if due {
            *told = Some(now);
        }
        due
    }
}

const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_a_second() {
        let (seldom, now) = (Seldom::new(), Instant::now());
        let after = |millis| seldom.is_due(now + Duration::from_millis(millis));
        assert_eq!(
            [0, 1, 999, 1000, 1001, 3000].map(after),
            [true, false, false, true, false, true]
        );
    }
}
