//! Which changes of the voters are refused because too few members take part (`--strict-reconfig-check`).
//!
//! - If it were not for this, to remove a member that works while another is dead would leave a cluster without a
//!   majority, and the removal itself might never be committed.
//! - Whichever member is asked finds out by itself who takes part, as in etcd: it asks each voter, over the port of
//!   the peers. One that leads also demands to have heard of them lately, which sees what only the log's messages show.
//! - etcd counts a member that has been connected for five seconds. Here one counts that answers now.
//! - Nothing is said of promotions: a newcomer votes once it has caught up, so that it takes part by then.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use quorate::{
    Configuration, MemberContext, MemberKind, NodeId, PeerTls, RoleKind, Status as RaftStatus, Target,
};
use quorate_etcd_api::EtcdError;
use tonic::Status;

use crate::machine::Query;
use crate::node::{Node, answer};

/// Who of those that vote, or are to, takes part at some moment.
pub(super) struct Census {
    /// They have been started at some time.
    started: BTreeSet<NodeId>,
    /// They answer, or are this member.
    present: BTreeSet<NodeId>,
}

impl Census {
    /// Asks all of them. Takes no longer than [`PATIENCE`].
    ///
    /// # Errors
    /// When this member has stopped.
    pub(super) async fn take(node: &Node) -> Result<Census, Status> {
        let status = node.replica().status().await;
        let status = status.map_err(|_stopped| Status::from(EtcdError::Stopped))?;
        let published = answer!(node.read_local(Query::Members).await?, Members);
        let published: BTreeSet<u64> = published.into_iter().map(|member| member.id.0).collect();
        let mut voters = to_vote(&status.configuration);
        voters.extend(status.configuration.voters());
        let present = present(node, &status, &voters).await;
        let has_started = |voter: &NodeId| {
            // A witness has nothing to publish itself with, and knows of nobody who has.
            let is_silent = |node| status.configuration.kind(node) == MemberKind::Witness;
            present.contains(voter)
                || published.contains(&voter.0)
                || is_silent(*voter)
                || is_silent(status.id)
        };
        Ok(Census {
            started: voters.into_iter().filter(has_started).collect(),
            present,
        })
    }

    /// Refuses a voter beside those who vote and are to vote in `members`: newcomers begin to vote together, so that
    /// one that does not take part would keep the next one waiting.
    ///
    /// # Errors
    /// That too few of them were ever started, or one does not take part.
    pub(super) fn check_voter(&self, members: &Configuration) -> Result<(), EtcdError> {
        let voters = to_vote(members);
        let started = voters.intersection(&self.started).count();
        // A member alone may be joined by another that is not there yet.
        let is_alone = (started, voters.len()) == (1, 1);
        match is_alone || started >= majority(voters.len() + 1) {
            true => self.check_presence(&voters),
            false => Err(EtcdError::MemberNotEnoughStarted),
        }
    }

    /// Refuses a learner beside those who vote in `members`.
    ///
    /// # Errors
    /// That one of them does not take part.
    pub(super) fn check_learner(&self, members: &Configuration) -> Result<(), EtcdError> {
        self.check_presence(members.voters())
    }

    fn check_presence(&self, voters: &BTreeSet<NodeId>) -> Result<(), EtcdError> {
        match voters.is_subset(&self.present) {
            true => Ok(()),
            false => Err(EtcdError::Unhealthy),
        }
    }

    /// Refuses that `leaving` leaves the voters of `members`. Who does not vote may go.
    ///
    /// # Errors
    /// That too few of the others were ever started, or take part, for them to be a majority; or that there is no
    /// majority now.
    pub(super) fn check_removal(&self, members: &Configuration, leaving: NodeId) -> Result<(), EtcdError> {
        if !members.is_voter(leaving) {
            return Ok(());
        }
        let mut others = to_vote(members);
        others.remove(&leaving);
        let quorum = majority(others.len());
        // Without a majority the removal would wait for one, and be done when nobody expects it.
        let is_decided = members.has_quorum(|node| self.present.contains(&node));
        if others.intersection(&self.started).count() < quorum {
            Err(EtcdError::MemberNotEnoughStarted)
        } else if others.intersection(&self.present).count() < quorum || !is_decided {
            Err(EtcdError::Unhealthy)
        } else {
            Ok(())
        }
    }
}

/// Those who vote once the change under way is done, if there is one.
fn to_vote(members: &Configuration) -> BTreeSet<NodeId> {
    Target::of(members).voters().clone()
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

async fn present(node: &Node, status: &RaftStatus, voters: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let was_heard = |voter: &NodeId| {
        status.role != RoleKind::Leader || status.progress.get(voter).is_some_and(|peer| peer.active)
    };
    let others = voters.iter().copied().filter(|voter| *voter != status.id);
    let asked = others.filter(was_heard).map(|voter| ask(node, status, voter));
    let answered = join_all(asked).await.into_iter().flatten();
    answered.chain([status.id]).collect()
}

/// The voter, if it answers at one of its addresses. All are asked at once: one that says nothing keeps no other waiting.
async fn ask(node: &Node, status: &RaftStatus, voter: NodeId) -> Option<NodeId> {
    let context = MemberContext::of(&status.configuration.info(voter));
    let questions = context.addresses.into_iter().map(|address| {
        let question = Question {
            voter,
            address,
            cluster: node.identity().cluster_id,
            tls: node.peer_tls().cloned(),
        };
        question.ask()
    });
    let mut questions: FuturesUnordered<_> = questions.collect();
    while let Some(is_answered) = questions.next().await {
        if is_answered {
            return Some(voter);
        }
    }
    None
}

/// Whether a voter is at one of the addresses where the log says, and knows it.
struct Question {
    voter: NodeId,
    address: String,
    cluster: u64,
    tls: Option<PeerTls>,
}

impl Question {
    /// Whether it answers in time.
    async fn ask(self) -> bool {
        let asking = tokio::task::spawn_blocking(move || self.is_answered());
        let answered = tokio::time::timeout(PATIENCE, asking).await;
        matches!(answered, Ok(Ok(true)))
    }

    fn is_answered(&self) -> bool {
        let asked = std::slice::from_ref(&self.address);
        let introduced = match &self.tls {
            None => quorate::inquire(asked, &self.address),
            Some(tls) => quorate::inquire_securely(asked, &self.address, tls),
        };
        introduced.is_ok_and(|found| found.node == self.voter && found.cluster.0 == self.cluster)
    }
}

/// How long a member may take to answer. Less than etcdctl waits for all of its request.
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
        ids.into_iter().map(NodeId).collect()
    }

    fn census(started: &[u64], present: &[u64]) -> Census {
        Census {
            started: nodes(started.iter().copied()),
            present: nodes(present.iter().copied()),
        }
    }

    fn members(voters: u64) -> Configuration {
        Configuration::new(nodes(1..=voters), []).unwrap()
    }

    /// (voters, started, present, who leaves, the refusal).
    type Removal<'a> = (u64, &'a [u64], &'a [u64], u64, Option<EtcdError>);

    #[test]
    fn a_voter_leaves_only_a_majority_behind() {
        let few = Some(EtcdError::MemberNotEnoughStarted);
        let unhealthy = Some(EtcdError::Unhealthy);
        let removals: &[Removal<'_>] = &[
            (1, &[1], &[1], 1, few),
            (2, &[1, 2], &[1, 2], 1, None),
            (2, &[1, 2], &[1], 1, unhealthy),
            (2, &[1, 2], &[1], 2, unhealthy),
            (2, &[1], &[1], 1, few),
            (3, &[1, 2, 3], &[1, 2, 3], 1, None),
            (3, &[1, 2, 3], &[1, 2], 1, unhealthy),
            (3, &[1, 2, 3], &[1, 2], 2, unhealthy),
            (3, &[1, 2, 3], &[1, 2], 3, None),
            (3, &[1, 2], &[1, 2], 2, few),
            (3, &[1, 2], &[1, 2], 3, None),
            (4, &[1, 2, 3, 4], &[1, 2, 3], 1, None),
            (4, &[1, 2, 3, 4], &[1, 2], 1, unhealthy),
            (4, &[1, 2, 3, 4], &[1, 2], 4, unhealthy),
            (5, &[1, 2, 3, 4, 5], &[1, 2, 3, 4], 1, None),
            (5, &[1, 2, 3, 4, 5], &[1, 2, 3], 1, unhealthy),
            (5, &[1, 2, 3, 4, 5], &[1, 2, 3], 5, None),
            // It does not vote.
            (3, &[1, 2, 3], &[1], 9, None),
        ];
        for &(voters, started, present, leaving, refusal) in removals {
            let checked = census(started, present).check_removal(&members(voters), NodeId(leaving));
            assert_eq!(
                checked.err(),
                refusal,
                "{voters} {started:?} {present:?} -{leaving}"
            );
        }
    }

    #[test]
    fn a_member_comes_to_a_whole_cluster_only() {
        let few = Err(EtcdError::MemberNotEnoughStarted);
        let unhealthy = Err(EtcdError::Unhealthy);
        for (voters, started, present, as_voter, as_learner) in [
            (1, 1..=1, 1..=1, Ok(()), Ok(())),
            (2, 1..=2, 1..=2, Ok(()), Ok(())),
            (2, 1..=1, 1..=1, few, unhealthy),
            (3, 1..=3, 1..=3, Ok(()), Ok(())),
            (3, 1..=3, 1..=2, unhealthy, unhealthy),
            (3, 1..=2, 1..=2, few, unhealthy),
            (4, 1..=3, 1..=3, unhealthy, unhealthy),
        ] {
            let census = Census {
                started: nodes(started),
                present: nodes(present),
            };
            assert_eq!(census.check_voter(&members(voters)), as_voter, "{voters}");
            assert_eq!(census.check_learner(&members(voters)), as_learner, "{voters}");
        }
    }

    #[test]
    fn who_is_to_vote_counts_as_a_voter() {
        let settled = members(1);
        let target = Target::of(&settled).with_voter(NodeId(2), quorate::MemberInfo::default());
        let members = settled.toward(&target.unwrap());
        let alone = census(&[1], &[1]);
        assert_eq!(
            alone.check_voter(&members),
            Err(EtcdError::MemberNotEnoughStarted)
        );
        let started = census(&[1, 2], &[1]);
        assert_eq!(started.check_voter(&members), Err(EtcdError::Unhealthy));
        assert_eq!(alone.check_learner(&members), Ok(()));
        assert_eq!(alone.check_removal(&members, NodeId(2)), Ok(()));
        assert_eq!(
            alone.check_removal(&members, NodeId(1)),
            Err(EtcdError::MemberNotEnoughStarted)
        );
    }
}
