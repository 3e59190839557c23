//! Who may serve reads without asking, who keeps what it promised, and who commits meanwhile (I13).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_raft::{Envelope, Event, Index, NodeId, Term};

use super::Safety;
use super::membership::is_quorum;
use crate::invariant::{Invariant, Violation, require};
use crate::schedule::Time;

/// The leases that leaders hold, by true time.
#[derive(Debug, Default)]
pub(super) struct Leases {
    now: Time,
    /// By its own clock a node serves reads without asking until then. A node that has died does not;
    /// what was promised to it is kept all the same.
    until: BTreeMap<NodeId, Time>,
    /// To whom nodes have promised to help nobody else, and until when; to anybody if to none.
    promised: BTreeMap<NodeId, Promised>,
    /// What the node that takes a step had promised before it, and still does as far as its events were looked at.
    bound: Option<Promised>,
    /// Who told a successor to campaign, in which term: those who are asked for votes then keep no promise.
    called: BTreeMap<NodeId, Term>,
    /// Who was told to campaign, in which terms it may.
    successors: BTreeSet<(Term, NodeId)>,
    /// Who asked for votes at a leader's wish, in which terms.
    transfers: BTreeSet<(Term, NodeId)>,
}

/// To whom, to anybody if to none, and until when by true time.
type Promised = (Option<NodeId>, Time);

impl Safety {
    /// At `now` a node may serve reads by a lease until then; none if it may not.
    pub(crate) fn holds_lease(&mut self, node: NodeId, now: Time, until: Option<Time>) {
        self.leases.now = now;
        match until {
            Some(until) => self.leases.until.insert(node, until),
            None => self.leases.until.remove(&node),
        };
    }

    /// What a node has promised last, after a step; none if nothing. What it promised before binds it in the step.
    pub(crate) fn promises(&mut self, node: NodeId, promised: Option<Promised>) {
        self.leases.bound = match promised {
            Some(promised) => self.leases.promised.insert(node, promised),
            None => self.leases.promised.remove(&node),
        };
    }

    /// The node that takes a step follows a leader: what it had promised to another binds it no more in this step, since
    /// that one has been replaced.
    pub(super) fn follows(&mut self, leader: NodeId) {
        self.leases.bound = self.leases.bound.filter(|(to, _)| *to == Some(leader));
    }

    /// A node starts, and its disk knows no term: no leader has had an answer that counts as a promise.
    pub(super) fn never_answered(&mut self, node: NodeId) {
        self.leases.promised.remove(&node);
    }

    pub(super) fn calls_successor(&mut self, call: &Envelope) {
        self.leases.called.insert(call.from, call.term);
        self.leases.successors.insert((call.term.next(), call.to));
    }

    pub(super) fn stands_for_leader(&mut self, node: NodeId, term: Term) {
        self.leases.transfers.insert((term, node));
    }

    /// A node helps nobody else be elected, itself included, as long as it has promised that; but at a leader's
    /// wish. A vote that it gave before it may give again.
    pub(super) fn check_promise_kept(&self, node: NodeId, event: &Event) -> Result<(), Violation> {
        let leases = &self.leases;
        let (candidate, is_free) = if let Event::VoteGranted { term, to } = event {
            let before = self.nodes.get(&node).map(|watched| watched.voted_before);
            let is_repeated = before.is_some_and(|before| before.term == *term && before.vote == Some(*to));
            (*to, is_repeated || leases.transfers.contains(&(*term, *to)))
        } else if let Event::BecameCandidate { term } = event {
            (node, leases.successors.contains(&(*term, node)))
        } else {
            return Ok(());
        };
        let binds = |(to, ends): Promised| to != Some(candidate) && ends > leases.now + ROUNDING && !is_free;
        let broken = leases.bound.filter(|promised| binds(*promised));
        require(broken.is_none(), Invariant::PromiseKept, || {
            format!("{node} {event} at {}, and has promised {broken:?}", leases.now)
        })
    }

    /// Whoever holds a lease has been promised by so many that the others are no quorum, for as long as it holds.
    pub(super) fn check_promises(&self) -> Result<(), Violation> {
        let held = self.leases.until.iter();
        for (holder, until) in held.filter(|(_, until)| **until > self.leases.now) {
            let watched = &self.nodes[holder];
            let (_, members) = watched.members.latest();
            let is_free = |node: NodeId| {
                let promised = self.leases.promised.get(&node);
                let is_bound = promised.is_some_and(|(to, ends)| {
                    to.is_none_or(|to| to == *holder) && *ends + ROUNDING >= *until
                });
                node != *holder && !is_bound
            };
            require(!is_quorum(members, is_free), Invariant::LeaseIsPromised, || {
                format!(
                    "{holder} serves reads by a lease until {until}; promised is {:?}",
                    self.leases.promised
                )
            })?;
            let called = self.leases.called.get(holder);
            require(
                called.is_none() || called.copied() != watched.leads,
                Invariant::LeaseIsPromised,
                || format!("{holder} serves reads by a lease and has told a successor to campaign"),
            )?;
        }
        Ok(())
    }

    /// What a leader commits was committed before by every other that serves reads by a lease, or those
    /// reads would miss it.
    pub(super) fn check_leases(&self, node: NodeId, index: Index) -> Result<(), Violation> {
        let leads = self.nodes[&node].leads.is_some();
        let held = self.leases.until.iter();
        for (holder, until) in
            held.filter(|(holder, until)| leads && **holder != node && **until > self.leases.now)
        {
            let known = self.nodes[holder].commit;
            require(index <= known, Invariant::LeaseExcludes, || {
                format!(
                    "{node} commits {index}, and {holder} serves reads at {known} by a lease until {until}"
                )
            })?;
        }
        Ok(())
    }
}

/// What clocks show is rounded, at each end of a lease and of a promise.
const ROUNDING: Duration = Duration::from_micros(10);

#[cfg(test)]
mod tests {
    use quorate_raft::Limits;

    use super::*;

    const VOTER: NodeId = NodeId(1);
    const LEADER: NodeId = NodeId(2);
    const OTHER: NodeId = NodeId(3);

    /// Half-way through what [`VOTER`] has promised to [`LEADER`], or to anybody.
    fn bound(to: Option<NodeId>) -> Safety {
        let mut safety = Safety::new(Limits::default());
        safety.promises(VOTER, Some((to, Time(2_000))));
        step(&mut safety, to, 1_000);
        safety
    }

    /// The voter takes a step at `now`, after which it is bound to `to`.
    fn step(safety: &mut Safety, to: Option<NodeId>, now: u64) {
        safety.promises(VOTER, Some((to, Time(2_000))));
        safety.holds_lease(VOTER, Time(now), None);
    }

    fn votes_for(safety: &Safety, to: NodeId) -> Result<(), Violation> {
        safety.check_promise_kept(VOTER, &Event::VoteGranted { term: Term(2), to })
    }

    #[test]
    fn a_vote_for_another_breaks_a_promise_until_it_ends() {
        let mut safety = bound(Some(LEADER));
        let outcome = votes_for(&safety, OTHER).unwrap_err();
        assert_eq!(outcome.invariant, Invariant::PromiseKept);
        assert!(
            votes_for(&safety, LEADER).is_ok(),
            "a leader that asks leads no more"
        );
        assert!(
            votes_for(&bound(None), LEADER).is_err(),
            "whom an earlier life heard is forgotten"
        );
        step(&mut safety, Some(LEADER), 2_000);
        assert!(votes_for(&safety, OTHER).is_ok());
    }

    #[test]
    fn a_promise_binds_until_another_leader_is_followed() {
        let mut safety = bound(Some(LEADER));
        safety.follows(LEADER);
        assert!(votes_for(&safety, OTHER).is_err());
        safety.follows(OTHER);
        assert!(votes_for(&safety, LEADER).is_ok(), "it leads no more");

        let mut safety = bound(None);
        assert!(votes_for(&safety, OTHER).is_err());
        safety.follows(OTHER);
        assert!(votes_for(&safety, OTHER).is_ok());
    }

    #[test]
    fn a_promise_that_is_forgotten_binds() {
        let mut safety = bound(Some(LEADER));
        safety.promises(VOTER, None);
        assert!(votes_for(&safety, OTHER).is_err());
        safety.never_answered(VOTER);
        safety.promises(VOTER, None);
        assert!(votes_for(&safety, OTHER).is_ok(), "nobody counts on it");
    }

    #[test]
    fn only_one_that_a_leader_called_is_helped_in_spite_of_a_promise() {
        let mut safety = bound(Some(LEADER));
        safety.stands_for_leader(OTHER, Term(1));
        assert!(votes_for(&safety, OTHER).is_err(), "that was in another term");
        safety.stands_for_leader(OTHER, Term(2));
        assert!(votes_for(&safety, OTHER).is_ok());
    }

    #[test]
    fn a_campaign_of_its_own_breaks_a_promise_unless_it_was_called() {
        let mut safety = bound(Some(LEADER));
        let campaigns = Event::BecameCandidate { term: Term(2) };
        assert!(safety.check_promise_kept(VOTER, &campaigns).is_err());
        safety.calls_successor(&Envelope {
            group: quorate_raft::GroupId(1),
            from: LEADER,
            to: VOTER,
            term: Term(1),
            message: quorate_raft::message::Message::TimeoutNow,
        });
        assert!(safety.check_promise_kept(VOTER, &campaigns).is_ok());
    }
}
