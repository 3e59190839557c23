//! When a leader gives way by itself: its disk is stalled, or a more wanted voter can lead.
//!
//! - It gives way only to one that can lead: active, and acknowledging what it is sent.
//! - A leader whose disk is stalled goes on sending heartbeats and confirming reads until then: neither waits
//!   for a disk. If nobody else can lead it stays, for nothing would be gained.
//! - For a more wanted voter it tries once it has led for an election timeout, and waits twice as long after each try. A
//!   voter that campaigns and cannot win ends the leadership that handed over: the wait outlives it.

use std::cmp::Reverse;

use crate::core::Core;
use crate::event::StepDown;
use crate::handover::{Cause, can_lead};
use crate::leader::Leader;
use crate::node::Next;
use crate::types::NodeId;

/// How long this node waits, whenever it leads, before it hands over to a more wanted voter again.
#[derive(Clone, Debug)]
pub(crate) struct Deference {
    /// Ticks since the last try, or since it ended.
    elapsed: u32,
    /// Ticks from one try to the next.
    patience: u32,
    election_ticks: u32,
}

impl Deference {
    pub(crate) fn new(election_ticks: u32) -> Self {
        Self {
            elapsed: election_ticks,
            patience: election_ticks,
            election_ticks,
        }
    }

    /// A tick passed, in any role. Once nothing was tried for twice as long as it had to wait, what was vain before may
    /// not be any more.
    pub(crate) fn on_tick(&mut self) {
        self.elapsed = self.elapsed.saturating_add(1);
        if self.elapsed >= 2 * self.patience {
            self.patience = self.election_ticks;
        }
    }

    /// This node leads: for an election timeout it hands over to nobody.
    pub(crate) fn on_elected(&mut self) {
        self.elapsed = self.elapsed.min(self.patience - self.election_ticks);
    }

    fn is_due(&self) -> bool {
        self.elapsed >= self.patience
    }

    fn wait_longer(&mut self) {
        self.elapsed = 0;
        self.patience = (2 * self.patience).min(LONGEST * self.election_ticks);
    }

    /// A handover is under way: what comes after it is waited for from its end on.
    fn wait_for_end(&mut self) {
        self.elapsed = 0;
    }
}

impl Leader {
    /// A tick passed: gives way if that helps.
    pub(crate) fn tick_yielding(&mut self, core: &mut Core) -> Next {
        if self.handover.is_some() {
            core.deference.wait_for_end();
            return Next::Stay;
        }
        if core.disk_is_stalled() {
            return self.yield_for_disk(core);
        }
        if core.deference.is_due()
            && let Some(to) = self.more_wanted(core)
        {
            core.deference.wait_longer();
            self.begin_handover(core, to, Cause::Wish);
            return self.go_on_with_handover(core);
        }
        Next::Stay
    }

    fn yield_for_disk(&mut self, core: &mut Core) -> Next {
        let able = self.able(core);
        let best = able.max_by_key(|node| {
            let reached = self.progress.get(node).map(|progress| progress.match_index());
            (core.configuration().priority(*node), reached, Reverse(*node))
        });
        match best {
            Some(to) => {
                self.begin_handover(core, to, Cause::Leaves(StepDown::StalledDisk));
                self.go_on_with_handover(core)
            }
            None => Next::Stay,
        }
    }

    /// The most wanted of those who are wanted more than this leader and have all that is committed.
    fn more_wanted(&self, core: &Core) -> Option<NodeId> {
        let priority = |node: NodeId| core.configuration().priority(node);
        let has_committed = |node: &NodeId| {
            let reached = self.progress.get(node).map(|progress| progress.match_index());
            reached >= Some(core.log.commit_index())
        };
        self.able(core)
            .filter(|node| priority(*node) > priority(core.id()) && has_committed(node))
            .max_by_key(|node| (priority(*node), Reverse(*node)))
    }

    /// Those who can lead, and whose disks work.
    fn able(&self, core: &Core) -> impl Iterator<Item = NodeId> {
        let election_ticks = core.config.election_ticks;
        self.progress
            .iter()
            .filter(move |(node, progress)| {
                can_lead(core, **node)
                    && progress.is_there(election_ticks)
                    && progress.keeps_up(election_ticks)
            })
            .map(|(node, _)| *node)
    }
}

/// Election timeouts between two tries to hand over to a more wanted voter, at most.
const LONGEST: u32 = 512;
