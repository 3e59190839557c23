//! The whole state for a backup: everything but the keys at once, then every version in the order of
//! revisions, in batches, while commands go on being applied.
//!
//! - A backup is the state at the moment it was begun. History is kept while it is open, as for a snapshot.
//! - It can be read again from the start, and is the same then.
//! - Versions that nobody can see are left out, removed or not.

use std::sync::Arc;

use bytes::Bytes;

use crate::record::{Position, Record};
use crate::{
    Alarm, AuthStatus, KeyValue, Keyspace, LeaseId, PasswordHash, Permission, Revision, RoleName, UserName,
};

/// A state being written to a backup. While it lives, compactions free no memory.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Shared with the keyspace it is of.
    open: Arc<()>,
    head: Arc<BackupHead>,
    next: Position,
}

/// All of a state but keys and members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupHead {
    /// The newest revision.
    pub revision: Revision,
    /// The oldest revision that can be read; [`Revision::NOTHING_COMPACTED`] before the first compaction.
    pub compacted: Revision,
    /// The leases by id, with what they were granted for, in seconds.
    pub leases: Vec<(LeaseId, i64)>,
    /// The alarms that are raised.
    pub alarms: Vec<Alarm>,
    /// Whether authentication is on, and the state of users and roles.
    pub auth: AuthStatus,
    /// The users, by name.
    pub users: Vec<BackupUser>,
    /// The roles, by name, each with its permissions.
    pub roles: Vec<(RoleName, Vec<Permission>)>,
}

/// A user as a backup has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupUser {
    /// Its name.
    pub name: UserName,
    /// None: it cannot log in by password.
    pub password: Option<PasswordHash>,
    /// Its roles, in order.
    pub roles: Vec<RoleName>,
}

/// One version of one key, with its place in history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The revision that wrote it.
    pub revision: Revision,
    /// Its place among the changes of that revision, from 0.
    pub sub: u32,
    /// What was written.
    pub content: VersionContent,
}

/// What a version says of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionContent {
    /// The key was put.
    Put(KeyValue),
    /// The key was deleted.
    Deleted(Bytes),
}

impl Keyspace {
    /// Begins a backup of the state as it is.
    #[must_use]
    pub fn begin_backup(&self) -> Backup {
        let users = self.auth.all_users().map(|(name, user)| BackupUser {
            name: name.clone(),
            password: user.password.clone(),
            roles: user.roles.iter().cloned().collect(),
        });
        let roles = self.auth.all_roles();
        let head = BackupHead {
            revision: self.revision(),
            compacted: self.compacted(),
            leases: self
                .leases
                .iter()
                .map(|(id, lease)| (id, lease.ttl_secs))
                .collect(),
            alarms: self.alarms().collect(),
            auth: self.auth.status(),
            users: users.collect(),
            roles: roles
                .map(|(name, permissions)| (name.clone(), permissions))
                .collect(),
        };
        Backup {
            open: Arc::clone(&self.snapshots),
            head: Arc::new(head),
            next: Position::start_of(Revision(0)),
        }
    }

    /// The next versions, in order of revision, up to a limit. A batch may have none of them and not be the last.
    ///
    /// None if the backup is of another keyspace, such as one that this one has replaced.
    #[must_use]
    pub fn backup_batch(&self, backup: &mut Backup, limits: BackupLimits) -> Option<BackupBatch> {
        if !Arc::ptr_eq(&self.snapshots, &backup.open) {
            return None;
        }
        let (mut bytes, mut scanned) = (0, 0);
        let mut versions = Vec::new();
        for record in self.store.log.from(backup.next) {
            if record.revision() > backup.head.revision {
                break;
            }
            if bytes >= limits.bytes || scanned >= limits.scanned {
                let is_last = false;
                return Some(BackupBatch { versions, is_last });
            }
            scanned += 1;
            backup.next = record.position().next();
            if self.is_in_view(record, backup.head.compacted) {
                bytes += record.size();
                versions.push(Version::from(record));
            }
        }
        let is_last = true;
        Some(BackupBatch { versions, is_last })
    }

    /// Whether somebody can see a version from `compacted` on.
    fn is_in_view(&self, record: &Record, compacted: Revision) -> bool {
        if record.revision() > compacted {
            return true;
        }
        let history = self.store.index.get(record.key());
        match history.and_then(|history| history.version_at(compacted)) {
            Some(seen) if seen.revision() == compacted => record.revision() == compacted,
            Some(seen) => seen.is_put() && seen.position() == record.position(),
            None => false,
        }
    }
}

/// How much of a backup to read at once.
#[derive(Clone, Copy, Debug)]
pub struct BackupLimits {
    /// The bytes after which a batch ends.
    pub bytes: usize,
    /// The most versions to look at.
    pub scanned: usize,
}

/// Versions in order of revision.
#[derive(Clone, Debug)]
pub struct BackupBatch {
    /// The versions.
    pub versions: Vec<Version>,
    /// Whether there are no more.
    pub is_last: bool,
}

impl Backup {
    /// All but the keys.
    #[must_use]
    pub fn head(&self) -> &BackupHead {
        &self.head
    }

    /// Begins with the first version again.
    pub fn rewind(&mut self) {
        self.next = Position::start_of(Revision(0));
    }
}

impl From<&Record> for Version {
    fn from(record: &Record) -> Self {
        let Position { main: revision, sub } = record.position();
        let kv = record.to_key_value();
        let content = match record.is_put() {
            true => VersionContent::Put(kv),
            false => VersionContent::Deleted(kv.key),
        };
        Self {
            revision,
            sub,
            content,
        }
    }
}
