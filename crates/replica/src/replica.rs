//! A running node, as those who use it see it.
//!
//! - A handle is cheap to clone and may be used from any task of any tokio runtime with timers.
//! - Proposals and reads work on every node: followers pass them on.
//! - A proposal that was rejected was not applied and is tried again until its deadline. One whose
//!   outcome is unknown is never tried again: it could be applied twice. With a
//!   [session](crate::sessions) it is, and is not.
//! - The node runs until [`Replica::shutdown`], until it fails, or until its last handle is dropped.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::{EntryId, NodeId, Rejection, RoleKind, Status, Transferee};
use quorate_wal::Disk;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::apply::Reading;
use crate::codec::Incarnation;
use crate::config::Config;
use crate::driver::{DriverInput, Failure};
use crate::error::{ProposeError, ReadError, StartError, Stopped, TransferError};
use crate::local::LocalNetwork;
use crate::machine::Machine;
use crate::threads::{self, ApplyWork, Asker, Operator, Place, Running};

/// Sets up the data directory of a node whose cluster begins with a state that is given, such as one out of a
/// backup, and not with an empty one. All of its first members must be set up with the same state and the same
/// peers; then they are started as ever.
///
/// `state` is the chunks of a snapshot, as [`Machine::snapshot_chunk`] makes them, of up to 256 KiB each;
/// `files` are put into the directory beside it, by name. A directory whose setting up was cut short is one in
/// which no node starts.
///
/// # Errors
/// When the settings contradict each other, the directory is not empty, the state cannot be read, or something
/// cannot be written.
pub fn found(
    config: &Config,
    files: &[(&str, &[u8])],
    state: &mut dyn Iterator<Item = io::Result<Bytes>>,
) -> Result<(), StartError> {
    threads::found(config, files, state)
}

/// How current the state must be that answers a query, from the dearest to the cheapest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// It has every command that was acknowledged before the query: a majority is asked whether the leader
    /// still leads.
    #[default]
    Linearizable,
    /// The same, as long as clocks keep within the bound of [`Config::leases`]. At a leader that holds a lease
    /// nobody is asked. At other nodes, and where leases are not configured, as [`Self::Linearizable`].
    Lease,
    /// This node's state as it is, however far behind it may be. It answers without a leader, too.
    Local,
}

/// A running node that replicates a machine.
pub struct Replica<M: Machine> {
    pub(crate) shared: Arc<Running<M>>,
}

impl<M: Machine> Replica<M> {
    /// Starts a node, with `machine` in its initial state.
    ///
    /// Blocks while the data directory is read and the newest snapshot is restored.
    ///
    /// # Errors
    /// When a setting is wrong, the directory cannot be used, or the address is taken.
    pub fn start(config: Config, machine: M) -> Result<Self, StartError> {
        config.check()?;
        Self::start_at(config, machine, Place::Directory)
    }

    /// Starts a node on a disk of the caller's making, such as one that fails on purpose.
    ///
    /// # Errors
    /// As [`Self::start`], except that nobody checks whether another process uses the disk.
    pub fn start_on_disk(config: Config, machine: M, disk: Arc<dyn Disk>) -> Result<Self, StartError> {
        config.check()?;
        Self::start_at(config, machine, Place::Disk(disk))
    }

    /// Starts a node that keeps everything in memory and meets its peers in `network`: it needs neither
    /// a directory nor addresses, and forgets all when it ends. Its id must not be used again.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn start_local(config: Config, machine: M, network: &LocalNetwork) -> Result<Self, StartError> {
        config.check_limits()?;
        Self::start_at(config, machine, Place::Memory(network.clone()))
    }

    fn start_at(config: Config, machine: M, place: Place) -> Result<Self, StartError> {
        let shared = Arc::new(threads::start(config, machine, place)?);
        Ok(Self { shared })
    }

    /// Has a command committed and applied, and gives back what applying it here gave back.
    ///
    /// # Errors
    /// See [`ProposeError`]; only [`ProposeError::Unknown`] and [`ProposeError::Stopped`] leave open
    /// whether the command is applied.
    pub async fn propose(&self, command: M::Command) -> Result<M::Response, ProposeError> {
        let deadline = Instant::now() + self.shared.request_timeout;
        self.propose_until(command, deadline).await
    }

    /// As [`Self::propose`], with a deadline of the caller's.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub async fn propose_until(
        &self,
        command: M::Command,
        deadline: Instant,
    ) -> Result<M::Response, ProposeError> {
        let command = M::encode(command)?;
        let mut retry = None;
        loop {
            let receiver = self.shared.inbox.propose(command.clone());
            let failure = match tokio::time::timeout_at(deadline, receiver).await {
                Err(_elapsed) => return Err(ProposeError::Unknown),
                Ok(Ok(Ok(response))) => return Ok(response),
                Ok(Ok(Err(failure))) => failure,
                Ok(Err(_dropped)) => Failure::Stopped,
            };
            match failure {
                Failure::Stopped => return Err(self.stopped().await.into()),
                Failure::Unknown => return Err(ProposeError::Unknown),
                Failure::Rejected(rejection) => {
                    let retry = retry.get_or_insert_with(|| Retry::new(self, deadline));
                    if !is_passing(rejection) || !retry.wait().await {
                        return Err(ProposeError::Rejected(rejection));
                    }
                }
            }
        }
    }

    /// Answers a query by a state that has every command that was acknowledged before this call.
    ///
    /// # Errors
    /// When no majority could be reached in time, or the node stopped.
    pub async fn read(&self, query: M::Query) -> Result<M::Answer, ReadError> {
        let deadline = Instant::now() + self.shared.request_timeout;
        self.read_until(query, deadline).await
    }

    /// As [`Self::read`], with a deadline of the caller's.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_until(&self, query: M::Query, deadline: Instant) -> Result<M::Answer, ReadError> {
        self.ask(query, quorate_raft::Consistency::Linearizable, deadline)
            .await
    }

    /// Answers a query by a state that is as current as `consistency` says.
    ///
    /// # Errors
    /// As [`Self::read`]; when it is local, only because the node stopped.
    pub async fn query(&self, query: M::Query, consistency: Consistency) -> Result<M::Answer, ReadError> {
        let deadline = Instant::now() + self.shared.request_timeout;
        self.query_until(query, consistency, deadline).await
    }

    /// As [`Self::query`], with a deadline of the caller's.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn query_until(
        &self,
        query: M::Query,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<M::Answer, ReadError> {
        let consistency = match consistency {
            Consistency::Linearizable => quorate_raft::Consistency::Linearizable,
            Consistency::Lease => quorate_raft::Consistency::Lease,
            Consistency::Local => return Ok(self.read_local(query).await?),
        };
        self.ask(query, consistency, deadline).await
    }

    async fn ask(
        &self,
        mut query: M::Query,
        consistency: quorate_raft::Consistency,
        deadline: Instant,
    ) -> Result<M::Answer, ReadError> {
        let mut retry = Retry::new(self, deadline);
        loop {
            let (responder, receiver) = Asker::new();
            let reader = Reading { query, responder };
            self.shared
                .inbox
                .submit(DriverInput::Read { reader, consistency });
            let refused = match tokio::time::timeout_at(deadline, receiver).await {
                Err(_elapsed) => return Err(ReadError::TimedOut),
                Ok(Err(_dropped)) => return Err(self.stopped().await.into()),
                Ok(Ok(Ok(answer))) => return Ok(answer),
                Ok(Ok(Err(refused))) => refused,
            };
            let error = match refused.failure {
                Failure::Stopped => return Err(self.stopped().await.into()),
                Failure::Rejected(rejection) => ReadError::Rejected(rejection),
                Failure::Unknown => ReadError::TimedOut,
            };
            let may_pass = match refused.failure {
                Failure::Rejected(rejection) => is_passing(rejection),
                Failure::Unknown | Failure::Stopped => true,
            };
            if !may_pass || !retry.wait().await {
                return Err(error);
            }
            query = refused.query;
        }
    }

    /// Answers a query by this node's state as it is, however far behind it may be.
    ///
    /// # Errors
    /// When the node stopped.
    pub async fn read_local(&self, query: M::Query) -> Result<M::Answer, Stopped> {
        let (responder, receiver) = Asker::new();
        let reading = Reading { query, responder };
        if self.shared.apply.push(ApplyWork::Local(reading)).is_err() {
            return Err(self.stopped().await);
        }
        match receiver.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(self.stopped().await),
        }
    }

    /// The consensus core's state at this moment.
    ///
    /// # Errors
    /// When the node stopped.
    pub async fn status(&self) -> Result<Status, Stopped> {
        let (sender, receiver) = oneshot::channel();
        self.shared.inbox.ask_status(sender);
        match receiver.await {
            Ok(status) => Ok(status),
            Err(_dropped) => Err(self.stopped().await),
        }
    }

    /// The consensus core's state: at once when term, role or leader change, else at each tick.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<Arc<Status>> {
        self.shared.status.clone()
    }

    /// Has another node lead. Works at the leader only; others answer with whom they follow.
    ///
    /// # Errors
    /// When leadership was not handed over, or that is unknown.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), TransferError> {
        let (sender, receiver) = oneshot::channel();
        let operator = Operator(sender);
        self.shared.inbox.submit(DriverInput::TransferLeadership {
            to: Transferee::Node(to),
            operator,
        });
        let failure = match tokio::time::timeout(self.shared.request_timeout, receiver).await {
            Err(_elapsed) => Failure::Unknown,
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(_dropped)) => Failure::Stopped,
        };
        Err(match failure {
            Failure::Rejected(rejection) => TransferError::Rejected(rejection),
            Failure::Unknown => TransferError::Unknown,
            Failure::Stopped => self.stopped().await.into(),
        })
    }

    /// Begins to write a snapshot, which goes on in the background; says at which entry.
    ///
    /// None when one is being written already, or nothing was applied since the last.
    ///
    /// # Errors
    /// When the node stopped.
    pub async fn trigger_snapshot(&self) -> Result<Option<EntryId>, Stopped> {
        let (sender, receiver) = oneshot::channel();
        if self.shared.apply.push(ApplyWork::BeginSnapshot(sender)).is_err() {
            return Err(self.stopped().await);
        }
        match receiver.await {
            Ok(begun) => Ok(begun),
            Err(_dropped) => Err(self.stopped().await),
        }
    }

    /// Has the best of the others lead, if this node does and there is one; waits no longer than an
    /// election would take.
    ///
    /// Meanwhile requests wait, here and at the others, and are served by whoever leads then.
    pub async fn hand_over(&self) {
        if self.shared.status.borrow().role != RoleKind::Leader {
            return;
        }
        let (sender, receiver) = oneshot::channel();
        let operator = Operator(sender);
        let to = Transferee::Best;
        let transfer = DriverInput::TransferLeadership { to, operator };
        self.shared.inbox.submit(transfer);
        let patience = self.shared.election_timeout;
        match tokio::time::timeout(patience, receiver).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(failure))) => tracing::info!(%failure, "leadership was not handed over"),
            Ok(Err(_dropped)) => {}
            Err(_elapsed) => tracing::info!("leadership was not handed over in time"),
        }
    }

    /// Stops the node: it hands over what it leads, what was handed to the log is written, threads end,
    /// the directory is free.
    pub async fn shutdown(&self) -> Stopped {
        self.hand_over().await;
        self.shared.stop();
        self.closed().await
    }

    /// Waits until the node has stopped, its threads have ended and its directory is free.
    pub async fn closed(&self) -> Stopped {
        self.shared.closed().await
    }

    /// Why the node has stopped; none while it runs.
    #[must_use]
    pub fn failure(&self) -> Option<Stopped> {
        self.shared.fate.reason()
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    /// The random name of this node's data directory.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// Where the node listens for its peers; none for one of a [`LocalNetwork`].
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.shared.peer_address
    }

    pub(crate) async fn stopped(&self) -> Stopped {
        match self.failure() {
            Some(reason) => reason,
            None => self.closed().await,
        }
    }
}

/// Waits between two attempts: until the leader changes, or a little longer each time.
pub(crate) struct Retry {
    status: watch::Receiver<Arc<Status>>,
    pause: Duration,
    deadline: Instant,
}

impl Retry {
    pub(crate) fn new<M: Machine>(replica: &Replica<M>, deadline: Instant) -> Self {
        Self {
            status: replica.watch_status(),
            pause: FIRST_PAUSE,
            deadline,
        }
    }

    /// Whether there is time for another attempt, once it is time for it.
    pub(crate) async fn wait(&mut self) -> bool {
        let until = Instant::now() + self.pause;
        if until >= self.deadline {
            return false;
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let leader = self.status.borrow_and_update().leader;
        let changed = self.status.wait_for(|status| status.leader != leader);
        // Both ends of the wait are a reason to try again, and so is a node that has stopped.
        let _ = tokio::time::timeout_at(until, changed).await;
        true
    }
}

/// Whether another attempt may fare better.
pub(crate) fn is_passing(rejection: Rejection) -> bool {
    match rejection {
        Rejection::NoLeader
        | Rejection::NotLeader { .. }
        | Rejection::Overloaded
        | Rejection::Transferring
        | Rejection::ChangeInProgress => true,
        Rejection::TooLarge
        | Rejection::BadTransferee
        | Rejection::PreconditionFailed
        | Rejection::Superseded
        | Rejection::KindChange(_)
        | Rejection::Witness
        | Rejection::Removed => false,
    }
}

impl<M: Machine> Clone for Replica<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M: Machine> fmt::Debug for Replica<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("node", &self.shared.node)
            .finish_non_exhaustive()
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
