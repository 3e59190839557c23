//! The replicated state and the one way to change it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::lease::Leases;
use crate::record::Record;
use crate::store::{Store, Write};
use crate::{
    Alarm, AlarmAction, AlarmKind, Applied, Assign, AuthStore, Change, Command, Compacted, DeleteRange,
    DeleteRangeResponse, Error, HistoryBatch, HistoryLimits, KeyRanges, Lease, LeaseEvent, LeaseId, Member,
    MemberId, Proposal, Put, PutResponse, Range, RangeResponse, Renewal, Response, Revision, RevokeCause,
    Right, SessionEvent, StoreSize, Txn, check,
};

/// Keys with their history, leases, members, alarms, users and roles.
///
/// - [`Keyspace::apply`] is the only thing that changes what can be observed.
/// - [`Keyspace::compact_step`] only frees memory; call it now and then, in any rhythm.
#[derive(Debug)]
pub struct Keyspace {
    pub(crate) store: Store,
    pub(crate) leases: Leases,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) alarms: BTreeSet<Alarm>,
    pub(crate) auth: AuthStore,
    /// Every open snapshot has a clone.
    pub(crate) snapshots: Arc<()>,
}

impl Default for Keyspace {
    fn default() -> Self {
        Self::new()
    }
}

impl Keyspace {
    /// An empty keyspace, at [`Revision::FIRST`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            store: Store::new(),
            leases: Leases::default(),
            members: BTreeMap::new(),
            alarms: BTreeSet::new(),
            auth: AuthStore::default(),
            snapshots: Arc::new(()),
        }
    }

    /// Applies one committed command. Any command is fine: what cannot be done, or not by this caller, is
    /// answered with an error and changes nothing.
    pub fn apply(&mut self, proposal: impl Into<Proposal>) -> Applied {
        let Proposal { caller, command } = proposal.into();
        let mut effects = Effects::default();
        let permitted = self.permit(&caller, Right::Apply(&command));
        let result = permitted.and_then(|()| self.execute(command, &mut effects));
        Applied {
            revision: self.store.revision(),
            result,
            changes: effects.changes,
            leases: effects.leases,
            sessions: effects.sessions,
        }
    }

    /// Reads keys.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::FutureRevision`] and [`Error::Compacted`] when the revision asked for
    /// is not there.
    pub fn range(&self, range: &Range) -> Result<RangeResponse, Error> {
        range.check(&self.store)?;
        Ok(range.read(&self.store, self.store.revision()))
    }

    /// The changes of some keys from a revision on, `from` included: whole revisions, in order. When the
    /// limits are reached, [`HistoryBatch::through`] says where to go on after.
    ///
    /// # Errors
    /// When `from` is before the compacted revision.
    pub fn history(
        &self,
        keys: &KeyRanges,
        from: Revision,
        limits: &HistoryLimits,
    ) -> Result<HistoryBatch, Compacted> {
        self.store.history(keys, from, limits)
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.store.revision()
    }

    /// The oldest revision that can be read; [`Revision::NOTHING_COMPACTED`] before the first compaction.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.store.compacted()
    }

    /// How much there is.
    #[must_use]
    pub fn size(&self) -> StoreSize {
        self.store.size()
    }

    /// A lease.
    #[must_use]
    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// All leases, by id.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.leases.iter()
    }

    /// What is known of the members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The alarms that are raised, in order.
    pub fn alarms(&self) -> impl Iterator<Item = Alarm> {
        self.alarms.iter().copied()
    }

    /// Users, roles and permissions.
    #[must_use]
    pub fn auth(&self) -> &AuthStore {
        &self.auth
    }

    /// Whether a compaction has left something to remove.
    #[must_use]
    pub fn needs_compact_step(&self) -> bool {
        self.store.needs_sweep()
    }

    /// Removes what compactions have made unreadable: at most about `budget` versions. Answers whether it
    /// should be called again soon: while a snapshot is open nothing is removed, and the answer is no.
    pub fn compact_step(&mut self, budget: usize) -> bool {
        let snapshot_open = Arc::strong_count(&self.snapshots) > 1;
        !snapshot_open && self.store.sweep(budget.max(1))
    }

    fn execute(&mut self, command: Command, effects: &mut Effects) -> Result<Response, Error> {
        self.check_alarms(&command)?;
        match command {
            Command::Put(put) => self.put(&put, effects),
            Command::DeleteRange(delete) => self.delete_range(&delete, effects),
            Command::Txn(txn) => self.txn(&txn, effects),
            Command::Compact { revision } => self.store.compact(revision).map(|()| Response::Compact),
            Command::LeaseGrant { id, ttl_secs } => self.lease_grant(id, ttl_secs, effects),
            Command::LeaseRevoke { id, cause } => self.lease_revoke(id, cause, effects),
            Command::LeaseRenew { ids } => Ok(self.lease_renew(&ids, effects)),
            Command::PublishMember(member) => {
                self.members.insert(member.id, member);
                Ok(Response::PublishMember)
            }
            Command::Alarm { action, alarm } => Ok(self.alarm(action, alarm)),
            Command::Auth(auth) => self
                .auth
                .apply(auth, &mut effects.sessions)
                .map(|()| Response::Auth),
        }
    }

    /// Refuses what raised alarms forbid.
    fn check_alarms(&self, command: &Command) -> Result<(), Error> {
        if self.alarms.is_empty() {
            return Ok(());
        }
        let (grows, writes) = match command {
            Command::Put(_) | Command::LeaseGrant { .. } => (true, true),
            Command::Txn(txn) => (txn.may_put(), true),
            Command::DeleteRange(_) | Command::Compact { .. } | Command::LeaseRevoke { .. } => (false, true),
            Command::LeaseRenew { .. }
            | Command::PublishMember(_)
            | Command::Alarm { .. }
            | Command::Auth(_) => (false, false),
        };
        let raised = |kind| self.alarms.iter().any(|alarm| alarm.kind == kind);
        if writes && raised(AlarmKind::Corrupt) {
            Err(Error::Corrupt)
        } else if grows && raised(AlarmKind::NoSpace) {
            Err(Error::NoSpace)
        } else {
            Ok(())
        }
    }

    fn put(&mut self, put: &Put, effects: &mut Effects) -> Result<Response, Error> {
        check::put(put)?;
        self.check_put(put)?;
        let mut writer = self.writer();
        let response = writer.put(put);
        effects.changes = writer.finish();
        Ok(Response::Put(response))
    }

    fn delete_range(&mut self, delete: &DeleteRange, effects: &mut Effects) -> Result<Response, Error> {
        check::keys(&delete.keys)?;
        let mut writer = self.writer();
        let response = writer.delete_range(delete);
        effects.changes = writer.finish();
        Ok(Response::DeleteRange(response))
    }

    fn txn(&mut self, txn: &Txn, effects: &mut Effects) -> Result<Response, Error> {
        check::applicable(txn)?;
        let (response, writer) = self.run_txn(txn)?;
        effects.changes = writer.finish();
        Ok(Response::Txn(response))
    }

    fn lease_grant(&mut self, id: LeaseId, ttl_secs: i64, effects: &mut Effects) -> Result<Response, Error> {
        check::ttl(ttl_secs)?;
        effects.leases.push(self.leases.grant(id, ttl_secs)?);
        Ok(Response::LeaseGrant { id, ttl_secs })
    }

    /// Deletes the lease's keys, in order, in one revision.
    fn lease_revoke(
        &mut self,
        id: LeaseId,
        cause: RevokeCause,
        effects: &mut Effects,
    ) -> Result<Response, Error> {
        let lease = self.leases.revoke(id, cause)?;
        let mut writer = self.writer();
        for key in &lease.keys {
            writer.delete(key);
        }
        effects.changes = writer.finish();
        effects.leases.push(LeaseEvent::Ended { id });
        Ok(Response::LeaseRevoke)
    }

    fn lease_renew(&mut self, ids: &[LeaseId], effects: &mut Effects) -> Response {
        let renew = |&id: &LeaseId| {
            let event = self.leases.renew(id);
            effects.leases.extend(event);
            Renewal {
                id,
                ttl_secs: event
                    .and_then(|_| self.leases.get(id))
                    .map(|lease| lease.ttl_secs),
            }
        };
        Response::LeaseRenew(ids.iter().map(renew).collect())
    }

    fn alarm(&mut self, action: AlarmAction, alarm: Alarm) -> Response {
        let changed = match action {
            AlarmAction::Activate => {
                self.alarms.insert(alarm);
                true
            }
            AlarmAction::Deactivate => self.alarms.remove(&alarm),
        };
        Response::Alarm(changed.then_some(alarm).into_iter().collect())
    }

    /// Refuses a put that cannot be done in this state.
    pub(crate) fn check_put(&self, put: &Put) -> Result<(), Error> {
        self.check_lease(put)?;
        self.check_kept(put)
    }

    /// Refuses what a put in a transaction cannot do in this state. Of two errors it finds the other one
    /// first, as etcd does.
    pub(crate) fn check_put_within(&self, put: &Put) -> Result<(), Error> {
        self.check_kept(put)?;
        self.check_lease(put)
    }

    fn check_lease(&self, put: &Put) -> Result<(), Error> {
        match put.lease {
            Assign::Set(Some(lease)) if self.leases.get(lease).is_none() => Err(Error::LeaseNotFound(lease)),
            Assign::Set(_) | Assign::Keep => Ok(()),
        }
    }

    fn check_kept(&self, put: &Put) -> Result<(), Error> {
        let keeps = put.value == Assign::Keep || put.lease == Assign::Keep;
        match keeps && self.store.latest(&put.key).is_none() {
            true => Err(Error::KeyNotFound),
            false => Ok(()),
        }
    }

    pub(crate) fn writer(&mut self) -> Writer<'_> {
        Writer {
            write: self.store.write(),
            leases: &mut self.leases,
        }
    }
}

/// What a command does besides its answer.
#[derive(Default)]
struct Effects {
    changes: Vec<Change>,
    leases: Vec<LeaseEvent>,
    sessions: Vec<SessionEvent>,
}

/// A revision in the making, with the attachment of keys to leases kept in step.
pub(crate) struct Writer<'a> {
    write: Write<'a>,
    leases: &'a mut Leases,
}

impl Writer<'_> {
    pub(crate) fn visible_revision(&self) -> Revision {
        self.write.visible_revision()
    }

    pub(crate) fn range(&self, range: &Range) -> RangeResponse {
        range.read(self.write.store(), self.visible_revision())
    }

    /// Puts a key, as [`Keyspace::check_put`] has allowed it.
    pub(crate) fn put(&mut self, put: &Put) -> PutResponse {
        let kept = self.kept(put);
        let value = match &put.value {
            Assign::Set(value) => value.clone(),
            Assign::Keep => kept
                .as_ref()
                .map_or(Bytes::new(), |record| record.to_key_value().value),
        };
        let lease = match put.lease {
            Assign::Set(lease) => lease,
            Assign::Keep => kept.as_ref().and_then(Record::lease),
        };
        let previous = self.write.put(&put.key, &value, lease);
        self.leases
            .reattach(&put.key, previous.as_ref().and_then(Record::lease), lease);
        let prev = previous
            .filter(|_| put.prev_kv)
            .map(|record| record.to_key_value());
        PutResponse {
            revision: self.write.revision(),
            prev,
        }
    }

    pub(crate) fn delete_range(&mut self, delete: &DeleteRange) -> DeleteRangeResponse {
        let found = self
            .write
            .store()
            .range(&delete.keys, None)
            .cloned()
            .collect::<Vec<_>>();
        for record in &found {
            self.delete(record.key());
        }
        let deleted = found.len();
        let returned = if delete.prev_kv { found } else { Vec::new() };
        let prev = returned.iter().map(Record::to_key_value).collect();
        DeleteRangeResponse {
            revision: self.visible_revision(),
            deleted,
            prev,
        }
    }

    pub(crate) fn delete(&mut self, key: &[u8]) {
        if let Some(record) = self.write.delete(key) {
            self.leases.reattach(key, record.lease(), None);
        }
    }

    pub(crate) fn finish(self) -> Vec<Change> {
        self.write.finish()
    }

    /// The version that a put takes over something from.
    fn kept(&self, put: &Put) -> Option<Record> {
        let keeps = put.value == Assign::Keep || put.lease == Assign::Keep;
        self.write.store().latest(&put.key).filter(|_| keeps).cloned()
    }
}
