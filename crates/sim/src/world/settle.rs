//! The end of the faults, and what the cluster must come to after it.

use std::time::Duration;

use quorate_raft::{Index, NodeId, RoleKind, Status, Term};

use super::{Happening, Wiring, World};
use crate::digest::Digest;
use crate::invariant::{Invariant, Violation, require};
use crate::schedule::Time;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Faults happen, clients ask.
    Faults,
    /// Everything is healed, clients finish what they began.
    Healing { since: Time },
    /// All is well, and the auditor looks whether it really is.
    Audit { since: Time },
    /// The end.
    Settled,
}

/// What one node looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    term: Term,
    leader: Option<NodeId>,
    commit: Index,
    last: Index,
    applied: Index,
    state: Digest,
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
            server.empty_disk();
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
            Phase::Healing { since } => (since, Phase::Audit { since: self.now() }),
            Phase::Audit { since } => (since, Phase::Settled),
        };
        match unrest {
            Some(what) => require(self.now().since(since) < PATIENCE, Invariant::Progress, || {
                format!("{PATIENCE:?} after the faults ended: {what}")
            }),
            None => {
                self.phase = next;
                if next != Phase::Settled {
                    let members = self.leader().map(|leader| leader.configuration.members());
                    let wake = self.clients.audit(&members.unwrap_or_default());
                    self.wake_later(wake);
                }
                Ok(())
            }
        }
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
        let mut looks = Vec::new();
        // Who is no member is told nothing, and must not hinder the others.
        let members = leader.configuration.members();
        for server in members.iter().filter_map(|node| self.servers.get(node)) {
            let Some(process) = &server.process else {
                return Some(format!("{} is down", server.id));
            };
            let state = process.apply.applier.machine().state();
            looks.push(Look::new(&process.driver.status(), state));
        }
        let first = looks.first()?;
        if first.leader.is_none() || looks.iter().any(|look| look != first) {
            return Some(format!(
                "the nodes differ, or have no leader: {looks:?}; {}",
                self.progress()
            ));
        }
        if first.commit != first.last || first.applied != first.last {
            return Some(format!("the nodes are not done: {first:?}"));
        }
        let unanswered = self.clients.unanswered(&members);
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
}

impl Look {
    fn new(status: &Status, state: Digest) -> Self {
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
