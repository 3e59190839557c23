//! What changes users, roles and permissions.

use super::types::{AuthRevision, PasswordHash, Permission, RoleName, TokenDigest, UnixSeconds, UserName};
use crate::KeyRange;

/// One change of users, roles or permissions, or a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthCommand {
    /// From here on callers must say who they are.
    Enable,
    /// Everybody may do everything.
    Disable,
    /// Make a token known whose owner has shown a user's password.
    Login(Login),
    /// Add a user.
    UserAdd {
        /// The new user.
        user: UserName,
        /// Its password; none: it cannot log in by one.
        password: Option<PasswordHash>,
    },
    /// Delete a user.
    UserDelete {
        /// The user.
        user: UserName,
    },
    /// Give a user another password.
    UserChangePassword {
        /// The user.
        user: UserName,
        /// Its new password.
        password: PasswordHash,
    },
    /// Give a user a role.
    UserGrantRole {
        /// The user.
        user: UserName,
        /// The role, which must exist, unless it is `root`.
        role: RoleName,
    },
    /// Take a role from a user.
    UserRevokeRole {
        /// The user.
        user: UserName,
        /// The role.
        role: RoleName,
    },
    /// Add a role, without permissions.
    RoleAdd {
        /// The new role.
        role: RoleName,
    },
    /// Delete a role, and take it from all users.
    RoleDelete {
        /// The role.
        role: RoleName,
    },
    /// Give a role a permission, instead of the one it may have for the same range.
    RoleGrantPermission {
        /// The role.
        role: RoleName,
        /// The permission.
        permission: Permission,
    },
    /// Take a permission from a role.
    RoleRevokePermission {
        /// The role.
        role: RoleName,
        /// The range of the permission, exactly.
        keys: KeyRange,
    },
}

/// A token that stands for a user from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user whose password was shown.
    pub user: UserName,
    /// The revision of users and roles that the password was checked at. At any other, the login is void.
    pub revision: AuthRevision,
    /// What tells the token.
    pub digest: TokenDigest,
    /// When the token was made, by the clock of the member that made it.
    pub issued: UnixSeconds,
}

/// Something that happened to tokens. For [`crate::Sessions::observe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// A token stands for a user.
    Opened {
        /// The token.
        digest: TokenDigest,
        /// The user.
        user: UserName,
        /// When it was made.
        issued: UnixSeconds,
    },
    /// The tokens of a user are void.
    UserClosed {
        /// The user.
        user: UserName,
    },
    /// All tokens are void.
    AllClosed,
}
