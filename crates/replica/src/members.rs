//! Changes of members, as those who use a running node make them.
//!
//! - They work at any node: the core passes them on to the leader.
//! - A change has begun once it is committed that it is wanted. From then on it goes on by itself, whoever
//!   leads, until it is done: newcomers learn first, then both sets of voters decide, then the new one.
//! - While newcomers learn, another change may take its place, such as one that gives a newcomer up.
//!
//! How far a change is can be watched: [`Status::reconfiguration`] of [`Replica::watch_status`].

use std::sync::Arc;

use quorate_raft::{
    Configuration, ConfigurationError, MemberInfo, NodeId, Precondition, Rejection, Status, Target,
};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::driver::{DriverInput, Failure};
use crate::error::ReconfigureError;
use crate::machine::Machine;
use crate::replica::{Replica, Retry, is_passing};
use crate::threads::Operator;

type Ended = oneshot::Receiver<Result<(), Failure>>;

/// A change of members that has begun, and goes on whether this value is kept or not.
#[derive(Debug)]
pub struct Reconfiguring<M: Machine> {
    replica: Replica<M>,
    state: State,
}

#[derive(Debug)]
enum State {
    Done,
    /// A change to `target` is under way: this one, or another's to the same members.
    UnderWay {
        target: Box<Target>,
        ended: Ended,
    },
}

impl<M: Machine> Reconfiguring<M> {
    /// Waits until the members are what they were to become.
    ///
    /// # Errors
    /// When another change took its place, or the node stopped.
    pub async fn done(self) -> Result<(), ReconfigureError> {
        let (target, ended) = match self.state {
            State::Done => return Ok(()),
            State::UnderWay { target, ended } => (target, ended),
        };
        match self.replica.operation(ended.await).await {
            Err(ReconfigureError::Rejected(rejection)) if was_not_begun(rejection) => {
                self.replica.others_change(&target).await
            }
            outcome => outcome,
        }
    }
}

impl<M: Machine> Replica<M> {
    /// Makes the members what `target` says, and waits until they are, however long the newcomers need.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn reconfigure(
        &self,
        target: Target,
        precondition: Precondition,
    ) -> Result<(), ReconfigureError> {
        let begun = self.begin_reconfigure(target, precondition).await?;
        begun.done().await
    }

    /// Begins to make the members what `target` says: newcomers may be started once this returns.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn begin_reconfigure(
        &self,
        target: Target,
        precondition: Precondition,
    ) -> Result<Reconfiguring<M>, ReconfigureError> {
        let mut retry = Retry::new(self, Instant::now() + self.shared.request_timeout);
        loop {
            match self.attempt(target.clone(), precondition.clone()).await {
                Err(ReconfigureError::Rejected(rejection)) if is_passing(rejection) && retry.wait().await => {
                }
                outcome => return outcome,
            }
        }
    }

    /// Begins to change the members as `change` says, whatever they are when that is decided.
    ///
    /// # Errors
    /// See [`ReconfigureError`], and what `change` refuses.
    pub async fn change_members<E: From<ReconfigureError>>(
        &self,
        change: impl Fn(&Configuration) -> Result<Target, E>,
    ) -> Result<Reconfiguring<M>, E> {
        let mut retry = Retry::new(self, Instant::now() + self.shared.request_timeout);
        loop {
            let members = self.status().await.map_err(ReconfigureError::from)?.configuration;
            let target = change(&members)?;
            let precondition = Precondition::Current(Box::new(members.as_ref().clone()));
            match self.attempt(target, precondition).await {
                // Others were quicker, or this node does not know yet what they did.
                Err(ReconfigureError::Rejected(rejection))
                    if was_not_begun(rejection) && retry.wait().await => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Makes `node` a voter, whatever it was, once it has caught up. Waits for as long as it does not: for
    /// ever if it is never started, unless [`Self::remove`] gives it up.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn add_voter(&self, node: NodeId, info: MemberInfo) -> Result<(), ReconfigureError> {
        let add = |members: &Configuration| {
            Ok::<_, ReconfigureError>(Target::of(members).with_voter(node, info.clone())?)
        };
        self.change_members(add).await?.done().await
    }

    /// Makes `node` a learner that stays one.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn add_learner(&self, node: NodeId, info: MemberInfo) -> Result<(), ReconfigureError> {
        let add = |members: &Configuration| {
            Ok::<_, ReconfigureError>(Target::of(members).with_learner(node, info.clone())?)
        };
        self.change_members(add).await?.done().await
    }

    /// Makes a learner a voter, once it has caught up.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn promote(&self, node: NodeId) -> Result<(), ReconfigureError> {
        let promote = |members: &Configuration| -> Result<Target, ReconfigureError> {
            let info = info_of(members, node)?;
            Ok(Target::of(members).with_voter(node, info)?)
        };
        self.change_members(promote).await?.done().await
    }

    /// Removes a member, for ever: its id must not be used again.
    ///
    /// When it is a newcomer that has not caught up yet, whoever was to leave for it stays.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn remove(&self, node: NodeId) -> Result<(), ReconfigureError> {
        let remove = |members: &Configuration| -> Result<Target, ReconfigureError> {
            info_of(members, node)?;
            let target = match members.newcomers().contains(&node) && !members.is_joint() {
                true => with_leaving(members)?,
                false => Target::of(members),
            };
            Ok(target.without(node)?)
        };
        self.change_members(remove).await?.done().await
    }

    /// Puts the new node `new` in the place of the member `dead`, in one step once it has caught up. Waits
    /// as [`Self::add_voter`] does.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub async fn replace(&self, dead: NodeId, new: NodeId, info: MemberInfo) -> Result<(), ReconfigureError> {
        let replace = |members: &Configuration| -> Result<Target, ReconfigureError> {
            info_of(members, dead)?;
            Ok(Target::of(members).with_voter(new, info.clone())?.without(dead)?)
        };
        self.change_members(replace).await?.done().await
    }

    /// Asks once, and waits until the change is refused, has begun or is done.
    async fn attempt(
        &self,
        target: Target,
        precondition: Precondition,
    ) -> Result<Reconfiguring<M>, ReconfigureError> {
        let (sender, mut ended) = oneshot::channel();
        let mut status = self.watch_status();
        let deadline = Instant::now() + self.shared.request_timeout;
        self.shared.inbox.submit(DriverInput::Reconfigure {
            target: target.clone(),
            precondition,
            operator: Operator(sender),
        });
        tokio::select! {
            biased;
            outcome = &mut ended => {
                self.operation(outcome).await?;
                Ok(Reconfiguring { replica: self.clone(), state: State::Done })
            }
            () = begun(&mut status, &target) => {
                let target = Box::new(target);
                Ok(Reconfiguring { replica: self.clone(), state: State::UnderWay { target, ended } })
            }
            () = tokio::time::sleep_until(deadline) => Err(ReconfigureError::Unknown),
        }
    }

    /// Waits for the end of a change to `target` that somebody else began.
    async fn others_change(&self, target: &Target) -> Result<(), ReconfigureError> {
        let mut status = self.watch_status();
        let has_ended = |status: &Arc<Status>| {
            let is_committed = status.configuration_index <= status.commit_index;
            is_committed && status.configuration.pending() != Some(target)
        };
        let ended = status.wait_for(has_ended).await;
        match ended.map(|status| status.configuration.is_at(target)) {
            Ok(true) => Ok(()),
            // It may have been done, and another after it.
            Ok(false) => Err(ReconfigureError::Unknown),
            Err(_stopped) => Err(self.stopped().await.into()),
        }
    }

    async fn operation(
        &self,
        outcome: Result<Result<(), Failure>, oneshot::error::RecvError>,
    ) -> Result<(), ReconfigureError> {
        Err(match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Failure::Rejected(rejection))) => ReconfigureError::Rejected(rejection),
            Ok(Err(Failure::Unknown)) => ReconfigureError::Unknown,
            Ok(Err(Failure::Stopped)) | Err(_) => self.stopped().await.into(),
        })
    }
}

/// Whether it says that a change was not begun, and nothing of whether others began the same.
fn was_not_begun(rejection: Rejection) -> bool {
    is_passing(rejection) || rejection == Rejection::PreconditionFailed
}

/// Waits until it is committed that the members are, or are to become, what `target` says; for ever if
/// the node stops before.
async fn begun(status: &mut watch::Receiver<Arc<Status>>, target: &Target) {
    let is_begun = |status: &Arc<Status>| {
        let members = &status.configuration;
        let is_wanted = members.pending() == Some(target) || members.is_at(target);
        is_wanted && status.configuration_index <= status.commit_index
    };
    if status.wait_for(is_begun).await.is_err() {
        std::future::pending().await
    }
}

fn info_of(members: &Configuration, node: NodeId) -> Result<MemberInfo, ReconfigureError> {
    match members.is_member(node) {
        true => Ok(members.info(node)),
        false => Err(ReconfigureError::NotAMember(node)),
    }
}

/// Where `members` go, but with the voters who are to leave.
fn with_leaving(members: &Configuration) -> Result<Target, ConfigurationError> {
    let target = Target::of(members);
    let is_named = |node: &NodeId| target.voters().contains(node) || target.learners().contains(node);
    let leaving: Vec<NodeId> = members
        .voters()
        .iter()
        .copied()
        .filter(|node| !is_named(node))
        .collect();
    leaving
        .into_iter()
        .try_fold(target, |target, node| target.with_voter(node, members.info(node)))
}

impl From<ConfigurationError> for ReconfigureError {
    fn from(error: ConfigurationError) -> Self {
        Self::Impossible(error)
    }
}
