//! Leases: a leader that a quorum has promised to stand by reads without asking (thesis §6.4.1).
//!
//! - Who hears a leader promises, by its own clock, to help nobody else be elected for a while. Who
//!   starts anew keeps the promise of its earlier life, whomever that was made to.
//! - A leader's lease runs from the moment when it *sent* the round of heartbeats that a quorum has
//!   answered, and for less than the promise, by as much as clocks may differ.
//! - It is given up before the leadership is handed over, and when the clock is in doubt; then only a
//!   round that is sent later brings it back. Once a successor was told to campaign none does: nothing
//!   takes that word back.
//!
//! Left out: reading the clock. [`crate::Input::Now`] says what it shows.

use std::collections::VecDeque;
use std::time::Duration;

use crate::mutant::mutant;
use crate::types::{Moment, NodeId, Round};

/// How fresh the state must be that a read is answered from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consistency {
    /// It has all that was acknowledged before the read: a quorum is asked (thesis §6.4).
    #[default]
    Linearizable,
    /// The same, as long as no clock runs wrong: a leader with a lease asks nobody. Others ask as above.
    Lease,
}

/// How leases are set up. All members must be set up alike: a leader counts on the promises of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leases {
    /// For how long whoever hears a leader helps nobody else. An election timeout, or leaders are
    /// replaced more slowly than they need to be.
    pub promise: Duration,
    /// By how much clocks may differ.
    pub drift: DriftBound,
}

/// By how much faster the clock of one node may run than that of another, in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriftBound(pub u32);

impl Leases {
    /// How long a lease lasts by its leader's clock, in microseconds: the promise must not end before it,
    /// though the voter's clock be the faster one.
    fn lasts(&self) -> u64 {
        let slow = MILLION + u128::from(self.drift.0);
        let shortened = self.promise.as_micros() * MILLION / slow;
        u64::try_from(shortened)
            .unwrap_or(u64::MAX)
            .saturating_sub(ROUNDING)
    }

    /// The end of a promise that is made at `now`.
    fn promised_until(&self, now: Moment) -> Moment {
        now.after(u64::try_from(self.promise.as_micros()).unwrap_or(u64::MAX))
    }
}

/// That a node helps nobody but a leader be elected, until its clock shows a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promised {
    /// The leader; none if it may be anybody: an earlier life may have promised, or this one before it read the clock.
    pub to: Option<NodeId>,
    /// When it ends; none if the clock was not read yet.
    pub until: Option<Moment>,
}

/// What a node's clock says, and what it owes a leader by it.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    leases: Option<Leases>,
    now: Option<Moment>,
    owed: Owed,
}

#[derive(Clone, Copy, Debug)]
enum Owed {
    Nothing,
    /// An earlier life may have promised, or this one before it read the clock: to whom and when is forgotten.
    ToSomebody {
        /// None before the clock was read.
        until: Option<Moment>,
    },
    ToLeader {
        leader: NodeId,
        until: Moment,
    },
}

/// Whether an earlier life of a node can have promised anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EarlierLife {
    /// Its disk knows no term: it has never answered a leader.
    None,
    Possible,
}

impl Promise {
    pub(crate) fn new(leases: Option<Leases>, earlier: EarlierLife) -> Self {
        let owed = match earlier {
            EarlierLife::Possible if !mutant!(M60) => Owed::ToSomebody { until: None },
            EarlierLife::Possible | EarlierLife::None => Owed::Nothing,
        };
        Self {
            leases,
            now: None,
            owed,
        }
    }

    /// What the clock showed last.
    pub(crate) fn now(&self) -> Option<Moment> {
        self.now
    }

    pub(crate) fn leases(&self) -> Option<&Leases> {
        self.leases.as_ref()
    }

    /// The clock shows `moment`; one that goes back is taken to stand still.
    pub(crate) fn on_now(&mut self, moment: Moment) {
        let now = self.now.map_or(moment, |now| now.max(moment));
        self.now = Some(now);
        if let (Owed::ToSomebody { until: until @ None }, Some(leases)) = (&mut self.owed, &self.leases) {
            *until = Some(leases.promised_until(now));
        }
    }

    /// `leader` is heard of: its lease may count on this node.
    pub(crate) fn make(&mut self, leader: NodeId) {
        self.owed = match (&self.leases, self.now) {
            (None, _) => return,
            (Some(leases), Some(now)) => Owed::ToLeader {
                leader,
                until: leases.promised_until(now),
            },
            // It ends a promise's length after the clock is read, which is no sooner than it should.
            (Some(_), None) => Owed::ToSomebody { until: None },
        };
    }

    /// What was promised, whether or not it has ended; none without leases.
    pub(crate) fn made(&self) -> Option<Promised> {
        self.leases.as_ref()?;
        match self.owed {
            Owed::Nothing => None,
            Owed::ToSomebody { until } => Some(Promised { to: None, until }),
            Owed::ToLeader { leader, until } => Some(Promised {
                to: Some(leader),
                until: Some(until),
            }),
        }
    }

    /// Whether this node has promised not to help `candidate`, which may be itself.
    pub(crate) fn forbids(&self, candidate: NodeId) -> bool {
        let holds = |until: Option<Moment>| until.is_none_or(|until| self.now.is_none_or(|now| now < until));
        match self.owed {
            _ if self.leases.is_none() => false,
            Owed::Nothing => false,
            Owed::ToSomebody { until } => holds(until),
            // One that asks for votes leads no more, and holds no lease.
            Owed::ToLeader { leader, until } => leader != candidate && holds(Some(until)),
        }
    }
}

/// A leader's lease, by its own clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lease {
    /// When the rounds were sent that no quorum has answered yet, in order.
    sent: VecDeque<(Round, Moment)>,
    /// When the latest round was sent that a quorum has answered.
    earned: Option<Moment>,
    /// Whether a successor was told to campaign, so that votes are given without regard to promises.
    forfeited: bool,
}

impl Lease {
    /// A round of heartbeats is about to be sent.
    pub(crate) fn on_round(&mut self, round: Round, now: Option<Moment>) {
        if let Some(now) = now {
            self.sent.push_back((round, now));
        }
        if self.sent.len() > MOST_ROUNDS {
            self.sent.pop_front();
        }
    }

    /// A quorum has answered all rounds up to `acked`; the clock shows `now`.
    pub(crate) fn on_acked(&mut self, acked: Round, now: Option<Moment>) {
        while let Some((_, sent)) = self.sent.pop_front_if(|(round, _)| *round <= acked) {
            // Thesis §6.4.1: the voters' promises may be as old as the round.
            self.earned = mutant!(M58, now, Some(sent));
        }
    }

    /// It is over, and what was sent until now brings it back no more.
    pub(crate) fn give_up(&mut self) {
        self.sent.clear();
        self.earned = None;
    }

    /// It is over for the rest of the term.
    pub(crate) fn forfeit(&mut self) {
        self.give_up();
        self.forfeited = true;
    }

    /// The end of it, if it has not ended.
    pub(crate) fn until(&self, promise: &Promise) -> Option<Moment> {
        let (leases, now) = (promise.leases()?, promise.now()?);
        let until = self.earned.filter(|_| !self.forfeited)?.after(leases.lasts());
        (now < until).then_some(until)
    }
}

const MILLION: u128 = 1_000_000;
/// Each reading of a clock is rounded down to a microsecond.
const ROUNDING: u64 = 2;
/// More rounds than are ever sent within a lease and not answered; what an older one earns has ended.
const MOST_ROUNDS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const LEASES: Leases = Leases {
        promise: Duration::from_micros(1_000),
        drift: DriftBound(250_000),
    };
    const LEADER: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);

    fn at(moment: u64) -> Promise {
        let mut promise = Promise::new(Some(LEASES), EarlierLife::None);
        promise.on_now(Moment(moment));
        promise
    }

    #[test]
    fn a_lease_is_shorter_than_the_promise_by_the_drift() {
        assert_eq!(LEASES.lasts(), 798);
        let endless = Leases {
            promise: Duration::MAX,
            ..LEASES
        };
        assert_eq!(endless.promised_until(Moment(7)), Moment(u64::MAX));
        assert!(endless.lasts() > u64::MAX - 10);
    }

    #[test]
    fn a_lease_runs_from_the_sending_and_ends() {
        let mut lease = Lease::default();
        lease.on_round(Round(1), Some(Moment(100)));
        lease.on_round(Round(2), Some(Moment(200)));
        assert_eq!(lease.until(&at(250)), None, "nobody has answered");
        lease.on_acked(Round(1), Some(Moment(250)));
        assert_eq!(lease.until(&at(250)), Some(Moment(898)));
        assert_eq!(lease.until(&at(897)), Some(Moment(898)));
        assert_eq!(lease.until(&at(898)), None);
    }

    #[test]
    fn a_lease_that_was_given_up_is_earned_by_later_rounds_only() {
        let mut lease = Lease::default();
        lease.on_round(Round(1), Some(Moment(100)));
        lease.give_up();
        lease.on_acked(Round(1), Some(Moment(150)));
        assert_eq!(lease.until(&at(150)), None);
        lease.on_round(Round(2), Some(Moment(200)));
        lease.on_acked(Round(2), Some(Moment(250)));
        assert_eq!(lease.until(&at(250)), Some(Moment(998)));
        lease.forfeit();
        lease.on_round(Round(3), Some(Moment(300)));
        lease.on_acked(Round(3), Some(Moment(350)));
        assert_eq!(
            lease.until(&at(350)),
            None,
            "a successor may campaign at any time"
        );
    }

    #[test]
    fn a_promise_binds_against_all_but_its_leader_until_it_ends() {
        let mut promise = at(100);
        assert!(!promise.forbids(OTHER));
        promise.make(LEADER);
        promise.on_now(Moment(1_099));
        assert!(promise.forbids(OTHER) && !promise.forbids(LEADER));
        promise.on_now(Moment(5));
        assert!(promise.forbids(OTHER), "a clock that goes back ends nothing");
        promise.on_now(Moment(1_100));
        assert!(!promise.forbids(OTHER));
    }

    #[test]
    fn a_leader_that_is_heard_before_the_clock_is_read_is_promised_something() {
        let mut promise = Promise::new(Some(LEASES), EarlierLife::None);
        promise.make(LEADER);
        assert!(promise.forbids(OTHER), "the answer counts for the leader's lease");
        promise.on_now(Moment(500));
        promise.on_now(Moment(1_499));
        assert!(promise.forbids(OTHER));
        promise.on_now(Moment(1_500));
        assert!(!promise.forbids(OTHER));
        let mut without = Promise::new(None, EarlierLife::None);
        without.make(LEADER);
        assert!(!without.forbids(OTHER));
    }

    #[test]
    fn an_earlier_life_is_bound_against_all_from_when_the_clock_is_read() {
        let mut promise = Promise::new(Some(LEASES), EarlierLife::Possible);
        assert!(promise.forbids(LEADER) && promise.forbids(OTHER));
        promise.on_now(Moment(500));
        promise.on_now(Moment(1_499));
        assert!(promise.forbids(LEADER));
        promise.on_now(Moment(1_500));
        assert!(!promise.forbids(LEADER));
        let without = Promise::new(None, EarlierLife::Possible);
        assert!(!without.forbids(OTHER));
    }
}
