//! The end of the faults, and what the cluster must come to after it.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_raft::{Index, MemberKind, NodeId, RoleKind, Status, Term};

use super::{Happening, Wiring, World};
use crate::digest::Digest;
use crate::invariant::{Invariant, Violation, require};
use crate::marks::Mark;
use crate::replicated::content;
use crate::safety::Hope;
use crate::schedule::Time;
use crate::server::Server;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Faults happen, clients ask.
    Faults,
    /// Everything is healed, clients finish what they began.
    Healing { since: Time },
    /// All is well, and the auditor looks whether it really is.
    Audit { since: Time },
    /// So much is lost that nobody can be elected; what is under way may still arrive.
    Halting { since: Time },
    /// Nothing is decided any more.
    Halted { since: Time, done: Done },
    /// The end.
    Settled,
}

/// What must not grow where nothing can be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    commit: Index,
    answered: u64,
}

/// What one node looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    term: Term,
    leader: Option<NodeId>,
    commit: Index,
    last: Index,
    applied: Index,
    /// None if it keeps none.
    state: Option<Digest>,
}

impl World {
    pub(super) fn are_faults_over(&self) -> bool {
        self.phase != Phase::Faults
    }

    /// Ends every fault, and lets clients begin nothing new.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.note(|| "the faults end".to_owned());
        self.phase = Phase::Healing { since: self.now() };
        self.clients.finish_up();
        self.schedule.after(LOOK_EVERY, Happening::Look);
        if self.wiring == Wiring::EndlessFaults {
            self.network.break_down();
            return Ok(());
        }
        self.network.heal();
        let now = self.now();
        for node in self.everyone() {
            let server = self.server(node);
            server.paused_until = now;
            server.stalled_until = now;
            server.slow_until = now;
            server.clock.strobe_until = now;
            server.make_room();
            self.start(node)?;
        }
        Ok(())
    }

    /// Looks whether the cluster has come to rest, and goes on to the next phase when it has.
    pub(super) fn look(&mut self) -> Result<(), Violation> {
        self.schedule.after(LOOK_EVERY, Happening::Look);
        let unrest = self.settle_members()?.or_else(|| self.unrest());
        let (since, next) = match self.phase {
            Phase::Faults | Phase::Settled => return Ok(()),
            Phase::Halting { since } => return self.look_at_halting(since),
            Phase::Halted { since, done } => return self.look_at_halted(since, done),
            Phase::Healing { since } => (since, Phase::Audit { since: self.now() }),
            Phase::Audit { since } => (since, Phase::Settled),
        };
        match unrest {
            Some(what) => self.check_progress(since, &what),
            None => {
                self.phase = next;
                if next != Phase::Settled {
                    let members = self.leader().map(|leader| leader.configuration.members());
                    let mut members = members.unwrap_or_default();
                    members.retain(|node| self.servers[node].kind == MemberKind::Full);
                    let wake = self.clients.audit(&members);
                    self.wake_later(wake);
                }
                Ok(())
            }
        }
    }

    /// The cluster is not at rest. That is excused only by disks that are lost for good.
    fn check_progress(&mut self, since: Time, what: &str) -> Result<(), Violation> {
        let has_losses = self.servers.values().any(Server::is_lost);
        let hope = if has_losses && !self.had_hope {
            self.hope()
        } else {
            Hope::Some
        };
        if hope == Hope::None {
            self.note(|| "too much is lost: nobody can be elected".to_owned());
            self.phase = Phase::Halting { since: self.now() };
            return Ok(());
        }
        // What was under way has arrived, and no configuration is a trap: whatever comes now is no loss's fault.
        let is_still = self.now().since(since) >= LAST_WORDS && self.clients.operators() == 0;
        self.had_hope |= is_still && hope == Hope::Some && self.safety.can_bear(|node| self.is_left(node));
        let is_overdue = self.now().since(since) >= PATIENCE;
        require(!is_overdue, Invariant::Progress, || {
            format!("{PATIENCE:?} after the faults ended: {what}")
        })
    }

    fn hope(&self) -> Hope {
        self.safety.hope(|node| self.is_left(node))
    }

    fn is_left(&self, node: NodeId) -> bool {
        self.servers.get(&node).is_some_and(|server| !server.is_lost())
    }

    fn done(&self) -> Done {
        Done {
            commit: self.safety.commit_index(),
            answered: self.clients.counts().answered,
        }
    }

    /// What was sent before the loss may still decide something, until a leader that hears nobody gives up.
    fn look_at_halting(&mut self, since: Time) -> Result<(), Violation> {
        if self.now().since(since) < LAST_WORDS {
            return Ok(());
        }
        let since = self.now();
        self.phase = if self.hope() == Hope::None {
            let done = self.done();
            Phase::Halted { since, done }
        } else {
            Phase::Healing { since }
        };
        Ok(())
    }

    /// Whoever cannot have a quorum must not go on as if they had one.
    fn look_at_halted(&mut self, since: Time, done: Done) -> Result<(), Violation> {
        // Witnesses may elect one who has data and is no voter any more; it commits nothing.
        let can_commit = |leader: &Status| {
            let mut voters = leader.configuration.voters().iter();
            voters.any(|voter| self.is_left(*voter) && self.servers[voter].kind == MemberKind::Full)
        };
        let leader = self.leader().filter(can_commit);
        require(leader.is_none(), Invariant::FalseProgress, || {
            format!("too much is lost to elect anyone, and {leader:?} leads")
        })?;
        let now_done = self.done();
        require(done == now_done, Invariant::FalseProgress, || {
            format!("too much is lost to decide anything: {done:?} became {now_done:?}")
        })?;
        if self.now().since(since) >= SILENCE {
            self.marks.reach(Mark::LossTooGreat);
            self.phase = Phase::Settled;
        }
        Ok(())
    }

    /// What the leaders know of the others.
    fn progress(&self) -> String {
        let statuses = self
            .servers
            .values()
            .filter_map(|server| Some(server.process.as_ref()?.driver.status()));
        let leaders = statuses.filter(|status| status.role == RoleKind::Leader);
        let shown =
            leaders.map(|status| format!("{} since {}: {:?}", status.id, status.base, status.progress));
        shown.collect::<Vec<_>>().join("; ")
    }

    /// What keeps the cluster from being at rest.
    fn unrest(&self) -> Option<String> {
        let Some(leader) = self.leader() else {
            return Some("nobody leads".to_owned());
        };
        // Who is no member is told nothing, and must not hinder the others.
        let members = leader.configuration.members();
        if let Some(what) = self.unrest_of(&members) {
            return Some(what);
        }
        let owing = self
            .servers
            .values()
            .filter(|server| members.contains(&server.id) || server.knows_its_removal());
        let owing = owing.map(|server| server.id).collect();
        let unanswered = self.clients.unanswered(&owing);
        let waiting = || {
            self.clients
                .waiting()
                .map(|node| self.servers[&node].process.as_ref())
        };
        (unanswered > 0).then(|| {
            let statuses = waiting().flatten().map(|process| process.driver.status());
            let nodes: Vec<String> = statuses.map(|status| format!("{status:?}")).collect();
            format!("{unanswered} requests have no answer, at {}", nodes.join("; "))
        })
    }

    /// What keeps `members` from being equal and done.
    pub(super) fn unrest_of(&self, members: &BTreeSet<NodeId>) -> Option<String> {
        let mut looks = Vec::new();
        for node in members {
            let server = self.servers.get(node);
            let Some((server, process)) = server.and_then(|server| Some((server, server.process.as_ref()?)))
            else {
                return Some(format!("{node} is down"));
            };
            let keeps_state = server.kind == MemberKind::Full;
            let state = keeps_state.then(|| content(process.apply.applier.machine()));
            looks.push(Look::new(&process.driver.status(), state));
        }
        let Some(first) = looks.iter().find(|look| look.state.is_some()) else {
            return Some(format!("nobody of {members:?} keeps data"));
        };
        if first.leader.is_none() || looks.iter().any(|look| !look.agrees(first)) {
            return Some(format!(
                "the nodes differ, or have no leader: {looks:?}; {}",
                self.progress()
            ));
        }
        if first.commit != first.last || first.applied != first.last {
            return Some(format!("the nodes are not done: {first:?}"));
        }
        None
    }
}

impl Look {
    /// Whether both are the same, as far as both have a state.
    fn agrees(&self, other: &Self) -> bool {
        let state = self.state.or(other.state);
        Self { state, ..*self } == *other
    }

    fn new(status: &Status, state: Option<Digest>) -> Self {
        let leads = status.role == RoleKind::Leader;
        Self {
            term: status.term,
            leader: if leads { Some(status.id) } else { status.leader },
            commit: status.commit_index,
            last: status.last.index,
            applied: status.applied_index,
            state,
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Virtual time: the slowest seeds replay their log at a few entries a second.
const PATIENCE: Duration = Duration::from_secs(180);
/// Virtual time: longer than a leader that hears nobody leads, and than anything is under way.
const LAST_WORDS: Duration = Duration::from_secs(15);
/// How long it is watched that nothing is decided.
const SILENCE: Duration = Duration::from_secs(15);
