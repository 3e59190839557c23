//! Building a state from what a backup says of it, in whatever order it says it.
//!
//! - It may come from another program: what contradicts itself is refused, and what etcd lives with is
//!   taken.
//! - Members are left out: who restores a backup begins a new cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;

use crate::auth::User;
use crate::lease::Leases;
use crate::record::{NewVersion, Position, Record};
use crate::store::Store;
use crate::{
    Alarm, AuthRevision, AuthStatus, AuthStore, AuthSwitch, BackupUser, KeyRange, Keyspace, LeaseEpoch,
    LeaseId, Permission, Revision, RoleName, Version, VersionContent,
};

/// A state in the making.
#[derive(Debug)]
pub struct Import {
    revision: Revision,
    compacted: Revision,
    records: Vec<Record>,
    leases: BTreeMap<LeaseId, i64>,
    alarms: BTreeSet<Alarm>,
    switch: AuthSwitch,
    auth_revision: AuthRevision,
    users: BTreeMap<crate::UserName, User>,
    roles: BTreeMap<RoleName, Vec<Permission>>,
}

/// Why something cannot be part of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ImportError(&'static str);

/// A state that was built, and what had to be changed for it.
#[derive(Debug)]
pub struct Imported {
    /// The state.
    pub keyspace: Keyspace,
    /// How many keys named a lease that does not exist. They are there, without one.
    pub orphans: usize,
}

/// What happens to revisions beyond those of a backup, so that clients who saw later ones are not confused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bump {
    /// How much is added to the newest revision.
    pub by: u64,
    /// Whether everything before it is compacted, so that watchers begin anew.
    pub compact: bool,
}

impl Default for Import {
    fn default() -> Self {
        Self {
            revision: Revision::FIRST,
            compacted: Revision::NOTHING_COMPACTED,
            records: Vec::new(),
            leases: BTreeMap::new(),
            alarms: BTreeSet::new(),
            switch: AuthSwitch::Off,
            auth_revision: AuthRevision::FIRST,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }
}

impl Import {
    /// Adds a version. They may come in any order.
    ///
    /// # Errors
    /// When its numbers are impossible.
    pub fn add_version(&mut self, version: &Version) -> Result<(), ImportError> {
        self.reach(version.revision)?;
        if version.revision <= Revision::FIRST {
            return Err(ImportError("no key can be written at this revision"));
        }
        let position = Position {
            main: version.revision,
            sub: version.sub,
        };
        let record = match &version.content {
            VersionContent::Deleted(key) if !key.is_empty() => Record::tombstone(position, key),
            VersionContent::Put(kv) if !kv.key.is_empty() => {
                if kv.mod_revision != version.revision {
                    return Err(ImportError("its revision is not the one it is filed under"));
                }
                if kv.create_revision > kv.mod_revision || kv.create_revision.0 < 1 || kv.version < 1 {
                    return Err(ImportError("its create revision or version is impossible"));
                }
                Record::put(&NewVersion {
                    position,
                    key: &kv.key,
                    value: &kv.value,
                    create: kv.create_revision,
                    version: kv.version,
                    lease: kv.lease,
                })
            }
            VersionContent::Deleted(_) | VersionContent::Put(_) => {
                return Err(ImportError("its key is empty"));
            }
        };
        self.records.push(record);
        Ok(())
    }

    /// Says that there was this revision, whatever was written at it.
    ///
    /// # Errors
    /// When there can be no such revision.
    pub fn reach(&mut self, revision: Revision) -> Result<(), ImportError> {
        if revision.0 < 0 || revision.0 > MAX_REVISION {
            return Err(ImportError("there can be no such revision"));
        }
        self.revision = self.revision.max(revision);
        Ok(())
    }

    /// Says that everything before a revision is compacted.
    ///
    /// # Errors
    /// When there can be no such revision.
    pub fn compact(&mut self, revision: Revision) -> Result<(), ImportError> {
        self.reach(revision)?;
        self.compacted = self.compacted.max(revision);
        Ok(())
    }

    /// Adds a lease. Its time begins when the state is first served.
    ///
    /// # Errors
    /// When there can be no such lease.
    pub fn add_lease(&mut self, id: LeaseId, ttl_secs: i64) -> Result<(), ImportError> {
        let is_possible = id.0 != 0 && crate::check::ttl(ttl_secs).is_ok();
        match is_possible.then(|| self.leases.insert(id, ttl_secs.max(1))) {
            Some(None) => Ok(()),
            Some(Some(_)) => Err(ImportError("there is another lease of this id")),
            None => Err(ImportError("its id or its time to live is impossible")),
        }
    }

    /// Adds an alarm.
    pub fn add_alarm(&mut self, alarm: Alarm) {
        self.alarms.insert(alarm);
    }

    /// Says whether authentication is on.
    pub fn set_auth(&mut self, switch: AuthSwitch) {
        self.switch = switch;
    }

    /// Says how often users and roles have changed.
    pub fn set_auth_revision(&mut self, revision: AuthRevision) {
        self.auth_revision = revision.max(AuthRevision::FIRST);
    }

    /// Adds a user.
    pub fn add_user(&mut self, user: BackupUser) {
        let BackupUser {
            name,
            password,
            roles,
        } = user;
        let roles = roles.into_iter().collect();
        self.users.insert(name, User { password, roles });
    }

    /// Adds a role.
    pub fn add_role(&mut self, name: RoleName, permissions: Vec<Permission>) {
        self.roles.insert(name, permissions);
    }

    /// The state.
    ///
    /// # Errors
    /// When its parts contradict each other.
    pub fn finish(mut self, bump: Bump) -> Result<Imported, ImportError> {
        self.records.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
        if self
            .records
            .windows(2)
            .any(|pair| pair[0].order() == pair[1].order())
        {
            return Err(ImportError(
                "two versions of a key have the same place in history",
            ));
        }
        let by = i64::try_from(bump.by).unwrap_or(i64::MAX);
        self.reach(Revision(self.revision.0.saturating_add(by)))?;
        if bump.compact {
            self.compacted = self.revision;
        }
        let orphans = self.adopt_orphans();
        let auth = self.auth();
        let mut store = Store::restored(self.revision, Revision::NOTHING_COMPACTED, self.records);
        if self.compacted > Revision::NOTHING_COMPACTED {
            let compacted = store.compact(self.compacted);
            compacted.map_err(|_| ImportError("its compaction is impossible"))?;
        }
        let leases = numbered(self.leases, &store);
        Ok(Imported {
            keyspace: Keyspace {
                store,
                leases,
                members: BTreeMap::new(),
                alarms: self.alarms,
                auth,
                snapshots: Arc::new(()),
            },
            orphans,
        })
    }

    /// A key whose lease is gone outlives it in etcd. Here a lease that is named exists.
    fn adopt_orphans(&mut self) -> usize {
        let mut orphans = 0;
        for at in 0..self.records.len() {
            let record = &self.records[at];
            let next = self.records.get(at + 1);
            let is_latest = next.is_none_or(|next| next.key() != record.key());
            let is_orphan = record
                .lease()
                .is_some_and(|lease| !self.leases.contains_key(&lease));
            if is_latest && is_orphan {
                self.records[at] = Record::put(&NewVersion {
                    position: record.position(),
                    key: record.key(),
                    value: record.value(),
                    create: record.create(),
                    version: record.version(),
                    lease: None,
                });
                orphans += 1;
            }
        }
        orphans
    }

    /// A state that has users has been changed.
    fn auth(&mut self) -> AuthStore {
        let (users, roles) = (std::mem::take(&mut self.users), std::mem::take(&mut self.roles));
        let is_untouched = users.is_empty() && roles.is_empty() && self.switch == AuthSwitch::Off;
        let revision = match is_untouched {
            true => self.auth_revision,
            false => self.auth_revision.max(AuthRevision::FIRST.next()),
        };
        let status = AuthStatus {
            switch: self.switch,
            revision,
        };
        AuthStore::restored(status, users, roles.into_iter())
    }
}

/// The leases, each in an epoch of its own, with the keys that are attached to them.
fn numbered(leases: BTreeMap<LeaseId, i64>, store: &Store) -> Leases {
    let last = LeaseEpoch(leases.len() as u64);
    let numbered = leases.into_iter().zip(1..);
    let numbered = numbered.map(|((id, ttl_secs), epoch)| (id, ttl_secs, LeaseEpoch(epoch)));
    let mut leases = Leases::restored(numbered, last);
    for record in store.range(&KeyRange::all(), None) {
        leases.reattach(record.key(), None, record.lease());
    }
    leases
}

/// Room is left for revisions to come.
const MAX_REVISION: i64 = i64::MAX / 2;
