//! Elections: first a question that changes nothing (thesis §9.6), then the campaign (paper §5.2).
//!
//! - A pre-candidate follows nobody and its term is as it was.
//! - A candidate asks for votes once its own vote is on its disk, and counts it only then.

use std::collections::BTreeMap;

use crate::core::Core;
use crate::event::Event;
use crate::failover::stagger;
use crate::message::{Campaign, Message, RequestPreVote, RequestVote, Verdict};
use crate::node::Next;
use crate::types::{NodeId, Term};

/// Asks whether an election could be won.
#[derive(Clone, Debug)]
pub(crate) struct PreCandidate {
    verdicts: Verdicts,
    elapsed: u32,
    timeout: u32,
    attempt: Attempt,
}

/// Which of a row of pre-campaigns this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// How many of those that follow are made soon, since reports of a leader's end may come late.
    hurried: u32,
}

impl Attempt {
    pub(crate) const FIRST: Self = Self { hurried: 0 };

    /// The first after a leader was reported gone.
    pub(crate) fn hurried(retries: u32) -> Self {
        Self { hurried: retries }
    }

    fn next(self) -> Self {
        Self {
            hurried: self.hurried.saturating_sub(1),
        }
    }

    /// Ticks until the next one.
    fn timeout(self, core: &mut Core) -> u32 {
        match self.hurried {
            0 => core.draw_retry_timeout(),
            // Longer than the next in turn waits, and at random, so that two do not go on asking together.
            _ => stagger(core) + core.draw(1, stagger(core) + 1),
        }
    }
}

/// Campaigns.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    verdicts: Verdicts,
    elapsed: u32,
    timeout: u32,
}

/// What the voters said.
#[derive(Clone, Debug, Default)]
struct Verdicts(BTreeMap<NodeId, Verdict>);

impl PreCandidate {
    pub(crate) fn new(core: &mut Core, attempt: Attempt) -> Self {
        core.event(Event::BecamePreCandidate { term: core.term() });
        let ask = RequestPreVote {
            term: core.term().next(),
            last: core.log.last(),
        };
        for peer in core.peers() {
            core.send(peer, Message::RequestPreVote(ask));
        }
        let mut verdicts = Verdicts::default();
        verdicts.count(core.id(), Verdict::Granted);
        Self {
            verdicts,
            elapsed: 0,
            timeout: attempt.timeout(core),
            attempt,
        }
    }

    /// Whether it has won already, as a single voter has.
    pub(crate) fn next(&self, core: &Core) -> Next {
        match self.verdicts.decision(core) {
            Some(Verdict::Granted) => Next::Campaign,
            Some(Verdict::Denied) | None => Next::Stay,
        }
    }

    pub(crate) fn on_tick(&mut self) -> Next {
        self.elapsed += 1;
        if self.elapsed >= self.timeout {
            Next::PreCampaign(self.attempt.next())
        } else {
            Next::Stay
        }
    }

    /// Answers about another term are of a question asked earlier (openraft 511f33c7).
    pub(crate) fn on_response(&mut self, core: &Core, from: NodeId, term: Term, verdict: Verdict) -> Next {
        if term != core.term().next() {
            return Next::Stay;
        }
        self.verdicts.count(from, verdict);
        self.next(core)
    }
}

impl Candidate {
    pub(crate) fn new(core: &mut Core, cause: Campaign) -> Self {
        core.adopt_term(core.term().next());
        core.vote_for(core.id());
        core.event(Event::BecameCandidate { term: core.term() });
        let ask = RequestVote {
            last: core.log.last(),
            cause,
        };
        for peer in core.peers() {
            // A candidate that forgot this term might vote for another in it (jraft #1245).
            core.send_when_durable(peer, Message::RequestVote(ask));
        }
        Self {
            verdicts: Verdicts::default(),
            elapsed: 0,
            timeout: core.draw_election_timeout(),
        }
    }

    pub(crate) fn on_tick(&mut self) -> Next {
        self.elapsed += 1;
        if self.elapsed >= self.timeout {
            Next::PreCampaign(Attempt::FIRST)
        } else {
            Next::Stay
        }
    }

    /// A write is durable: perhaps the one with this candidate's vote for itself.
    pub(crate) fn on_persisted(&mut self, core: &Core) -> Next {
        if core.hard_state_is_durable() {
            self.verdicts.count(core.id(), Verdict::Granted);
        }
        self.next(core)
    }

    pub(crate) fn on_response(&mut self, core: &Core, from: NodeId, verdict: Verdict) -> Next {
        self.verdicts.count(from, verdict);
        self.next(core)
    }

    fn next(&self, core: &Core) -> Next {
        match self.verdicts.decision(core) {
            Some(Verdict::Granted) => Next::Lead,
            Some(Verdict::Denied) => Next::Follow(None),
            None => Next::Stay,
        }
    }
}

impl Verdicts {
    /// The first word of a voter counts, but a grant counts for good: it may follow a denial, never the
    /// other way round, whatever order they come in.
    fn count(&mut self, from: NodeId, verdict: Verdict) {
        let known = self.0.entry(from).or_insert(verdict);
        if verdict == Verdict::Granted {
            *known = verdict;
        }
    }

    fn decision(&self, core: &Core) -> Option<Verdict> {
        let said = |node: NodeId, verdict| self.0.get(&node) == Some(&verdict);
        let configuration = core.configuration();
        if configuration.has_quorum(|node| said(node, Verdict::Granted)) {
            Some(Verdict::Granted)
        } else if configuration.cannot_have_quorum(|node| said(node, Verdict::Denied)) {
            Some(Verdict::Denied)
        } else {
            None
        }
    }
}
