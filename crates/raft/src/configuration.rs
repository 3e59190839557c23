//! Who the members are, and what makes a quorum of them.
//!
//! - A configuration is simple (one set of voters) or joint (thesis §4.3: an outgoing set too, and
//!   every decision needs a majority of each).
//! - Learners receive the log and are never counted.

use std::collections::BTreeSet;
use std::fmt;

use crate::types::{Index, NodeId};

/// The members of a group at some point of its log.
///
/// Always true of one built by [`Configuration::new`] or [`Configuration::joint`]: there is a voter,
/// and no learner votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    voters: BTreeSet<NodeId>,
    outgoing: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
}

/// Why sets of nodes are not a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// Without voters nothing can ever be decided.
    #[error("a configuration needs at least one voter")]
    NoVoters,
    /// A node is a voter and a learner at once.
    #[error("{0} cannot be a voter and a learner at once")]
    VotingLearner(NodeId),
}

impl Configuration {
    /// A simple configuration.
    ///
    /// # Errors
    /// When there is no voter, or a voter is a learner too.
    pub fn new(
        voters: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Result<Self, ConfigurationError> {
        Self::joint(voters, [], learners)
    }

    /// A joint configuration: `voters` come in, `outgoing` go; simple when `outgoing` is empty.
    ///
    /// # Errors
    /// When there is no voter, or a voter of either set is a learner too.
    pub fn joint(
        voters: impl IntoIterator<Item = NodeId>,
        outgoing: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Result<Self, ConfigurationError> {
        let configuration = Self {
            voters: voters.into_iter().collect(),
            outgoing: outgoing.into_iter().collect(),
            learners: learners.into_iter().collect(),
        };
        if configuration.voters.is_empty() {
            return Err(ConfigurationError::NoVoters);
        }
        match configuration
            .learners
            .iter()
            .find(|node| configuration.is_voter(**node))
        {
            Some(node) => Err(ConfigurationError::VotingLearner(*node)),
            None => Ok(configuration),
        }
    }

    /// The voters that decide, incoming ones when joint.
    #[must_use]
    pub fn voters(&self) -> &BTreeSet<NodeId> {
        &self.voters
    }

    /// The voters of the configuration being left; empty unless joint.
    #[must_use]
    pub fn outgoing(&self) -> &BTreeSet<NodeId> {
        &self.outgoing
    }

    /// The members that only listen.
    #[must_use]
    pub fn learners(&self) -> &BTreeSet<NodeId> {
        &self.learners
    }

    /// Whether two majorities are needed.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `node` votes, in either set.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether `node` is a voter or a learner.
    #[must_use]
    pub fn is_member(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// Every member once, in order.
    #[must_use]
    pub fn members(&self) -> BTreeSet<NodeId> {
        let mut members = self.voters.clone();
        members.extend(&self.outgoing);
        members.extend(&self.learners);
        members
    }

    /// What the configuration weighs in bounds and budgets, in bytes.
    #[must_use]
    pub fn weight(&self) -> u64 {
        8 * (self.voters.len() + self.outgoing.len() + self.learners.len()) as u64
    }

    /// Whether the nodes for which `agrees` holds are a quorum (thesis §4.3 when joint).
    pub fn has_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        has_majority(&self.voters, &agrees)
            && (self.outgoing.is_empty() || has_majority(&self.outgoing, &agrees))
    }

    /// Whether a quorum is out of reach once the nodes for which `refuses` holds have refused.
    pub fn cannot_have_quorum(&self, refuses: impl Fn(NodeId) -> bool) -> bool {
        !self.has_quorum(|node| !refuses(node))
    }

    /// The highest index that a quorum has reached, given how far each voter is.
    pub fn committed_index(&self, reached: impl Fn(NodeId) -> Index) -> Index {
        self.quorum_value(|node| reached(node).0)
            .map_or(Index::ZERO, Index)
    }

    /// The highest number that a quorum has reached; none only if there are no voters.
    pub(crate) fn quorum_value(&self, reached: impl Fn(NodeId) -> u64) -> Option<u64> {
        let incoming = majority_value(&self.voters, &reached);
        if self.outgoing.is_empty() {
            return incoming;
        }
        incoming.min(majority_value(&self.outgoing, &reached))
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "voters={}", list(&self.voters))?;
        if self.is_joint() {
            write!(f, " outgoing={}", list(&self.outgoing))?;
        }
        if !self.learners.is_empty() {
            write!(f, " learners={}", list(&self.learners))?;
        }
        Ok(())
    }
}

fn has_majority(set: &BTreeSet<NodeId>, agrees: impl Fn(NodeId) -> bool) -> bool {
    let agreeing = set.iter().filter(|node| agrees(**node)).count();
    agreeing * 2 > set.len()
}

/// The value at the place of the majority, counted from the highest.
///
/// Sets are small: up to [`INLINE_VOTERS`] values are sorted without touching the heap.
fn majority_value(set: &BTreeSet<NodeId>, reached: impl Fn(NodeId) -> u64) -> Option<u64> {
    let mut inline = [0; INLINE_VOTERS];
    let mut heap = Vec::new();
    let values = match inline.get_mut(..set.len()) {
        Some(values) => values,
        None => {
            heap.resize(set.len(), 0);
            heap.as_mut_slice()
        }
    };
    for (value, node) in values.iter_mut().zip(set) {
        *value = reached(*node);
    }
    values.sort_unstable_by(|a, b| b.cmp(a));
    values.get(set.len() / 2).copied()
}

fn list(set: &BTreeSet<NodeId>) -> String {
    let names: Vec<String> = set.iter().map(ToString::to_string).collect();
    format!("({})", names.join(" "))
}

const INLINE_VOTERS: usize = 9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    /// The definition itself: the highest value that more than half have reached.
    fn naive(set: &BTreeSet<NodeId>, reached: &BTreeMap<NodeId, u64>) -> u64 {
        let at = |node: &NodeId| reached.get(node).copied().unwrap_or(0);
        set.iter()
            .map(at)
            .filter(|value| 2 * set.iter().filter(|node| at(node) >= *value).count() > set.len())
            .max()
            .unwrap_or(0)
    }

    fn nodes(max: usize) -> impl Strategy<Value = BTreeSet<NodeId>> {
        prop::collection::btree_set((1..14_u64).prop_map(NodeId), 1..=max)
    }

    proptest! {
        #[test]
        fn committed_index_is_what_a_majority_of_each_set_has_reached(
            voters in nodes(11),
            outgoing in prop::collection::btree_set((1..14_u64).prop_map(NodeId), 0..11),
            reached in prop::collection::btree_map((1..14_u64).prop_map(NodeId), 0..20_u64, 0..14),
        ) {
            let configuration = Configuration::joint(voters.clone(), outgoing.clone(), []).unwrap();
            let at = |node: NodeId| Index(reached.get(&node).copied().unwrap_or(0));
            let mut expected = naive(&voters, &reached);
            if !outgoing.is_empty() {
                expected = expected.min(naive(&outgoing, &reached));
            }
            prop_assert_eq!(configuration.committed_index(at), Index(expected));
        }

        #[test]
        fn any_two_quorums_share_a_node(voters in nodes(9), a in nodes(14), b in nodes(14)) {
            let configuration = Configuration::new(voters, []).unwrap();
            let both = configuration.has_quorum(|n| a.contains(&n)) && configuration.has_quorum(|n| b.contains(&n));
            prop_assert!(!both || a.intersection(&b).next().is_some());
        }

        #[test]
        fn a_quorum_is_out_of_reach_exactly_when_the_rest_is_none(voters in nodes(9), refused in nodes(14)) {
            let configuration = Configuration::new(voters.clone(), []).unwrap();
            let rest = voters.iter().filter(|node| !refused.contains(node)).count();
            prop_assert_eq!(configuration.cannot_have_quorum(|n| refused.contains(&n)), 2 * rest <= voters.len());
        }
    }

    #[test]
    fn a_configuration_needs_a_voter_and_no_voting_learner() {
        assert_eq!(Configuration::new([], []), Err(ConfigurationError::NoVoters));
        let error = Configuration::joint([NodeId(1)], [NodeId(2)], [NodeId(2)]);
        assert_eq!(error, Err(ConfigurationError::VotingLearner(NodeId(2))));
    }
}
