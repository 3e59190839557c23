//! The keyspace against a naive twin: a list of all events that is replayed from the start for everything.
#![allow(missing_docs, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use quorate_kv::*;
use support::*;

type State = BTreeMap<Bytes, KeyValue>;

/// The twin: nothing but lists.
#[derive(Clone)]
struct Twin {
    events: Vec<Event>,
    revision: Revision,
    compacted: Revision,
    leases: BTreeMap<LeaseId, (i64, LeaseEpoch)>,
    epochs: u64,
    alarms: BTreeSet<Alarm>,
}

impl Twin {
    fn new() -> Self {
        Self {
            events: Vec::new(),
            revision: Revision(1),
            compacted: Revision(-1),
            leases: BTreeMap::new(),
            epochs: 0,
            alarms: BTreeSet::new(),
        }
    }

    fn state_at(&self, revision: Revision) -> State {
        let mut state = State::new();
        for event in self.events.iter().filter(|event| event.revision() <= revision) {
            match event {
                Event::Put { kv, .. } => drop(state.insert(kv.key.clone(), kv.clone())),
                Event::Delete { key, .. } => drop(state.remove(key)),
            }
        }
        state
    }

    /// The revision that reads and answers see while `self.revision.next()` may be in the making.
    fn visible(&self) -> Revision {
        self.events
            .last()
            .map_or(self.revision, |event| event.revision().max(self.revision))
    }

    fn state(&self) -> State {
        self.state_at(self.visible())
    }

    fn apply(&mut self, command: &Command) -> Result<Response, Error> {
        self.check_alarms(command)?;
        command.check(&Limits {
            max_txn_ops: usize::MAX,
        })?;
        let response = match command {
            Command::Put(put) => {
                self.check_put(put, &self.state())?;
                Response::Put(self.put(put))
            }
            Command::DeleteRange(delete) => Response::DeleteRange(self.delete(delete)),
            Command::Txn(txn) => {
                let before = self.state();
                self.check_txn(txn, &before)?;
                Response::Txn(self.txn(txn, &before))
            }
            Command::Compact { revision } if *revision <= self.compacted => {
                return Err(Error::Compacted {
                    compacted: self.compacted,
                });
            }
            Command::Compact { revision } if *revision > self.revision => {
                return Err(Error::FutureRevision {
                    current: self.revision,
                });
            }
            Command::Compact { revision } => {
                self.compacted = *revision;
                Response::Compact
            }
            Command::LeaseGrant { id, .. } if self.leases.contains_key(id) => {
                return Err(Error::LeaseExists(*id));
            }
            Command::LeaseGrant { id, ttl_secs } => {
                self.epochs += 1;
                self.leases.insert(*id, (*ttl_secs, LeaseEpoch(self.epochs)));
                Response::LeaseGrant {
                    id: *id,
                    ttl_secs: *ttl_secs,
                }
            }
            Command::LeaseRevoke { id, cause } => self.revoke(*id, *cause)?,
            Command::LeaseRenew { ids } => {
                Response::LeaseRenew(ids.iter().map(|id| self.renew(*id)).collect())
            }
            Command::PublishMember(_) => Response::PublishMember,
            Command::Alarm {
                action: AlarmAction::Activate,
                alarm,
            } => {
                self.alarms.insert(*alarm);
                Response::Alarm(vec![*alarm])
            }
            Command::Alarm {
                action: AlarmAction::Deactivate,
                alarm,
            } => Response::Alarm(self.alarms.take(alarm).into_iter().collect()),
            Command::Auth(_) => panic!("users and roles have tests of their own"),
        };
        self.revision = self.visible();
        Ok(response)
    }

    fn check_alarms(&self, command: &Command) -> Result<(), Error> {
        fn puts(ops: &[Op]) -> bool {
            ops.iter().any(|op| match op {
                Op::Put(_) => true,
                Op::Txn(txn) => puts(&txn.success) || puts(&txn.failure),
                Op::Range(_) | Op::DeleteRange(_) => false,
            })
        }
        let raised = |kind| self.alarms.iter().any(|alarm| alarm.kind == kind);
        let exempt = matches!(
            command,
            Command::LeaseRenew { .. } | Command::PublishMember(_) | Command::Alarm { .. }
        );
        let grows = match command {
            Command::Txn(txn) => puts(&txn.success) || puts(&txn.failure),
            other => matches!(other, Command::Put(_) | Command::LeaseGrant { .. }),
        };
        if raised(AlarmKind::Corrupt) && !exempt {
            Err(Error::Corrupt)
        } else if raised(AlarmKind::NoSpace) && grows {
            Err(Error::NoSpace)
        } else {
            Ok(())
        }
    }

    fn check_put(&self, put: &Put, before: &State) -> Result<(), Error> {
        self.check_lease(put)?;
        self.check_kept(put, before)
    }

    fn check_lease(&self, put: &Put) -> Result<(), Error> {
        if let Assign::Set(Some(lease)) = put.lease
            && !self.leases.contains_key(&lease)
        {
            return Err(Error::LeaseNotFound(lease));
        }
        Ok(())
    }

    fn check_kept(&self, put: &Put, before: &State) -> Result<(), Error> {
        let keeps = put.value == Assign::Keep || put.lease == Assign::Keep;
        if keeps && !before.contains_key(&put.key) {
            Err(Error::KeyNotFound)
        } else {
            Ok(())
        }
    }

    fn check_range(&self, range: &Range) -> Result<(), Error> {
        match range.at {
            Some(at) if at > self.revision => Err(Error::FutureRevision {
                current: self.revision,
            }),
            Some(at) if at < self.compacted => Err(Error::Compacted {
                compacted: self.compacted,
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn check_txn(&self, txn: &Txn, before: &State) -> Result<(), Error> {
        let steps = steps(txn, before);
        for op in &steps {
            if let Op::Put(put) = op {
                self.check_kept(put, before)?;
                self.check_lease(put)?;
            }
        }
        for op in &steps {
            if let Op::Range(range) = op {
                self.check_range(range)?;
            }
        }
        Ok(())
    }

    fn txn(&mut self, txn: &Txn, before: &State) -> TxnResponse {
        let responses = chosen(txn, before)
            .iter()
            .map(|op| match op {
                Op::Range(range) => OpResponse::Range(self.range(range)),
                Op::Put(put) => OpResponse::Put(self.put(put)),
                Op::DeleteRange(delete) => OpResponse::DeleteRange(self.delete(delete)),
                Op::Txn(txn) => OpResponse::Txn(self.txn(txn, before)),
            })
            .collect();
        let succeeded = txn.compares.iter().all(|compare| holds(compare, before));
        TxnResponse {
            revision: self.visible(),
            succeeded,
            responses,
        }
    }

    fn put(&mut self, put: &Put) -> PutResponse {
        let old = self.state().remove(&put.key);
        let revision = self.revision.next();
        let kv = KeyValue {
            key: put.key.clone(),
            value: match &put.value {
                Assign::Set(value) => value.clone(),
                Assign::Keep => old.as_ref().map_or(Bytes::new(), |kv| kv.value.clone()),
            },
            create_revision: old.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(1, |kv| kv.version + 1),
            lease: match put.lease {
                Assign::Set(lease) => lease,
                Assign::Keep => old.as_ref().and_then(|kv| kv.lease),
            },
        };
        let prev = match kv.version {
            1 => None,
            _ => self.state_at(self.revision).remove(&put.key),
        };
        self.events.push(Event::Put { kv, prev });
        PutResponse {
            revision,
            prev: old.filter(|_| put.prev_kv),
        }
    }

    fn delete(&mut self, delete: &DeleteRange) -> DeleteRangeResponse {
        let old = self
            .state()
            .into_values()
            .filter(|kv| delete.keys.contains(&kv.key));
        let old: Vec<KeyValue> = old.collect();
        old.iter().for_each(|kv| self.delete_key(&kv.key));
        let deleted = old.len();
        let prev = if delete.prev_kv { old } else { vec![] };
        DeleteRangeResponse {
            revision: self.visible(),
            deleted,
            prev,
        }
    }

    fn delete_key(&mut self, key: &Bytes) {
        let prev = self.state_at(self.revision).remove(key);
        self.events.push(Event::Delete {
            key: key.clone(),
            revision: self.revision.next(),
            prev,
        });
    }

    fn revoke(&mut self, id: LeaseId, cause: RevokeCause) -> Result<Response, Error> {
        let (_, current) = *self.leases.get(&id).ok_or(Error::LeaseNotFound(id))?;
        if matches!(cause, RevokeCause::Expired { epoch } if epoch != current) {
            return Err(Error::LeaseRenewed(id));
        }
        self.lease_keys(id).iter().for_each(|key| self.delete_key(key));
        self.leases.remove(&id);
        Ok(Response::LeaseRevoke)
    }

    fn renew(&mut self, id: LeaseId) -> Renewal {
        let ttl_secs = self.leases.get_mut(&id).map(|(ttl_secs, epoch)| {
            self.epochs += 1;
            *epoch = LeaseEpoch(self.epochs);
            *ttl_secs
        });
        Renewal { id, ttl_secs }
    }

    fn lease_keys(&self, id: LeaseId) -> BTreeSet<Bytes> {
        self.state()
            .into_values()
            .filter(|kv| kv.lease == Some(id))
            .map(|kv| kv.key)
            .collect()
    }

    fn range(&self, range: &Range) -> RangeResponse {
        let at = range.at.filter(|at| *at > Revision(0));
        let state = self.state_at(at.unwrap_or(self.visible()));
        let all: Vec<KeyValue> = state
            .into_values()
            .filter(|kv| range.keys.contains(&kv.key))
            .collect();
        let count = all.len();
        let mut kvs = all;
        let filter = range.filter;
        let limit = range.limit.map_or(usize::MAX, |limit| limit.get());
        if range.order == SortOrder::Unsorted && filter == RevisionFilter::default() {
            kvs.truncate(limit.saturating_add(1));
        }
        kvs.retain(|kv| filter.max_mod.is_none_or(|max| kv.mod_revision <= max));
        kvs.retain(|kv| filter.min_mod.is_none_or(|min| kv.mod_revision >= min));
        kvs.retain(|kv| filter.max_create.is_none_or(|max| kv.create_revision <= max));
        kvs.retain(|kv| filter.min_create.is_none_or(|min| kv.create_revision >= min));
        match range.target {
            SortTarget::Key => kvs.sort_by_key(|kv| kv.key.clone()),
            SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
            SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
            SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
            SortTarget::Value => kvs.sort_by_key(|kv| kv.value.clone()),
        }
        if range.order == SortOrder::Descend {
            kvs.reverse();
            // Equals stay in key order.
            let target = |kv: &KeyValue| match range.target {
                SortTarget::Key => (kv.key.clone(), 0),
                SortTarget::Version => (Bytes::new(), kv.version),
                SortTarget::Create => (Bytes::new(), kv.create_revision.0),
                SortTarget::Mod => (Bytes::new(), kv.mod_revision.0),
                SortTarget::Value => (kv.value.clone(), 0),
            };
            kvs.chunk_by_mut(|a, b| target(a) == target(b))
                .for_each(|equals| equals.reverse());
        }
        let more = kvs.len() > limit && range.projection != Projection::CountOnly;
        kvs.truncate(limit);
        match range.projection {
            Projection::KeysAndValues => {}
            Projection::KeysOnly => kvs.iter_mut().for_each(|kv| kv.value = Bytes::new()),
            Projection::CountOnly => kvs.clear(),
        }
        RangeResponse {
            revision: self.visible(),
            kvs,
            more,
            count,
        }
    }

    /// What a watch from `from` has to show.
    fn history(&self, keys: &KeyRange, from: Revision) -> Vec<Event> {
        let wanted = self
            .events
            .iter()
            .filter(|event| event.revision() >= from && keys.contains(event.key()));
        wanted
            .cloned()
            .map(|event| without_compacted_prev(event, self.compacted))
            .collect()
    }
}

fn without_compacted_prev(event: Event, compacted: Revision) -> Event {
    let gone = event.revision().prev() < compacted;
    match event {
        Event::Put { kv, prev } => Event::Put {
            kv,
            prev: prev.filter(|_| !gone),
        },
        Event::Delete { key, revision, prev } => Event::Delete {
            key,
            revision,
            prev: prev.filter(|_| !gone),
        },
    }
}

fn chosen<'a>(txn: &'a Txn, before: &State) -> &'a [Op] {
    if txn.compares.iter().all(|compare| holds(compare, before)) {
        &txn.success
    } else {
        &txn.failure
    }
}

/// What a transaction does, with what the transactions within do in their place.
fn steps<'a>(txn: &'a Txn, before: &State) -> Vec<&'a Op> {
    let ops = chosen(txn, before).iter();
    ops.flat_map(|op| match op {
        Op::Txn(txn) => steps(txn, before),
        Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => vec![op],
    })
    .collect()
}

fn holds(compare: &Compare, before: &State) -> bool {
    let missing = KeyValue {
        key: Bytes::new(),
        value: Bytes::new(),
        create_revision: Revision(0),
        mod_revision: Revision(0),
        version: 0,
        lease: None,
    };
    let mut kvs: Vec<&KeyValue> = before
        .values()
        .filter(|kv| compare.keys.contains(&kv.key))
        .collect();
    if kvs.is_empty() {
        if matches!(compare.operand, Operand::Value(_)) {
            return false;
        }
        kvs.push(&missing);
    }
    kvs.iter().all(|kv| {
        let order = match &compare.operand {
            Operand::Version(version) => kv.version.cmp(version),
            Operand::Create(revision) => kv.create_revision.cmp(revision),
            Operand::Mod(revision) => kv.mod_revision.cmp(revision),
            Operand::Value(value) => kv.value.cmp(value),
            Operand::Lease(lease) => kv.lease.map_or(0, |id| id.0).cmp(&lease.map_or(0, |id| id.0)),
        };
        match compare.relation {
            Relation::Equal => order.is_eq(),
            Relation::Greater => order.is_gt(),
            Relation::Less => order.is_lt(),
            Relation::NotEqual => order.is_ne(),
        }
    })
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Command),
    Read(Range),
    History(KeyRange, Revision),
    Sweep(usize),
    /// Replaces the keyspace by a restored one.
    Restore(usize),
    /// Begins a snapshot that later steps must not disturb.
    Begin,
    Finish(usize),
}

fn arb_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => arb_command().prop_map(Step::Apply),
        4 => arb_read().prop_map(Step::Read),
        2 => (arb_range(), arb_revision()).prop_map(|(keys, from)| Step::History(keys, from)),
        3 => (1usize..4).prop_map(Step::Sweep),
        1 => (1usize..200).prop_map(Step::Restore),
        1 => Just(Step::Begin),
        1 => (1usize..200).prop_map(Step::Finish),
    ]
}

/// The keyspace, its twin, and a copy that is never swept nor restored.
struct Run {
    keyspace: Keyspace,
    plain: Keyspace,
    twin: Twin,
    open: Option<(Snapshot, HashKv)>,
}

impl Run {
    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(command) => self.apply(&command),
            Step::Read(range) => {
                let expected = self.twin.check_range(&range).map(|()| self.twin.range(&range));
                assert_eq!(self.keyspace.range(&range), expected, "{range:?}");
            }
            Step::History(keys, from) => self.check_history(&keys, from),
            Step::Sweep(budget) => drop(self.keyspace.compact_step(budget)),
            Step::Restore(chunk) => {
                self.open = None;
                self.keyspace = restore(snapshot(&mut self.keyspace, chunk)).unwrap();
            }
            Step::Begin => {
                let hash = self.keyspace.hash_kv(None).unwrap();
                self.open = Some((self.keyspace.begin_snapshot(), hash));
            }
            Step::Finish(chunk) => {
                if let Some((open, hash)) = self.open.take() {
                    let restored = restore(finish_snapshot(&mut self.keyspace, open, chunk)).unwrap();
                    assert_eq!(restored.hash_kv(None), Ok(hash));
                }
            }
        }
        self.check_state();
    }

    fn apply(&mut self, command: &Command) {
        let decoded = Command::decode(command.encode()).unwrap();
        assert_eq!(&decoded, command);
        let events_before = self.twin.events.len();
        let expected = self.twin.apply(command);
        let applied = self.keyspace.apply(decoded);
        assert_eq!(applied.result, expected, "{command:?}");
        assert_eq!(applied.revision, self.twin.revision);
        let events: Vec<Event> = applied.changes.iter().map(Change::to_event).collect();
        assert_eq!(events, self.twin.events[events_before..]);
        assert_eq!(self.plain.apply(command.clone()).result, expected);
    }

    fn check_history(&self, keys: &KeyRange, from: Revision) {
        let ranges: KeyRanges = [keys].into_iter().collect();
        let limits = HistoryLimits {
            revisions: 2,
            bytes: 300,
            scanned: 3,
        };
        let mut events = Vec::new();
        let mut next = from;
        loop {
            match self.keyspace.history(&ranges, next, &limits) {
                Err(Compacted { compacted }) => {
                    assert!(from < self.twin.compacted && compacted == self.twin.compacted);
                    return;
                }
                Ok(batch) => {
                    events.extend(batch.changes.iter().map(Change::to_event));
                    assert!(batch.through >= next || next > self.twin.revision, "no progress");
                    next = batch.through.next();
                }
            }
            if next > self.twin.revision {
                break;
            }
        }
        assert_eq!(events, self.twin.history(keys, from));
    }

    fn check_state(&self) {
        self.check_history(&KeyRange::all(), self.twin.compacted);
        assert_eq!(self.keyspace.hash_kv(None), self.plain.hash_kv(None));
        assert_eq!(self.keyspace.revision(), self.twin.revision);
        assert_eq!(self.keyspace.compacted(), self.twin.compacted);
        assert_eq!(self.keyspace.size().keys, self.twin.state().len());
        let leases: BTreeMap<_, _> = self
            .keyspace
            .leases()
            .map(|(id, lease)| (id, (lease.ttl_secs, lease.epoch, lease.keys.clone())))
            .collect();
        let expected: BTreeMap<_, _> = self
            .twin
            .leases
            .iter()
            .map(|(id, (ttl, epoch))| (*id, (*ttl, *epoch, self.twin.lease_keys(*id))))
            .collect();
        assert_eq!(leases, expected);
        assert!(self.keyspace.alarms().eq(self.twin.alarms.iter().copied()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn answers_and_history_are_the_twins(steps in prop::collection::vec(arb_step(), 1..60)) {
        let mut run =
            Run { keyspace: Keyspace::new(), plain: Keyspace::new(), twin: Twin::new(), open: None };
        for step in steps {
            run.step(step);
        }
    }
}
