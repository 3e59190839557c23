//! What was complained of, so that the log says it once and then at most once a minute.
//!
//! - A reason counts for each peer on its own. Whoever is no peer shares one account.
//! - Bounded: strangers who vary their words cannot fill the memory, only be passed over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quorate_raft::NodeId;

#[derive(Default)]
pub(super) struct Complaints(Mutex<BTreeMap<(Option<NodeId>, String), Instant>>);

impl Complaints {
    /// Whether it is time to log this; if so, it counts as logged.
    pub(super) fn is_due(&self, peer: Option<NodeId>, reason: &str, now: Instant) -> bool {
        let mut logged = self.0.lock();
        logged.retain(|_, at| now.saturating_duration_since(*at) < PERIOD);
        let key = (peer, reason.to_owned());
        if logged.contains_key(&key) || logged.len() >= MAX_REASONS {
            return false;
        }
        logged.insert(key, now);
        true
    }
}

/// How long a reason is not repeated.
pub(super) const PERIOD: Duration = Duration::from_secs(60);
const MAX_REASONS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_a_minute_for_each_peer() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let due = |peer, reason, after| {
            complaints.is_due(Some(NodeId(peer)), reason, start + Duration::from_secs(after))
        };
        assert!(due(1, "down", 0));
        assert!(!due(1, "down", 59));
        assert!(due(2, "down", 59) && due(1, "refused", 59));
        assert!(due(1, "down", 60));
        assert!(!due(1, "down", 61));
    }

    #[test]
    fn strangers_cannot_fill_the_memory() {
        let complaints = Complaints::default();
        let now = Instant::now();
        let told = (0..1000).filter(|n| complaints.is_due(None, &n.to_string(), now));
        assert_eq!(told.count(), MAX_REASONS);
    }
}
