//! Who the members are, and what makes a quorum of them.
//!
//! - A configuration is simple (one set of voters) or joint (thesis §4.3: an outgoing set too, and
//!   every decision needs a majority of each).
//! - Learners receive the log and are never counted.
//! - A change under way is in the configuration itself: whoever leads next goes on with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::membership::{MemberInfo, MemberKind, Priority, Target, list, weight_of_info};
use crate::mutant::mutant;
use crate::types::{Index, NodeId};

/// The members of a group at some point of its log.
///
/// Always true of one built by [`Configuration::new`] or [`Configuration::joint`]: there is a voter,
/// no learner votes, and only members are described.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Configuration {
    voters: BTreeSet<NodeId>,
    outgoing: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
    info: BTreeMap<NodeId, MemberInfo>,
    pending: Option<Box<Target>>,
}

/// How far a change of members has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage<'a> {
    /// There is none under way.
    Settled,
    /// Those who are to vote and do not yet are learning.
    CatchingUp(&'a Target),
    /// Both the old voters and the new ones decide.
    Joint,
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
    /// Nobody would keep what is replicated.
    #[error("a configuration needs a voter that is no witness: somebody must keep the data")]
    OnlyWitnesses,
    /// Something is said of a node that is no member.
    #[error("{0} is described but is no member")]
    DescribedStranger(NodeId),
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
            info: BTreeMap::new(),
            pending: None,
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

    /// What a node knows that joins a group it has not heard from: nothing. It has no quorum of anything.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            voters: BTreeSet::new(),
            outgoing: BTreeSet::new(),
            learners: BTreeSet::new(),
            info: BTreeMap::new(),
            pending: None,
        }
    }

    /// Whether this is [`Configuration::unknown`].
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.voters.is_empty()
    }

    /// With descriptions of members; who is left out is an ordinary one.
    ///
    /// # Errors
    /// When a node is described that is no member, or all voters are witnesses.
    pub fn with_info(
        mut self,
        info: impl IntoIterator<Item = (NodeId, MemberInfo)>,
    ) -> Result<Self, ConfigurationError> {
        self.info = info.into_iter().collect();
        if let Some(node) = self.info.keys().find(|node| !self.is_member(**node)) {
            return Err(ConfigurationError::DescribedStranger(*node));
        }
        let full = |node: &NodeId| self.kind(*node) == MemberKind::Full;
        if !self.is_unknown() && !self.voters.iter().any(full) {
            return Err(ConfigurationError::OnlyWitnesses);
        }
        Ok(self)
    }

    /// On the way to `pending`.
    #[must_use]
    pub fn with_pending(mut self, pending: Option<Target>) -> Self {
        self.pending = pending.map(Box::new);
        self
    }

    /// What is known of `node`; of one that was never described, that it is an ordinary member.
    #[must_use]
    pub fn info(&self, node: NodeId) -> MemberInfo {
        self.info.get(&node).cloned().unwrap_or_default()
    }

    /// The members that are described.
    #[must_use]
    pub fn described(&self) -> &BTreeMap<NodeId, MemberInfo> {
        &self.info
    }

    /// Whether `node` keeps data.
    #[must_use]
    pub fn kind(&self, node: NodeId) -> MemberKind {
        self.info.get(&node).map_or(MemberKind::Full, |info| info.kind)
    }

    /// How much `node` is wanted as leader.
    #[must_use]
    pub fn priority(&self, node: NodeId) -> Priority {
        self.info
            .get(&node)
            .map_or(Priority::default(), |info| info.priority)
    }

    /// Where a change under way leads.
    #[must_use]
    pub fn pending(&self) -> Option<&Target> {
        self.pending.as_deref()
    }

    /// How far a change of members has come.
    #[must_use]
    pub fn stage(&self) -> Stage<'_> {
        match &self.pending {
            _ if self.is_joint() => Stage::Joint,
            Some(target) => Stage::CatchingUp(target),
            None => Stage::Settled,
        }
    }

    /// Those who are to vote and do not yet.
    #[must_use]
    pub fn newcomers(&self) -> BTreeSet<NodeId> {
        let target = self.pending.as_deref().map(Target::voters);
        target
            .into_iter()
            .flatten()
            .copied()
            .filter(|node| !self.is_voter(*node))
            .collect()
    }

    /// The first configuration on the way from this simple one to `target`: newcomers learn (thesis §4.2.1).
    #[must_use]
    pub fn toward(&self, target: &Target) -> Self {
        let mut learners = self.learners.clone();
        let new_voters = target.voters().difference(&self.voters);
        learners.extend(new_voters.chain(target.learners().difference(&self.voters)));
        let mut info = self.info.clone();
        info.extend(target.info().clone());
        let mut configuration = Self {
            voters: self.voters.clone(),
            outgoing: BTreeSet::new(),
            learners,
            info: BTreeMap::new(),
            pending: Some(Box::new(target.clone())),
        };
        configuration.describe(info);
        configuration
    }

    /// The configuration in which the voters of this simple one and those of `target` decide together
    /// (thesis §4.3); `target` itself if these are the same.
    #[must_use]
    pub fn enter(&self, target: &Target) -> Self {
        if self.voters == *target.voters() {
            return Self::at(target);
        }
        let mut info = self.info.clone();
        info.extend(target.info().clone());
        let mut configuration = Self {
            voters: target.voters().clone(),
            outgoing: self.voters.clone(),
            learners: target.learners().difference(&self.voters).copied().collect(),
            info: BTreeMap::new(),
            pending: Some(Box::new(target.clone())),
        };
        configuration.describe(info);
        configuration
    }

    /// The configuration after this joint one.
    #[must_use]
    pub fn leave(&self) -> Self {
        match &self.pending {
            Some(target) => Self::at(target),
            None => {
                let mut configuration = Self {
                    outgoing: BTreeSet::new(),
                    ..self.clone()
                };
                configuration.describe(self.info.clone());
                configuration
            }
        }
    }

    /// Whether this is what `target` asks for, with nothing under way.
    #[must_use]
    pub fn is_at(&self, target: &Target) -> bool {
        *self == Self::at(target)
    }

    fn at(target: &Target) -> Self {
        let mut configuration = Self {
            voters: target.voters().clone(),
            outgoing: BTreeSet::new(),
            learners: target.learners().clone(),
            info: BTreeMap::new(),
            pending: None,
        };
        configuration.describe(target.info().clone());
        configuration
    }

    /// Keeps of `info` what says something of a member.
    fn describe(&mut self, info: BTreeMap<NodeId, MemberInfo>) {
        let ordinary = MemberInfo::default();
        let info = info
            .into_iter()
            .filter(|(node, info)| self.is_member(*node) && *info != ordinary)
            .collect();
        self.info = info;
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

    fn all_voters(&self) -> BTreeSet<NodeId> {
        self.voters.union(&self.outgoing).copied().collect()
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
        let pending = self.pending.as_deref().map_or(0, Target::weight);
        let members = self.voters.len() + self.outgoing.len() + self.learners.len();
        8 * members as u64 + weight_of_info(&self.info) + pending
    }

    /// Whether the nodes for which `agrees` holds are a quorum (thesis §4.3 when joint).
    pub fn has_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        if mutant!(M39) {
            return has_majority(&self.all_voters(), agrees);
        }
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
        if mutant!(M39) {
            return majority_value(&self.all_voters(), reached);
        }
        let incoming = majority_value(&self.voters, &reached);
        if self.outgoing.is_empty() || mutant!(M71) {
            return incoming;
        }
        incoming.min(majority_value(&self.outgoing, &reached))
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |node: &NodeId| self.kind(*node);
        write!(f, "voters={}", list(&self.voters, kind))?;
        if self.is_joint() {
            write!(f, " outgoing={}", list(&self.outgoing, kind))?;
        }
        if !self.learners.is_empty() {
            write!(f, " learners={}", list(&self.learners, kind))?;
        }
        match self.stage() {
            Stage::CatchingUp(target) => write!(f, " then ({target})"),
            Stage::Settled | Stage::Joint => Ok(()),
        }
    }
}

fn has_majority(set: &BTreeSet<NodeId>, agrees: impl Fn(NodeId) -> bool) -> bool {
    let agreeing = set.iter().filter(|node| agrees(**node)).count();
    agreeing >= majority(set.len())
}

/// More than half.
fn majority(voters: usize) -> usize {
    let half = voters / 2;
    if mutant!(M24) || (mutant!(M25) && voters.is_multiple_of(2)) {
        return half.max(1);
    }
    half + 1
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
    values.get(majority(set.len()) - 1).copied()
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
