//! Who votes for whom, and who leads (I1, I4, I6, I9, I15).

use quorate_raft::invariants::View;
use quorate_raft::{Envelope, Event, HardState, NodeId, Term};

use super::membership::is_quorum;
use super::{OwnLog, Safety, Step};
use crate::invariant::{Invariant, Violation, require};

impl Safety {
    /// What a node is after a step: it goes by the term and vote that it has written, in its last life too
    /// (I6), and holds no longer a lease than was promised (I13).
    pub(crate) fn seen(&self, view: &View) -> Result<(), Violation> {
        let written = self.nodes[&view.id].written.hard_state();
        let agrees = written.term == view.term && written.vote == view.vote;
        require(agrees, Invariant::Monotone, || {
            format!("{view} has written {written:?}")
        })?;
        self.check_promises()
    }

    /// A node says that it leads.
    pub(super) fn elected(&mut self, node: NodeId, term: Term, log: OwnLog) -> Result<(), Violation> {
        let leader = *self.leaders.entry(term).or_insert(node);
        require(leader == node, Invariant::ElectionSafety, || {
            format!("{leader} and {node} both lead term {term}")
        })?;
        self.watched(node).leads = Some(term);
        if log == OwnLog::Kept {
            self.check_votes(node, term)?;
        }
        self.expect_of_newcomers(node, term);
        self.check_completeness(node, term)
    }

    /// Whoever is in a term has it, by way of others perhaps, from one who stood in it (paper §5.1), or left the term
    /// before it with a log that it fetched: what it told the leader of that term does not hold any more (ADR 0008).
    pub(super) fn check_terms(&mut self, node: NodeId, step: &Step, before: Term) -> Result<(), Violation> {
        for event in &step.events {
            if let Event::BecameCandidate { term } = event {
                self.campaigned = self.campaigned.max(*term);
            }
        }
        let states = step.writes.iter().filter_map(|write| write.hard_state);
        let terms: Vec<Term> = states.map(|state| state.term).collect();
        let has_fetched = step
            .events
            .iter()
            .any(|event| matches!(event, Event::LogFetched { .. }));
        if has_fetched {
            let heard = terms.iter().filter(|term| **term <= self.campaigned).max();
            let left = heard.map_or(before, |term| before.max(*term));
            self.campaigned = self.campaigned.max(left.next());
        }
        let term = terms.into_iter().max().unwrap_or_default();
        require(term <= self.campaigned, Invariant::TermsByCampaign, || {
            format!(
                "{node} is in term {term}, nobody has stood in a term after {}",
                self.campaigned
            )
        })
    }

    /// By log matching the last entry committed before the term stands for all of them.
    fn check_completeness(&self, node: NodeId, term: Term) -> Result<(), Violation> {
        let last = self.last_committed_before(term);
        let log = &self.nodes[&node].written;
        require(
            last.is_none_or(|id| log.holds(id)),
            Invariant::LeaderCompleteness,
            || format!("{node} leads term {term} without committed {last:?}: {log:?}"),
        )
    }

    /// Those who voted are a quorum of the members that the candidate's log named; nobody else counts.
    fn check_votes(&self, node: NodeId, term: Term) -> Result<(), Violation> {
        let watched = &self.nodes[&node];
        let begins = watched.written.first_of(term);
        let (index, members) = watched.members.before(begins);
        let own = watched.durable.hard_state();
        let votes = |voter: NodeId| {
            let sent = self.votes.get(&(voter, term)) == Some(&node);
            sent || (voter == node && keeps_vote(own, term, node))
        };
        require(is_quorum(members, votes), Invariant::VotersOnly, || {
            let voters = members.members().into_iter().filter(|voter| votes(*voter));
            format!(
                "{node} leads term {term} by the votes of {:?}, members by entry {index}: {members}",
                voters.collect::<Vec<_>>()
            )
        })
    }

    /// A node gives its vote to another.
    pub(super) fn voted(&mut self, envelope: &Envelope) -> Result<(), Violation> {
        let (node, term, to) = (envelope.from, envelope.term, envelope.to);
        let first = *self.votes.entry((node, term)).or_insert(to);
        require(first == to, Invariant::Monotone, || {
            format!("{node} votes for {first} and for {to} in term {term}")
        })?;
        let durable = self.nodes[&node].durable.hard_state();
        require(keeps_vote(durable, term, to), Invariant::DurablePromise, || {
            format!("{node} votes for {to} in term {term}, its disk holds {durable:?}")
        })
    }

    /// A node leads only what it stood for, and stops leading before it stands again (paper, figure 4).
    pub(super) fn check_transition(&mut self, node: NodeId, event: &Event) -> Result<(), Violation> {
        let Some(change) = RoleChange::of(event) else {
            return Ok(());
        };
        let watched = self.watched(node);
        let (stands, leads) = (watched.stands, watched.leads);
        let is_possible = match change {
            RoleChange::Candidate(_) | RoleChange::Follower => leads.is_none(),
            RoleChange::Leader(term) => stands == Some(term) && leads.is_none(),
            RoleChange::SteppedDown(term) => leads == Some(term),
        };
        watched.stands = match change {
            RoleChange::Candidate(term) => Some(term),
            RoleChange::Follower | RoleChange::Leader(_) | RoleChange::SteppedDown(_) => None,
        };
        require(is_possible, Invariant::StateTransitions, || {
            format!("{node} {event}, while it stands for {stands:?} and leads {leads:?}")
        })
    }
}

/// A change of a node's role.
#[derive(Clone, Copy, Debug)]
enum RoleChange {
    /// To waiting for a leader, following one, or asking whether an election could be won.
    Follower,
    Candidate(Term),
    Leader(Term),
    SteppedDown(Term),
}

impl RoleChange {
    fn of(event: &Event) -> Option<Self> {
        if let Event::BecameCandidate { term } = event {
            return Some(Self::Candidate(*term));
        }
        if let Event::BecameLeader { term } = event {
            return Some(Self::Leader(*term));
        }
        if let Event::SteppedDown { term, .. } = event {
            return Some(Self::SteppedDown(*term));
        }
        let rests = matches!(
            event,
            Event::BecameFollower { .. } | Event::BecamePreCandidate { .. }
        );
        rests.then_some(Self::Follower)
    }
}

/// Whether a disk that holds `state` can never give the vote of `term` to anyone but `to`.
fn keeps_vote(state: HardState, term: Term, to: NodeId) -> bool {
    state.term > term || (state.term == term && state.vote == Some(to))
}
