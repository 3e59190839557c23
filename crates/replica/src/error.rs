//! What callers of a replica are told when something went wrong.

use std::path::PathBuf;
use std::sync::Arc;

use quorate_raft::{ConfigError, ConfigurationError, NodeId, Rejection};

use crate::apply::ApplyFailure;
use crate::machine::EncodeError;
use crate::sessions::Refusal;
use crate::storage::StorageError;
use crate::tls::TlsError;

/// Why a node stopped, for all who wait for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// It was told to.
    #[error("the node was shut down")]
    Shutdown,
    /// It could not go on without risking what it has acknowledged, and says why.
    #[error("the node stopped: {0}")]
    Failed(Arc<str>),
}

/// Why a proposal has no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The command was not proposed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The command was not and never will be applied: the deadline passed, or trying again is no use.
    #[error("the command was not applied: {0}")]
    Rejected(Rejection),
    /// The command may or may not be applied, now or later.
    #[error("it is unknown whether the command is applied")]
    Unknown,
    /// The node stopped; the command may or may not be applied.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a session was not opened. One that was opened after all ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no room for it.
    #[error("the session was not opened: {0}")]
    Refused(Refusal),
    /// The deadline passed, and this was the last that was heard.
    #[error("the session was not opened: {0}")]
    Rejected(Rejection),
    /// The deadline passed.
    #[error("the session was not opened in time")]
    TimedOut,
    /// The node stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a request of a session has no response. Whatever it says, the command is not applied twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The command was not proposed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The command was not and never will be applied: the deadline passed, or trying again is no use.
    #[error("the command was not applied: {0}")]
    Rejected(Rejection),
    /// The command was not and never will be applied: the session says why.
    #[error("the command was not applied: {0}")]
    Refused(Refusal),
    /// The command was applied, but its response was too large to be kept until it was asked for again.
    #[error("the command was applied, but its response is lost")]
    ResponseLost,
    /// The session ended while an attempt of unknown outcome was under way: the command was applied
    /// before that, or never will be.
    #[error("the session ended, and it is unknown whether the command was applied before")]
    Ended,
    /// The deadline passed. The command may be applied, now or until a later one of the session is.
    #[error("it is unknown whether the command is applied")]
    Unknown,
    /// The node stopped; the command may or may not be applied.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a query has no answer. It may always be tried again, here or elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// This node can answer no query, or the deadline passed and this was the last that was heard.
    #[error("the query was not answered: {0}")]
    Rejected(Rejection),
    /// The deadline passed.
    #[error("the query was not answered in time")]
    TimedOut,
    /// The node stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// It was not, and will not be.
    #[error("leadership was not handed over: {0}")]
    Rejected(Rejection),
    /// It may yet be.
    #[error("it is unknown whether leadership was handed over")]
    Unknown,
    /// The node stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why the members are not what they were to become.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// There cannot be such members.
    #[error(transparent)]
    Impossible(ConfigurationError),
    /// It is about a node that is no member.
    #[error("{0} is no member")]
    NotAMember(NodeId),
    /// It was not begun, or another change took its place.
    #[error("the members were not changed: {0}")]
    Rejected(Rejection),
    /// It may have begun, or begin yet.
    #[error("it is unknown whether the members are being changed")]
    Unknown,
    /// The node stopped. A change that has begun goes on without it.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is wrong.
    #[error("{setting}: {problem}")]
    Config {
        /// Which.
        setting: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The core refuses its settings, or what the disk holds.
    #[error(transparent)]
    Core(#[from] ConfigError),
    /// The data directory cannot be opened, is locked, or belongs to someone else.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The newest snapshot cannot be made the state.
    #[error("{directory}: {source}", directory = directory.display())]
    State {
        /// The data directory.
        directory: PathBuf,
        /// What is wrong.
        source: ApplyFailure,
    },
    /// Peers cannot be listened for.
    #[error("cannot listen for peers on {address}: {source}; stop what uses it or choose another address")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The certificates for peers cannot be used.
    #[error("TLS between peers: {0}")]
    Tls(#[from] TlsError),
    /// The operating system gave no thread, randomness or event queue.
    #[error("cannot start the node's threads: {0}")]
    System(std::io::Error),
}
