//! What a leader does about changes of members (thesis §4).
//!
//! - One step at a time: the next configuration is appended when the one in effect is committed, in
//!   this leader's term (docs/scenarios.md S20, S24). So the quorums of any two neighbors share a node.
//! - Where a change leads is in the log: a new leader goes on where its predecessor stopped.
//! - While newcomers learn, the change may be replaced by another; once both sets decide, it may not.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::configuration::{Configuration, Stage};
use crate::core::Core;
use crate::entry::Payload;
use crate::event::{Event, StepDown};
use crate::io::Rejection;
use crate::leader::Leader;
use crate::membership::{MemberKind, Precondition, Target};
use crate::message::{Message, Reconfigure, ReconfigureResponse};
use crate::mutant::mutant;
use crate::node::Next;
use crate::progress::Progress;
use crate::types::{EntryId, Index, NodeId, Ticket};

/// Members that were left out and are still told so.
pub(crate) type Departing = BTreeMap<NodeId, Departure>;

/// How a member that was left out is told so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    /// For how many ticks more.
    ticks: u32,
    /// What it was: while its removal is not committed it may yet vote.
    pub(crate) kind: MemberKind,
}

impl Leader {
    /// An operator wants other members.
    pub(crate) fn reconfigure(
        &mut self,
        core: &mut Core,
        ticket: Ticket,
        target: Target,
        when: &Precondition,
    ) {
        match self.begin_change(core, &target, when) {
            Ok(first) => core.requests.change_begun(ticket, first, target),
            Err(rejection) => core.requests.reject(ticket, rejection),
        }
    }

    /// Begins a change that a follower was asked for; at most once.
    pub(crate) fn on_reconfigure(&mut self, core: &mut Core, from: NodeId, msg: Reconfigure) {
        if !self.take_forward(core, from, msg.session, msg.seq) {
            return;
        }
        let answer = ReconfigureResponse {
            session: msg.session,
            seq: msg.seq,
            outcome: self.begin_change(core, &msg.target, &msg.precondition),
        };
        core.send(from, Message::ReconfigureResponse(answer));
    }

    /// Takes the next step of a change under way, if it is due.
    pub(crate) fn go_on_with_change(&mut self, core: &mut Core) -> Next {
        if !self.may_change(core) {
            return Next::Stay;
        }
        let configuration = Arc::clone(core.log.configuration());
        match configuration.stage() {
            Stage::CatchingUp(target) if self.have_caught_up(core, &configuration) => {
                self.append_configuration(core, configuration.enter(target));
                Next::Stay
            }
            Stage::Joint => {
                self.append_configuration(core, configuration.leave());
                Next::Stay
            }
            Stage::Settled if !core.is_voter() => self.leave(core, StepDown::Removed),
            Stage::CatchingUp(_) | Stage::Settled => Next::Stay,
        }
    }

    /// Tells those who were left out of the entry that says so, for a while: any one message may be lost.
    pub(crate) fn tick_departing(&mut self, core: &Core) {
        let said = core.log.configuration_index();
        if said > core.log.commit_index() {
            return;
        }
        self.departing.retain(|_, departure| {
            departure.ticks = departure.ticks.saturating_sub(1);
            departure.ticks > 0
        });
        let members = core.configuration();
        self.progress
            .retain(|node, _| members.is_member(*node) || self.departing.contains_key(node));
    }

    fn begin_change(
        &mut self,
        core: &mut Core,
        target: &Target,
        when: &Precondition,
    ) -> Result<EntryId, Rejection> {
        let configuration = Arc::clone(core.log.configuration());
        if self.handover.is_some() {
            return Err(Rejection::Transferring);
        }
        if !self.may_change(core) || configuration.is_joint() {
            return Err(Rejection::ChangeInProgress);
        }
        if matches!(when, Precondition::Current(expected) if **expected != *configuration) {
            return Err(Rejection::PreconditionFailed);
        }
        if let Some(node) = changed_kind(&configuration, target) {
            return Err(Rejection::KindChange(node));
        }
        let (learning, entering) = (configuration.toward(target), configuration.enter(target));
        let entering_weight = entering.weight();
        let next = if learning.newcomers().is_empty() {
            entering
        } else {
            learning
        };
        // Nothing is committed after an entry that fits into no frame or no file of the log.
        if next.weight().max(entering_weight) > core.config.limits.max_change_bytes() {
            return Err(Rejection::TooLarge);
        }
        Ok(self.append_configuration(core, next))
    }

    /// Whether the members in effect are committed, and so is an entry of this leader's own term.
    fn may_change(&self, core: &Core) -> bool {
        let commit = core.log.commit_index();
        let settled = core.log.configuration_index() <= commit || mutant!(M38);
        settled && core.log.term_at(commit) == Some(core.term())
    }

    fn have_caught_up(&self, core: &Core, configuration: &Configuration) -> bool {
        let election_ticks = core.config.election_ticks;
        let me = core.id();
        // A leader that was elected before it knew of its removal may be one of those who are to vote again.
        configuration.newcomers().iter().all(|node| {
            *node == me
                || mutant!(M40)
                || self
                    .progress
                    .get(node)
                    .is_some_and(|progress| progress.has_caught_up() && progress.is_active(election_ticks))
        })
    }

    fn append_configuration(&mut self, core: &mut Core, configuration: Configuration) -> EntryId {
        let ticks = 2 * core.config.election_ticks;
        let departure = |node| {
            let kind = core.configuration().kind(node);
            (node, Departure { ticks, kind })
        };
        let left = core.peers().into_iter();
        let left = left.filter(|node| !configuration.is_member(*node)).map(departure);
        self.departing.extend(left);
        let id = self.append(core, Payload::Configuration(Arc::new(configuration)));
        let last = id.index.prev();
        for peer in core.peers() {
            self.departing.remove(&peer);
            self.progress.entry(peer).or_insert_with(|| Progress::new(last));
        }
        self.watch_newcomers(core, core.log.commit_index());
        // Those who have answered may be a quorum of these members, and nobody else may be left to answer.
        self.on_rounds_answered(core);
        id
    }

    /// Begins to look whether those who are to vote catch up, with what is in the log up to `goal` at first.
    pub(crate) fn watch_newcomers(&mut self, core: &mut Core, goal: Index) {
        for newcomer in core.configuration().newcomers() {
            if let Some(progress) = self.progress.get_mut(&newcomer) {
                progress.begin_catching_up(goal);
                self.note_catching_up(core, newcomer);
            }
        }
    }

    /// A follower has more than before: perhaps enough to vote.
    pub(crate) fn note_catching_up(&mut self, core: &mut Core, node: NodeId) {
        let (commit, patience) = (core.log.commit_index(), core.config.election_ticks);
        if let Some(progress) = self.progress.get_mut(&node)
            && progress.note_catching_up(commit, patience)
        {
            core.event(Event::CaughtUp { node });
        }
    }
}

/// The voters as a leader has them that counts itself, whether it votes or not.
pub(crate) fn with_itself(core: &Core) -> Configuration {
    let members = core.configuration();
    let voters = members.voters().iter().copied().chain([core.id()]);
    Configuration::joint(voters, members.outgoing().iter().copied(), [])
        .expect("there is a voter, and learners are left out")
}

/// A member that would begin or cease to be a witness.
fn changed_kind(configuration: &Configuration, target: &Target) -> Option<NodeId> {
    target
        .info()
        .iter()
        .find(|(node, info)| configuration.is_member(**node) && configuration.kind(**node) != info.kind)
        .map(|(node, _)| *node)
}
