//! What a core says of itself, held against what its log, its disk and its peers' disks are (I9, I12, I14, I15).

use std::collections::BTreeMap;

use quorate_raft::{EntryId, Index, NodeId, RoleKind, Status, Term};

use super::{Safety, Watched};
use crate::invariant::{Invariant, Violation, require};

/// What a leader knew its followers to hold when it was looked at last.
#[derive(Debug)]
pub(super) struct Matched {
    term: Term,
    /// The entry that said who the members are.
    members: Index,
    indexes: BTreeMap<NodeId, Index>,
}

impl Safety {
    /// A look at a node's core, after a step.
    pub(crate) fn looked(&mut self, status: &Status) -> Result<(), Violation> {
        let node = status.id;
        let watched = &self.nodes[&node];
        require(
            watched.has_on_disk(status.durable_index),
            Invariant::DurablePromise,
            || {
                format!(
                    "{node} takes {} for durable, its disk holds {:?}",
                    status.durable_index, watched.durable
                )
            },
        )?;
        let (index, members) = watched.members.latest();
        require(
            status.configuration == *members,
            Invariant::ConfigurationOfLog,
            || {
                format!(
                    "{node} goes by {}, its log says {members} at {index}",
                    status.configuration
                )
            },
        )?;
        require(
            watched.leads == leads(status),
            Invariant::StateTransitions,
            || {
                format!(
                    "{node} is {:?} in term {}, it was seen to lead {:?}",
                    status.role, status.term, watched.leads
                )
            },
        )?;
        self.check_load(status)?;
        if status.role == RoleKind::Leader {
            self.check_matches(status)?;
            self.check_matches_grow(status)?;
        }
        Ok(())
    }

    /// A bound may be passed by what was taken in last, never by more.
    fn check_load(&self, status: &Status) -> Result<(), Violation> {
        let (load, limits) = (status.load, &self.limits);
        let message = limits.max_message_bytes + LARGEST;
        let within = load.uncommitted_bytes <= limits.max_uncommitted_bytes + message
            && load.inflight_bytes <= limits.max_inflight_bytes + message
            && load.applying_bytes <= 2 * limits.max_applying_bytes + message
            && load.pending_reads <= limits.max_pending_reads;
        require(within, Invariant::Bounded, || {
            format!("{} holds {load:?}, its limits are {limits:?}", status.id)
        })
    }

    /// What a leader counts as replicated is on the follower's disk, as long as both are of one term. What of it
    /// is committed stays there, and one that has never started holds nothing.
    fn check_matches(&self, status: &Status) -> Result<(), Violation> {
        let leader = &self.nodes[&status.id];
        for (peer, progress) in &status.progress {
            let index = progress.match_index;
            let follower = self.nodes.get(peer);
            let is_on_disk = follower.map_or(index == Index::ZERO, |follower| {
                holds_match(leader, follower, index)
            });
            let has_moved_on = follower
                .is_some_and(|follower| follower.written.hard_state().term > status.term)
                && !self.is_committed_in(leader, index);
            require(is_on_disk || has_moved_on, Invariant::MatchIsDurable, || {
                format!(
                    "{} leads term {} and counts {peer} up to {index}, whose disk holds {:?}",
                    status.id,
                    status.term,
                    follower.map(|follower| &follower.durable)
                )
            })?;
        }
        Ok(())
    }

    /// Whether the entry at `index` of a node's log is the one that is committed there.
    fn is_committed_in(&self, watched: &Watched, index: Index) -> bool {
        self.committed_id(index)
            .is_some_and(|id| watched.written.holds(id))
    }

    fn check_matches_grow(&mut self, status: &Status) -> Result<(), Violation> {
        let (node, term) = (status.id, status.term);
        let is_member = |peer: &NodeId| status.configuration.is_member(*peer);
        let matches = status.progress.iter().filter(|(peer, _)| is_member(peer));
        let indexes: BTreeMap<NodeId, Index> = matches
            .map(|(peer, peer_status)| (*peer, peer_status.match_index))
            .collect();
        let earlier = self.watched(node).matched.take();
        if let Some(earlier) = earlier.filter(|earlier| earlier.term == term) {
            let members = &self.nodes[&node].members;
            // Who was left out and came back is counted anew.
            let stayed = |peer: NodeId| members.always_since(earlier.members, peer);
            let shrunk = indexes.iter().find(|(peer, index)| {
                stayed(**peer) && earlier.indexes.get(peer).is_some_and(|before| before > *index)
            });
            require(shrunk.is_none(), Invariant::MonotonicMatch, || {
                format!(
                    "{node} leads term {term} and counts {shrunk:?} after {:?}",
                    earlier.indexes
                )
            })?;
        }
        let members = self.nodes[&node].members.latest().0;
        self.watched(node).matched = Some(Matched {
            term,
            members,
            indexes,
        });
        Ok(())
    }
}

impl Watched {
    /// Whether the log that this node has written is on its disk up to `index`, and not another's entries.
    pub(super) fn has_on_disk(&self, index: Index) -> bool {
        let is_same = |term| self.durable.holds(EntryId::new(index, term));
        index <= self.durable.last().index && self.written.term_at(index).is_none_or(is_same)
    }
}

fn leads(status: &Status) -> Option<Term> {
    (status.role == RoleKind::Leader).then_some(status.term)
}

fn holds_match(leader: &Watched, follower: &Watched, index: Index) -> bool {
    let is_same = |term| follower.durable.holds(EntryId::new(index, term));
    index <= follower.durable.last().index && leader.written.term_at(index).is_none_or(is_same)
}

/// More bytes than any batch of commands that clients of the simulator have under way at once.
const LARGEST: u64 = 8 << 10;
