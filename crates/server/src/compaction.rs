//! Compaction of the history by itself: etcd's `--auto-compaction-mode` and `--auto-compaction-retention`.
//!
//! - Every member notes how the revision grows; the leader alone compacts.
//! - What is younger than the retention is never compacted, nor is anything that this member has not seen grow old:
//!   after a restart, it has to watch for as long as is to be kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use quorate_kv::{Caller, Command, Revision};

use crate::flag::raised;
use crate::node::Node;

/// How much of the history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// What is younger than this.
    Periodic(Duration),
    /// So many revisions.
    Revisions(u64),
}

/// Compacts, until the server stops.
pub(crate) async fn compact(node: Arc<Node>, policy: AutoCompaction) {
    let mut stop = node.stop();
    let mut schedule = Schedule::new(policy);
    loop {
        tokio::select! {
            () = tokio::time::sleep(schedule.pause()) => {}
            () = raised(&mut stop) => return,
        }
        let shared = node.shared();
        let Some(revision) = schedule.due(shared.now(), shared.revision()) else {
            continue;
        };
        if !node.is_leader() {
            continue;
        }
        match node.propose(Caller::Member, Command::Compact { revision }).await {
            Ok(_) => tracing::info!(revision = revision.0, "the history was compacted by itself"),
            Err(status) => {
                let error = status.message();
                tracing::info!(revision = revision.0, %error, "the history was not compacted");
            }
        }
    }
}

/// When to compact, and up to where. Times are since some start, the same one for all calls.
struct Schedule {
    policy: AutoCompaction,
    /// When the revision was first seen to be at least this; oldest first.
    seen: VecDeque<(Duration, Revision)>,
    /// What was last compacted.
    done: Revision,
    last: Option<Duration>,
}

impl Schedule {
    fn new(policy: AutoCompaction) -> Schedule {
        Schedule {
            policy,
            seen: VecDeque::new(),
            done: Revision(0),
            last: None,
        }
    }

    /// How long to wait before the next look.
    fn pause(&self) -> Duration {
        match self.policy {
            AutoCompaction::Periodic(kept) => (kept / SAMPLES).clamp(MIN_PAUSE, LOOK),
            AutoCompaction::Revisions(_) => LOOK,
        }
    }

    /// The revision up to which the history is to be compacted, if it is time to.
    fn due(&mut self, now: Duration, revision: Revision) -> Option<Revision> {
        let target = match self.policy {
            AutoCompaction::Revisions(kept) => {
                let kept = i64::try_from(kept).unwrap_or(i64::MAX);
                Revision(revision.0.saturating_sub(kept))
            }
            AutoCompaction::Periodic(kept) => {
                self.seen.push_back((now, revision));
                let mut old = Revision(0);
                while let Some((at, revision)) = self.seen.front().copied()
                    && now.saturating_sub(at) >= kept
                {
                    old = revision;
                    self.seen.pop_front();
                }
                let interval = kept.min(MAX_INTERVAL);
                let is_early = self.last.is_some_and(|last| now.saturating_sub(last) < interval);
                if is_early && old.0 > 0 {
                    // It is old enough, and has to wait for its turn.
                    self.seen.push_front((now.saturating_sub(kept), old));
                    return None;
                }
                old
            }
        };
        if target.0 <= self.done.0.max(0) {
            return None;
        }
        (self.done, self.last) = (target, Some(now));
        Some(target)
    }
}

/// How many looks there are within what is kept.
const SAMPLES: u32 = 10;
const MIN_PAUSE: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_secs(60);
/// As in etcd: once an hour, however much is kept.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn due(schedule: &mut Schedule, seconds: u64, revision: i64) -> Option<i64> {
        let due = schedule.due(Duration::from_secs(seconds), Revision(revision));
        due.map(|revision| revision.0)
    }

    #[test]
    fn what_is_older_than_the_retention_goes_once_an_hour() {
        let mut schedule = Schedule::new(AutoCompaction::Periodic(Duration::from_secs(2 * HOUR)));
        let mut compacted = Vec::new();
        // A revision a minute, looked at each minute, for five hours.
        for minute in 0..=300 {
            if let Some(revision) = due(&mut schedule, minute * 60, 1 + i64::try_from(minute).unwrap()) {
                compacted.push((minute, revision));
            }
        }
        assert_eq!(compacted, [(120, 1), (180, 61), (240, 121), (300, 181)]);
    }

    #[test]
    fn a_short_retention_is_its_own_interval() {
        let mut schedule = Schedule::new(AutoCompaction::Periodic(Duration::from_secs(10)));
        let compacted: Vec<_> = (0..=30)
            .filter_map(|second| due(&mut schedule, second, 1 + i64::try_from(second).unwrap()))
            .collect();
        assert_eq!(compacted, [1, 11, 21]);
        assert_eq!(schedule.pause(), Duration::from_secs(1));
    }

    #[test]
    fn a_number_of_revisions_is_kept() {
        let mut schedule = Schedule::new(AutoCompaction::Revisions(100));
        assert_eq!(due(&mut schedule, 0, 50), None);
        assert_eq!(due(&mut schedule, 60, 350), Some(250));
        assert_eq!(due(&mut schedule, 120, 350), None, "nothing has come since");
        assert_eq!(due(&mut schedule, 180, 351), Some(251));
    }
}
