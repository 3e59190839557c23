//! What is committed, by whom, and on whose disks (I4, I5, I6, I7, I8, I9).

use std::sync::Arc;

use quorate_raft::{Configuration, EntryId, Index, NodeId, Term};

use super::Safety;
use super::logs::place_of;
use super::membership::is_quorum;
use crate::invariant::{Invariant, Violation, require};

/// What an index was committed as.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed {
    id: EntryId,
    /// The term of the leader that committed it.
    by: Term,
}

impl Safety {
    /// The highest index committed, ever and by anyone.
    pub(crate) fn commit_index(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// A client is told that this entry holds its command.
    pub(crate) fn acknowledged(&self, id: EntryId) -> Result<(), Violation> {
        let committed = self.committed_id(id.index);
        require(committed == Some(id), Invariant::QuorumLog, || {
            format!("{id} is acknowledged, committed is {committed:?}")
        })?;
        // Any quorum of the members when it was appended, by the newest commit, or by what was appended since.
        let settled = self.committed_configuration(self.commit_index());
        let logs = || self.nodes.values().map(|watched| &watched.members);
        let at_first = logs().map(|members| &members.before(id.index).1);
        let of_late = logs().map(|members| &members.latest().1);
        let mut counted = settled
            .map(|(_, members)| members)
            .into_iter()
            .chain(of_late)
            .chain(at_first);
        require(
            counted.any(|members| self.is_on_disks(id, members)),
            Invariant::QuorumLog,
            || {
                format!(
                    "{id} is acknowledged, and on the disks of {:?} only",
                    self.holders(id)
                )
            },
        )
    }

    /// A node's commit index grows.
    pub(super) fn advanced(&mut self, node: NodeId, index: Index) -> Result<(), Violation> {
        let watched = self.watched(node);
        let before = std::mem::replace(&mut watched.commit, index);
        require(before <= index, Invariant::Monotone, || {
            format!("{node} goes back from commit index {before} to {index}")
        })?;
        if index > self.commit_index() {
            self.committed_first(node, index)?;
        }
        let written = &self.nodes[&node].written;
        let committed = self.committed_id(index);
        require(
            committed.is_none_or(|id| written.holds(id)),
            Invariant::StateMachineSafety,
            || format!("{node} commits up to {index}, which is {committed:?}, and holds {written:?}"),
        )
    }

    /// A leader commits what nobody has before.
    fn committed_first(&mut self, node: NodeId, index: Index) -> Result<(), Violation> {
        let watched = &self.nodes[&node];
        let (term, leads) = (watched.written.term_at(index), watched.leads);
        require(leads.is_some() && leads == term, Invariant::OwnTermCommit, || {
            format!("{node} commits {index} of term {term:?} first, and leads {leads:?}")
        })?;
        let by = term.expect("a leader's term, as checked above");
        let id = EntryId::new(index, by);
        self.check_durable(node, id)?;
        for next in self.commit_index().0 + 1..=index.0 {
            let term = self.nodes[&node].written.term_at(Index(next));
            let id = EntryId::new(Index(next), term.unwrap_or_default());
            self.committed.push(Committed { id, by });
        }
        self.check_later_leaders(id)
    }

    /// What is committed is on the disks of a quorum of the members in effect, at the step's begin or end.
    fn check_durable(&self, node: NodeId, id: EntryId) -> Result<(), Violation> {
        let watched = &self.nodes[&node];
        let (before, now) = (&watched.members_before, &watched.members.latest().1);
        let is_durable = self.is_on_disks(id, before) || self.is_on_disks(id, now);
        require(is_durable, Invariant::DurableOnQuorum, || {
            format!(
                "{node} commits {id}, which is on the disks of {:?}, members {now}",
                self.holders(id)
            )
        })?;
        let mut holders = self.holders(id).into_iter();
        let has_data = holders.any(|holder| !self.witnesses.contains(&holder));
        require(has_data, Invariant::DurableOnQuorum, || {
            format!(
                "{node} commits {id}, of which only witnesses have anything: {:?}",
                self.holders(id)
            )
        })
    }

    /// A leader of a higher term may have been elected before this was called committed.
    fn check_later_leaders(&self, id: EntryId) -> Result<(), Violation> {
        for (node, watched) in &self.nodes {
            let lacks = watched.leads.is_some_and(|term| term > id.term) && !watched.written.holds(id);
            require(!lacks, Invariant::LeaderCompleteness, || {
                format!(
                    "{id} is committed, and {node} leads {:?} without it",
                    watched.leads
                )
            })?;
        }
        Ok(())
    }

    /// What an index was committed as; none if it is not.
    pub(super) fn committed_id(&self, index: Index) -> Option<EntryId> {
        let place = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.committed.get(place).map(|committed| committed.id)
    }

    /// The last entry that was committed by a leader of a term before `term`.
    ///
    /// Terms of committing leaders never fall along the log, so a search finds it.
    pub(super) fn last_committed_before(&self, term: Term) -> Option<EntryId> {
        let before = self.committed.partition_point(|committed| committed.by < term);
        before.checked_sub(1).map(|at| self.committed[at].id)
    }

    /// The newest configuration committed at or before `index`; none before the first change.
    pub(super) fn committed_configuration(&self, index: Index) -> Option<(Index, &Arc<Configuration>)> {
        let up_to = self.configurations.range(..=(index, Term(u64::MAX)));
        let is_committed = |place: &(Index, Term)| self.committed_id(place.0).map(place_of) == Some(*place);
        up_to
            .rev()
            .find(|(place, _)| is_committed(place))
            .map(|((index, _), members)| (*index, members))
    }

    fn is_on_disks(&self, id: EntryId, members: &Configuration) -> bool {
        is_quorum(members, |node| self.is_on_disk(node, id))
    }

    fn is_on_disk(&self, node: NodeId, id: EntryId) -> bool {
        let watched = self.nodes.get(&node);
        watched.is_some_and(|watched| watched.durable.holds(id))
    }

    fn holders(&self, id: EntryId) -> Vec<NodeId> {
        let nodes = self.nodes.keys().copied();
        nodes.filter(|node| self.is_on_disk(*node, id)).collect()
    }
}
