//! What a client can do wrong. Each error has a counterpart in etcd's table.

use thiserror::Error;

use crate::{LeaseId, Revision};

/// Why a request was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// A key is empty.
    #[error("key is not provided")]
    EmptyKey,
    /// A put keeps the value or lease of a key that does not exist; or an operation of a transaction is empty.
    #[error("key not found")]
    KeyNotFound,
    /// A put both gives a value and asks to keep the old one.
    #[error("value is provided")]
    ValueProvided,
    /// A put both gives a lease and asks to keep the old one.
    #[error("lease is provided")]
    LeaseProvided,
    /// A transaction has too many operations, or nests too deeply.
    #[error("too many operations in txn request")]
    TooManyOps,
    /// A transaction would change a key twice.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target is unknown.
    #[error("invalid sort option")]
    InvalidSortOption,
    /// The revision's history is gone.
    #[error("required revision has been compacted: nothing before {compacted} is left")]
    Compacted {
        /// The oldest revision that can be read.
        compacted: Revision,
    },
    /// The revision is not reached yet.
    #[error("required revision is a future revision: the current one is {current}")]
    FutureRevision {
        /// The newest revision.
        current: Revision,
    },
    /// The quota is used up: see [`crate::AlarmKind::NoSpace`].
    #[error("database space exceeded")]
    NoSpace,
    /// The members' data differ: see [`crate::AlarmKind::Corrupt`].
    #[error("corrupt cluster")]
    Corrupt,
    /// There is no such lease.
    #[error("requested lease {0} not found")]
    LeaseNotFound(LeaseId),
    /// The lease's id is in use.
    #[error("lease {0} already exists")]
    LeaseExists(LeaseId),
    /// The lease was renewed after somebody judged it expired: it lives on.
    #[error("lease {0} was renewed in the meantime")]
    LeaseRenewed(LeaseId),
    /// Authentication cannot be turned on: there is no user `root`.
    #[error("root user does not exist")]
    RootUserNotExist,
    /// Authentication cannot be turned on: the user `root` has not the role `root`.
    #[error("root user does not have root role")]
    RootRoleNotExist,
    /// The user's name is in use.
    #[error("user name already exists")]
    UserAlreadyExist,
    /// A user's name is empty; or authentication is on and the caller has not said who it is.
    #[error("user name is empty")]
    UserEmpty,
    /// There is no such user.
    #[error("user name not found")]
    UserNotFound,
    /// The role's name is in use.
    #[error("role name already exists")]
    RoleAlreadyExist,
    /// There is no such role.
    #[error("role name not found")]
    RoleNotFound,
    /// A role's name is empty.
    #[error("role name is empty")]
    RoleEmpty,
    /// There is no such user, or it cannot log in by this password.
    #[error("authentication failed, invalid user ID or password")]
    AuthFailed,
    /// The caller may not do this.
    #[error("permission denied")]
    PermissionDenied,
    /// The user has not the role that is to be taken from it.
    #[error("role is not granted to the user")]
    RoleNotGranted,
    /// The role has not the permission that is to be taken from it.
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    /// Nobody can log in while authentication is off.
    #[error("authentication is not enabled")]
    AuthNotEnabled,
    /// It would leave nobody with all rights, or a permission's range makes no sense.
    #[error("invalid auth management")]
    InvalidAuthMgmt,
    /// Users or roles have changed since it was established who the caller is.
    #[error("revision of auth store is old")]
    AuthOldRevision,
    /// A time to live above [`crate::MAX_TTL_SECS`].
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
}

/// History before a revision is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("required revision has been compacted: nothing before {compacted} is left")]
pub struct Compacted {
    /// The oldest revision that can be read.
    pub compacted: Revision,
}

impl From<Compacted> for Error {
    fn from(Compacted { compacted }: Compacted) -> Self {
        Self::Compacted { compacted }
    }
}

/// Why bytes are not a command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There is not even a format version.
    #[error("the command is empty")]
    Empty,
    /// Written by a newer program.
    #[error("the command has format {found}; this program knows format {known} and older")]
    UnknownFormat {
        /// The format it has.
        found: u8,
        /// The newest format known here.
        known: u8,
    },
    /// Not the encoding of a message.
    #[error("the command is damaged: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A field has a value without a meaning.
    #[error("the command's {0} is missing or unknown")]
    Field(&'static str),
}

/// Why a snapshot cannot be restored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A piece of it could not be read.
    #[error("the snapshot cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// It is not a snapshot of a keyspace.
    #[error("this is not a snapshot of a keyspace")]
    NotASnapshot,
    /// Written by a newer program.
    #[error("the snapshot has format {found}; this program knows format {known} and older")]
    UnknownFormat {
        /// The format it has.
        found: u8,
        /// The newest format known here.
        known: u8,
    },
    /// A checksum is wrong.
    #[error("the snapshot is damaged at byte {offset}: wrong checksum")]
    Checksum {
        /// Where the damaged frame begins.
        offset: u64,
    },
    /// It ends early.
    #[error("the snapshot is cut off at byte {offset}")]
    CutOff {
        /// How many bytes there are.
        offset: u64,
    },
    /// Whole, but its content contradicts itself.
    #[error("the snapshot is damaged at byte {offset}: {what}")]
    Inconsistent {
        /// Where the contradicting frame begins.
        offset: u64,
        /// The contradiction.
        what: &'static str,
    },
}
