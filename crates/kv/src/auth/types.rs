//! The names and small values of authentication.

use std::fmt;

use crate::{Error, KeyRange};

/// Declares a name that is never empty.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $empty:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Reads a name.
            ///
            /// # Errors
            /// When it is empty.
            pub fn parse(name: impl Into<String>) -> Result<Self, Error> {
                let name = name.into();
                if name.is_empty() { Err($empty) } else { Ok(Self(name)) }
            }

            /// The name `root`, which stands for all rights.
            #[must_use]
            pub fn root() -> Self {
                Self("root".to_owned())
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Names a user.
    UserName, Error::UserEmpty
}
name! {
    /// Names a role. Who has the role `root` may do everything.
    RoleName, Error::RoleEmpty
}

/// A state of users, roles and permissions: each change of them makes the next one. It begins at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthRevision(pub u64);

impl AuthRevision {
    /// The revision before anything was changed.
    pub const FIRST: Self = Self(1);

    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for AuthRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Whether callers must say who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthSwitch {
    /// Everybody may do everything.
    #[default]
    Off,
    /// What is not granted is refused.
    On,
}

/// What is kept of a password: text that its maker can check a password by. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// A hash as its maker wrote it.
    #[must_use]
    pub fn new(hash: impl Into<String>) -> Self {
        Self(hash.into())
    }

    /// The hash as its maker wrote it. Not for logs or answers.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// The SHA-256 of a token: tells a token, and does not give it away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenDigest(pub [u8; 32]);

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// Seconds since 1970, by somebody's clock. Data only: nothing replicated depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixSeconds(pub u64);

/// What may be done to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and watch them.
    Read,
    /// Put and delete them.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    pub(crate) fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// What a role may do to the keys of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// What may be done.
    pub access: Access,
    /// To which keys.
    pub keys: KeyRange,
}

/// Who asks for something, as the one who received the request has established it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// A client that has not shown who it is.
    Anonymous,
    /// A client that has.
    User(Credentials),
    /// A member of the cluster, on its own account.
    Member,
}

/// A user, known to be one at a revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credentials {
    /// The user.
    pub user: UserName,
    /// The revision of users and roles that this was established at. They are void at any other one.
    pub revision: AuthRevision,
}
