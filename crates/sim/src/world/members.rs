//! Operators who change the members, and directories that are lost.
//!
//! - A node that is to join runs before anyone is asked to let it in, and knows nothing.
//! - A node that was removed runs on, and may be let in again.
//! - Who has lost its directory never comes back under its id, and is lost only when every
//!   configuration that any node knows of can do without it.

use std::collections::BTreeSet;

use quorate::driver::DriverInput;
use quorate_raft::{
    Configuration, ConfigurationError, MemberInfo, NodeId, Precondition, RoleKind, Stage, Status, Target,
};

use super::World;
use crate::clients::Errand;
use crate::invariant::Violation;
use crate::marks::Mark;
use crate::ports::Caller;
use crate::rng::Rng;
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
        let Ok(target) = self.draw_target(&current, rng) else {
            return Ok(());
        };
        let precondition = if rng.coin() {
            Precondition::Any
        } else {
            Precondition::Current(Box::new((*current).clone()))
        };
        self.start_newcomers(&target)?;
        self.reconfigure(node, target, precondition)
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

    fn start_newcomers(&mut self, target: &Target) -> Result<(), Violation> {
        let members = target.voters().union(target.learners());
        for node in members.copied().collect::<Vec<_>>() {
            if !self.servers.contains_key(&node) {
                let joins = Configuration::unknown();
                let server = Server::new(self.seed, node, &self.profile.node, joins);
                self.servers.insert(node, server);
                self.clients.know(self.everyone());
                self.start(node)?;
            }
        }
        Ok(())
    }

    fn draw_target(&self, current: &Configuration, rng: &mut Rng) -> Result<Target, ConfigurationError> {
        let mut target = Target::of(current);
        for lost in self.servers.values().filter(|server| server.is_lost()) {
            target = target.without(lost.id)?;
        }
        let voters: Vec<NodeId> = target.voters().iter().copied().collect();
        let one = *rng.pick(&voters);
        let other = self.outsider(&target, rng);
        match rng.pick(&CHANGES) {
            Change::AddVoter => target.with_voter(other, full()),
            Change::AddLearner => target.with_learner(other, full()),
            Change::Remove => target.without(one),
            Change::Replace => target.with_voter(other, full())?.without(one),
            Change::ReplaceMany => self.replace_many(target, &voters, rng),
            Change::Demote => target.with_learner(one, full()),
            Change::PromoteAll => promoted(target),
        }
    }

    fn replace_many(
        &self,
        mut target: Target,
        voters: &[NodeId],
        rng: &mut Rng,
    ) -> Result<Target, ConfigurationError> {
        for voter in voters.iter().take(2) {
            let other = self.outsider(&target, rng);
            target = target.with_voter(other, full())?.without(*voter)?;
        }
        Ok(target)
    }

    /// A node that is no member: one that was, or one that is new.
    fn outsider(&self, target: &Target, rng: &mut Rng) -> NodeId {
        let is_outside = |node: &NodeId| !target.voters().contains(node) && !target.learners().contains(node);
        let mut outside: Vec<NodeId> = self.everyone().into_iter().filter(is_outside).collect();
        if self.everyone().len() < MOST_NODES {
            let new = self.servers.len() as u64 + 1;
            // A new one that the target already names has not been started yet.
            outside.extend((new..new + 3).map(NodeId).find(is_outside));
        }
        if outside.is_empty() {
            return NodeId(1);
        }
        *rng.pick(&outside)
    }

    /// A node's directory is lost, if that is no more than the members can bear.
    pub(super) fn lose_directory(&mut self, node: NodeId) {
        if !self.can_lose(node) {
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
            members.has_quorum(remains) && !lost.iter().any(|lost| members.is_member(*lost))
        };
        self.clients.operators() == 0
            && self.everyone().len() > 1
            && self
                .safety
                .configurations(|node| !lost.contains(&node))
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

    /// What a change under way, or a lost member, keeps from being at rest. An operator replaces who is lost.
    pub(super) fn settle_members(&mut self) -> Result<Option<String>, Violation> {
        let Some(leader) = self.leader() else {
            return Ok(None);
        };
        let members = leader.configuration;
        let is_lost = |node: &NodeId| self.servers[node].is_lost();
        let lost: Vec<NodeId> = members.members().into_iter().filter(is_lost).collect();
        if !lost.is_empty() && self.clients.operators() == 0 {
            let without = |target: Target, node: &NodeId| target.without(*node);
            if let Ok(target) = lost.iter().try_fold(Target::of(&members), without) {
                self.reconfigure(leader.id, target, Precondition::Any)?;
            }
        }
        let is_settled = matches!(members.stage(), Stage::Settled) && lost.is_empty();
        Ok((!is_settled).then(|| format!("the members are {members}, of which {lost:?} are lost")))
    }
}

/// All learners as voters.
fn promoted(target: Target) -> Result<Target, ConfigurationError> {
    let learners = target.learners().clone();
    learners
        .into_iter()
        .try_fold(target, |target, node| target.with_voter(node, full()))
}

fn full() -> MemberInfo {
    MemberInfo::default()
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
