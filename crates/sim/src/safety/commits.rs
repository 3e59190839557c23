//! What is committed, by whom, and on whose disks (I4, I5, I6, I7, I8, I9).

use std::sync::Arc;

use quorate_raft::{Configuration, EntryId, Index, NodeId, Term};

use super::Safety;
use super::logs::place_of;
use super::membership::is_quorum;
use crate::invariant::{Invariant, Violation, require};

/// What an index was committed as.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    id: EntryId,
    /// The term of the leader that committed it.
    by: Term,
    /// The members that it was counted by.
    counted_by: Arc<Configuration>,
}

impl Safety {
    /// The highest index committed, ever and by anyone.
    pub(crate) fn commit_index(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// A client is told that this entry holds its command.
    pub(crate) fn acknowledged(&self, id: EntryId) -> Result<(), Violation> {
        let committed = self.committed_at(id.index);
        let is_committed = committed.is_some_and(|committed| committed.id == id);
        require(is_committed, Invariant::QuorumLog, || {
            format!("{id} is acknowledged, committed is {committed:?}")
        })?;
        // Whoever committed later members did so by a quorum of them, whose logs hold what is before.
        let later = self.committed_configuration(self.commit_index());
        let later = later.filter(|(index, _)| *index > id.index);
        let members = committed.map(|committed| &committed.counted_by);
        let mut counted = members.into_iter().chain(later.map(|(_, members)| members));
        let lacking = counted.find(|members| !self.is_on_disks(id, members));
        require(lacking.is_none(), Invariant::QuorumLog, || {
            format!(
                "{id} is acknowledged, and on the disks of {:?} only, no quorum of {lacking:?}",
                self.holders(id)
            )
        })
    }

    /// A node's commit index grows.
    pub(super) fn advanced(&mut self, node: NodeId, index: Index) -> Result<(), Violation> {
        let watched = self.watched(node);
        let before = std::mem::replace(&mut watched.commit, index);
        require(before <= index, Invariant::Monotone, || {
            format!("{node} goes back from commit index {before} to {index}")
        })?;
        if index > self.commit_index() {
            self.committed_first(node, before, index)?;
        }
        let written = &self.nodes[&node].written;
        let committed = self.committed_id(index);
        require(
            committed.is_none_or(|id| written.holds(id)),
            Invariant::StateMachineSafety,
            || format!("{node} commits up to {index}, which is {committed:?}, and holds {written:?}"),
        )
    }

    /// A leader that had committed up to `before` commits what nobody has.
    fn committed_first(&mut self, node: NodeId, before: Index, index: Index) -> Result<(), Violation> {
        let watched = &self.nodes[&node];
        let (term, leads) = (watched.written.term_at(index), watched.leads);
        require(leads.is_some() && leads == term, Invariant::OwnTermCommit, || {
            format!("{node} commits {index} of term {term:?} first, and leads {leads:?}")
        })?;
        let by = term.expect("a leader's term, as checked above");
        let id = EntryId::new(index, by);
        let counted_by = self.check_durable(node, before, id)?;
        for next in self.commit_index().0 + 1..=index.0 {
            let term = self.nodes[&node].written.term_at(Index(next));
            let id = EntryId::new(Index(next), term.unwrap_or_default());
            let counted_by = Arc::clone(&counted_by);
            self.committed.push(Committed { id, by, counted_by });
        }
        self.check_later_leaders(id)
    }

    /// What is committed is on the disks of a quorum of the members in effect, one of whom keeps data.
    /// Says by which members.
    ///
    /// One step may commit the entry that brought the members in effect at its begin, and go on to the next ones:
    /// that entry is counted by its own members.
    fn check_durable(
        &self,
        node: NodeId,
        commit: Index,
        id: EntryId,
    ) -> Result<Arc<Configuration>, Violation> {
        let watched = &self.nodes[&node];
        let ((at, before), (_, now)) = (&watched.members_before, watched.members.latest());
        let is_settled_now = commit < *at && *at <= id.index && watched.members.contains(*at, before);
        let in_effect = [before].into_iter().chain((!is_settled_now).then_some(now));
        let counted_by = in_effect
            .into_iter()
            .find(|members| self.is_on_disks(id, members));
        require(counted_by.is_some(), Invariant::DurableOnQuorum, || {
            format!(
                "{node} commits {id}, which is on the disks of {:?}, members {before}, then {now}",
                self.holders(id)
            )
        })?;
        let counted_by = counted_by.expect("required above");
        // Whoever is to leave is a member until the entry that says so is committed, and its disk is of use till then.
        let (_, settled) = watched.members.before(Index(id.index.0 + 1));
        let mut holders = self.holders(id).into_iter();
        let is_voter = |node| counted_by.is_voter(node) || settled.is_voter(node);
        let has_data = holders.any(|node| is_voter(node) && !self.witnesses.contains(&node));
        require(has_data, Invariant::DurableOnQuorum, || {
            format!(
                "{node} commits {id}, of which only witnesses among {counted_by} have anything: {:?}",
                self.holders(id)
            )
        })?;
        Ok(Arc::clone(counted_by))
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
        self.committed_at(index).map(|committed| committed.id)
    }

    fn committed_at(&self, index: Index) -> Option<&Committed> {
        let place = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.committed.get(place)
    }

    /// The last entry that was committed by a leader of a term before `term`.
    ///
    /// Terms of committing leaders never fall along the log, so a search finds it.
    pub(super) fn last_committed_before(&self, term: Term) -> Option<EntryId> {
        let before = self.committed.partition_point(|committed| committed.by < term);
        before.checked_sub(1).map(|at| self.committed[at].id)
    }

    /// The newest configuration committed at or before `index`: the first one before any change.
    pub(super) fn committed_configuration(&self, index: Index) -> Option<(Index, &Arc<Configuration>)> {
        let up_to = self.configurations.range(..=(index, Term(u64::MAX)));
        let is_committed = |place: &(Index, Term)| self.committed_id(place.0).map(place_of) == Some(*place);
        up_to
            .rev()
            .find(|(place, _)| is_committed(place))
            .map(|((index, _), members)| (*index, members))
            .or_else(|| Some((Index::ZERO, self.first_members.as_ref()?)))
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
