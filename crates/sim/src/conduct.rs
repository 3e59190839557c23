//! Whether a node leaves a leader alone of whom it has heard (L2; thesis §4.2.3 and §9.6).
//!
//! - As long as a follower has heard of its leader within an election timeout, it neither campaigns
//!   nor encourages who does, and no campaign but the leader's own, or one that it asked for, makes it change its
//!   term.
//! - Only its leader's end, or that one's word, makes a node look for another: neither what others say nor their
//!   end. A report that the leader is gone changes no term (ADR 0009).
//! - Nobody campaigns who has not asked first whether it could win, unless the leader told it to.
//!
//! Such a node harms no data, so that nothing else here would notice: it only keeps the others from work.
//! What is counted is the ticks of the node's own clock.

use quorate::driver::DriverInput;
use quorate_raft::invariants::View;
use quorate_raft::message::{Campaign, Message, PreVerdict};
use quorate_raft::{Envelope, Event, NodeId, RoleKind, Term};

use crate::invariant::{Invariant, Violation, require};
use crate::ports::Input;
use crate::safety::Step;

/// What one process knows of its leader.
#[derive(Debug)]
pub(crate) struct Conduct {
    election_ticks: u32,
    heard: Option<Heard>,
    /// Whether it has asked for pre-votes, and become nothing else since.
    asked: bool,
    turn: Turn,
}

/// The leader, and the ticks since it was heard of.
#[derive(Clone, Copy, Debug)]
struct Heard {
    leader: NodeId,
    term: Term,
    ticks: u32,
}

/// What a turn brings to the core.
#[derive(Debug, Default)]
struct Turn {
    ticks: u32,
    /// The last word of a leader, and the ticks after it.
    heard: Option<Heard>,
    /// Whether it was told to campaign, in the node's term or a later one.
    called: bool,
    /// Whose processes are gone.
    gone: Vec<NodeId>,
    /// What brings terms that the node has not seen, in order.
    news: Vec<News>,
}

/// A message of a term that the node had not seen before the turn.
#[derive(Debug)]
struct News {
    envelope: Envelope,
    /// Whether its sender campaigns, and not at a leader's wish.
    is_uncalled: bool,
}

impl Conduct {
    pub(crate) fn new(election_ticks: u32) -> Self {
        Self {
            election_ticks,
            heard: None,
            asked: false,
            turn: Turn::default(),
        }
    }

    /// The core, which looks like `before`, is given this in its next turn.
    pub(crate) fn given(&mut self, before: &View, input: &Input) {
        if let DriverInput::Receive(envelope) = input {
            self.turn.receive(before.term, envelope);
        } else if matches!(input, DriverInput::Tick) {
            self.turn.tick();
        } else if let DriverInput::PeerGone(peer) = input {
            self.turn.gone.push(*peer);
        }
    }

    /// The core looks like `after`, and has done `step`.
    pub(crate) fn turned(&mut self, after: &View, step: &Step) -> Result<(), Violation> {
        let turn = std::mem::take(&mut self.turn);
        let sheltered = self.sheltered(&turn);
        for event in &step.events {
            self.observe(after.id, event, &turn, sheltered)?;
        }
        if let Some(heard) = sheltered {
            step.sends
                .iter()
                .try_for_each(|envelope| check_encouragement(envelope, heard))?;
            check_term(after, &turn, heard)?;
        }
        self.heard = self.now_heard(after, &turn);
        Ok(())
    }

    /// Whom the node must leave alone all through the turn.
    fn sheltered(&self, turn: &Turn) -> Option<Heard> {
        let is_recent = |heard: &Heard| heard.ticks + turn.ticks < self.election_ticks;
        self.heard
            .filter(|heard| is_recent(heard) && !turn.releases_from(heard.leader))
    }

    fn observe(
        &mut self,
        node: NodeId,
        event: &Event,
        turn: &Turn,
        sheltered: Option<Heard>,
    ) -> Result<(), Violation> {
        if let Event::BecamePreCandidate { term } = event {
            self.asked = true;
            return require(
                sheltered.is_none_or(|heard| heard.term != *term),
                Invariant::LeaderSheltered,
                || format!("{node} asks for pre-votes in term {term} and has heard of {sheltered:?}"),
            );
        }
        if let Event::BecameCandidate { term } = event {
            let asked = std::mem::take(&mut self.asked);
            return require(asked || turn.called, Invariant::LeaderSheltered, || {
                format!("{node} campaigns in term {term} and has asked nobody whether it could win")
            });
        }
        if matches!(event, Event::BecameFollower { .. } | Event::BecameLeader { .. }) {
            self.asked = false;
        }
        Ok(())
    }

    /// A leader heard of in earlier turns is remembered whether or not the core still names it: what the core
    /// forgets is no excuse.
    fn now_heard(&self, after: &View, turn: &Turn) -> Option<Heard> {
        let stays = |heard: &Heard| after.role == RoleKind::Follower && after.term == heard.term;
        let follows = |heard: &Heard| stays(heard) && after.leader == Some(heard.leader);
        let before = self.heard.map(|heard| Heard {
            ticks: heard.ticks + turn.ticks,
            ..heard
        });
        let before = before.filter(|heard| stays(heard) && !turn.releases_from(heard.leader));
        turn.heard.filter(follows).or(before)
    }
}

impl Turn {
    fn tick(&mut self) {
        self.ticks += 1;
        if let Some(heard) = &mut self.heard {
            heard.ticks += 1;
        }
    }

    fn receive(&mut self, term: Term, envelope: &Envelope) {
        let message = &envelope.message;
        let is_newer = envelope.term > term;
        if speaks_as_leader(message) {
            self.heard = Some(Heard {
                leader: envelope.from,
                term: envelope.term,
                ticks: 0,
            });
        }
        self.called |= matches!(message, Message::TimeoutNow) && envelope.term >= term;
        // A question about an election changes nothing.
        if is_newer && !matches!(message, Message::RequestPreVote(_) | Message::FetchLog(_)) {
            let is_uncalled = matches!(message, Message::RequestVote(ask) if ask.cause == Campaign::Timeout);
            self.news.push(News {
                envelope: envelope.clone(),
                is_uncalled,
            });
        }
    }

    /// Whether the node need not stand by `leader` any more.
    fn releases_from(&self, leader: NodeId) -> bool {
        self.called || self.gone.contains(&leader)
    }
}

impl News {
    /// Whether this alone makes nobody leave `leader`. A leader that campaigns leads no more, as it says itself.
    fn is_ignored_by_followers_of(&self, leader: NodeId) -> bool {
        self.is_uncalled && self.envelope.from != leader
    }
}

/// Whether only a leader sends this.
fn speaks_as_leader(message: &Message) -> bool {
    matches!(
        message,
        Message::AppendEntries(_) | Message::Heartbeat(_) | Message::Commit(_) | Message::InstallSnapshot(_)
    )
}

fn check_encouragement(envelope: &Envelope, heard: Heard) -> Result<(), Violation> {
    let encourages = matches!(&envelope.message, Message::PreVoteResponse(answer) if answer.verdict == PreVerdict::Granted);
    let is_another = envelope.to != heard.leader && envelope.term == heard.term;
    require(!encourages || !is_another, Invariant::LeaderSheltered, || {
        format!(
            "{} encourages {} and has heard of {heard:?}",
            envelope.from, envelope.to
        )
    })
}

/// Once one message has made the node change its term, it has no leader and may listen to any that follows.
fn check_term(after: &View, turn: &Turn, heard: Heard) -> Result<(), Violation> {
    let ignored = turn
        .news
        .iter()
        .take_while(|news| news.is_ignored_by_followers_of(heard.leader));
    let ignored = ignored.count();
    let terms = turn.news[ignored..].iter().map(|news| news.envelope.term);
    let allowed = terms.max().unwrap_or(heard.term);
    require(after.term <= allowed, Invariant::LeaderSheltered, || {
        let campaigns = turn.news[..ignored].iter().map(|news| news.envelope.to_string());
        let campaigns: Vec<_> = campaigns.collect();
        format!("{after} listens to {campaigns:?} and has heard of {heard:?}")
    })
}

#[cfg(test)]
mod tests {
    use quorate_raft::message::{Heartbeat, PreVoteResponse, RequestVote};
    use quorate_raft::{EntryId, GroupId, Index, Round};

    use super::*;

    const ME: NodeId = NodeId(1);
    const LEADER: NodeId = NodeId(2);
    const OTHER: NodeId = NodeId(3);
    const THIRD: NodeId = NodeId(4);

    fn view(term: u64, leader: Option<NodeId>) -> View {
        View {
            id: ME,
            term: Term(term),
            vote: None,
            role: RoleKind::Follower,
            leader,
            commit_index: Index::ZERO,
            applied_index: Index::ZERO,
            last: EntryId::ZERO,
        }
    }

    fn envelope(from: NodeId, to: NodeId, term: u64, message: Message) -> Envelope {
        Envelope {
            group: GroupId(1),
            from,
            to,
            term: Term(term),
            message,
        }
    }

    fn says(from: NodeId, term: u64, message: Message) -> Input {
        DriverInput::Receive(envelope(from, ME, term, message))
    }

    fn heartbeat(from: NodeId, term: u64) -> Input {
        let (commit, round) = (Index::ZERO, Round(1));
        says(from, term, Message::Heartbeat(Heartbeat { commit, round }))
    }

    fn campaign(from: NodeId, term: u64) -> Input {
        let (last, cause) = (EntryId::ZERO, Campaign::Timeout);
        says(from, term, Message::RequestVote(RequestVote { last, cause }))
    }

    /// A turn that brings `inputs` to a follower in term 1, and leaves it in `term` after `events`.
    fn turn(
        conduct: &mut Conduct,
        inputs: Vec<Input>,
        term: u64,
        events: Vec<Event>,
    ) -> Result<(), Violation> {
        for input in inputs {
            conduct.given(&view(1, Some(LEADER)), &input);
        }
        let step = Step {
            events,
            ..Step::default()
        };
        conduct.turned(&view(term, None), &step)
    }

    /// One that has just heard [`LEADER`] lead term 1.
    fn follower() -> Conduct {
        let mut conduct = Conduct::new(10);
        let before = view(1, Some(LEADER));
        conduct.given(&before, &heartbeat(LEADER, 1));
        conduct.turned(&before, &Step::default()).unwrap();
        conduct
    }

    fn broken(outcome: Result<(), Violation>) -> bool {
        outcome.is_err_and(|violation| violation.invariant == Invariant::LeaderSheltered)
    }

    #[test]
    fn a_campaign_is_listened_to_only_after_what_ended_the_leadership() {
        let bring = |inputs, term| turn(&mut follower(), inputs, term, Vec::new());
        assert!(broken(bring(vec![campaign(OTHER, 2)], 2)));
        let leads = || heartbeat(THIRD, 2);
        assert!(bring(vec![leads(), campaign(OTHER, 3)], 3).is_ok());
        assert!(broken(bring(vec![campaign(OTHER, 3), leads()], 3)));
        assert!(bring(vec![campaign(OTHER, 3), leads()], 2).is_ok());
        assert!(bring(vec![campaign(LEADER, 2), campaign(OTHER, 3)], 3).is_ok());
        assert!(broken(bring(vec![campaign(OTHER, 3), campaign(LEADER, 2)], 3)));
        let asks = says(THIRD, 5, Message::FetchLog(EntryId::ZERO));
        assert!(
            broken(bring(vec![asks, campaign(OTHER, 2)], 2)),
            "a question ends nothing"
        );
    }

    #[test]
    fn only_the_end_of_its_own_leader_makes_a_node_look_for_another() {
        let asks = || vec![Event::BecamePreCandidate { term: Term(1) }];
        let bring = |inputs, events| turn(&mut follower(), inputs, 1, events);
        assert!(bring(vec![DriverInput::PeerGone(LEADER)], asks()).is_ok());
        assert!(broken(bring(vec![DriverInput::PeerGone(OTHER)], asks())));
        let campaigns = || vec![Event::BecameCandidate { term: Term(2) }];
        let gone = || DriverInput::PeerGone(LEADER);
        assert!(
            broken(bring(vec![gone()], campaigns())),
            "a report changes no term"
        );
        assert!(bring(vec![gone()], [asks(), campaigns()].concat()).is_ok());
    }

    #[test]
    fn a_node_that_is_told_to_campaign_asks_nobody_unless_the_word_is_old() {
        let campaigns = || vec![Event::BecameCandidate { term: Term(2) }];
        let bring = |term| {
            let told = says(LEADER, term, Message::TimeoutNow);
            turn(&mut follower(), vec![told], 2, campaigns())
        };
        assert!(bring(1).is_ok());
        assert!(broken(bring(0)));
    }

    #[test]
    fn a_node_that_forgets_its_leader_shelters_it_all_the_same() {
        let mut conduct = follower();
        turn(&mut conduct, Vec::new(), 1, Vec::new()).unwrap();
        let (term, verdict) = (Term(2), PreVerdict::Granted);
        let grant = Message::PreVoteResponse(PreVoteResponse { term, verdict });
        let step = Step {
            sends: vec![envelope(ME, OTHER, 1, grant)],
            ..Step::default()
        };
        assert!(broken(conduct.turned(&view(1, None), &step)));
    }
}
