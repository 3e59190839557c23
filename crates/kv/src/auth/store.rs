//! Users and roles, and etcd's rules for changing them.
//!
//! - Every change makes the next [`AuthRevision`]; a command that fails changes nothing.
//! - `granted` is always what follows from users and roles.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{AuthCommand, Login, SessionEvent};
use super::types::{Access, AuthRevision, AuthSwitch, Caller, PasswordHash, Permission, RoleName, UserName};
use crate::{Error, KeyRange, KeyRanges};

/// Who may do what.
#[derive(Clone, Debug)]
pub struct AuthStore {
    switch: AuthSwitch,
    revision: AuthRevision,
    users: BTreeMap<UserName, User>,
    roles: BTreeMap<RoleName, Role>,
    granted: BTreeMap<UserName, Granted>,
}

/// A user.
#[derive(Clone, Debug, Default)]
pub(crate) struct User {
    /// None: it cannot log in by password.
    pub(crate) password: Option<PasswordHash>,
    pub(crate) roles: BTreeSet<RoleName>,
}

type Role = BTreeMap<KeyRange, Access>;

/// All that a user's roles grant it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Granted {
    pub(crate) everything: bool,
    pub(crate) reads: KeyRanges,
    pub(crate) writes: KeyRanges,
}

/// Whether authentication is on, and the state of users and roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthStatus {
    /// Whether callers must say who they are.
    pub switch: AuthSwitch,
    /// The state of users and roles.
    pub revision: AuthRevision,
}

impl Default for AuthStore {
    fn default() -> Self {
        Self {
            switch: AuthSwitch::Off,
            revision: AuthRevision::FIRST,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            granted: BTreeMap::new(),
        }
    }
}

impl AuthStore {
    /// Whether authentication is on, and the state of users and roles.
    #[must_use]
    pub fn status(&self) -> AuthStatus {
        AuthStatus {
            switch: self.switch,
            revision: self.revision,
        }
    }

    /// What a user's password is checked by. None as well when there is no such user: who logs in is not to
    /// learn the difference.
    #[must_use]
    pub fn password(&self, user: &UserName) -> Option<&PasswordHash> {
        self.users.get(user)?.password.as_ref()
    }

    /// The roles of a user, in order.
    ///
    /// # Errors
    /// [`Error::UserNotFound`]; [`Error::PermissionDenied`] unless the caller is root or the user itself.
    pub fn user(&self, caller: &Caller, user: &UserName) -> Result<Vec<RoleName>, Error> {
        self.permit_user(caller, user)?;
        let user = self.users.get(user).ok_or(Error::UserNotFound)?;
        Ok(user.roles.iter().cloned().collect())
    }

    /// All users, in order.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] unless the caller is root.
    pub fn users(&self, caller: &Caller) -> Result<Vec<UserName>, Error> {
        self.permit_root(caller)?;
        Ok(self.users.keys().cloned().collect())
    }

    /// The permissions of a role, by key. Those of `root` are all there are.
    ///
    /// # Errors
    /// [`Error::RoleNotFound`]; [`Error::PermissionDenied`] unless the caller is root or has the role.
    pub fn role(&self, caller: &Caller, role: &RoleName) -> Result<Vec<Permission>, Error> {
        self.permit_role(caller, role)?;
        let found = self.roles.get(role).ok_or(Error::RoleNotFound)?;
        if *role == RoleName::root() {
            return Ok(vec![Permission {
                access: Access::ReadWrite,
                keys: KeyRange::From(bytes::Bytes::new()),
            }]);
        }
        Ok(permissions(found))
    }

    /// All roles, in order.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] unless the caller is root.
    pub fn roles(&self, caller: &Caller) -> Result<Vec<RoleName>, Error> {
        self.permit_root(caller)?;
        Ok(self.roles.keys().cloned().collect())
    }

    /// Applies a command that its caller may give.
    pub(crate) fn apply(
        &mut self,
        command: AuthCommand,
        events: &mut Vec<SessionEvent>,
    ) -> Result<(), Error> {
        match command {
            AuthCommand::Enable => self.enable(),
            AuthCommand::Disable => {
                self.disable(events);
                Ok(())
            }
            AuthCommand::Login(login) => {
                events.push(self.login(login)?);
                Ok(())
            }
            AuthCommand::UserAdd { user, password } => self.user_add(user, password),
            AuthCommand::UserDelete { user } => self.user_delete(user, events),
            AuthCommand::UserChangePassword { user, password } => {
                self.user_change_password(user, password, events)
            }
            AuthCommand::UserGrantRole { user, role } => self.user_grant_role(&user, role),
            AuthCommand::UserRevokeRole { user, role } => self.user_revoke_role(&user, &role),
            AuthCommand::RoleAdd { role } => self.role_add(role),
            AuthCommand::RoleDelete { role } => self.role_delete(&role),
            AuthCommand::RoleGrantPermission { role, permission } => {
                self.role_grant_permission(&role, permission)
            }
            AuthCommand::RoleRevokePermission { role, keys } => self.role_revoke_permission(&role, &keys),
        }
    }

    /// Nobody could turn it off again if no user had all rights.
    fn enable(&mut self) -> Result<(), Error> {
        let root = self.users.get(&UserName::root()).ok_or(Error::RootUserNotExist)?;
        if !root.roles.contains(&RoleName::root()) {
            return Err(Error::RootRoleNotExist);
        }
        self.switch = AuthSwitch::On;
        Ok(())
    }

    fn disable(&mut self, events: &mut Vec<SessionEvent>) {
        if self.switch == AuthSwitch::On {
            self.switch = AuthSwitch::Off;
            events.push(SessionEvent::AllClosed);
            self.changed();
        }
    }

    /// The password may have been changed since it was checked: then the revision has, too.
    fn login(&self, login: Login) -> Result<SessionEvent, Error> {
        if self.switch == AuthSwitch::Off {
            return Err(Error::AuthNotEnabled);
        }
        if login.revision != self.revision {
            return Err(Error::AuthOldRevision);
        }
        if self.password(&login.user).is_none() {
            return Err(Error::AuthFailed);
        }
        Ok(SessionEvent::Opened {
            digest: login.digest,
            user: login.user,
            issued: login.issued,
        })
    }

    fn user_add(&mut self, user: UserName, password: Option<PasswordHash>) -> Result<(), Error> {
        if self.users.contains_key(&user) {
            return Err(Error::UserAlreadyExist);
        }
        let roles = BTreeSet::new();
        self.granted.insert(user.clone(), Granted::default());
        self.users.insert(user, User { password, roles });
        self.changed();
        Ok(())
    }

    fn user_delete(&mut self, user: UserName, events: &mut Vec<SessionEvent>) -> Result<(), Error> {
        if self.switch == AuthSwitch::On && user == UserName::root() {
            return Err(Error::InvalidAuthMgmt);
        }
        self.users.remove(&user).ok_or(Error::UserNotFound)?;
        self.granted.remove(&user);
        events.push(SessionEvent::UserClosed { user });
        self.changed();
        Ok(())
    }

    fn user_change_password(
        &mut self,
        user: UserName,
        password: PasswordHash,
        events: &mut Vec<SessionEvent>,
    ) -> Result<(), Error> {
        self.users.get_mut(&user).ok_or(Error::UserNotFound)?.password = Some(password);
        events.push(SessionEvent::UserClosed { user });
        self.changed();
        Ok(())
    }

    /// To grant a role that the user has changes nothing, as in etcd.
    fn user_grant_role(&mut self, user: &UserName, role: RoleName) -> Result<(), Error> {
        let entry = self.users.get_mut(user).ok_or(Error::UserNotFound)?;
        if role != RoleName::root() && !self.roles.contains_key(&role) {
            return Err(Error::RoleNotFound);
        }
        if entry.roles.insert(role) {
            self.regrant(user);
            self.changed();
        }
        Ok(())
    }

    fn user_revoke_role(&mut self, user: &UserName, role: &RoleName) -> Result<(), Error> {
        if self.switch == AuthSwitch::On && *user == UserName::root() && *role == RoleName::root() {
            return Err(Error::InvalidAuthMgmt);
        }
        let entry = self.users.get_mut(user).ok_or(Error::UserNotFound)?;
        if !entry.roles.remove(role) {
            return Err(Error::RoleNotGranted);
        }
        self.regrant(user);
        self.changed();
        Ok(())
    }

    fn role_add(&mut self, role: RoleName) -> Result<(), Error> {
        if self.roles.contains_key(&role) {
            return Err(Error::RoleAlreadyExist);
        }
        self.roles.insert(role, Role::new());
        self.changed();
        Ok(())
    }

    fn role_delete(&mut self, role: &RoleName) -> Result<(), Error> {
        if self.switch == AuthSwitch::On && *role == RoleName::root() {
            return Err(Error::InvalidAuthMgmt);
        }
        self.roles.remove(role).ok_or(Error::RoleNotFound)?;
        let having = self.having(role);
        for user in &having {
            if let Some(user) = self.users.get_mut(user) {
                user.roles.remove(role);
            }
        }
        having.iter().for_each(|user| self.regrant(user));
        self.changed();
        Ok(())
    }

    fn role_grant_permission(&mut self, role: &RoleName, permission: Permission) -> Result<(), Error> {
        if permission.keys.is_empty() || permission.keys.start().is_empty() {
            return Err(Error::InvalidAuthMgmt);
        }
        let entry = self.roles.get_mut(role).ok_or(Error::RoleNotFound)?;
        entry.insert(permission.keys, permission.access);
        self.regrant_all(role);
        self.changed();
        Ok(())
    }

    fn role_revoke_permission(&mut self, role: &RoleName, keys: &KeyRange) -> Result<(), Error> {
        let entry = self.roles.get_mut(role).ok_or(Error::RoleNotFound)?;
        entry.remove(keys).ok_or(Error::PermissionNotGranted)?;
        self.regrant_all(role);
        self.changed();
        Ok(())
    }

    fn changed(&mut self) {
        self.revision = self.revision.next();
    }

    fn having(&self, role: &RoleName) -> Vec<UserName> {
        let users = self.users.iter().filter(|(_, user)| user.roles.contains(role));
        users.map(|(name, _)| name.clone()).collect()
    }

    fn regrant_all(&mut self, role: &RoleName) {
        self.having(role).iter().for_each(|user| self.regrant(user));
    }

    /// Draws from a user's roles what it may do.
    fn regrant(&mut self, name: &UserName) {
        let Some(user) = self.users.get(name) else { return };
        let mut granted = Granted {
            everything: user.roles.contains(&RoleName::root()),
            ..Granted::default()
        };
        let permissions = user
            .roles
            .iter()
            .filter_map(|role| self.roles.get(role))
            .flatten();
        for (keys, access) in permissions {
            if access.reads() {
                granted.reads.insert(keys);
            }
            if access.writes() {
                granted.writes.insert(keys);
            }
        }
        self.granted.insert(name.clone(), granted);
    }
}

/// What checking and snapshots need of it.
impl AuthStore {
    pub(crate) fn granted(&self, user: &UserName) -> Option<&Granted> {
        self.granted.get(user)
    }

    pub(crate) fn has_role(&self, user: &UserName, role: &RoleName) -> bool {
        self.users.get(user).is_some_and(|user| user.roles.contains(role))
    }

    /// Whether nobody has ever changed anything here.
    pub(crate) fn is_pristine(&self) -> bool {
        self.switch == AuthSwitch::Off && self.revision == AuthRevision::FIRST
    }

    pub(crate) fn all_users(&self) -> impl Iterator<Item = (&UserName, &User)> {
        self.users.iter()
    }

    pub(crate) fn all_roles(&self) -> impl Iterator<Item = (&RoleName, Vec<Permission>)> {
        self.roles.iter().map(|(name, role)| (name, permissions(role)))
    }

    /// Takes over what a snapshot says.
    pub(crate) fn restored(
        status: AuthStatus,
        users: BTreeMap<UserName, User>,
        roles: impl Iterator<Item = (RoleName, Vec<Permission>)>,
    ) -> Self {
        let role = |permissions: Vec<Permission>| {
            let permissions = permissions.into_iter();
            permissions
                .map(|permission| (permission.keys, permission.access))
                .collect()
        };
        let mut store = Self {
            switch: status.switch,
            revision: status.revision,
            roles: roles
                .map(|(name, permissions)| (name, role(permissions)))
                .collect(),
            granted: BTreeMap::new(),
            users,
        };
        let names: Vec<UserName> = store.users.keys().cloned().collect();
        names.iter().for_each(|user| store.regrant(user));
        store
    }
}

/// By key, as etcd lists them.
fn permissions(role: &Role) -> Vec<Permission> {
    let permission = |(keys, access): (&KeyRange, &Access)| Permission {
        access: *access,
        keys: keys.clone(),
    };
    let mut permissions: Vec<Permission> = role.iter().map(permission).collect();
    permissions.sort_by_cached_key(|permission| permission.keys.to_pair());
    permissions
}
