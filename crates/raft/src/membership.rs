//! What is said of a member, and what a group is to become.
//!
//! - A [`Target`] is valid from the moment it is built: somebody votes who keeps the data, and nobody
//!   votes and learns at once.
//! - The way to it is in `configuration`: newcomers learn first, then both sets of voters decide
//!   together, then the new one alone (thesis §4.3).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

use crate::configuration::{Configuration, ConfigurationError};
use crate::types::NodeId;

/// Whether a member keeps what is replicated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MemberKind {
    /// It has a state machine and the whole log.
    #[default]
    Full,
    /// It votes, and keeps terms and the identities of entries, but no command and no state.
    Witness,
}

/// How much a member is wanted as leader: more is preferred, equals are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u32);

/// What a configuration says of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemberInfo {
    /// Whether it keeps data. A member's kind never changes.
    pub kind: MemberKind,
    /// How much it is wanted as leader.
    pub priority: Priority,
    /// The caller's: an address, a name. The core only carries it.
    pub context: Bytes,
}

/// Who is to vote and who is to learn, with what is known of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    voters: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
    info: BTreeMap<NodeId, MemberInfo>,
}

/// What a change of members must find, so that two operators cannot undo each other's work unseen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Whatever members there are.
    Any,
    /// Exactly these, with no change under way but the one they name.
    Current(Box<Configuration>),
}

impl Precondition {
    /// What it weighs in bounds and budgets, in bytes.
    pub(crate) fn weight(&self) -> u64 {
        match self {
            Self::Any => 0,
            Self::Current(members) => members.weight(),
        }
    }
}

impl Target {
    /// These voters and learners.
    ///
    /// # Errors
    /// When no voter keeps data, or a voter is a learner too.
    pub fn new(
        voters: impl IntoIterator<Item = (NodeId, MemberInfo)>,
        learners: impl IntoIterator<Item = (NodeId, MemberInfo)>,
    ) -> Result<Self, ConfigurationError> {
        let voters: BTreeMap<_, _> = voters.into_iter().collect();
        let learners: BTreeMap<_, _> = learners.into_iter().collect();
        if let Some(node) = learners.keys().find(|node| voters.contains_key(node)) {
            return Err(ConfigurationError::VotingLearner(*node));
        }
        Self {
            voters: voters.keys().copied().collect(),
            learners: learners.keys().copied().collect(),
            info: voters.into_iter().chain(learners).collect(),
        }
        .checked()
    }

    /// Where `configuration` stands or goes, to be changed.
    #[must_use]
    pub fn of(configuration: &Configuration) -> Self {
        if let Some(target) = configuration.pending() {
            return target.clone();
        }
        let info = |node: &NodeId| (*node, configuration.info(*node));
        let (voters, learners) = (configuration.voters(), configuration.learners());
        Self {
            voters: voters.clone(),
            learners: learners.clone(),
            info: voters.iter().chain(learners).map(info).collect(),
        }
    }

    /// With `node` as a voter, whatever it was.
    ///
    /// # Errors
    /// When then no voter keeps data.
    pub fn with_voter(mut self, node: NodeId, info: MemberInfo) -> Result<Self, ConfigurationError> {
        self.learners.remove(&node);
        self.voters.insert(node);
        self.info.insert(node, info);
        self.checked()
    }

    /// With `node` as a learner that stays one, whatever it was.
    ///
    /// # Errors
    /// When then no voter keeps data.
    pub fn with_learner(mut self, node: NodeId, info: MemberInfo) -> Result<Self, ConfigurationError> {
        self.voters.remove(&node);
        self.learners.insert(node);
        self.info.insert(node, info);
        self.checked()
    }

    /// Without `node`.
    ///
    /// # Errors
    /// When then no voter keeps data.
    pub fn without(mut self, node: NodeId) -> Result<Self, ConfigurationError> {
        self.voters.remove(&node);
        self.learners.remove(&node);
        self.info.remove(&node);
        self.checked()
    }

    /// Those who are to vote.
    #[must_use]
    pub fn voters(&self) -> &BTreeSet<NodeId> {
        &self.voters
    }

    /// Those who are to learn.
    #[must_use]
    pub fn learners(&self) -> &BTreeSet<NodeId> {
        &self.learners
    }

    /// What is known of each.
    #[must_use]
    pub fn info(&self) -> &BTreeMap<NodeId, MemberInfo> {
        &self.info
    }

    /// What the target weighs in bounds and budgets, in bytes.
    #[must_use]
    pub fn weight(&self) -> u64 {
        8 * (self.voters.len() + self.learners.len()) as u64 + weight_of_info(&self.info)
    }

    fn checked(self) -> Result<Self, ConfigurationError> {
        if self.voters.is_empty() {
            return Err(ConfigurationError::NoVoters);
        }
        let keeps_data = |node: &NodeId| {
            self.info
                .get(node)
                .is_none_or(|info| info.kind == MemberKind::Full)
        };
        if self.voters.iter().any(keeps_data) {
            Ok(self)
        } else {
            Err(ConfigurationError::OnlyWitnesses)
        }
    }
}

/// What `info` weighs in bounds and budgets, in bytes.
pub(crate) fn weight_of_info(info: &BTreeMap<NodeId, MemberInfo>) -> u64 {
    info.values().map(|info| 16 + info.context.len() as u64).sum()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |node: &NodeId| self.info.get(node).map_or(MemberKind::Full, |info| info.kind);
        write!(f, "voters={}", list(&self.voters, kind))?;
        if !self.learners.is_empty() {
            write!(f, " learners={}", list(&self.learners, kind))?;
        }
        Ok(())
    }
}

/// A set of members as people read it: witnesses are marked.
pub(crate) fn list(set: &BTreeSet<NodeId>, kind: impl Fn(&NodeId) -> MemberKind) -> String {
    let name = |node: &NodeId| match kind(node) {
        MemberKind::Full => node.to_string(),
        MemberKind::Witness => format!("{node}w"),
    };
    let names: Vec<String> = set.iter().map(name).collect();
    format!("({})", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(kind: MemberKind) -> MemberInfo {
        MemberInfo {
            kind,
            ..MemberInfo::default()
        }
    }

    #[test]
    fn somebody_who_keeps_the_data_votes() {
        let alone = Target::new([(NodeId(1), info(MemberKind::Witness))], []);
        assert_eq!(alone, Err(ConfigurationError::OnlyWitnesses));
        let two = Target::new(
            [
                (NodeId(1), info(MemberKind::Full)),
                (NodeId(2), info(MemberKind::Witness)),
            ],
            [],
        )
        .unwrap();
        assert_eq!(
            two.clone().without(NodeId(1)),
            Err(ConfigurationError::OnlyWitnesses)
        );
        assert_eq!(two.to_string(), "voters=(n1 n2w)");
    }

    #[test]
    fn a_member_is_in_one_place() {
        let target = Target::new([(NodeId(1), MemberInfo::default())], []).unwrap();
        let learns = target
            .clone()
            .with_learner(NodeId(2), MemberInfo::default())
            .unwrap();
        assert_eq!(learns.to_string(), "voters=(n1) learners=(n2)");
        let votes = learns.with_voter(NodeId(2), MemberInfo::default()).unwrap();
        assert_eq!(votes.to_string(), "voters=(n1 n2)");
        assert_eq!(votes.without(NodeId(2)).unwrap(), target);
    }
}
