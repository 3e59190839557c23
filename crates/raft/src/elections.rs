//! What a node says to those who ask for its vote, in every role.
//!
//! - A vote is given once a term, to a log at least as up to date (paper §5.2, §5.4.1).
//! - Where leaders hold leases, who promised to stand by one votes for another at that one's wish only.
//! - An answer to a request for a pre-vote promises nothing and changes nothing (thesis §9.6).

use crate::event::Event;
use crate::message::{Campaign, Message, PreVerdict, PreVoteResponse, RequestPreVote, RequestVote, Verdict};
use crate::mutant::mutant;
use crate::node::{Next, Node, Role};
use crate::types::NodeId;

impl Node {
    /// Thesis §9.6: would this node vote so? Its answer promises nothing.
    pub(crate) fn on_request_pre_vote(&mut self, from: NodeId, msg: RequestPreVote) -> Next {
        // A leader that asks for votes leads no more (hashicorp/raft #605).
        let hears_leader = self.shelters_leader() && self.leader() != Some(from) && !mutant!(M7);
        let shelters = hears_leader || (self.core.promise.forbids(from) && !mutant!(M72));
        if let Role::Follower(follower) = &mut self.role
            && shelters
        {
            follower.on_asked_in_vain(from, msg);
        }
        let (term, last) = (msg.term, self.core.log.last());
        let verdict = if term <= self.core.term() {
            PreVerdict::TermPassed
        } else if shelters {
            PreVerdict::HasLeader
        } else if !self.core.is_up_to_date(msg.last) {
            PreVerdict::MoreUpToDate(last)
        } else {
            PreVerdict::Granted
        };
        let answer = PreVoteResponse { term, verdict };
        self.core.send(from, Message::PreVoteResponse(answer));
        if mutant!(M6) && term > self.core.term() {
            self.core.adopt_term(term);
            return Next::Follow(None);
        }
        Next::Stay
    }

    pub(crate) fn on_pre_vote_response(&mut self, from: NodeId, msg: PreVoteResponse) -> Next {
        match &mut self.role {
            Role::PreCandidate(candidate) => candidate.on_response(&mut self.core, from, msg),
            Role::Follower(_) | Role::Candidate(_) | Role::Leader(_) => Next::Stay,
        }
    }

    /// Paper §5.2 and §5.4.1: one vote a term, to a candidate whose log is at least as up to date.
    pub(crate) fn on_request_vote(&mut self, from: NodeId, msg: RequestVote) -> Next {
        let vote = self.core.vote();
        let promised = msg.cause == Campaign::Timeout && self.core.promise.forbids(from) && !mutant!(M72);
        let free = vote == Some(from) || (vote.is_none() && self.leader().is_none() && !promised);
        if !free || !self.core.is_up_to_date(msg.last) {
            self.core
                .send_when_durable(from, Message::VoteResponse(Verdict::Denied));
            return Next::Stay;
        }
        self.core.vote_for(from);
        self.core.event(Event::VoteGranted {
            term: self.core.term(),
            to: from,
        });
        self.core
            .send_when_durable(from, Message::VoteResponse(Verdict::Granted));
        match &mut self.role {
            Role::Follower(follower) => {
                follower.on_vote_granted(&mut self.core);
                Next::Stay
            }
            Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) => Next::Follow(None),
        }
    }

    pub(crate) fn on_vote_response(&mut self, from: NodeId, verdict: Verdict) -> Next {
        match &mut self.role {
            Role::Candidate(candidate) => candidate.on_response(&self.core, from, verdict),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Leader(_) => Next::Stay,
        }
    }

    /// The caller saw that nothing listens where `peer` did.
    pub(crate) fn on_peer_gone(&mut self, peer: NodeId) -> Next {
        match &mut self.role {
            Role::Follower(follower) => follower.on_peer_gone(&mut self.core, peer),
            Role::Leader(leader) => {
                leader.on_peer_gone(peer);
                Next::Stay
            }
            Role::PreCandidate(_) | Role::Candidate(_) => Next::Stay,
        }
    }

    /// Whether a leader was heard of so recently that no other should be elected (thesis §4.2.3).
    pub(crate) fn shelters_leader(&self) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(follower) => follower.shelters_leader(&self.core),
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }
}
