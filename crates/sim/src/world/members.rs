//! Operators who change the members, and directories that are lost.
//!
//! - A node that is to join knows nothing. Mostly it runs before anyone is asked to let it in.
//! - A node that was removed runs on, and may be let in again.
//! - Who has lost its directory never comes back under its id. In most runs it is lost only when every
//!   configuration that any node knows of can do without it.
//! - A node that keeps no data is a witness wherever it is a member.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use quorate::driver::DriverInput;
use quorate_raft::{
    Configuration, ConfigurationError, MemberInfo, MemberKind, NodeId, Precondition, RoleKind, Stage, Status,
    Target,
};

use super::start::{info, kind_of};
use super::{Happening, World};
use crate::clients::Errand;
use crate::invariant::Violation;
use crate::marks::Mark;
use crate::ports::Caller;
use crate::profile::Losses;
use crate::rng::{Chance, Rng, Stream};
use crate::safety::is_quorum;
use crate::server::{Presence, Server};

/// How an operator changes the members.
#[derive(Clone, Copy, Debug)]
enum Change {
    AddVoter,
    AddLearner,
    Remove,
    Replace,
    ReplaceMany,
    Demote,
    PromoteAll,
}

impl World {
    /// Every node whose directory is not lost.
    pub(super) fn everyone(&self) -> Vec<NodeId> {
        let present = self.servers.values().filter(|server| !server.is_lost());
        present.map(|server| server.id).collect()
    }

    /// An operator asks a node for other members.
    pub(super) fn ask_for_members(&mut self, node: NodeId, rng: &mut Rng) -> Result<(), Violation> {
        let Some(process) = self.servers[&node].process.as_ref() else {
            return Ok(());
        };
        let current = process.driver.status().configuration;
        if current.is_unknown() {
            return Ok(());
        }
        let Ok(Some(target)) = self.draw_target(&current, rng) else {
            return Ok(());
        };
        let precondition = self.draw_precondition(&current, rng);
        self.start_newcomers(&target, rng)?;
        self.reconfigure(node, target, precondition)
    }

    /// Operators look at the members before they ask for others; some take long over it.
    fn draw_precondition(&mut self, current: &Arc<Configuration>, rng: &mut Rng) -> Precondition {
        let before = self.members_seen.replace(Arc::clone(current));
        if rng.coin() {
            return Precondition::Any;
        }
        let seen = if rng.coin() { before.as_ref() } else { None };
        Precondition::Current(Box::new((**seen.unwrap_or(current)).clone()))
    }

    fn reconfigure(
        &mut self,
        node: NodeId,
        target: Target,
        precondition: Precondition,
    ) -> Result<(), Violation> {
        let life = self.servers[&node].life;
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        let outbox = process.outbox.clone();
        self.note(|| format!("{node} is asked for the members {target}"));
        let request = self.clients.operator_asks(node, Errand::Members);
        let input = DriverInput::Reconfigure {
            target,
            precondition,
            operator: Caller { request, outbox },
        };
        self.give(node, life, input)
    }

    fn start_newcomers(&mut self, target: &Target, rng: &mut Rng) -> Result<(), Violation> {
        let members = target.voters().union(target.learners());
        for node in members.copied().collect::<Vec<_>>() {
            if !self.servers.contains_key(&node) {
                let joins = Configuration::unknown();
                let kind = kind_of(self.seed, &self.profile, node);
                if kind == MemberKind::Witness {
                    self.safety.keeps_no_data(node);
                }
                let server = Server::new(self.seed, (node, kind), &self.profile.node, joins);
                self.servers.insert(node, server);
                self.clients.know(self.everyone());
                if rng.chance(COMES_LATE) {
                    let after = rng.span(Duration::ZERO, LATEST_TO_COME);
                    self.schedule.after(after, Happening::Restart(node));
                } else {
                    self.start(node)?;
                }
            }
        }
        Ok(())
    }

    /// A second operator asks, a little after a first one.
    pub(super) fn ask_once_more(&mut self, strike: u64) -> Result<(), Violation> {
        if self.are_faults_over() {
            return Ok(());
        }
        let rng = &mut Rng::new(self.seed, Stream::SecondOperator(strike));
        let node = self.any_node(rng);
        self.ask_for_members(node, rng)
    }

    /// None when there is nobody to let in.
    fn draw_target(
        &self,
        current: &Configuration,
        rng: &mut Rng,
    ) -> Result<Option<Target>, ConfigurationError> {
        let mut target = Target::of(current);
        for lost in self.servers.values().filter(|server| server.is_lost()) {
            target = target.without(lost.id)?;
        }
        let voters: Vec<NodeId> = target.voters().iter().copied().collect();
        let one = *rng.pick(&voters);
        let other = self.outsider(&target, rng);
        let change = *rng.pick(&CHANGES);
        Ok(match (change, other) {
            (Change::Remove, _) => Some(target.without(one)?),
            (Change::Demote, _) => Some(target.with_learner(one, self.info_of(one))?),
            (Change::PromoteAll, _) => Some(self.promoted(target)?),
            (_, None) => None,
            (Change::AddVoter, Some(other)) => Some(target.with_voter(other, self.info_of(other))?),
            (Change::AddLearner, Some(other)) => Some(target.with_learner(other, self.info_of(other))?),
            (Change::Replace, Some(other)) => {
                Some(target.with_voter(other, self.info_of(other))?.without(one)?)
            }
            (Change::ReplaceMany, Some(_)) => Some(self.replace_many(target, &voters, rng)?),
        })
    }

    fn replace_many(
        &self,
        mut target: Target,
        voters: &[NodeId],
        rng: &mut Rng,
    ) -> Result<Target, ConfigurationError> {
        for voter in voters.iter().take(2) {
            if let Some(other) = self.outsider(&target, rng) {
                target = target.with_voter(other, self.info_of(other))?.without(*voter)?;
            }
        }
        Ok(target)
    }

    /// All learners as voters.
    fn promoted(&self, target: Target) -> Result<Target, ConfigurationError> {
        let learners = target.learners().clone();
        let as_voter = |target: Target, node| target.with_voter(node, self.info_of(node));
        learners.into_iter().try_fold(target, as_voter)
    }

    /// A node that is no member: one that was, or one that is new. None if there are as many as may be.
    fn outsider(&self, target: &Target, rng: &mut Rng) -> Option<NodeId> {
        let is_outside = |node: &NodeId| !target.voters().contains(node) && !target.learners().contains(node);
        let mut outside: Vec<NodeId> = self.everyone().into_iter().filter(is_outside).collect();
        if self.everyone().len() < MOST_NODES {
            let new = self.servers.len() as u64 + 1;
            // A new one that the target already names has not been started yet.
            outside.extend((new..new + 3).map(NodeId).find(is_outside));
        }
        (!outside.is_empty()).then(|| *rng.pick(&outside))
    }

    fn info_of(&self, node: NodeId) -> MemberInfo {
        info(self.seed, &self.profile, node)
    }

    /// A node's directory is lost, if that is no more than the members can bear, or the run bears any loss.
    pub(super) fn lose_directory(&mut self, node: NodeId) {
        let is_too_much = match self.profile.losses {
            Losses::Tolerable => !self.can_lose(node),
            Losses::Any => self.everyone().len() == 1,
        };
        if is_too_much {
            return;
        }
        self.note(|| format!("{node} loses its directory"));
        self.marks.reach(Mark::DirectoryLost);
        self.kill(node);
        self.server(node).presence = Presence::Lost;
        self.clients.know(self.everyone());
    }

    fn can_lose(&self, node: NodeId) -> bool {
        let lost = self.servers.values().filter(|server| server.is_lost());
        let lost: BTreeSet<NodeId> = lost.map(|server| server.id).collect();
        let can_decide = |members: &Configuration| {
            let remains = |member: NodeId| member != node && !lost.contains(&member);
            is_quorum(members, remains) && !lost.iter().any(|lost| members.is_member(*lost))
        };
        self.clients.operators() == 0
            && self.everyone().len() > 1
            && self
                .safety
                .live_configurations(|node| !lost.contains(&node))
                .all(can_decide)
    }

    /// Who leads in the highest term.
    pub(super) fn leader(&self) -> Option<Status> {
        let processes = self.servers.values().filter_map(|server| server.process.as_ref());
        processes
            .filter(|process| process.role() == RoleKind::Leader)
            .map(|process| process.driver.status())
            .max_by_key(|status| status.term)
    }

    /// What a change under way, or a lost member, keeps from being at rest. An operator removes who is lost, once those
    /// who are left are at rest: they must come to it without the operator.
    pub(super) fn settle_members(&mut self) -> Result<Option<String>, Violation> {
        let Some(leader) = self.leader() else {
            return Ok(None);
        };
        let members = leader.configuration;
        let is_lost = |node: &NodeId| self.servers[node].is_lost();
        let (lost, left): (BTreeSet<NodeId>, BTreeSet<NodeId>) =
            members.members().into_iter().partition(is_lost);
        if !lost.is_empty()
            && let Some(unrest) = self.unrest_of(&left)
        {
            return Ok(Some(unrest));
        }
        // Whoever waits for a member that is lost waits until another change takes the place of theirs.
        let is_time = self.clients.operators() == 0 || self.now().since(self.asked_for_members) > ASK_AGAIN;
        if !lost.is_empty() && is_time {
            self.asked_for_members = self.now();
            let without = |target: Target, node: &NodeId| target.without(*node);
            let target = lost.iter().try_fold(Target::of(&members), without);
            // Of those who were to vote all may be lost: then all stay as they are.
            let stays = |node: &&NodeId| !lost.contains(node);
            let info = |node: &NodeId| (*node, members.info(*node));
            let that_stay = |set: &BTreeSet<NodeId>| set.iter().filter(stays).map(info).collect::<Vec<_>>();
            let target = target.or_else(|error| match members.stage() {
                Stage::CatchingUp(_) => {
                    Target::new(that_stay(members.voters()), that_stay(members.learners()))
                }
                Stage::Settled | Stage::Joint => Err(error),
            });
            if let Ok(target) = target {
                self.reconfigure(leader.id, target, Precondition::Any)?;
            }
        }
        let is_settled = matches!(members.stage(), Stage::Settled) && lost.is_empty();
        Ok((!is_settled).then(|| format!("the members are {members}, of which {lost:?} are lost")))
    }
}

const CHANGES: [Change; 9] = [
    Change::AddVoter,
    Change::AddVoter,
    Change::AddLearner,
    Change::Remove,
    Change::Remove,
    Change::Replace,
    Change::ReplaceMany,
    Change::Demote,
    Change::PromoteAll,
];
const MOST_NODES: usize = 7;
/// How long an operator waits before they ask again for members without those who are lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const COMES_LATE: Chance = Chance::percent(25);
const LATEST_TO_COME: Duration = Duration::from_secs(1);
