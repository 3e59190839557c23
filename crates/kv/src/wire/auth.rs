//! The messages of callers and of authentication, and their conversions. Field numbers are never reused.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::convert::numbered;
use super::messages::KeysMessage;
use crate::{
    Access, AuthCommand, AuthRevision, Caller, Credentials, DecodeError, Login, PasswordHash, Permission,
    RoleName, TokenDigest, UnixSeconds, UserName,
};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CallerMessage {
    #[prost(oneof = "CallerBody", tags = "1, 2")]
    pub(crate) body: Option<CallerBody>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum CallerBody {
    #[prost(message, tag = "1")]
    User(CredentialsMessage),
    #[prost(message, tag = "2")]
    Member(NothingMessage),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CredentialsMessage {
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    #[prost(uint64, tag = "2")]
    pub(crate) revision: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NothingMessage {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthMessage {
    #[prost(oneof = "AuthBody", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub(crate) body: Option<AuthBody>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum AuthBody {
    #[prost(message, tag = "1")]
    Enable(NothingMessage),
    #[prost(message, tag = "2")]
    Disable(NothingMessage),
    #[prost(message, tag = "3")]
    Login(LoginMessage),
    #[prost(message, tag = "4")]
    UserAdd(UserMessage),
    #[prost(string, tag = "5")]
    UserDelete(String),
    #[prost(message, tag = "6")]
    UserChangePassword(UserMessage),
    #[prost(message, tag = "7")]
    UserGrantRole(UserRoleMessage),
    #[prost(message, tag = "8")]
    UserRevokeRole(UserRoleMessage),
    #[prost(string, tag = "9")]
    RoleAdd(String),
    #[prost(string, tag = "10")]
    RoleDelete(String),
    #[prost(message, tag = "11")]
    RoleGrantPermission(RolePermissionMessage),
    #[prost(message, tag = "12")]
    RoleRevokePermission(RoleKeysMessage),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LoginMessage {
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    #[prost(uint64, tag = "2")]
    pub(crate) revision: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) digest: Bytes,
    #[prost(uint64, tag = "4")]
    pub(crate) issued: u64,
}

/// A user without its roles. No password: it cannot log in by one.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserMessage {
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) password: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserRoleMessage {
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    #[prost(string, tag = "2")]
    pub(crate) role: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RolePermissionMessage {
    #[prost(string, tag = "1")]
    pub(crate) role: String,
    #[prost(message, required, tag = "2")]
    pub(crate) permission: PermissionMessage,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PermissionMessage {
    #[prost(uint32, tag = "1")]
    pub(crate) access: u32,
    #[prost(message, required, tag = "2")]
    pub(crate) keys: KeysMessage,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RoleKeysMessage {
    #[prost(string, tag = "1")]
    pub(crate) role: String,
    #[prost(message, required, tag = "2")]
    pub(crate) keys: KeysMessage,
}

impl CallerMessage {
    /// None: nobody.
    pub(crate) fn of(caller: &Caller) -> Option<Self> {
        let body = match caller {
            Caller::Anonymous => return None,
            Caller::User(Credentials { user, revision }) => CallerBody::User(CredentialsMessage {
                user: user.to_string(),
                revision: revision.0,
            }),
            Caller::Member => CallerBody::Member(NothingMessage {}),
        };
        Some(Self { body: Some(body) })
    }
}

impl TryFrom<CallerMessage> for Caller {
    type Error = DecodeError;

    fn try_from(message: CallerMessage) -> Result<Self, DecodeError> {
        Ok(match message.body.ok_or(DecodeError::Field("caller"))? {
            CallerBody::User(CredentialsMessage { user, revision }) => Self::User(Credentials {
                user: user_name(user)?,
                revision: AuthRevision(revision),
            }),
            CallerBody::Member(NothingMessage {}) => Self::Member,
        })
    }
}

impl From<&AuthCommand> for AuthMessage {
    fn from(command: &AuthCommand) -> Self {
        let user_role = |user: &UserName, role: &RoleName| UserRoleMessage {
            user: user.to_string(),
            role: role.to_string(),
        };
        let body = match command {
            AuthCommand::Enable => AuthBody::Enable(NothingMessage {}),
            AuthCommand::Disable => AuthBody::Disable(NothingMessage {}),
            AuthCommand::Login(login) => AuthBody::Login(login.into()),
            AuthCommand::UserAdd { user, password } => {
                AuthBody::UserAdd(user_message(user, password.as_ref()))
            }
            AuthCommand::UserDelete { user } => AuthBody::UserDelete(user.to_string()),
            AuthCommand::UserChangePassword { user, password } => {
                AuthBody::UserChangePassword(user_message(user, Some(password)))
            }
            AuthCommand::UserGrantRole { user, role } => AuthBody::UserGrantRole(user_role(user, role)),
            AuthCommand::UserRevokeRole { user, role } => AuthBody::UserRevokeRole(user_role(user, role)),
            AuthCommand::RoleAdd { role } => AuthBody::RoleAdd(role.to_string()),
            AuthCommand::RoleDelete { role } => AuthBody::RoleDelete(role.to_string()),
            AuthCommand::RoleGrantPermission { role, permission } => {
                AuthBody::RoleGrantPermission(RolePermissionMessage {
                    role: role.to_string(),
                    permission: permission.into(),
                })
            }
            AuthCommand::RoleRevokePermission { role, keys } => {
                AuthBody::RoleRevokePermission(RoleKeysMessage {
                    role: role.to_string(),
                    keys: keys.into(),
                })
            }
        };
        Self { body: Some(body) }
    }
}

impl TryFrom<AuthMessage> for AuthCommand {
    type Error = DecodeError;

    fn try_from(message: AuthMessage) -> Result<Self, DecodeError> {
        Ok(match message.body.ok_or(DecodeError::Field("change of users"))? {
            AuthBody::Enable(NothingMessage {}) => Self::Enable,
            AuthBody::Disable(NothingMessage {}) => Self::Disable,
            AuthBody::Login(login) => Self::Login(login.try_into()?),
            AuthBody::UserAdd(UserMessage { user, password }) => Self::UserAdd {
                user: user_name(user)?,
                password: password.map(PasswordHash::new),
            },
            AuthBody::UserDelete(user) => Self::UserDelete {
                user: user_name(user)?,
            },
            AuthBody::UserChangePassword(UserMessage { user, password }) => Self::UserChangePassword {
                user: user_name(user)?,
                password: PasswordHash::new(password.ok_or(DecodeError::Field("password"))?),
            },
            AuthBody::UserGrantRole(UserRoleMessage { user, role }) => Self::UserGrantRole {
                user: user_name(user)?,
                role: role_name(role)?,
            },
            AuthBody::UserRevokeRole(UserRoleMessage { user, role }) => Self::UserRevokeRole {
                user: user_name(user)?,
                role: role_name(role)?,
            },
            AuthBody::RoleAdd(role) => Self::RoleAdd {
                role: role_name(role)?,
            },
            AuthBody::RoleDelete(role) => Self::RoleDelete {
                role: role_name(role)?,
            },
            AuthBody::RoleGrantPermission(RolePermissionMessage { role, permission }) => {
                Self::RoleGrantPermission {
                    role: role_name(role)?,
                    permission: permission.try_into()?,
                }
            }
            AuthBody::RoleRevokePermission(RoleKeysMessage { role, keys }) => Self::RoleRevokePermission {
                role: role_name(role)?,
                keys: keys.try_into()?,
            },
        })
    }
}

impl From<&Login> for LoginMessage {
    fn from(login: &Login) -> Self {
        Self {
            user: login.user.to_string(),
            revision: login.revision.0,
            digest: Bytes::copy_from_slice(&login.digest.0),
            issued: login.issued.0,
        }
    }
}

impl TryFrom<LoginMessage> for Login {
    type Error = DecodeError;

    fn try_from(login: LoginMessage) -> Result<Self, DecodeError> {
        let digest = login.digest[..].try_into();
        Ok(Self {
            user: user_name(login.user)?,
            revision: AuthRevision(login.revision),
            digest: TokenDigest(digest.map_err(|_| DecodeError::Field("token"))?),
            issued: UnixSeconds(login.issued),
        })
    }
}

impl From<&Permission> for PermissionMessage {
    fn from(permission: &Permission) -> Self {
        Self {
            access: access_to_wire(permission.access),
            keys: (&permission.keys).into(),
        }
    }
}

impl TryFrom<PermissionMessage> for Permission {
    type Error = DecodeError;

    fn try_from(permission: PermissionMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            access: access_from_wire(permission.access)?,
            keys: permission.keys.try_into()?,
        })
    }
}

fn user_message(user: &UserName, password: Option<&PasswordHash>) -> UserMessage {
    UserMessage {
        user: user.to_string(),
        password: password.map(|hash| hash.expose().to_owned()),
    }
}

fn user_name(name: String) -> Result<UserName, DecodeError> {
    UserName::parse(name).map_err(|_| DecodeError::Field("user"))
}

fn role_name(name: String) -> Result<RoleName, DecodeError> {
    RoleName::parse(name).map_err(|_| DecodeError::Field("role"))
}

numbered!(
    access_to_wire,
    access_from_wire,
    Access,
    "access",
    1 = Read,
    2 = Write,
    3 = ReadWrite
);
