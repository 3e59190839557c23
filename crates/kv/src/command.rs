//! What is proposed to the log: every way to change the keyspace.
//!
//! - What [`Command::decode`] accepts, [`crate::Keyspace::apply`] applies without a panic.
//! - [`Command::check`] refuses early, before anything is proposed, what would fail in every state.
//! - The encoding begins with its format's number. Whatever an older program would apply differently needs
//!   a new number, so that the older program refuses it instead of diverging.

use bytes::Bytes;

use crate::{
    Alarm, AuthCommand, Caller, DecodeError, DeleteRange, Error, LeaseEpoch, LeaseId, Member, Proposal, Put,
    Revision, Txn, check, wire,
};

/// One change of the keyspace, as the log carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Create or overwrite a key.
    Put(Put),
    /// Delete keys.
    DeleteRange(DeleteRange),
    /// Compare, then read and write.
    Txn(Txn),
    /// Give up the history before a revision.
    Compact {
        /// The oldest revision that stays readable.
        revision: Revision,
    },
    /// Create a lease.
    LeaseGrant {
        /// Its id, chosen by the proposer.
        id: LeaseId,
        /// Its time to live in seconds, raised to the server's minimum by the proposer.
        ttl_secs: i64,
    },
    /// End a lease and delete its keys.
    LeaseRevoke {
        /// The lease.
        id: LeaseId,
        /// On whose account.
        cause: RevokeCause,
    },
    /// Begin the time of leases anew.
    LeaseRenew {
        /// The leases.
        ids: Vec<LeaseId>,
    },
    /// Say who a member is.
    PublishMember(Member),
    /// Raise or lift an alarm.
    Alarm {
        /// Which of the two.
        action: AlarmAction,
        /// The alarm.
        alarm: Alarm,
    },
    /// Change users, roles or permissions, or log in.
    Auth(AuthCommand),
}

/// On whose account a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeCause {
    /// A client asked for it.
    Requested,
    /// Its time is up, if nobody has renewed it: the epoch that was seen to expire.
    Expired {
        /// A later epoch in the keyspace makes the revocation void.
        epoch: LeaseEpoch,
    },
}

/// What to do with an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmAction {
    /// Raise it.
    Activate,
    /// Lift it.
    Deactivate,
}

/// Bounds on requests that the operator may choose. They are checked before a command is proposed and play
/// no part in applying it, so members may differ in them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most comparisons or operations in one list of a transaction, its parents' lists included.
    pub max_txn_ops: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_txn_ops: 128 }
    }
}

impl Command {
    /// The bytes for the log, of a caller that has not said who it is. See [`Proposal::encode`].
    #[must_use]
    pub fn encode(&self) -> Bytes {
        wire::encode(&Caller::Anonymous, self)
    }

    /// Reads what [`Self::encode`] wrote. Keys and values share the memory of `bytes`.
    ///
    /// # Errors
    /// Any bytes that are not a command of a known format; those of a [`Proposal`] that names its caller, which
    /// would be lost here.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let Proposal { caller, command } = wire::decode(bytes)?;
        match caller {
            Caller::Anonymous => Ok(command),
            Caller::User(_) | Caller::Member => Err(DecodeError::Field("absence of a caller")),
        }
    }

    /// Refuses what would fail in every state of the keyspace.
    ///
    /// # Errors
    /// [`Error::EmptyKey`], [`Error::TooManyOps`], [`Error::DuplicateKey`], [`Error::LeaseTtlTooLarge`].
    pub fn check(&self, limits: &Limits) -> Result<(), Error> {
        match self {
            Self::Put(put) => check::put(put),
            Self::DeleteRange(delete) => check::keys(&delete.keys),
            Self::Txn(txn) => check::txn(txn, limits),
            Self::LeaseGrant { ttl_secs, .. } => check::ttl(*ttl_secs),
            Self::Compact { .. }
            | Self::LeaseRevoke { .. }
            | Self::LeaseRenew { .. }
            | Self::PublishMember(_)
            | Self::Alarm { .. }
            | Self::Auth(_) => Ok(()),
        }
    }
}
