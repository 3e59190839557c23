//! A leader that is cut off with entries that nobody else has, and comes back at the worst moment.
//!
//! Its log may be the longest of all and must not win an election, and what replaces it may be a snapshot
//! that ends inside it. Cuts that heal at a moment of their own hardly ever bring about either.

use std::time::Duration;

use quorate_raft::{NodeId, RoleKind};

use super::{Happening, World};
use crate::cut::Cut;
use crate::network::Damage;
use crate::rng::Rng;
use crate::schedule::Time;
use crate::server::{Death, Process};

/// A leader that is cut off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comeback {
    leader: NodeId,
    cut: Damage,
    when: When,
    /// When it is reached again in any case.
    latest: Time,
}

/// What it waits for.
#[derive(Clone, Copy, Debug)]
enum When {
    /// It has a successor that has committed: this one dies.
    Succeeded,
    /// The others have compacted entries that it does not know to be committed.
    Compacted,
}

impl World {
    /// Nobody reaches the leader, if there is one.
    pub(super) fn cut_off_leader(&mut self, rng: &mut Rng) {
        let Some(leader) = self.newest_leader() else {
            return;
        };
        let cut = self.network.cut(Cut::around(leader, &self.everyone()));
        self.look_later(Comeback {
            leader,
            cut,
            when: *rng.pick(&[When::Succeeded, When::Compacted]),
            latest: self.now() + self.profile.strike_lasts * 4,
        });
    }

    pub(super) fn come_back_if_due(&mut self, comeback: Comeback) {
        let Comeback {
            leader,
            cut,
            when,
            latest,
        } = comeback;
        if self.are_faults_over() || !self.network.is_cut_by(cut) {
            return;
        }
        let is_due = match when {
            When::Succeeded => self.has_successor(leader),
            When::Compacted => self.has_been_compacted(leader),
        };
        if !is_due && self.now() < latest {
            self.look_later(comeback);
            return;
        }
        self.note(|| format!("{leader} is reached again"));
        self.network.mend(cut);
        if let (true, When::Succeeded, Some(successor)) = (is_due, when, self.newest_leader()) {
            self.die(successor, Death::Killed);
            self.schedule
                .after(self.profile.strike_lasts, Happening::Restart(successor));
        }
    }

    fn look_later(&mut self, comeback: Comeback) {
        self.schedule.after(LOOK_EVERY, Happening::ComeBack(comeback));
    }

    /// Whether another leads, and has committed all that its log has.
    fn has_successor(&self, old: NodeId) -> bool {
        let successor = self.newest_leader().filter(|leader| *leader != old);
        let process = successor.and_then(|leader| self.servers[&leader].process.as_ref());
        process
            .map(Process::view)
            .is_some_and(|view| view.last.term == view.term && view.commit_index == view.last.index)
    }

    fn has_been_compacted(&self, old: NodeId) -> bool {
        let Some(process) = &self.servers[&old].process else {
            return false;
        };
        let committed = process.view().commit_index;
        let mut others = self.servers.values().filter_map(|server| server.process.as_ref());
        others.any(|other| other.base_index() > committed)
    }

    /// Who leads in the highest term.
    fn newest_leader(&self) -> Option<NodeId> {
        let running = self.servers.iter();
        let processes = running.filter_map(|(id, server)| Some((*id, server.process.as_ref()?)));
        let leaders = processes.filter(|(_, process)| process.role() == RoleKind::Leader);
        let (id, _) = leaders.max_by_key(|(_, process)| process.view().term)?;
        Some(id)
    }
}

/// How often it is looked whether it is time to come back.
const LOOK_EVERY: Duration = Duration::from_millis(2);
