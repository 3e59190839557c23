//! Elections: first a question that changes nothing (thesis §9.6), then the campaign (paper §5.2).
//!
//! - A pre-candidate follows nobody and its term is as it was.
//! - A candidate asks for votes once its own vote is on its disk, and counts it only then.

use std::collections::BTreeMap;

use crate::configuration::Configuration;
use crate::core::Core;
use crate::event::Event;
use crate::failover::stagger;
use crate::fetch::Fetch;
use crate::message::{Campaign, Message, PreVerdict, PreVoteResponse, RequestPreVote, RequestVote, Verdict};
use crate::mutant::mutant;
use crate::node::Next;
use crate::types::NodeId;

/// Asks whether an election could be won.
#[derive(Clone, Debug)]
pub(crate) struct PreCandidate {
    /// What the others said.
    pub(crate) answers: BTreeMap<NodeId, PreVerdict>,
    elapsed: u32,
    timeout: u32,
    pub(crate) attempt: Attempt,
    /// The log that it asked another for, since its own is behind.
    pub(crate) fetch: Option<Fetch>,
}

/// Which of a row of pre-campaigns this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    repeated: bool,
    /// How many of those that follow are made soon, since reports of a leader's end may come late.
    hurried: u32,
}

impl Attempt {
    pub(crate) fn first() -> Self {
        Self {
            repeated: false,
            hurried: 0,
        }
    }

    /// The same, with so many more to follow soon.
    pub(crate) fn hurried(self, retries: u32) -> Self {
        Self {
            hurried: retries,
            ..self
        }
    }

    pub(crate) fn next(self) -> Self {
        Self {
            repeated: true,
            hurried: self.hurried.saturating_sub(1),
        }
    }

    pub(crate) fn is_repeated(self) -> bool {
        self.repeated
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
        Self {
            answers: BTreeMap::from([(core.id(), PreVerdict::Granted)]),
            elapsed: 0,
            timeout: attempt.timeout(core),
            attempt,
            fetch: None,
        }
    }

    /// Whether it has won already, as a single voter has.
    pub(crate) fn next(&self, core: &Core) -> Next {
        let granted = |node| self.answers.get(&node) == Some(&PreVerdict::Granted);
        match elects(core.configuration(), granted) {
            true => Next::Campaign,
            false => Next::Stay,
        }
    }

    /// What it asked for comes: it need not ask again yet.
    pub(crate) fn rest(&mut self) {
        self.elapsed = 0;
    }

    pub(crate) fn on_tick(&mut self, core: &Core) -> Next {
        self.elapsed += 1;
        if self.elapsed >= self.timeout {
            campaign_again(core, self.attempt.next())
        } else {
            Next::Stay
        }
    }

    /// Answers about another term are of a question asked earlier (openraft 511f33c7); strangers were not asked.
    ///
    /// A grant counts for good: it may follow a denial, never the other way round.
    pub(crate) fn on_response(&mut self, core: &mut Core, from: NodeId, answer: PreVoteResponse) -> Next {
        if answer.term != core.term().next() || !core.configuration().is_member(from) {
            return Next::Stay;
        }
        if self.answers.get(&from) != Some(&PreVerdict::Granted) {
            self.answers.insert(from, answer.verdict);
        }
        let next = self.next(core);
        if next == Next::Stay {
            self.fetch_if_behind(core);
        }
        next
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

    pub(crate) fn on_tick(&mut self, core: &Core) -> Next {
        self.elapsed += 1;
        if self.elapsed >= self.timeout {
            campaign_again(core, Attempt::first())
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
        // Strangers were not asked, and what they say would take memory without bound.
        if core.configuration().is_member(from) {
            self.verdicts.count(from, verdict);
        }
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

/// Whether those who grant their votes are enough. Learners may grant theirs, and are not counted (thesis §4.2.1).
fn elects(configuration: &Configuration, granted: impl Fn(NodeId) -> bool) -> bool {
    if mutant!(M11) {
        let votes = configuration
            .members()
            .into_iter()
            .filter(|node| granted(*node))
            .count();
        return votes > configuration.voters().len().max(configuration.outgoing().len()) / 2;
    }
    configuration.has_quorum(granted)
}

/// With a disk that does not answer no vote of its own ever counts: it waits as a follower. So does one
/// that campaigned at its leader's wish and has promised not to do so by itself.
fn campaign_again(core: &Core, attempt: Attempt) -> Next {
    match core.disk_is_stalled() || core.promise.forbids(core.id()) {
        true => Next::Follow(None),
        false => Next::PreCampaign(attempt),
    }
}

impl Verdicts {
    /// The first word of a voter counts: a repeated or late one changes nothing.
    fn count(&mut self, from: NodeId, verdict: Verdict) {
        self.0.entry(from).or_insert(verdict);
    }

    fn decision(&self, core: &Core) -> Option<Verdict> {
        let said = |node: NodeId, verdict| self.0.get(&node) == Some(&verdict);
        let configuration = core.configuration();
        if elects(configuration, |node| said(node, Verdict::Granted)) {
            Some(Verdict::Granted)
        } else if configuration.cannot_have_quorum(|node| said(node, Verdict::Denied)) {
            Some(Verdict::Denied)
        } else {
            None
        }
    }
}
