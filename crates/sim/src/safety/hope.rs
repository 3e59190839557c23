//! Whether those who are left can go on, by what their disks hold (L1, L3).
//!
//! - A leader needs data, and the votes of a quorum by its own log; a vote is given to a log that is no
//!   older than the voter's (thesis §3.6.1).
//! - A node that lacks entries may fetch them from another before it campaigns, so a log counts for
//!   everyone who can be asked.
//! - Between what surely can and what surely cannot lie changes that are half done: there nothing is required.

use quorate_raft::{Configuration, EntryId, NodeId};

use super::Safety;

/// Whether a leader can be elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hope {
    /// One of those who are left can win as things are.
    Sure,
    /// By some configuration in some log a quorum is left, and nobody can win by its own.
    Some,
    /// By no configuration is a quorum left that would elect anyone who has data.
    None,
}

impl Safety {
    /// What those for whom `is_left` holds can come to, all others being gone for good.
    pub(crate) fn hope(&self, is_left: impl Fn(NodeId) -> bool) -> Hope {
        let with_data = || {
            let nodes = self.nodes.iter();
            nodes.filter(|(node, _)| is_left(**node) && !self.witnesses.contains(node))
        };
        let votes_for = |members: &Configuration, log: EntryId| {
            members.has_quorum(|voter| is_left(voter) && self.is_no_newer(voter, log))
        };
        let wins = with_data().any(|(node, watched)| {
            let (_, members) = watched.members.latest();
            members.is_voter(*node) && votes_for(members, watched.durable.last())
        });
        if wins {
            return Hope::Sure;
        }
        let newest = with_data()
            .map(|(_, watched)| watched.durable.last())
            .max_by_key(|last| (last.term, last.index))
            .unwrap_or(EntryId::ZERO);
        let mut known = self.configurations(&is_left);
        if known.any(|members| !members.is_unknown() && votes_for(members, newest)) {
            Hope::Some
        } else {
            Hope::None
        }
    }

    fn is_no_newer(&self, voter: NodeId, log: EntryId) -> bool {
        let last = self.nodes.get(&voter).map(|watched| watched.durable.last());
        last.is_none_or(|last| (last.term, last.index) <= (log.term, log.index))
    }
}
