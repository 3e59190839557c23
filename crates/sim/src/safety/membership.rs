//! Who the members are by a node's log, and what must be true of every change of them (I9).
//!
//! - A configuration counts from the moment it is written, and no longer when it is truncated (thesis §4.1).
//! - Any quorum of a configuration meets any quorum of the one before it.
//! - A leader does not begin a change of the voters before the one before it is committed.
//! - Who begins to vote has caught up (thesis §4.2.1): it has all that was committed when it began to learn.
//!
//! What a quorum is, is said here once more, so that the code under test is not its own judge.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_raft::{Configuration, EntryId, Index, NodeId, Payload, Stage, Stored, Term, Write};

use super::{Safety, Watched};
use crate::invariant::{Invariant, Violation, require};

/// The configurations in a node's log.
///
/// Always true: there is one at least, and their indexes grow. The first is that of a snapshot.
#[derive(Clone, Debug)]
pub(super) struct Members {
    first: Named,
    later: Vec<Named>,
}

/// A configuration, and the entry or snapshot that brought it.
pub(super) type Named = (Index, Arc<Configuration>);

impl Members {
    /// Those that a recovery found.
    pub(super) fn recovered(stored: &Stored) -> Self {
        Self {
            first: (
                stored.snapshot.id.index,
                Arc::clone(&stored.snapshot.configuration),
            ),
            later: stored.configurations.clone(),
        }
    }

    /// The members in effect.
    pub(super) fn latest(&self) -> &Named {
        self.later.last().unwrap_or(&self.first)
    }

    /// The members that a candidate for a term counts, whose log then ended before `end`.
    pub(super) fn before(&self, end: Index) -> &Named {
        let found = self.later.iter().rev().find(|(index, _)| *index < end);
        found.unwrap_or(&self.first)
    }

    /// Whether `node` was a member all along, as far as what came after `index` says.
    pub(super) fn always_since(&self, index: Index, node: NodeId) -> bool {
        let mut since = self.later.iter().filter(|(later, _)| *later > index);
        since.all(|(_, members)| members.is_member(node))
    }

    /// What `write` makes of them. Returns the changes: each configuration with the one before it.
    pub(super) fn write(&mut self, write: &Write) -> Vec<(Named, Named)> {
        if let Some(meta) = &write.reset {
            self.first = (meta.id.index, Arc::clone(&meta.configuration));
            self.later.clear();
        }
        if let Some(entry) = write.entries.first() {
            self.later.retain(|(index, _)| *index < entry.id.index);
        }
        let mut changes = Vec::new();
        for entry in &write.entries {
            if let Payload::Configuration(configuration) = &entry.payload {
                let named = (entry.id.index, Arc::clone(configuration));
                changes.push((self.latest().clone(), named.clone()));
                self.later.push(named);
            }
        }
        changes
    }

    /// Whether the entry at `index` brings `members`.
    pub(super) fn contains(&self, index: Index, members: &Arc<Configuration>) -> bool {
        let mut all = [&self.first].into_iter().chain(&self.later);
        all.any(|(at, found)| *at == index && found == members)
    }

    /// Each configuration, with the last index at which it is in effect in a log that ends at `last`.
    pub(super) fn until(&self, last: Index) -> impl Iterator<Item = (Index, &Arc<Configuration>)> {
        let ends = self.later.iter().map(|(index, _)| index.prev()).chain([last]);
        let all = [&self.first].into_iter().chain(&self.later);
        all.zip(ends).map(|((_, members), end)| (end, members))
    }

    /// From the newest on that is settled, as `is_settled` says of entries: these can still be in effect somewhere.
    pub(super) fn live(
        &self,
        is_settled: impl Fn(Index) -> bool,
    ) -> impl Iterator<Item = &Arc<Configuration>> {
        let settled = self.later.iter().rposition(|(index, _)| is_settled(*index));
        let first = settled.is_none().then_some(&self.first);
        let later = &self.later[settled.unwrap_or(0)..];
        first.into_iter().chain(later).map(|(_, members)| members)
    }

    /// The entries that change who votes and are not settled, as `is_settled` says.
    fn unsettled(&self, is_settled: impl Fn(Index) -> bool) -> Vec<Index> {
        let before = [&self.first].into_iter().chain(&self.later);
        before
            .zip(&self.later)
            .filter(|((_, old), (index, new))| !is_settled(*index) && votes_differ(old, new))
            .map(|(_, (index, _))| *index)
            .collect()
    }
}

impl Safety {
    /// Every configuration that may still be in effect, by the logs of the nodes for which `counts` holds.
    pub(crate) fn live_configurations(
        &self,
        counts: impl Fn(NodeId) -> bool,
    ) -> impl Iterator<Item = &Configuration> {
        let nodes = self.nodes.iter().filter(move |(node, _)| counts(**node));
        nodes.flat_map(|(_, watched)| self.live(watched))
    }

    pub(super) fn live<'a>(&'a self, watched: &'a Watched) -> impl Iterator<Item = &'a Configuration> {
        let live = watched.members.live(|index| self.is_settled(watched, index));
        live.map(|members| &**members)
            .filter(|members| !members.is_unknown())
    }

    /// Every change of the members in a write is one that cannot divide them.
    pub(super) fn check_changes(&self, node: NodeId, changes: &[(Named, Named)]) -> Result<(), Violation> {
        changes.iter().try_for_each(|((before, old), (index, new))| {
            require(quorums_meet(old, new), Invariant::QuorumsIntersect, || {
                format!("{node} writes configuration {index} ({new}) after {before} ({old}): both could decide alone")
            })
        })
    }

    /// Whom a new leader lets in must have all that was committed before, whoever began to let it in.
    pub(super) fn expect_of_newcomers(&mut self, node: NodeId, term: Term) {
        let committed = self.last_committed_before(term);
        self.watched(node).to_reach = committed.unwrap_or(EntryId::ZERO);
    }

    /// A leader writes these changes: who begins to vote by them has caught up.
    pub(super) fn check_newcomers(
        &mut self,
        node: NodeId,
        changes: &[(Named, Named)],
    ) -> Result<(), Violation> {
        for ((_, old), (index, new)) in changes {
            let to_reach = self.nodes[&node].to_reach;
            let is_new = |voter: &&NodeId| !old.is_voter(**voter) && **voter != node;
            let lags = |voter: &&NodeId| {
                let watched = self.nodes.get(*voter);
                watched.is_none_or(|watched| !watched.durable.holds(to_reach))
            };
            let lagging = new.voters().iter().filter(is_new).find(lags);
            require(lagging.is_none(), Invariant::CaughtUp, || {
                format!("{node} lets {lagging:?} vote by entry {index} ({new}), which lacks {to_reach}")
            })?;
            if matches!(new.stage(), Stage::CatchingUp(_)) {
                let reached = self.committed_id(self.nodes[&node].commit);
                let watched = self.watched(node);
                watched.to_reach = watched.to_reach.max(reached.unwrap_or(EntryId::ZERO));
            }
        }
        Ok(())
    }

    /// Whether the entry that `watched` has at `index` is the one that was committed there.
    pub(super) fn is_settled(&self, watched: &Watched, index: Index) -> bool {
        self.committed_id(index)
            .is_some_and(|id| watched.written.holds(id))
    }

    /// A leader has at most one change of the voters under way.
    pub(super) fn check_one_change(&self, node: NodeId) -> Result<(), Violation> {
        let watched = &self.nodes[&node];
        // A leader that has just started knows less than was committed, and has all of it.
        let unsettled = watched.members.unsettled(|index| self.is_settled(watched, index));
        let is_fine = watched.leads.is_none() || unsettled.len() <= 1;
        require(is_fine, Invariant::OneChange, || {
            format!(
                "{node} leads with uncommitted changes of the voters at {unsettled:?}, commit {}",
                watched.commit
            )
        })
    }
}

/// Whether those for which `agrees` holds are more than half of the voters, and of the outgoing ones if there are any.
pub(crate) fn is_quorum(members: &Configuration, agrees: impl Fn(NodeId) -> bool) -> bool {
    let has_most = |set: &BTreeSet<NodeId>| 2 * set.iter().filter(|node| agrees(**node)).count() > set.len();
    has_most(members.voters()) && (members.outgoing().is_empty() || has_most(members.outgoing()))
}

fn votes_differ(a: &Configuration, b: &Configuration) -> bool {
    a.voters() != b.voters() || a.outgoing() != b.outgoing()
}

/// Whether no quorum of one is outside some quorum of the other: tries every set of members.
pub(super) fn quorums_meet(a: &Configuration, b: &Configuration) -> bool {
    if !votes_differ(a, b) {
        return true;
    }
    let members: Vec<NodeId> = a.members().union(&b.members()).copied().collect();
    (0_u64..1 << members.len()).all(|set| {
        let inside: BTreeSet<NodeId> = chosen(&members, set).collect();
        !(is_quorum(a, |node| inside.contains(&node)) && is_quorum(b, |node| !inside.contains(&node)))
    })
}

fn chosen(members: &[NodeId], set: u64) -> impl Iterator<Item = NodeId> + '_ {
    members
        .iter()
        .enumerate()
        .filter(move |(place, _)| set & (1 << place) != 0)
        .map(|(_, node)| *node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(nodes: &[u64]) -> Configuration {
        joint(nodes, &[])
    }

    fn joint(voters: &[u64], outgoing: &[u64]) -> Configuration {
        let ids = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect::<Vec<_>>();
        Configuration::joint(ids(voters), ids(outgoing), []).unwrap()
    }

    #[test]
    fn one_voter_more_or_less_divides_nobody_and_two_may() {
        assert!(quorums_meet(&voters(&[1, 2, 3]), &voters(&[1, 2, 3])));
        assert!(quorums_meet(&voters(&[1, 2, 3]), &voters(&[1, 2, 3, 4])));
        assert!(quorums_meet(&voters(&[1, 2, 3, 4]), &voters(&[1, 2, 4])));
        assert!(!quorums_meet(&voters(&[1, 2, 3]), &voters(&[1, 2, 3, 4, 5])));
        assert!(!quorums_meet(&voters(&[1, 2, 3]), &voters(&[4, 5, 6])));
    }

    #[test]
    fn a_quorum_is_more_than_half_and_of_both_sets() {
        let agree = |nodes: &'static [u64]| move |node: NodeId| nodes.contains(&node.0);
        assert!(is_quorum(&voters(&[1]), agree(&[1])) && !is_quorum(&voters(&[1, 2]), agree(&[1])));
        assert!(
            is_quorum(&voters(&[1, 2, 3]), agree(&[1, 3])) && !is_quorum(&voters(&[1, 2, 3]), agree(&[1, 4]))
        );
        let both = joint(&[3, 4, 5], &[1, 2, 3]);
        assert!(is_quorum(&both, agree(&[1, 3, 4])) && !is_quorum(&both, agree(&[3, 4, 5])));
    }

    #[test]
    fn through_a_joint_configuration_any_change_is_safe() {
        let (old, new) = (voters(&[1, 2, 3]), voters(&[4, 5, 6]));
        let both = joint(&[4, 5, 6], &[1, 2, 3]);
        assert!(quorums_meet(&old, &both) && quorums_meet(&both, &new));
        assert!(!quorums_meet(
            &joint(&[4, 5, 6], &[1, 2, 7]),
            &voters(&[1, 2, 3, 8, 9])
        ));
    }
}
