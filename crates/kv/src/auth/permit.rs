//! Whether a caller may do something.
//!
//! - Every key that is read, written or attached counts, in every branch of every nested transaction, taken
//!   or not: a refusal tells nothing about the keys (CVE-2026-33343, CVE-2026-44283).
//! - Ranges, comparisons and watches are checked by the same function (GHSA-xg4h-6gfc-h4m8).

use super::command::AuthCommand;
use super::store::{AuthStore, Granted};
use super::types::{AuthSwitch, Caller, RoleName, UserName};
use crate::{
    Assign, Command, Compare, DeleteRange, Error, KeyRange, Keyspace, LeaseId, Op, Put, ReadTxn, RevokeCause,
    Txn,
};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub enum Right<'a> {
    /// What every user may.
    Login,
    /// What only root may.
    Root,
    /// Read or watch keys.
    Read(&'a KeyRange),
    /// Run a transaction that only reads.
    ReadTxn(&'a ReadTxn),
    /// Know the keys of a lease (CVE-2023-32082).
    LeaseKeys(LeaseId),
    /// Have a command applied.
    Apply(&'a Command),
}

impl Keyspace {
    /// Whether a caller may do something in this state.
    ///
    /// # Errors
    /// [`Error::UserEmpty`] for a caller that has not said who it is; [`Error::AuthOldRevision`] for
    /// credentials of another state of users and roles; [`Error::PermissionDenied`].
    pub fn permit(&self, caller: &Caller, right: Right<'_>) -> Result<(), Error> {
        let command = match right {
            Right::Apply(command) if is_for_everybody(command) => return Ok(()),
            Right::Apply(command) => Some(command),
            Right::Login | Right::Root | Right::Read(_) | Right::ReadTxn(_) | Right::LeaseKeys(_) => None,
        };
        let Standing::Restricted(granted) = self.auth().standing(caller)? else {
            return Ok(());
        };
        let check = Check {
            keyspace: self,
            granted,
        };
        let allowed = match (right, command) {
            (_, Some(command)) => check.command(command),
            (Right::Login, _) => true,
            (Right::Root | Right::Apply(_), _) => false,
            (Right::Read(keys), _) => check.reads(keys),
            (Right::ReadTxn(read), _) => check.txn(&read.txn),
            (Right::LeaseKeys(lease), _) => check.lease(lease, |key| granted.reads.contains(key)),
        };
        permitted(allowed)
    }
}

/// What is decided without keys.
impl AuthStore {
    pub(crate) fn permit_root(&self, caller: &Caller) -> Result<(), Error> {
        match self.standing(caller)? {
            Standing::Unrestricted => Ok(()),
            Standing::Restricted(_) => Err(Error::PermissionDenied),
        }
    }

    pub(crate) fn permit_user(&self, caller: &Caller, user: &UserName) -> Result<(), Error> {
        self.permit_own(caller, |own| own == user)
    }

    pub(crate) fn permit_role(&self, caller: &Caller, role: &RoleName) -> Result<(), Error> {
        self.permit_own(caller, |own| self.has_role(own, role))
    }

    fn permit_own(&self, caller: &Caller, is_own: impl Fn(&UserName) -> bool) -> Result<(), Error> {
        match (self.standing(caller)?, caller) {
            (Standing::Unrestricted, _) => Ok(()),
            (Standing::Restricted(_), Caller::User(credentials)) => permitted(is_own(&credentials.user)),
            (Standing::Restricted(_), Caller::Anonymous | Caller::Member) => Err(Error::PermissionDenied),
        }
    }

    fn standing(&self, caller: &Caller) -> Result<Standing<'_>, Error> {
        let status = self.status();
        let credentials = match (status.switch, caller) {
            (AuthSwitch::Off, _) | (AuthSwitch::On, Caller::Member) => return Ok(Standing::Unrestricted),
            (AuthSwitch::On, Caller::Anonymous) => return Err(Error::UserEmpty),
            (AuthSwitch::On, Caller::User(credentials)) => credentials,
        };
        if credentials.revision != status.revision {
            return Err(Error::AuthOldRevision);
        }
        let granted = self.granted(&credentials.user).ok_or(Error::PermissionDenied)?;
        Ok(match granted.everything {
            true => Standing::Unrestricted,
            false => Standing::Restricted(granted),
        })
    }
}

/// How far a caller's rights have to be looked at.
enum Standing<'a> {
    Unrestricted,
    Restricted(&'a Granted),
}

struct Check<'a> {
    keyspace: &'a Keyspace,
    granted: &'a Granted,
}

impl Check<'_> {
    fn command(&self, command: &Command) -> bool {
        match command {
            Command::Put(put) => self.put(put),
            Command::DeleteRange(delete) => self.delete(delete),
            Command::Txn(txn) => self.txn(txn),
            Command::LeaseGrant { .. } => true,
            Command::LeaseRevoke { id, .. } => self.owns_lease(*id),
            Command::LeaseRenew { ids } => ids.iter().all(|id| self.owns_lease(*id)),
            Command::Compact { .. }
            | Command::PublishMember(_)
            | Command::Alarm { .. }
            | Command::Auth(_) => false,
        }
    }

    fn reads(&self, keys: &KeyRange) -> bool {
        self.granted.reads.covers(keys)
    }

    fn writes(&self, key: &[u8]) -> bool {
        self.granted.writes.contains(key)
    }

    fn put(&self, put: &Put) -> bool {
        let attaches = match put.lease {
            Assign::Set(Some(lease)) => self.owns_lease(lease),
            Assign::Set(None) | Assign::Keep => true,
        };
        let reads = !put.prev_kv || self.granted.reads.contains(&put.key);
        self.writes(&put.key) && reads && attaches
    }

    fn delete(&self, delete: &DeleteRange) -> bool {
        let reads = !delete.prev_kv || self.reads(&delete.keys);
        self.granted.writes.covers(&delete.keys) && reads
    }

    fn txn(&self, txn: &Txn) -> bool {
        let compare = |compare: &Compare| self.reads(&compare.keys);
        let mut ops = txn.success.iter().chain(&txn.failure);
        txn.compares.iter().all(compare) && ops.all(|op| self.op(op))
    }

    fn op(&self, op: &Op) -> bool {
        match op {
            Op::Range(range) => self.reads(&range.keys),
            Op::Put(put) => self.put(put),
            Op::DeleteRange(delete) => self.delete(delete),
            Op::Txn(txn) => self.txn(txn),
        }
    }

    /// Who ends a lease deletes its keys, and who attaches a key or renews decides how long they live.
    fn owns_lease(&self, lease: LeaseId) -> bool {
        self.lease(lease, |key| self.writes(key))
    }

    /// Whether every key of a lease is allowed; so it is when there is no such lease.
    fn lease(&self, lease: LeaseId, is_allowed: impl Fn(&[u8]) -> bool) -> bool {
        let lease = self.keyspace.lease(lease);
        lease.is_none_or(|lease| lease.keys.iter().all(|key| is_allowed(key)))
    }
}

/// What no client can ask for, or has another proof than credentials.
fn is_for_everybody(command: &Command) -> bool {
    match command {
        Command::PublishMember(_) => true,
        Command::LeaseRevoke { cause, .. } => matches!(cause, RevokeCause::Expired { .. }),
        Command::Auth(auth) => matches!(auth, AuthCommand::Login(_)),
        Command::Put(_)
        | Command::DeleteRange(_)
        | Command::Txn(_)
        | Command::Compact { .. }
        | Command::LeaseGrant { .. }
        | Command::LeaseRenew { .. }
        | Command::Alarm { .. } => false,
    }
}

fn permitted(allowed: bool) -> Result<(), Error> {
    match allowed {
        true => Ok(()),
        false => Err(Error::PermissionDenied),
    }
}
