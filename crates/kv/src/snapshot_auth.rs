//! Users and roles in a snapshot: frames of their own, which a keyspace without any does not write.

use std::collections::BTreeMap;

use prost::Message;

use crate::auth::User;
use crate::wire::PermissionMessage;
use crate::{AuthRevision, AuthStatus, AuthStore, AuthSwitch, PasswordHash, Permission, RoleName, UserName};

/// Whether authentication is on, and the state of users and roles.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthHeadMessage {
    #[prost(bool, tag = "1")]
    enabled: bool,
    #[prost(uint64, tag = "2")]
    revision: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, optional, tag = "2")]
    password: Option<String>,
    #[prost(string, repeated, tag = "3")]
    roles: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RoleMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    permissions: Vec<PermissionMessage>,
}

impl From<AuthStatus> for AuthHeadMessage {
    fn from(status: AuthStatus) -> Self {
        Self {
            enabled: status.switch == AuthSwitch::On,
            revision: status.revision.0,
        }
    }
}

impl From<(&UserName, &User)> for UserMessage {
    fn from((name, user): (&UserName, &User)) -> Self {
        Self {
            name: name.to_string(),
            password: user.password.as_ref().map(|hash| hash.expose().to_owned()),
            roles: user.roles.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<(&RoleName, Vec<Permission>)> for RoleMessage {
    fn from((name, permissions): (&RoleName, Vec<Permission>)) -> Self {
        Self {
            name: name.to_string(),
            permissions: permissions.iter().map(PermissionMessage::from).collect(),
        }
    }
}

/// What has been read of users and roles so far.
#[derive(Default)]
pub(crate) struct AuthBuilding {
    status: Option<AuthStatus>,
    users: BTreeMap<UserName, User>,
    roles: BTreeMap<RoleName, Vec<Permission>>,
}

impl AuthBuilding {
    pub(crate) fn add_head(&mut self, head: &AuthHeadMessage) {
        self.status = Some(AuthStatus {
            switch: match head.enabled {
                true => AuthSwitch::On,
                false => AuthSwitch::Off,
            },
            revision: AuthRevision(head.revision),
        });
    }

    pub(crate) fn add_user(&mut self, user: UserMessage) -> Result<(), &'static str> {
        let roles = user.roles.into_iter().map(RoleName::parse);
        let roles = roles
            .collect::<Result<_, _>>()
            .map_err(|_| "a user's role has no name")?;
        let name = UserName::parse(user.name).map_err(|_| "a user has no name")?;
        let password = user.password.map(PasswordHash::new);
        self.users.insert(name, User { password, roles });
        Ok(())
    }

    pub(crate) fn add_role(&mut self, role: RoleMessage) -> Result<(), &'static str> {
        let permissions = role.permissions.into_iter().map(Permission::try_from);
        let permissions = permissions
            .collect::<Result<_, _>>()
            .map_err(|_| "a permission is malformed")?;
        let name = RoleName::parse(role.name).map_err(|_| "a role has no name")?;
        self.roles.insert(name, permissions);
        Ok(())
    }

    /// The store; an error if there are users without a word on whether authentication is on.
    pub(crate) fn finish(self) -> Result<AuthStore, &'static str> {
        match self.status {
            Some(status) => Ok(AuthStore::restored(status, self.users, self.roles.into_iter())),
            None if self.users.is_empty() && self.roles.is_empty() => Ok(AuthStore::default()),
            None => Err("users or roles have no head"),
        }
    }
}
