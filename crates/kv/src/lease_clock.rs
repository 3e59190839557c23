//! When leases end. This is not replicated: every member keeps the time of all leases for itself, from the
//! commands it applies, so that whoever leads next knows every deadline at once.
//!
//! - A deadline is never earlier than the client may expect: time counts from when the grant or renewal is
//!   applied here, which is after the leader has decided it.
//! - Lease time stands still while no leader is known, because nobody can renew a lease then.
//! - The clock only proposes. The keyspace refuses to revoke a lease that was renewed in the meantime.
//! - A renewal costs O(log n). There is nothing to do when a leader is elected.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::{Lease, LeaseEpoch, LeaseEvent, LeaseId};

/// How long to wait for the revocation of a lease that was reported, before it is reported again.
const RETRY: Duration = Duration::from_secs(2);

/// The deadlines of all leases. `now` is the time since any fixed origin, and never goes back.
#[derive(Debug, Default)]
pub struct LeaseClock {
    leases: BTreeMap<LeaseId, Timer>,
    /// Every timer's `due`, in order.
    due: BTreeSet<(Duration, LeaseId)>,
    flow: Flow,
    /// How long lease time has stood still, all in all.
    lost: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    epoch: LeaseEpoch,
    /// In lease time.
    deadline: Duration,
    /// In lease time, when to report it: at the deadline, later once it was reported.
    due: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Flow {
    Running,
    Suspended { since: Duration },
}

impl Default for Flow {
    fn default() -> Self {
        Self::Suspended {
            since: Duration::ZERO,
        }
    }
}

impl LeaseClock {
    /// A clock without leases, that stands still until [`Self::resume`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of what happened to a lease.
    pub fn observe(&mut self, event: &LeaseEvent, now: Duration) {
        match *event {
            LeaseEvent::Started { id, ttl_secs, epoch } => self.start(id, ttl_secs, epoch, now),
            LeaseEvent::Ended { id } => self.remove(id),
        }
    }

    /// Forgets everything and gives these leases their full time: after a snapshot was restored.
    pub fn restart<'a>(&mut self, leases: impl Iterator<Item = (LeaseId, &'a Lease)>, now: Duration) {
        self.leases.clear();
        self.due.clear();
        for (id, lease) in leases {
            self.start(id, lease.ttl_secs, lease.epoch, now);
        }
    }

    /// Stops lease time: no leader is known.
    pub fn suspend(&mut self, now: Duration) {
        if let Flow::Running = self.flow {
            self.flow = Flow::Suspended { since: now };
        }
    }

    /// Lets lease time go on: there is a leader.
    pub fn resume(&mut self, now: Duration) {
        if let Flow::Suspended { since } = self.flow {
            self.lost += now.saturating_sub(since);
            self.flow = Flow::Running;
        }
    }

    /// Leases whose time is up, at most `max`, the most overdue first, each with the epoch to revoke it
    /// with. The same lease is reported again only after a while, or when it expires again. While lease
    /// time stands still there are none.
    pub fn expired(&mut self, now: Duration, max: usize) -> Vec<(LeaseId, LeaseEpoch)> {
        let Flow::Running = self.flow else {
            return Vec::new();
        };
        let time = self.lease_time(now);
        let ids: Vec<LeaseId> = self
            .due
            .iter()
            .take_while(|(due, _)| *due <= time)
            .take(max)
            .map(|(_, id)| *id)
            .collect();
        ids.into_iter().filter_map(|id| self.report(id, time)).collect()
    }

    /// How long a lease has to live: zero if its time is up, none if it is not known.
    #[must_use]
    pub fn remaining(&self, id: LeaseId, now: Duration) -> Option<Duration> {
        let timer = self.leases.get(&id)?;
        Some(timer.deadline.saturating_sub(self.lease_time(now)))
    }

    /// How many leases there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.leases.len()
    }

    /// All leases, the one to end first first.
    #[must_use]
    pub fn by_expiry(&self) -> Vec<LeaseId> {
        let mut leases: Vec<_> = self
            .leases
            .iter()
            .map(|(id, timer)| (timer.deadline, *id))
            .collect();
        leases.sort_unstable();
        leases.into_iter().map(|(_, id)| id).collect()
    }

    /// `now`, less the time that was lost.
    fn lease_time(&self, now: Duration) -> Duration {
        let now = match self.flow {
            Flow::Running => now,
            Flow::Suspended { since } => since,
        };
        now.saturating_sub(self.lost)
    }

    fn start(&mut self, id: LeaseId, ttl_secs: i64, epoch: LeaseEpoch, now: Duration) {
        self.remove(id);
        let ttl = Duration::from_secs(u64::try_from(ttl_secs).unwrap_or(0));
        let deadline = self.lease_time(now).saturating_add(ttl);
        self.insert(
            id,
            Timer {
                epoch,
                deadline,
                due: deadline,
            },
        );
    }

    fn report(&mut self, id: LeaseId, time: Duration) -> Option<(LeaseId, LeaseEpoch)> {
        let timer = *self.leases.get(&id)?;
        self.remove(id);
        self.insert(
            id,
            Timer {
                due: time.saturating_add(RETRY),
                ..timer
            },
        );
        Some((id, timer.epoch))
    }

    fn insert(&mut self, id: LeaseId, timer: Timer) {
        self.due.insert((timer.due, id));
        self.leases.insert(id, timer);
    }

    fn remove(&mut self, id: LeaseId) {
        if let Some(timer) = self.leases.remove(&id) {
            self.due.remove(&(timer.due, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn started(id: i64, ttl_secs: i64, epoch: u64) -> LeaseEvent {
        LeaseEvent::Started {
            id: LeaseId(id),
            ttl_secs,
            epoch: LeaseEpoch(epoch),
        }
    }

    fn running(events: &[LeaseEvent]) -> LeaseClock {
        let mut clock = LeaseClock::new();
        clock.resume(Duration::ZERO);
        events
            .iter()
            .for_each(|event| clock.observe(event, Duration::ZERO));
        clock
    }

    fn expired(clock: &mut LeaseClock, at: u64) -> Vec<(i64, u64)> {
        clock
            .expired(secs(at), 10)
            .into_iter()
            .map(|(id, epoch)| (id.0, epoch.0))
            .collect()
    }

    #[test]
    fn leases_expire_in_order_of_their_deadlines() {
        let mut clock = running(&[started(1, 7, 1), started(2, 5, 2), started(3, 100, 3)]);
        assert_eq!(expired(&mut clock, 4), []);
        assert_eq!(expired(&mut clock, 7), [(2, 2), (1, 1)]);
        assert_eq!(clock.remaining(LeaseId(3), secs(7)), Some(secs(93)));
        assert_eq!(clock.remaining(LeaseId(4), secs(7)), None);
    }

    #[test]
    fn a_renewal_begins_the_time_anew_in_a_new_epoch() {
        let mut clock = running(&[started(1, 5, 1)]);
        clock.observe(&started(1, 5, 2), secs(4));
        assert_eq!(expired(&mut clock, 8), []);
        assert_eq!(expired(&mut clock, 9), [(1, 2)]);
    }

    #[test]
    fn an_expired_lease_is_reported_again_until_it_is_revoked() {
        let mut clock = running(&[started(1, 5, 1)]);
        assert_eq!(expired(&mut clock, 5), [(1, 1)]);
        assert_eq!(expired(&mut clock, 6), []);
        assert_eq!(expired(&mut clock, 7), [(1, 1)]);
        clock.observe(&LeaseEvent::Ended { id: LeaseId(1) }, secs(8));
        assert_eq!(expired(&mut clock, 20), []);
    }

    #[test]
    fn time_without_a_leader_does_not_count() {
        let mut clock = running(&[started(1, 10, 1)]);
        clock.suspend(secs(4));
        assert_eq!(clock.remaining(LeaseId(1), secs(60)), Some(secs(6)));
        assert_eq!(expired(&mut clock, 60), []);
        clock.resume(secs(100));
        assert_eq!(expired(&mut clock, 105), []);
        assert_eq!(expired(&mut clock, 106), [(1, 1)]);
    }

    #[test]
    fn a_new_clock_stands_still() {
        let mut clock = LeaseClock::new();
        clock.observe(&started(1, 1, 1), secs(50));
        assert_eq!(expired(&mut clock, 60), []);
        clock.resume(secs(60));
        assert_eq!(clock.remaining(LeaseId(1), secs(60)), Some(secs(1)));
    }

    #[test]
    fn at_most_so_many_are_reported_at_once() {
        let mut clock = running(&[started(1, 1, 1), started(2, 2, 2), started(3, 3, 3)]);
        assert_eq!(clock.expired(secs(5), 2).len(), 2);
        assert_eq!(expired(&mut clock, 5), [(3, 3)]);
    }

    #[test]
    fn the_longest_ttl_does_not_overflow() {
        let mut clock = running(&[started(1, i64::MAX, 1)]);
        assert_eq!(expired(&mut clock, u64::MAX / 4), []);
    }
}
