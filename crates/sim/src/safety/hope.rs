//! Whether those who are left can go on, by what their disks hold (L1, L3).
//!
//! - A leader needs data, and the votes of a quorum by its own log; a vote is given to a log that is no
//!   older than the voter's (thesis §3.6.1).
//! - A node that lacks entries may fetch them from another before it campaigns, so a log counts for
//!   everyone who can be asked.

use quorate_raft::{Configuration, EntryId, Index, NodeId, Term};

use super::membership::is_quorum;
use super::{Safety, Watched};

/// Whether a leader can be elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hope {
    /// One of those who are left can win, as things are or with what it can fetch.
    Some,
    /// Whatever anyone fetches, no quorum is left that would elect anyone who has data.
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
            let keeps_data = |voter: &NodeId| is_left(*voter) && !self.witnesses.contains(voter);
            // Nothing is committed that only witnesses have (ADR 0006).
            is_quorum(members, |voter| is_left(voter) && self.is_no_newer(voter, log))
                && members.voters().iter().any(keeps_data)
        };
        // Who votes by a configuration that it does not know to be replaced may campaign, and counts by its newest.
        let candidates = || {
            with_data().filter(|(node, watched)| {
                let mut live = watched.members.live(|index| index <= watched.commit);
                live.any(|members| members.is_voter(**node))
            })
        };
        // It counts by the members of its own log, or of as much as it fetches of a newer one.
        let reaches = |own: &Watched| {
            let (last, latest) = (own.durable.last(), &own.members.latest().1);
            let fetches = |end: &EntryId| age(end) > age(&last);
            let others = with_data().flat_map(|(_, watched)| watched.prefixes());
            let mut fetched = others.filter(|(end, _)| fetches(end));
            votes_for(latest, last) || fetched.any(|(end, members)| votes_for(members.unwrap_or(latest), end))
        };
        if candidates().any(|(_, watched)| reaches(watched)) {
            Hope::Some
        } else {
            Hope::None
        }
    }

    /// Whether a quorum is left by every configuration that may be in effect, so that none can be a trap.
    pub(crate) fn can_bear(&self, is_left: impl Fn(NodeId) -> bool) -> bool {
        let mut known = self.live_configurations(&is_left);
        known.all(|members| is_quorum(members, &is_left))
    }

    fn is_no_newer(&self, voter: NodeId, log: EntryId) -> bool {
        let last = self.nodes.get(&voter).map(|watched| watched.durable.last());
        last.is_none_or(|last| age(&last) <= age(&log))
    }
}

impl Watched {
    /// The longest prefixes of its log by which each of its configurations is in effect: where they end, and the
    /// configuration. None if the prefix says nothing of members.
    fn prefixes(&self) -> impl Iterator<Item = (EntryId, Option<&Configuration>)> {
        let last = self.durable.last();
        self.members.until(last.index).filter_map(move |(end, members)| {
            let term = self.durable.term_at(end)?;
            let says = (!members.is_unknown()).then_some(&**members);
            Some((EntryId::new(end, term), says))
        })
    }
}

/// By what logs are compared (thesis §3.6.1).
fn age(last: &EntryId) -> (Term, Index) {
    (last.term, last.index)
}

#[cfg(test)]
mod tests {
    use quorate_raft::{Limits, Stored};

    use super::*;
    use crate::mirror::Change;

    /// Voters 1, 2 and so on, whose disks hold so many entries of term 1.
    fn cluster(logs: &[u64]) -> Safety {
        let mut safety = Safety::new(Limits::default());
        let nodes = || (1..=logs.len() as u64).map(NodeId);
        let members = Configuration::new(nodes(), []).unwrap();
        for (node, entries) in nodes().zip(logs) {
            safety.started(node, &Stored::new(members.clone())).unwrap();
            for index in 1..=*entries {
                let id = EntryId::new(Index(index), Term(1));
                safety.watched(node).durable.change(Change::Append(id));
            }
        }
        safety
    }

    fn without(lost: &'static [u64]) -> impl Fn(NodeId) -> bool {
        |node| !lost.contains(&node.0)
    }

    #[test]
    fn a_quorum_that_is_left_goes_on_and_less_does_not() {
        let safety = cluster(&[5, 5, 3]);
        assert_eq!(safety.hope(without(&[])), Hope::Some);
        assert_eq!(safety.hope(without(&[1])), Hope::Some);
        assert_eq!(safety.hope(without(&[1, 2])), Hope::None);
    }

    #[test]
    fn a_witness_denies_its_vote_to_data_that_is_older() {
        let mut safety = cluster(&[5, 3, 5]);
        safety.keeps_no_data(NodeId(3));
        assert_eq!(safety.hope(without(&[2])), Hope::Some);
        assert_eq!(safety.hope(without(&[1])), Hope::None);
        assert_eq!(safety.hope(without(&[1, 2])), Hope::None, "nobody has data");
    }

    #[test]
    fn what_a_learner_has_may_be_fetched() {
        let mut safety = cluster(&[5, 3, 5]);
        safety.keeps_no_data(NodeId(3));
        let learner = NodeId(4);
        safety
            .started(learner, &Stored::new(Configuration::unknown()))
            .unwrap();
        for index in 1..=5 {
            let id = EntryId::new(Index(index), Term(1));
            safety.watched(learner).durable.change(Change::Append(id));
        }
        assert_eq!(safety.hope(without(&[1])), Hope::Some);
    }
}
